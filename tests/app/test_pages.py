"""Every page in its empty, running, failed and done states, without a browser."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, settled, texts
from tests.conftest import contrast_rows, taught_rows
from workbench.errors import NotEnoughMemory, StorageFailed
from workbench.progress import Cancelled

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("start", "model", "inspect", "demonstrations", "edit", "compare", "spectra", "evaluate", "library", "learn")
Run = Callable[..., AppTest]


def fitted(app: Run, backend: Any, n: int = 24, rows: Any = contrast_rows) -> AppTest:
    """The Edit page with a mean difference fitted on the set of the tiny model's words."""
    test = app("edit")
    chosen = own_set(backend, n, rows)
    test.session_state["retouch"].set_name = chosen
    test.session_state["retouch"].method = "mean_difference"
    fine(test.run())
    fine(test.button(key="fit").click().run())
    return settled(test)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_with_its_question_and_nothing_done(app: Run, page: str) -> None:
    test = app(page)
    assert test.title[0].value == page.capitalize()
    assert "?" in test.markdown[0].value


@pytest.mark.parametrize("page", PAGES)
def test_a_page_draws_itself_while_torch_imports(fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    from pages._ui.kit import backend

    gate = threading.Event()
    monkeypatch.setattr(backend, "imports", lambda tell: (tell("importing torch…"), gate.wait(60)))
    try:
        test = fine(AppTest.from_file(str(ROOT / "app.py"), default_timeout=30).run())
        if page != "start":
            fine(test.switch_page(f"pages/{page}.py").run())
        assert test.title[0].value == page.capitalize()
        assert "importing torch…" in texts(test)
    finally:
        gate.set()
        fresh_backend.thread.join(60)


def test_a_failed_start_names_the_remedy_and_can_be_tried_again(fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages._ui.kit import backend

    opened = backend.open_session

    def refused(model: str, workspace: Any = None, **options: Any) -> Any:
        raise NotEnoughMemory("embedded needs 1 GB; 0.5 GB are free.", "Close something.")

    monkeypatch.setattr(backend, "open_session", refused)
    fresh_backend.boot()
    fresh_backend.thread.join(60)
    test = fine(AppTest.from_file(str(ROOT / "app.py"), default_timeout=30).run().switch_page("pages/edit.py").run())
    assert "0.5 GB are free" in texts(test) and "Close something" in texts(test)
    monkeypatch.setattr(backend, "open_session", opened)
    test.button(key="boot-again").click().run()
    fresh_backend.thread.join(60)
    assert fresh_backend.error is None
    assert fine(test.run()).button(key="fit")


def test_a_fit_shows_progress_then_a_verdict_with_n_and_the_placebo(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    said = texts(test)
    assert "with the edit" in said and "random edit of equal size" in said and "row" in said
    assert test.button(key="fit-compare")
    assert test.get("plotly_chart")


def test_a_result_stays_when_a_knob_changes_and_says_that_it_is_old(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    assert "From earlier settings" not in texts(test)
    test.number_input(key="fit-seed").set_value(7).run()
    assert "From earlier settings" in texts(test) and "with the edit" in texts(test)


def test_a_result_is_there_again_after_another_page(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    fine(test.switch_page("pages/library.py").run())
    assert "with the edit" in texts(fine(test.switch_page("pages/edit.py").run()))


def test_a_running_fit_shows_cancel_and_leaves_nothing_behind(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages._ui.edit import fitting

    def slow(session: Any, settings: Any, progress: Any) -> Any:
        while True:
            progress(0.3, "Turning the handle")
            threading.Event().wait(0.02)

    monkeypatch.setattr(fitting, "fit", slow)
    test = app("edit")
    test.session_state["retouch"].set_name = own_set(fresh_backend)
    fine(test.run())
    fine(test.button(key="fit").click().run())
    assert "Turning the handle" in texts(test)
    test.button(key="fit-cancel").click().run()
    assert "Cancelled" in texts(settled(test))


def test_a_choice_by_validation_fills_the_form_and_is_not_old(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.methods import choice, get, registry

    only = replace(get("mean_difference"), tries=lambda info: {"strength": (3.0,)})
    monkeypatch.setitem(registry._METHODS, "mean_difference", only)
    test = fitted(app, fresh_backend, 30, taught_rows)
    assert "1 fit, judged on" in texts(test)
    fine(test.number_input(key="choice-limit").set_value(5.0).run())
    fine(test.button(key="choice-fit").click().run())
    said = texts(fine(settled(test).run()))
    assert "were chosen among" in said and "From earlier settings" not in said
    assert test.slider(key="fit-dose-mean_difference").value in choice.DOSES and test.session_state["knob-mean_difference-strength"] == 3.0
    fine(test.slider(key="fit-dose-mean_difference").set_value(3.0).run())
    assert "From earlier settings" in texts(test)
    fine(test.button(key="choose-sea").click().run())
    assert test.slider(key="fit-dose-sea").value == 1.0


def test_where_it_is_is_shown_and_its_layer_fills_the_form(app: Run, fresh_backend: Any) -> None:
    test = app("edit")
    test.session_state["retouch"].set_name = own_set(fresh_backend, 60, taught_rows)
    test.session_state["retouch"].method = "mean_difference"
    fine(test.run())
    assert not [button for button in test.button if button.key == "where-use"]
    fine(test.button(key="where-run").click().run())
    assert "Start at layer" in texts(fine(settled(test).run()))
    found = test.session_state["retouch"].kept["where"].value
    fine(test.button(key="where-use").click().run())
    assert list(test.session_state["knob-mean_difference-layers"]) == [found.best[0]]


def test_a_search_goes_on_from_the_page_and_a_cancelled_one_keeps_its_best(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = app("edit")
    test.session_state["retouch"].set_name = own_set(fresh_backend, 40)
    test.session_state["retouch"].method = "tarot"
    for name, value in {"budget": 10, "optimizer": "es", "n_init": 4, "n_train": 6, "n_val": 4, "shots": "zero"}.items():
        test.session_state[f"knob-tarot-{name}"] = value
    fine(test.run())
    fine(test.button(key="fit").click().run())
    fine(settled(test))
    done = test.session_state["retouch"].kept["fit"].value
    assert len(done.fitted.report.tables["trials"]) == 10
    fine(test.number_input(key=f"proceed-budget-{done.edit}").set_value(14).run())
    fine(test.button(key="proceed").click().run())
    said = texts(fine(settled(test).run()))
    longer = test.session_state["retouch"].kept["fit"].value
    assert len(longer.fitted.report.tables["trials"]) == 14 and "From earlier settings" not in said
    assert test.session_state["knob-tarot-budget"] == 14

    session = fresh_backend.sessions["embedded"]

    def cancelled(*_: Any, **__: Any) -> Any:
        raise Cancelled(best=longer.fitted)

    monkeypatch.setattr(session, "run", cancelled)
    fine(test.button(key="fit").click().run())
    said = texts(fine(settled(test).run()))
    assert "The best so far was kept" in said and "the best it had" in said and test.button(key="fit-compare")


def test_a_failed_fit_says_what_to_do_where_it_was_asked(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages._ui.edit import fitting

    def broken(session: Any, settings: Any, progress: Any) -> Any:
        raise NotEnoughMemory("The fit ran out of memory.", "Use fewer rows.")

    monkeypatch.setattr(fitting, "fit", broken)
    test = app("edit")
    fine(test.button(key="fit").click().run())
    said = texts(settled(test))
    assert "ran out of memory" in said and "Use fewer rows" in said


def test_a_method_that_cannot_run_is_grey_with_the_reason(app: Run, fresh_backend: Any) -> None:
    test = app("edit")
    test.session_state["retouch"].set_name = own_set(fresh_backend)
    fine(test.run())
    assert test.button(key="choose-senses").disabled
    assert "has no senses" in texts(test)


def test_an_edit_is_saved_compared_looked_at_measured_and_deleted(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    edit = test.session_state["retouch"].edit
    test.button(key=f"fit-save-{edit}").click().run()
    assert [item.id for item in fresh_backend.sessions["embedded"].edits()] == [edit]
    fine(test.button(key="fit-compare").click().run())
    assert test.title[0].value == "Compare"
    # AppTest forgets a page that the script switched to.
    fine(test.switch_page("pages/compare.py").run())
    test.text_area(key="compare-prompts").set_value("w1 w2 w3\nw4 w5").run()
    fine(test.button(key="compare").click().run())
    assert "KL to base" in texts(settled(test))
    fine(test.switch_page("pages/spectra.py").run())
    fine(test.button(key="moves-run").click().run())
    assert settled(test).get("plotly_chart")
    fine(test.switch_page("pages/evaluate.py").run())
    fine(test.button(key="evaluate").click().run())
    assert "with the edit" in texts(settled(test))
    fine(test.switch_page("pages/library.py").run())
    fine(test.button(key=f"delete-{edit}").click().run())
    assert not fresh_backend.sessions["embedded"].edits()
    assert "outlive the browser" in texts(test) and "in the bin for 30 days" in texts(test)
    fine(test.button(key="library-undo").click().run())
    assert [item.id for item in fresh_backend.sessions["embedded"].edits()] == [edit] and "in the bin for" not in texts(test)


def test_the_base_alone_can_be_heard_and_judged(app: Run, fresh_backend: Any) -> None:
    test = app("compare")
    test.text_area(key="compare-prompts").set_value("w1 w2 w3").run()
    fine(test.button(key="compare").click().run())
    settled(test)
    assert "The untouched model" in texts(test)
    fine(test.button(key="compare-0-0-positive").click().run())
    judged = fresh_backend.sessions["embedded"].demos("judged answers")
    assert len(judged) == 1 and judged[0].prompt == "w1 w2 w3" and judged[0].positive


@pytest.mark.parametrize("lens", ["Logit lens", "Attention"])
def test_a_lens_runs_and_its_grid_has_selectors_for_the_keyboard(app: Run, lens: str) -> None:
    test = app("inspect")
    test.text_area(key="inspect-prompt").set_value("w1 w2 w3 w1 w2").run()
    test.text_input(key="inspect-target").set_value("w3").run()
    test.segmented_control(key="inspect-lens").set_value(lens).run()
    slot, grid = {"Logit lens": ("lens-run", "lens-grid"), "Attention": ("attention-run", "head-grid")}[lens]
    fine(test.button(key=slot).click().run())
    settled(test)
    test.selectbox(key=f"{grid}-row").set_value(1).run()
    fine(test.selectbox(key=f"{grid}-column").set_value(2).run())
    assert ("layer" if lens == "Logit lens" else "head 2") in texts(test)


def test_the_prompt_guard_mends_a_trailing_space(app: Run) -> None:
    test = app("inspect")
    test.text_area(key="inspect-prompt").set_value("w1 w2 ").run()
    assert "ends in a space" in texts(test)
    test.button(key="inspect-prompt-mend").click().run()
    assert test.text_area(key="inspect-prompt").value == "w1 w2"
    assert "ends in a space" not in texts(test)


def test_target_and_distractor_swap(app: Run) -> None:
    test = app("inspect")
    test.text_input(key="inspect-target").set_value("w1").run()
    test.text_input(key="inspect-distractor").set_value("w2").run()
    test.button(key="inspect-swap").click().run()
    assert (test.text_input(key="inspect-target").value, test.text_input(key="inspect-distractor").value) == ("w2", "w1")


def test_a_locked_workspace_is_named_and_the_page_stays(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    test = fitted(app, fresh_backend)
    session, edit = fresh_backend.sessions["embedded"], test.session_state["retouch"].edit

    def full(*_: Any, **__: Any) -> Any:
        raise StorageFailed("The workspace refuses: disk full.", "Free some space, then try again.")

    monkeypatch.setattr(session, "save_edit", full)
    fine(test.button(key=f"fit-save-{edit}").click().run())
    assert "disk full" in texts(test) and "with the edit" in texts(test)


def test_a_prediction_is_fresh_until_its_prompt_changes(app: Run) -> None:
    test = app("model")
    fine(test.text_area(key="model-prompt").set_value("w3 w4").run())
    done = settled(fine(test.button(key="model-predict").click().run()))
    assert "It expects" in texts(done) and "From earlier settings" not in texts(done)
    assert "From earlier settings" in texts(fine(test.text_area(key="model-prompt").set_value("w5 w6").run()))


def test_two_tabs_have_their_own_edits_on_one_model(app: Run, fresh_backend: Any) -> None:
    one = fitted(app, fresh_backend)
    edit = one.session_state["retouch"].edit
    other = app("compare")
    one.session_state["retouch"].turn_on(edit)
    fine(one.run())
    fine(other.run())
    assert one.session_state["retouch"].lanes and not other.session_state["retouch"].lanes


def test_what_is_typed_just_before_a_click_counts(app: Run, fresh_backend: Any) -> None:
    # Text and click reach the script in one message: a callback would get the arguments of the run before.
    test = fitted(app, fresh_backend)
    edit = test.session_state["retouch"].edit
    test.text_input(key=f"fit-name-{edit}").input("typed last")
    fine(test.button(key=f"fit-save-{edit}").click().run())
    assert "Saved as typed last" in texts(test)
    test = fine(test.switch_page("pages/compare.py").run())
    test.text_area(key="compare-prompts").input("w3 w4")
    fine(test.button(key="compare").click().run())
    settled(test)
    assert test.session_state["retouch"].kept["compare"].settings.prompts == ("w3 w4",)


def test_what_released_code_does_otherwise_is_one_line_that_presets_switch(app: Run, fresh_backend: Any) -> None:
    from workbench.knobs import as_json
    from workbench.methods.sea.compat import OFFICIAL

    test = app("edit")
    assert not released(test) and "As released:" not in texts(test)
    fine(test.selectbox(key="preset-sea").set_value("official-compat").run())
    assert test.toggle(key="knob-sea-as-released").value and "As released: norm = feature, phi_mode = skip_input" in texts(test)
    assert test.session_state["knob-sea-compat"] == as_json(OFFICIAL)
    fine(test.toggle(key="knob-sea-as-released").set_value(False).run())
    assert "As released:" not in texts(test)
    fine(test.toggle(key="knob-sea-as-released").set_value(True).run())
    assert "As released: norm = feature" in texts(test)
    fine(test.selectbox(key="preset-sea").set_value("centred").run())
    assert not released(test) and "As released:" not in texts(test)


def released(test: AppTest) -> bool:
    """Whether the form asks about the released code, which only a preset of it, or an edit that did so, brings up."""
    return any(item.key == "knob-sea-as-released" for item in test.toggle)


def test_an_edit_is_measured_again_at_the_dose_it_was_judged_at(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    test.slider(key="fit-dose-mean_difference").set_value(2.0).run()
    fine(test.button(key="fit").click().run())
    edit = settled(test).session_state["retouch"].kept["fit"].value.edit
    test.switch_page("pages/evaluate.py")
    assert fine(test.run()).slider(key=f"evaluate-dose-{edit}").value == 2.0
