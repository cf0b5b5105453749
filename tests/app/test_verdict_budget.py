"""The first verdict on Edit: within a time, after one look, and the edit is at hand meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, settled, texts

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
