"""The panels of Inspect in their states, and the scope that is carried to the Edit form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, settled, texts
from workbench.errors import NotEnoughMemory

Run = Callable[..., AppTest]
PROMPT, CORRUPT = "w1 w2 w3 w2 w5", "w1 w2 w3 w1 w5"
# Lens, the button that runs it, its slot, what it says when it is done.
LENSES = (
    ("Attribution", "attribution-run", "attribution", "The largest part is"),
    ("Patching", "patching-run", "patching", "Logit difference: clean"),
    ("Patching", "patching-estimate", "patching", "estimated from a gradient"),
    ("Heads", "heads-run", "heads", "a head that attends evenly"),
    ("Circuit", "circuit-run", "circuit", "edges alone bring"),
)


def inspect(app: Run, lens: str, *, words: bool = True) -> AppTest:
    """The page with a prompt, a target, a distractor and a corrupted prompt, on a lens."""
    test = app("inspect")
    fine(test.segmented_control(key="inspect-lens").set_value(lens).run())
    if words:
        test.text_area(key="inspect-prompt").set_value(PROMPT)
        test.text_input(key="inspect-target").set_value("w1")
        test.text_input(key="inspect-distractor").set_value("w2")
        if lens in ("Patching", "Circuit"):
            test.text_area(key="inspect-corrupt").set_value(CORRUPT)
        fine(test.run())
    return test


def keys(test: AppTest) -> set[str]:
    return {button.key for button in test.button if button.key}


@pytest.mark.parametrize(("lens", "button", "slot", "says"), LENSES)
def test_a_panel_says_what_will_stand_there_then_shows_it(app: Run, lens: str, button: str, slot: str, says: str) -> None:
    test = inspect(app, lens)
    assert "will stand here" in texts(test) and says not in texts(test)
    fine(test.button(key=button).click().run())
    said = texts(settled(test))
    assert says in said and "will stand here" not in said
    assert test.get("plotly_chart") and ("n=" in said), "a picture, and how many prompts it is from"


@pytest.mark.parametrize(("lens", "button", "slot", "says"), LENSES)
def test_a_panel_that_fails_says_what_to_do(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, lens: str, button: str, slot: str, says: str
) -> None:
    test = inspect(app, lens)

    def refused(*_: Any, **__: Any) -> Any:
        raise NotEnoughMemory("The lens ran out of memory.", "Use a shorter prompt.")

    monkeypatch.setattr(fresh_backend.sessions["embedded"], "look", refused)
    fine(test.button(key=button).click().run())
    said = texts(settled(test))
    assert "ran out of memory" in said and "Use a shorter prompt" in said and says not in said


@pytest.mark.parametrize("lens", ["Attribution", "Patching", "Heads", "Circuit"])
def test_a_running_panel_can_be_cancelled(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, lens: str) -> None:
    import time

    test = inspect(app, lens)

    def slow(*_: Any, progress: Any, **__: Any) -> Any:
        while True:
            progress(0.3, "Turning the handle")
            time.sleep(0.02)

    monkeypatch.setattr(fresh_backend.sessions["embedded"], "look", slow)
    button, slot = next((button, slot) for name, button, slot, _ in LENSES if name == lens)
    fine(test.button(key=button).click().run())
    assert "Turning the handle" in texts(test)
    test.button(key=f"{slot}-cancel").click().run()
    assert "Cancelled" in texts(settled(test))


def test_fresh_effects_are_never_marked_old_whichever_way_they_were_found_last(app: Run) -> None:
    test = inspect(app, "Patching")
    for button, says in (("patching-estimate", "estimated from"), ("patching-run", "measured"), ("patching-estimate", "estimated from")):
        fine(test.button(key=button).click().run())
        said = texts(settled(test))
        assert says in said and "From earlier settings" not in said
    fine(test.text_input(key="inspect-target").set_value("w3").run())
    assert "From earlier settings" in texts(test)


@pytest.mark.parametrize("lens", ["Patching", "Circuit"])
def test_patching_without_a_corrupted_prompt_says_what_is_lacking_and_offers_no_run(app: Run, lens: str) -> None:
    test = inspect(app, lens)
    test.text_area(key="inspect-corrupt").set_value(PROMPT)
    fine(test.run())
    assert "a corrupted prompt that differs" in texts(test)
    assert not keys(test) & {"patching-run", "circuit-run"}


def test_prompts_of_unequal_length_are_refused_with_both_numbers(app: Run) -> None:
    test = inspect(app, "Patching")
    test.text_area(key="inspect-corrupt").set_value(f"{CORRUPT} w9")
    fine(test.run())
    fine(test.button(key="patching-run").click().run())
    assert "5 and 6 tokens" in texts(settled(test))


def test_a_name_swap_fills_all_four_fields_so_that_the_prompts_differ_in_one_word(app: Run) -> None:
    test = inspect(app, "Patching", words=False)
    fine(test.button(key="inspect-example").click().run())
    clean, corrupt = (test.text_area(key=f"inspect-{name}").value for name in ("prompt", "corrupt"))
    good, bad = (test.text_input(key=f"inspect-{name}").value for name in ("target", "distractor"))
    assert clean.count(good) == corrupt.count(bad) == 1 and clean.count(bad) == corrupt.count(good) == 2
    assert keys(test) >= {"patching-run"}


def test_name_movers_show_push_beside_ablation_and_refuse_a_name_that_is_not_there(app: Run) -> None:
    test = inspect(app, "Heads")
    fine(test.segmented_control(key="heads-view").set_value("Name movers").run())
    fine(test.button(key="movers-run").click().run())
    test = settled(test)
    table = next(item.value for item in test.dataframe if "lost without it (measured)" in item.value.columns)
    assert len(table) == 12, "three layers of four heads"
    sizes = table[["push (direct)", "lost without it (measured)"]].abs().max(axis=1)
    assert list(sizes) == sorted(sizes, reverse=True)
    test.text_input(key="inspect-target").set_value("w77")
    fine(test.run())
    fine(test.button(key="movers-run").click().run())
    assert "does not stand in the prompt" in texts(settled(test))


def test_the_head_that_leads_can_be_put_in_scope_and_taken_out(app: Run) -> None:
    test = inspect(app, "Heads")
    assert "scope-fit" not in keys(test) and "Empty. Pick a cell" in texts(test)
    fine(test.button(key="heads-run").click().run())
    test = settled(test)
    test.selectbox(key="heads-grid-row").set_value(1).run()
    fine(test.selectbox(key="heads-grid-column").set_value(2).run())
    fine(test.button(key="heads-scope-add").click().run())
    assert "scope-1.2" in keys(test) and test.session_state["retouch"].layer == 1
    fine(test.button(key="scope-1.2").click().run())
    assert "scope-fit" not in keys(test)


def handed(app: Run, backend: Any, method: str, *names: str) -> AppTest:
    """The Edit page after these places were handed over."""
    from pages._ui.kit.scope import Handed, Scope

    test = app("edit")
    now = test.session_state["retouch"]
    now.set_name, now.method = own_set(backend), method
    layers, heads = tuple(int(name) for name in names if "." not in name), tuple(name for name in names if "." in name)
    now.parts["Scope"] = Scope(handed=Handed(layers, heads))
    return fine(test.run())


def test_a_layer_handed_over_is_in_the_form_and_in_the_fit_and_can_be_forgotten(app: Run, fresh_backend: Any) -> None:
    test = handed(app, fresh_backend, "mean_difference", "2")
    assert test.multiselect(key="knob-mean_difference-layers").value == [2]
    assert "From Inspect: layer 2" in texts(test)
    fine(test.button(key="fit").click().run())
    outcome = settled(test).session_state["retouch"].kept["fit"].value
    assert outcome.fitted.edit.header.config["layers"] in ([2], (2,))
    fine(test.button(key="handed-forget").click().run())
    assert test.multiselect(key="knob-mean_difference-layers").value == [] and "From Inspect" not in texts(test)


def test_nothing_handed_over_leaves_the_form_as_it_is(app: Run, fresh_backend: Any) -> None:
    test = app("edit")
    test.session_state["retouch"].method = "mean_difference"
    test.session_state["retouch"].set_name = own_set(fresh_backend)
    fine(test.run())
    assert test.multiselect(key="knob-mean_difference-layers").value == [] and "From Inspect" not in texts(test)


def test_what_the_user_changes_afterwards_stays_and_the_handed_places_can_be_had_again(app: Run, fresh_backend: Any) -> None:
    test = handed(app, fresh_backend, "mean_difference", "2")
    fine(test.multiselect(key="knob-mean_difference-layers").set_value([0]).run())
    fine(test.run())
    assert test.multiselect(key="knob-mean_difference-layers").value == [0]
    fine(test.button(key="handed-use").click().run())
    assert test.multiselect(key="knob-mean_difference-layers").value == [2]


def test_heads_fill_the_heads_knob_where_there_is_one_and_else_their_layers(app: Run, fresh_backend: Any) -> None:
    test = handed(app, fresh_backend, "tarot", "1.2", "2.0")
    assert test.text_input(key="knob-tarot-heads").value == "1.2, 2.0"
    assert test.multiselect(key="knob-tarot-layers").value == []
    test.session_state["retouch"].method = "mean_difference"
    fine(test.run())
    assert test.text_input(key="knob-mean_difference-parts").value == "1.2, 2.0" and "heads whole" not in texts(test)
    test.session_state["retouch"].method = "sea"
    fine(test.run())
    assert test.multiselect(key="knob-sea-layers").value == [1, 2]
    said = texts(test)
    assert "SEA takes the layers of these heads whole. Just these are changed by " in said
    assert all(title in said.partition("heads whole. ")[2] for title in ("ARE", "LoRA", "Mean difference", "TaRot"))
    test.session_state["retouch"].method = "lora"
    fine(test.run())
    assert test.text_input(key="knob-lora-parts").value == "1.2, 2.0"


def test_places_that_the_model_lacks_are_left_out_in_words(app: Run, fresh_backend: Any) -> None:
    test = handed(app, fresh_backend, "mean_difference", "40")
    assert test.multiselect(key="knob-mean_difference-layers").value == []
    assert "the model has no such place" in texts(test)


def test_a_picked_layer_is_in_the_url_and_is_read_back(app: Run) -> None:
    from pages._ui.kit.state import as_url

    test = inspect(app, "Attention")
    assert "layer" not in as_url(test.session_state["retouch"])
    fine(test.button(key="attention-run").click().run())
    test = settled(test)
    test.selectbox(key="head-grid-row").set_value(2).run()
    fine(test.selectbox(key="head-grid-column").set_value(1).run())
    assert as_url(test.session_state["retouch"])["layer"] == "2"
    other = inspect(app, "Attention")
    other.session_state["retouch"].layer = 1
    fine(other.button(key="attention-run").click().run())
    assert "Layer 1, head" in texts(settled(other))


def test_a_url_with_a_layer_opens_the_heads_of_that_layer_and_one_the_model_lacks_is_passed_over(app: Run) -> None:
    from tests.app.conftest import ROOT

    for given, shown in (("2", "Layer 2, head"), ("77", "Layer ")):
        app()
        test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        test.query_params["layer"] = given
        fine(test.run())
        fine(test.switch_page("pages/inspect.py").run())
        fine(test.segmented_control(key="inspect-lens").set_value("Attention").run())
        fine(test.text_area(key="inspect-prompt").set_value(PROMPT).run())
        fine(test.button(key="attention-run").click().run())
        said = texts(settled(test))
        assert shown in said and "Layer 77" not in said


@pytest.mark.parametrize("lens", ["Attribution", "Heads", "Circuit"])
def test_a_model_without_a_bridge_is_told_where_the_run_was_asked_for(
    app: Run, fresh_backend: Any, tiny_backpack_model: Any, monkeypatch: pytest.MonkeyPatch, lens: str
) -> None:
    test = inspect(app, lens)
    monkeypatch.setattr(fresh_backend.sessions["embedded"], "model", tiny_backpack_model)
    fine(test.button(key=f"{lens.lower()}-run").click().run())
    assert "TransformerLens's bridge" in texts(settled(test))
