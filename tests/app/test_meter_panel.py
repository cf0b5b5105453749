"""Compare coloured by a concept meter, in its states."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from tests.conftest import contrast_rows
from workbench.errors import NotEnoughMemory

Run = Callable[..., AppTest]


def compared(app: Run, backend: Any) -> AppTest:
    """The base's answer to one prompt, to be coloured by a set of the tiny model's words."""
    test = app("compare")
    chosen = backend.sessions["embedded"].demos.save(contrast_rows(80)).id
    test.session_state["meter-set"] = chosen
    test.text_area(key="compare-prompts").set_value("w1 w2 w3").run()
    fine(test.button(key="compare").click().run())
    test = settled(test)
    return fine(test.segmented_control(key="compare-colour").set_value("Concept meter").run())


def test_the_answers_take_their_colour_from_the_meter_with_its_accuracy_and_n(app: Run, fresh_backend: Any) -> None:
    test = compared(app, fresh_backend)
    assert "will take their colour" in texts(test) and "Accuracy of the meter" not in texts(test)
    fine(test.button(key="meter-run").click().run())
    said = texts(settled(test))
    assert "Accuracy of the meter on validation prompts" in said and "n=" in said and "on average over" in said
    reading = test.session_state["retouch"].kept["meter"].value
    found = test.session_state["retouch"].kept["compare"].value
    assert len(reading.values[0, 0]) == len(found.texts[0][0].tokens) and all(0 <= value <= 1 for value in reading.values[0, 0])


def test_a_reading_of_another_comparison_colours_nothing(app: Run, fresh_backend: Any) -> None:
    test = compared(app, fresh_backend)
    fine(test.button(key="meter-run").click().run())
    test = settled(test)
    test.text_area(key="compare-prompts").set_value("w9 w8 w7").run()
    fine(test.button(key="compare").click().run())
    said = texts(settled(test))
    assert "From earlier settings" in said and "on average over" not in said


def test_a_weak_meter_says_so(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages._ui.compare import concept_meter as meter

    for accuracy, weak in ((0.5, True), (0.95, False)):
        monkeypatch.setattr(meter, "read", lambda *_, accuracy=accuracy: meter.Reading("x", accuracy, 20, {}))
        test = compared(app, fresh_backend)
        fine(test.button(key="meter-run").click().run())
        assert ("hardly tells the sides apart" in texts(settled(test))) is weak


def test_the_meter_running_and_failed(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages._ui.compare import concept_meter as meter

    def slow(*given: Any) -> Any:
        while True:
            given[-1](0.3, "Turning the handle")
            time.sleep(0.02)

    def refused(*_: Any) -> Any:
        raise NotEnoughMemory("The meter does not fit.", "Use fewer rows.")

    test = compared(app, fresh_backend)
    monkeypatch.setattr(meter, "read", slow)
    fine(test.button(key="meter-run").click().run())
    assert "Turning the handle" in texts(test)
    test.button(key="meter-cancel").click().run()
    assert "Cancelled" in texts(settled(test))
    monkeypatch.setattr(meter, "read", refused)
    fine(test.button(key="meter-run").click().run())
    assert "Use fewer rows" in texts(settled(test))


def test_texts_whose_tokens_are_not_those_generated_stay_plain() -> None:
    from pages._ui.compare.concept_meter import Reading, strip_values

    reading = Reading("x", 0.9, 20, {(0, 0): (0.1, 0.9)})
    assert strip_values(reading, 0, 0, 2) == [0.1, 0.9]
    assert strip_values(reading, 0, 0, 3) is None and strip_values(reading, 1, 0, 2) is None and strip_values(None, 0, 0, 2) is None
