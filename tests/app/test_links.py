"""What a link names, and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine
from tests.app.test_pages import ROOT, fitted

Run = Callable[..., AppTest]


def test_the_url_names_set_edits_and_doses_and_no_prompt(app: Run, fresh_backend: Any) -> None:
    from pages._ui.kit.state import as_url

    test = fitted(app, fresh_backend)
    now = test.session_state["retouch"]
    now.turn_on(now.edit, 0.5)
    test.switch_page("pages/compare.py").run()
    test.text_area(key="compare-prompts").set_value("w1 secret").run()
    told = as_url(test.session_state["retouch"])
    assert told["on"] == f"{now.edit}:0.5" and told["set"] and told["method"] == "mean_difference"
    assert not any("secret" in value for value in told.values())


def test_a_url_with_unknown_names_opens_all_the_same(app: Run, fresh_backend: Any) -> None:
    app()
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    test.query_params["on"] = "nonsense:99,abc:x"
    test.query_params["set"] = "no such set"
    test.query_params["jobs"] = "fit:deadbeef"
    test.query_params["layer"] = "-3"
    fine(test.run())
    fine(test.switch_page("pages/compare.py").run())
    assert not test.session_state["retouch"].lanes
