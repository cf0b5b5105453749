"""Prompting as a lane on the pages: rivals in words on Edit, lanes of Compare, beside the edits of Evaluate and its sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from pages._ui.edit import methods
from pages._ui.kit import said
from tests.app.conftest import evaluate_view, fine, own_set, settled, texts
from tests.app.test_pages import fitted

Run = Callable[..., AppTest]


def test_a_fit_is_measured_beside_its_rivals_in_words(app: Run, fresh_backend: Any) -> None:
    test = app("edit")
    chosen = own_set(fresh_backend, 60)
    test.session_state["retouch"].set_name = chosen
    test.session_state["retouch"].method = "mean_difference"
    fine(test.run())
    same, against = methods.rival_keys(chosen)
    test.text_input(key=same).set_value("Be right.").run()
    test.text_input(key=against).set_value("Be wrong.").run()
    test.button(key="fit").click().run()
    found = texts(settled(test))
    assert "“Be right.” before every prompt, with no edit," in found and "tokens a prompt, the edit none" in found
    assert "“Be wrong.”" in found and "with “Be right.” before it and no edit" in found
    assert "From earlier settings" not in found
    helps = " ".join(item.proto.help for item in (*test.markdown, *test.caption))
    assert [word for word in ("placebo", "nats", "neutral text", "interval", "split", "prefix") if f"**{word}**: " not in helps] == []
    test.text_input(key=against).set_value("").run()
    assert "From earlier settings" in texts(test)


def add(test: AppTest, page: str, text: str = "", edit: str | None = None) -> AppTest:
    """Add a sentence as a lane, or two shots where there is none."""
    if not text:
        test.segmented_control(key=f"{page}-say-way").set_value(said.SHOTS).run()
        test.number_input(key=f"{page}-say-n").set_value(2).run()
    else:
        test.segmented_control(key=f"{page}-say-way").set_value(said.PREFIX).run()
        test.text_input(key=f"{page}-say-text").set_value(text).run()
    if edit is not None:
        test.selectbox(key=f"{page}-say-edit").set_value(edit).run()
    return fine(test.button(key=f"{page}-say-add").click().run())


def test_a_sentence_and_shots_are_lanes_of_compare_with_and_without_an_edit(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    edit = test.session_state["retouch"].edit
    fine(test.switch_page("pages/compare.py").run())
    chosen = test.session_state["retouch"].set_name
    add(test, "compare", "Be right.")
    add(test, "compare", "Be right.", edit)
    test.selectbox(key="compare-say-edit").set_value(None).run()
    add(test, "compare")
    lanes = [str(lane) for lane in test.session_state["retouch"].lanes]
    assert lanes == ['prompt:"Be right."', f'{edit}:1+prompt:"Be right."', f'shots:"{chosen}":2']
    test.text_area(key="compare-prompts").set_value("Is it?").run()
    test.button(key="compare").click().run()
    found = texts(settled(test))
    assert found.count("KL to base") == 3 and "what it says stands before the prompt" in found


def test_prompts_stand_beside_the_edits_of_evaluate_and_of_its_sweep(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend, 60)
    fine(test.switch_page("pages/evaluate.py").run())
    add(test, "evaluate", "Be right.")
    add(test, "evaluate")
    assert [str(lane)[:6] for lane in test.session_state["retouch"].bench.parts["Beside"].lanes] == ["prompt", "shots:"]
    test.button(key="evaluate").click().run()
    found = texts(settled(test))
    assert "“Be right.” before every prompt, with no edit," in found and "2 shots of" in found
    test.button(key="sweep").click().run()
    settled(test)
    (swept,) = [kept.value for name, kept in test.session_state["retouch"].kept.items() if name == "sweep"]
    assert [lane.prompting is not None for lane in swept.beside] == [True, True]
    test.multiselect(key="evaluate-prompts").set_value([str(test.session_state["retouch"].bench.parts["Beside"].lanes[1])]).run()
    assert [str(lane)[:6] for lane in test.session_state["retouch"].bench.parts["Beside"].lanes] == ["shots:"]


def test_methods_edits_and_prompts_compete_at_equal_damage(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend, 60)
    edit = test.session_state["retouch"].edit
    fine(test.switch_page("pages/evaluate.py").run())
    evaluate_view(test, "At equal damage")
    chosen = test.session_state["retouch"].set_name
    model = fresh_backend.sessions["embedded"].model.info.name
    test.multiselect(key=f"contest-methods-{chosen}-{model}").set_value(["mean_difference"]).run()
    test.multiselect(key="contest-edits").set_value([edit]).run()
    add(test, "contest", "Be right.")
    fine(test.button(key="contest-run").click().run())
    found = texts(settled(test, 240))
    assert "tail 0.1 nats" in found.replace("\\", "") and "From earlier settings" not in found
    (kept,) = [kept.value for name, kept in test.session_state["retouch"].kept.items() if name == "equal-damage"]
    names = [one.label.label for one in kept.standings]
    assert names[0] == "base" and names[-1] == "“Be right.”" and sum("Be right" in name for name in names) == 3
    fine(test.select_slider(key="contest-limit").set_value(0.02).run())
    assert "From earlier settings" in texts(test)
