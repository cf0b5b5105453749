"""What a link names, and what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import another_tab, fine, texts
from tests.app.test_pages import ROOT, fitted
from workbench.edits.lane import Lane, Named
from workbench.edits.prompting import Prompting
from workbench.methods import names
from workbench.workspace.people import acting_as

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


@pytest.mark.parametrize(
    "query",
    [
        "on=abc:99", "on=ID:nan", "on=ID:1e999", f"on={'a' * 5000}", "on=FOLDER:1", "edit=FOLDER", "set=FOLDER", "layer=²",
        f"layer={'9' * 20}", "method=nope", "model=/no/such/folder", "on=ID,ID,ID,ID,ID,ID", "on=ID+ID", "on=ID:1,ID:2",
        "jobs=compare:JOB,evaluate:JOB,lens:JOB,fit:JOB", "tab=load:JOB",
    ],
    ids=lambda query: query[:12],
)  # fmt: skip
def test_no_link_kills_a_page_or_turns_something_else_on(
    app: Run, fresh_backend: Any, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    first = fitted(app, fresh_backend)
    edit = first.session_state["retouch"].edit
    job = fresh_backend.jobs.submit(lambda progress: object(), title="A fit of somebody").id
    read: list[object] = []
    monkeypatch.setattr("workbench.workspace.edit_shelf.load_edit", lambda folder: read.append(folder))
    names = {"ID": edit, "FOLDER": str(tiny_folders["llama"]), "JOB": job}
    name, _, value = query.partition("=")
    test = another_tab(first)
    test.query_params[name] = re.sub("ID|FOLDER|JOB", lambda found: names[found[0]], value)
    fine(test.run())
    on = test.session_state["retouch"].lanes
    assert {key for lane in on for key in lane.keys} <= {edit} and len(on) <= 1
    drawn = " ".join(item.body for item in test.sidebar.get("html"))
    assert ("EDIT ON" in drawn) is bool(on)
    for page in ("edit", "compare", "evaluate", "inspect", "spectra"):
        fine(test.switch_page(f"pages/{page}.py").run())
    assert read == [], "a link never reads a folder"


def test_what_a_link_names_and_nobody_has_is_said_once(app: Run, fresh_backend: Any) -> None:
    first = fitted(app, fresh_backend)
    edit, test = first.session_state["retouch"].edit, another_tab(first)
    test.query_params["on"] = f"{edit}:2,gone:1"
    fine(test.run())
    assert "No saved edit 'gone'" in texts(test) and edit not in texts(test), "an edit that nobody saved is not told"
    assert [lane.keys for lane in test.session_state["retouch"].lanes] == [(edit,)]
    assert "gone" not in texts(fine(test.run()))


def test_a_method_that_nobody_has_stops_no_page(app: Run, fresh_backend: Any) -> None:
    test = app("start")
    test.query_params["method"] = ":1:1base"
    for page, picker in (("demonstrations", "set-method"), ("edit", None)):
        fine(test.switch_page(f"pages/{page}.py").run())
        assert picker is None or test.selectbox(key=picker).value in names(), "the row is shown as a method that there is reads it"


def test_one_edit_has_one_lane_and_its_last_dose(app: Run, fresh_backend: Any) -> None:
    now = fitted(app, fresh_backend).session_state["retouch"]
    now.lanes = (Lane((Named(now.edit, 1.0),)), Lane((Named(now.edit, 2.0),)), Lane((Named(now.edit, 1.0),), Prompting(prefix="Well.")))
    assert [lane.doses for lane in now.lanes] == [((now.edit, 2.0),), ((now.edit, 1.0),)]


@pytest.mark.parametrize(("address", "says"), [("localhost", False), ("0.0.0.0", True), ("", True)])
def test_a_server_that_others_can_reach_says_so_on_every_page(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, address: str, says: bool
) -> None:
    import streamlit

    known = streamlit.get_option
    monkeypatch.setattr(streamlit, "get_option", lambda name: address if name == "server.address" else known(name))
    assert ("no password" in " ".join(item.value for item in app("start").sidebar.caption)) is says


def test_a_fit_that_was_saved_at_another_dose_is_not_called_unsaved(app: Run, fresh_backend: Any) -> None:
    from pages._ui.kit.lanes import known_edits

    now = fitted(app, fresh_backend).session_state["retouch"]
    session, edit = fresh_backend.sessions["embedded"], now.edit
    with acting_as(now.owner):
        assert known_edits(session)[edit].endswith("(not saved)")
        kept = session.save_edit(session.shelf.load(edit).dosed(2.0), "twice")
        assert known_edits(session) == {edit: "twice, as fitted", kept.id: "twice"}, "the name is of the fit, the dose is told"
