"""The first verdict on Edit: within a time, after one look, and the edit is at hand meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, settled, texts
from tests.app.test_pages import fitted

Run = Callable[..., AppTest]


def test_an_edit_can_be_used_while_it_is_measured_and_no_verdict_is_told_before_all_rows_are(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.workspace import measuring

    gate, plain = threading.Event(), measuring.evaluation

    def waiting(*args: Any, **options: Any) -> Any:
        assert options["seconds"] == 10.0
        options["progress"](0.1, "Measuring 24 rows at most")
        gate.wait(60)
        return plain(*args, **options)

    monkeypatch.setattr(measuring, "evaluation", waiting)
    test = app("edit")
    test.session_state["retouch"].set_name = own_set(fresh_backend)
    fine(test.run())
    fine(test.button(key="fit").click().run())
    try:
        until = time.monotonic() + 60
        while "Measuring 24 rows" not in texts(test) and time.monotonic() < until:
            time.sleep(0.1)
            fine(test.run())
        told = texts(test)
        assert "The edit is fitted" in told and "with the edit" not in told and not test.get("plotly_chart")
        assert not test.button(key="fit-compare").disabled
        fine(test.button(key="fit-compare").click().run())
        assert test.session_state["retouch"].edit
    finally:
        gate.set()
    assert "with the edit" in texts(settled(fine(test.switch_page("pages/edit.py").run())))


def test_the_shuffled_control_is_a_button_with_its_cost_where_the_fit_was_long(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages._ui.edit import fitting

    monkeypatch.setattr(fitting, "SHORT_FIT_S", 0.0)
    test = fitted(app, fresh_backend)
    edit = test.session_state["retouch"].edit
    assert "Fitted on shuffled sides" not in texts(test)
    button = test.button(key="fit-shuffled")
    assert button.label.startswith("Fit on shuffled sides too (up to 1") and button.label.endswith(" s)")
    told = texts(settled(fine(button.click().run())))
    assert "Fitted on shuffled sides it gives" in told and test.session_state["retouch"].edit == edit
    assert not any(item.key == "fit-shuffled" for item in test.button), "it stands beside the placebo now"
    test = fine(test.switch_page("pages/evaluate.py").run())
    assert "The fit took" not in texts(test)
    assert "The fit took" in texts(fine(test.toggle(key="evaluate-shuffled").set_value(True).run()))


def test_a_cancelled_control_leaves_the_verdict_as_it_was(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages._ui.edit import fitting
    from workbench.progress import Cancelled
    from workbench.session import Session

    monkeypatch.setattr(fitting, "SHORT_FIT_S", 0.0)
    test = fitted(app, fresh_backend)
    before = texts(test)

    def stopped(*_: Any, **__: Any) -> None:
        raise Cancelled()

    monkeypatch.setattr(Session, "run", stopped)
    test = settled(fine(test.button(key="fit-shuffled").click().run()))
    assert "with the edit" in before and "with the edit" in texts(test) and test.button(key="fit-shuffled")


def test_a_methods_card_says_what_was_found_of_it_where_a_real_model_is_loaded(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pages._ui.kit.words import plain
    from workbench.methods.shared import evidence
    from workbench.models import catalog

    found = {"sea": {"does it": ["mood", "politeness"]}, "hpr": {"no effect found": ["mood", "politeness", "popular"]}}
    (tmp_path / "found.json").write_text(json.dumps({"model": "SmolLM2", "methods": found}))
    monkeypatch.setattr(evidence, "FOUND", tmp_path / "found.json")
    evidence.found_by_battery.cache_clear()
    nothing = plain("On SmolLM2 with its defaults: no effect found on mood, politeness and popular.")
    test = app("edit")
    test.session_state["retouch"].set_name = own_set(fresh_backend)
    monkeypatch.setattr(catalog, "EMBEDDED", {fresh_backend.sessions["embedded"].model.info.name: tmp_path})
    assert nothing not in texts(fine(test.run())), "the embedded model has cards of its own"
    monkeypatch.setattr(catalog, "EMBEDDED", {})
    said = texts(fine(test.run()))
    assert nothing in said and plain("On SmolLM2 with its defaults: does it on mood and politeness.") in said
    assert evidence.evidence("angular") == ""
    evidence.found_by_battery.cache_clear()
