"""The Senses page in its states: no Backpack, empty, done, a prompt that cannot be read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import evaluate_view, fine, settled, texts
from tests.app.test_history_panel import opened
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
    test.text_area(key="teach-prompt").set_value(words(12, 5, 6))
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
    fine(test.text_area(key="sense-prompt").set_value(words(12, 13)).run())
    assert len(test.slider) == 4
    fine(test.slider(key="sense-12-0").set_value(0.0).run())


def test_a_prompts_reading_is_drawn_and_a_prompt_too_long_is_refused_in_words(app: Run) -> None:
    test = app("senses")
    fine(test.segmented_control(key="senses-view").set_value("Where senses are read").run())
    fine(test.text_area(key="reading-prompt").set_value(words(12, 13, 14)).run())
    assert "add up to the target's logit" in texts(test)
    test = fine(test.text_area(key="reading-prompt").set_value(words(*range(80))).run())
    assert "80 tokens" in "\n".join(str(item.value) for item in [*test.error, *test.text, *test.markdown, *test.warning])


@pytest.fixture
def protocol(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[AppTest, Any]:
    """The page with the set of the protocol's tests chosen, one configuration and two seeds; and its session."""
    from tests.theory.test_canonical_protocol import canonical_rows
    from workbench.workspace.shelf import Shelf

    monkeypatch.setattr(Shelf, "shipped", lambda self: ())
    test = app("evaluate")
    session = fresh_backend.sessions["embedded"]
    made = session.demos.save(canonical_rows()).id
    evaluate_view(test, "Canonical examples")
    assert "will stand here" in texts(test) and "Not on this set" in "".join(item.label for item in test.expander)
    fine(test.selectbox(key="protocol-set").set_value(made).run())
    assert test.multiselect[0].value == ["senses"]
    test.number_input(key="protocol-draws").set_value(1)
    test.number_input(key="protocol-seeds").set_value(2)
    return test, session


def compared(test: AppTest, methods: list[str]) -> AppTest:
    """The page after a run of the protocol with these methods."""
    if test.multiselect[0].value != methods:
        fine(test.multiselect[0].set_value(methods).run())
    fine(test.button(key="protocol-run").click().run())
    return settled(test)


SENSES = {"senses", "senses, random direction"}


def test_methods_are_compared_at_equal_degradation_and_a_run_can_be_cancelled(
    protocol: tuple[AppTest, Any], fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    test, session = protocol

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
    test = compared(test, ["senses"])
    table = test.dataframe[0].value
    assert set(table["method"]) == SENSES and len(table) == 6 and "predicted tokens" in texts(test)
    test.number_input(key="protocol-draws").set_value(2)
    fine(test.toggle(key="protocol-rules-as-released").set_value(True).run())
    assert "From earlier settings" in texts(test)
    test = opened(test, fresh_backend, "protocol")
    assert test.dataframe[0].value.equals(table) and "From earlier settings" not in texts(test)
    assert test.number_input(key="protocol-draws").value == 1 and not test.toggle(key="protocol-rules-as-released").value
    fine(test.multiselect[0].set_value([]).run())
    assert test.button(key="protocol-run").disabled and test.multiselect[0].value == []


def test_a_method_that_cannot_be_fitted_leaves_the_others_and_its_rules_are_told(
    protocol: tuple[AppTest, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    test, session = protocol
    honest, rules = session.protocol, []

    def one_refused(data: Any, method: str, **options: Any) -> Any:
        rules.append(options["rules"])
        if method == "lora":
            raise FitFailed("The adapters learnt nothing.", "Raise the rate.")
        return honest(data, method, **options)

    test = compared(test, ["senses"])
    monkeypatch.setattr(session, "protocol", one_refused)
    test.segmented_control(key="protocol-rules-epoch_rule").set_value("best")
    test.toggle(key="protocol-rules-as-released").set_value(True)
    fine(test.multiselect[0].set_value(["senses", "lora"]).run())
    assert "From earlier settings" in texts(test)
    test = compared(test, ["senses", "lora"])
    assert "The adapters learnt nothing." in texts(test) and "Raise the rate" in texts(test)
    assert set(test.dataframe[0].value["method"]) == SENSES
    assert rules[0]["epoch_rule"] == "best" and rules[0]["compat"] == as_json(OFFICIAL)
    assert "hard_negatives = validation" in texts(test)
    fine(test.toggle(key="protocol-rules-as-released").set_value(False).run())
    assert "hard_negatives" not in texts(test)
    alone = compared(test, ["lora"])
    assert "The adapters learnt nothing." in "\n".join(str(item.value) for item in [*alone.text, *alone.markdown])


def test_a_cancelled_search_is_no_row_and_what_was_done_before_is_kept(
    protocol: tuple[AppTest, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.theory.test_canonical_protocol import canonical_rows
    from workbench.data.demonstrations import Demonstrations

    test, session = protocol
    honest = session.protocol

    def searching(data: Any, method: str, **options: Any) -> Any:
        if method == "lora":
            raise Cancelled(best=object())  # what a search had so far is no row of the table
        return honest(data, method, **options)

    monkeypatch.setattr(session, "protocol", searching)
    test = compared(test, ["senses", "lora"])
    assert set(test.dataframe[0].value["method"]) == SENSES
    assert "The best so far was kept" in texts(test)
    broken = Demonstrations(tuple(row for row in canonical_rows() if row.split != "validation"), "broken")
    other = session.demos.save(broken).id
    fine(test.run())
    fine(test.selectbox(key="protocol-set").set_value(other).run())
    assert test.button(key="protocol-run").disabled
