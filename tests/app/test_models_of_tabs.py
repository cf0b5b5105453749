"""What a page shows is of the model that the tab is on: results, lanes, forms; tabs and loads do not disturb each other."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.kit import state as kit_state
from pages._ui.kit.asked_model import AskedModel
from tests.app.conftest import ROOT, fine, settled, texts
from tests.app.test_pages import fitted
from workbench.errors import NotEnoughMemory
from workbench.workspace.people import acting_as

Run = Callable[..., AppTest]


@pytest.fixture
def other(tiny_folders: dict[str, Path]) -> str:
    """Another model: a folder with a tiny Llama."""
    return str(tiny_folders["llama"])


def whole(test: AppTest) -> AppTest:
    """Run the app from its first page: after a change of page, AppTest runs that page's file without the app around it."""
    test._page_hash = test._finished_page_script_hash = ""  # pyright: ignore[reportPrivateUsage]
    return fine(test.run())


def turned(test: AppTest, model: str, page: str) -> AppTest:
    """The tab on a model that is open, as after its load; then the page is drawn."""
    from pages._ui.kit.loading import LOADING

    test.session_state["retouch"].tab.kept[LOADING.name] = kit_state.Kept(model)
    whole(test)
    return fine(test.switch_page(f"pages/{page}.py").run())


def compared(app: Run, backend: Any, other: str) -> AppTest:
    """The Compare page with texts of the first model; the other one is open too."""
    backend.open(other)
    test = app("compare")
    test.text_area(key="compare-prompts").set_value("w3 w4").run()
    fine(test.button(key="compare").click().run())
    return settled(test)


def test_texts_of_one_model_are_never_shown_on_another_and_come_back_with_theirs(app: Run, fresh_backend: Any, other: str) -> None:
    test = compared(app, fresh_backend, other)
    assert "The untouched model." in texts(test) and "results that were here" not in texts(test)
    test = turned(test, other, "compare")
    said = texts(test)
    assert "The untouched model." not in said and "results that were here are from **embedded**" in said
    fine(test.button(key="back-compare").click().run())
    assert "The untouched model." in texts(test) and test.session_state["retouch"].model == "embedded"
    assert "From earlier settings" not in texts(test)


def test_what_ends_after_the_switch_belongs_to_the_model_that_it_was_asked_on(
    app: Run, fresh_backend: Any, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, run = threading.Event(), fresh_backend.open(other) and None
    test = app("compare")
    session = fresh_backend.sessions["embedded"]
    run = session.run
    monkeypatch.setattr(session, "run", lambda *given, **options: (gate.wait(30), run(*given, **options))[1])
    test.text_area(key="compare-prompts").set_value("w3 w4").run()
    fine(test.button(key="compare").click().run())
    test = turned(test, other, "compare")
    gate.set()
    test = settled(test)
    assert "The untouched model." not in texts(test) and "are from **embedded**" in texts(test)
    fine(test.button(key="back-compare").click().run())
    assert "The untouched model." in texts(test)


@pytest.mark.parametrize(("page", "slot"), [("edit", "fit"), ("evaluate", "evaluate"), ("inspect", "logit_lens"), ("model", "next")])
def test_every_page_offers_the_way_back(app: Run, fresh_backend: Any, other: str, page: str, slot: str) -> None:
    fresh_backend.open(other)
    test = fitted(app, fresh_backend)
    if page != "edit":
        fine(test.switch_page(f"pages/{page}.py").run())
        for box, text in (("inspect-prompt", "w3 w4"), ("model-prompt", "w3 w4")):
            for widget in [*test.text_input, *test.text_area]:
                if widget.key == box:
                    widget.set_value(text)
        fine(test.button(key={"evaluate": "evaluate", "inspect": "lens-run", "model": "model-predict"}[page]).click().run())
        test = settled(test)
    assert test.session_state["retouch"].kept[slot].value is not None
    test = turned(test, other, page)
    if page == "evaluate":  # without an edit for this model the page says so, and shows nothing of the other's
        assert "There is no edit to measure yet" in texts(test)
        return
    assert "are from **embedded**" in texts(test)
    fine(test.button(key=f"back-{slot}").click().run())
    assert "are from **embedded**" not in texts(test)


def test_lanes_forms_and_scope_wait_for_their_model(app: Run, fresh_backend: Any, other: str) -> None:
    from pages._ui.kit import scope

    fresh_backend.open(other)
    test = fitted(app, fresh_backend)
    now = test.session_state["retouch"]
    now.turn_on(now.edit)
    now.bench.parts["Scope"] = scope.Scope(frozenset({"2"}))
    strength = test.slider(key="fit-dose-mean_difference")
    fine(strength.set_value(2.5).run())
    lanes = now.lanes
    test = turned(test, other, "edit")
    assert now.lanes == () and "Scope" not in now.parts or now.parts["Scope"].picked == frozenset()  # pyright: ignore
    assert test.slider(key="fit-dose-mean_difference").value == 1.0
    test = turned(test, "embedded", "edit")
    assert now.lanes == lanes and now.parts["Scope"].picked == frozenset({"2"})  # pyright: ignore
    assert test.slider(key="fit-dose-mean_difference").value == 2.5


def test_a_reload_keeps_the_tabs_model_and_one_that_has_left_is_offered(app: Run, fresh_backend: Any, other: str) -> None:
    fresh_backend.open(other)
    test = turned(app(), other, "compare")
    assert test.query_params["model"] == other
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    again.query_params["model"] = other
    fine(again.run().switch_page("pages/compare.py").run())
    assert again.session_state["retouch"].model == other and again.button(key="compare")
    del fresh_backend.sessions[other]
    late = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    late.query_params["model"] = other
    fine(late.run().switch_page("pages/compare.py").run())
    assert "which is not loaded" in texts(late) and other not in fresh_backend.sessions
    fine(late.button(key="again-load").click().run())
    settled(late)
    assert turned(late, other, "compare").button(key="compare") and other in fresh_backend.sessions


def test_a_load_in_one_tab_changes_no_other_and_keeps_unsaved_fits(app: Run, fresh_backend: Any, other: str) -> None:
    one = fitted(app, fresh_backend)
    edit = one.session_state["retouch"].edit
    session = fresh_backend.sessions["embedded"]
    two = app("model")
    fine(two.segmented_control(key="model-where").set_value("Folder").run())
    fine(two.text_input(key="model-folder").set_value(other).run())
    fine(two.button(key="model-load").click().run())
    assert whole(settled(two)).session_state["retouch"].model == other
    assert fresh_backend.sessions["embedded"] is session and fine(one.run()).session_state["retouch"].model == "embedded"
    assert "with the edit" in texts(one)
    with acting_as(one.session_state["retouch"].owner):
        assert edit in [item.edit.id for item in fresh_backend.sessions[other].shelf.fitted()]


def test_three_who_ask_for_one_model_share_one_load_and_the_model_in_another_type_is_another(
    app: Run, fresh_backend: Any, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages._ui.kit import backend

    app()
    asked: list[str] = []
    opened, gate = backend.open_session, threading.Event()

    def slow(model: str, *given: Any, **options: Any) -> Any:
        asked.append(model)
        gate.wait(30)
        return opened(model, *given, **options)

    monkeypatch.setattr(backend, "open_session", slow)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(fresh_backend.open, other) for _ in range(3)]
        gate.set()
        one, two, three = (item.result(60) for item in waiting)
    assert one is two is three and asked == [other]
    half = fresh_backend.open(AskedModel(other, "bfloat16").key)
    assert half is not one and fresh_backend.sessions[other] is one and half.model.info.dtype == "bfloat16"


def test_models_that_no_tab_is_on_leave_first_and_their_fits_stay(
    app: Run, fresh_backend: Any, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages._ui.kit import backend

    gc.collect()
    kit_state._tabs.clear()  # pyright: ignore[reportPrivateUsage] - tabs of other tests
    names = [str(tiny_folders[family]) for family in ("llama", "qwen2", "neox", "mistral")]
    fresh_backend.boot()
    fresh_backend.thread.join(60)
    fresh_backend.open(names[0])
    test = turned(app(), names[0], "compare")
    assert test.session_state["retouch"].model == names[0]
    for name in names[1:]:
        fresh_backend.open(name)
    assert set(fresh_backend.sessions) == {"embedded", names[0], names[3]}
    fits = fresh_backend.sessions["embedded"].shelf
    assert all(session.shelf is fits for session in fresh_backend.sessions.values())

    opened, refused = backend.open_session, []

    def short(model: str, *given: Any, **options: Any) -> Any:
        if names[3] in fresh_backend.sessions:
            refused.append(model)
            raise NotEnoughMemory("It needs 1 GB; 0.5 GB are free.", "Close something.")
        return opened(model, *given, **options)

    monkeypatch.setattr(backend, "open_session", short)
    fresh_backend.open(names[1])
    assert refused == [names[1]] and set(fresh_backend.sessions) == {"embedded", names[0], names[1]}


def test_a_models_key_says_type_and_device_only_where_they_are_not_the_usual_ones() -> None:
    for asked in (AskedModel("gpt2"), AskedModel("a@b@c"), AskedModel("org/x", "bfloat16", "cuda"), AskedModel("x@y")):
        assert AskedModel.of(asked.key) == asked
    assert AskedModel("gpt2").key == "gpt2" and AskedModel("gpt2", "bfloat16").key == "gpt2@bfloat16@cpu"


def test_a_load_that_ends_while_a_page_is_drawn_is_taken_in_that_run(
    app: Run, fresh_backend: Any, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timer is left to see its end: what ended after the page began would else wait for the person's next click."""
    from pages._ui.kit import loading

    fresh_backend.open(other)
    test, take, looks = app("start"), loading.take_model, list[bool]()

    def ends_after_the_first_look() -> bool:
        looks.append(take())
        if len(looks) == 1:
            kit_state.state().tab.kept[loading.LOADING.name] = kit_state.Kept(other)
        return looks[-1]

    monkeypatch.setattr(loading, "take_model", ends_after_the_first_look)
    whole(test)
    assert looks[:2] == [False, True] and test.session_state["retouch"].model == other
