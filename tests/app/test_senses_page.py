"""The Senses page in its states: no Backpack, empty, done, a prompt that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from tests.conftest import words

Run = Callable[..., AppTest]


@pytest.fixture
def tiny_folders(tiny_folders: dict[str, Path], tiny_backpack_folder: Path, request: pytest.FixtureRequest) -> dict[str, Path]:
    """In place of the session's fixture: the app's first model is a Backpack, unless a test asks for the GPT-2."""
    if "gpt2" in request.keywords or request.node.name.endswith("without_senses"):
        return tiny_folders
    return {**tiny_folders, "gpt2": tiny_backpack_folder}


def test_a_model_without_senses_is_told_what_to_load_without_senses(app: Run) -> None:
    assert "embedded-backpack" in texts(app("senses"))


def test_one_example_is_taught_and_its_questions_and_senses_are_shown(app: Run) -> None:
    test = app("senses")
    assert "Teach" in texts(test)
    test.text_input(key="teach-prompt").set_value(words(12, 5, 6))
    test.text_input(key="teach-answer").set_value("w40")
    test.text_area(key="teach-questions").set_value(words(7, 12, 8))
    fine(test.button(key="teach-run").click().run())
    test = settled(test)
    assert "The loss on neutral text rose by" in texts(test)
    assert len(test.dataframe) >= 1 and "word" in test.dataframe[0].value.columns
    fine(test.button(key="teach-keep").click().run())
    done = settled(test)
    assert done.session_state["retouch"].failed.get("keep") is None
    assert "taught" in done.session_state["retouch"].kept["keep"].value.name


def test_a_words_senses_have_a_slider_each_that_changes_the_next_token(app: Run) -> None:
    test = app("senses")
    fine(test.segmented_control(key="senses-view").set_value("Explore a word").run())
    test.text_input(key="sense-word").set_value(" w12")
    fine(test.text_input(key="sense-prompt").set_value(words(12, 13)).run())
    assert len(test.slider) == 4
    fine(test.slider(key="sense-12-0").set_value(0.0).run())


def test_a_prompts_reading_is_drawn_and_a_prompt_too_long_is_refused_in_words(app: Run) -> None:
    test = app("senses")
    fine(test.segmented_control(key="senses-view").set_value("Where senses are read").run())
    fine(test.text_input(key="reading-prompt").set_value(words(12, 13, 14)).run())
    assert "add up to the target's logit" in texts(test)
    test = fine(test.text_input(key="reading-prompt").set_value(words(*range(80))).run())
    assert "80 tokens" in "\n".join(str(item.value) for item in [*test.error, *test.text, *test.markdown, *test.warning])


def test_methods_are_compared_at_equal_degradation_in_all_four_states(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.theory.test_canonical_protocol import canonical_rows
    from workbench.data.demonstrations import Demonstrations
    from workbench.workspace.shelf import Shelf

    broken = Demonstrations(tuple(row for row in canonical_rows() if row.split != "validation"), "broken")
    monkeypatch.setattr(Shelf, "shipped", lambda self: ())
    test = app("senses")
    made, other = (fresh_backend.sessions["embedded"].demos.save(rows).id for rows in (canonical_rows(), broken))
    fine(test.segmented_control(key="senses-view").set_value("Compare methods").run())
    assert "will stand here" in texts(test)
    test.selectbox(key="protocol-set").set_value(made)
    test.number_input(key="protocol-draws").set_value(1)
    test.number_input(key="protocol-seeds").set_value(2)
    fine(test.button(key="protocol-run").click().run())
    test = settled(test)
    table = test.dataframe[0].value
    assert set(table["method"]) == {"senses", "senses, random direction"} and len(table) == 6 and "predicted tokens" in texts(test)
    fine(test.selectbox(key="protocol-set").set_value(other).run())
    assert "From earlier settings" in texts(test)
    fine(test.button(key="protocol-run").click().run())
    settled(test)
    assert "Split validation" in "\n".join(str(item.value) for item in [*test.error, *test.text, *test.markdown, *test.warning])
