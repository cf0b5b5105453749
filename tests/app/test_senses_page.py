"""The Senses page in its states: no Backpack, empty, done, a prompt that cannot be read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from tests.conftest import words
from workbench.errors import FitFailed
from workbench.evaluate.protocol.compat import OFFICIAL
from workbench.knobs import as_json
from workbench.progress import Cancelled

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


def test_methods_are_compared_at_equal_degradation_in_all_states(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.theory.test_canonical_protocol import canonical_rows
    from workbench.data.demonstrations import Demonstrations
    from workbench.workspace.shelf import Shelf

    broken = Demonstrations(tuple(row for row in canonical_rows() if row.split != "validation"), "broken")
    monkeypatch.setattr(Shelf, "shipped", lambda self: ())
    test = app("evaluate")
    session = fresh_backend.sessions["embedded"]
    made, other = (session.demos.save(rows).id for rows in (canonical_rows(), broken))
    fine(test.segmented_control(key="evaluate-view").set_value("Methods at equal degradation").run())
    assert "will stand here" in texts(test) and "Not on this set" in "".join(item.label for item in test.expander)
    fine(test.selectbox(key="protocol-set").set_value(made).run())
    assert test.multiselect[0].value == ["senses"]
    test.number_input(key="protocol-draws").set_value(1)
    test.number_input(key="protocol-seeds").set_value(2)

    def slow(*_: Any, progress: Any, **__: Any) -> Any:
        while True:
            progress(0.3, "Turning the handle")
            time.sleep(0.02)

    with monkeypatch.context() as slowly:
        slowly.setattr(session, "protocol", slow)
        fine(test.button(key="protocol-run").click().run())
        assert "Turning the handle" in texts(test)
        test.button(key="protocol-cancel").click().run()
        assert "Cancelled" in texts(settled(test))
    fine(test.button(key="protocol-run").click().run())
    test = settled(test)
    table = test.dataframe[0].value
    assert set(table["method"]) == {"senses", "senses, random direction"} and len(table) == 6 and "predicted tokens" in texts(test)

    honest, rules = session.protocol, []

    def one_refused(data: Any, method: str, **options: Any) -> Any:
        rules.append(options["rules"])
        if method == "lora":
            raise FitFailed("The adapters learnt nothing.", "Raise the rate.")
        return honest(data, method, **options)

    monkeypatch.setattr(session, "protocol", one_refused)
    test.segmented_control(key="protocol-rules-epoch_rule").set_value("best")
    test.toggle(key="protocol-rules-as-released").set_value(True)
    fine(test.multiselect[0].set_value(["senses", "lora"]).run())
    assert "From earlier settings" in texts(test)
    fine(test.button(key="protocol-run").click().run())
    test = settled(test)
    assert "The adapters learnt nothing." in texts(test) and "Raise the rate" in texts(test)
    assert set(test.dataframe[0].value["method"]) == {"senses", "senses, random direction"}
    assert rules[0]["epoch_rule"] == "best" and rules[0]["compat"] == as_json(OFFICIAL)
    assert "hard_negatives = validation" in texts(test)
    fine(test.toggle(key="protocol-rules-as-released").set_value(False).run())
    assert "hard_negatives" not in texts(test)
    fine(test.multiselect[0].set_value(["lora"]).run())
    fine(test.button(key="protocol-run").click().run())
    assert "The adapters learnt nothing." in "\n".join(str(item.value) for item in [*settled(test).text, *test.markdown])

    def searching(data: Any, method: str, **options: Any) -> Any:
        if method == "lora":
            raise Cancelled(best=object())  # what a search had so far is no row of the table
        return honest(data, method, **options)

    monkeypatch.setattr(session, "protocol", searching)
    fine(test.multiselect[0].set_value(["senses", "lora"]).run())
    fine(test.button(key="protocol-run").click().run())
    test = settled(test)
    assert set(test.dataframe[0].value["method"]) == {"senses", "senses, random direction"}
    assert "The best so far was kept" in texts(test)
    fine(test.multiselect[0].set_value([]).run())
    assert test.button(key="protocol-run").disabled and test.multiselect[0].value == []
    monkeypatch.setattr(session, "protocol", honest)
    fine(test.selectbox(key="protocol-set").set_value(other).run())
    assert test.button(key="protocol-run").disabled
