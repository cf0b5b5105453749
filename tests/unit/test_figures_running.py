"""A running fit is drawn in its own quantities: calls, layers, epochs, and never over how often it happened to report."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import contrast_rows
from workbench.figures.reports import moving_pictures
from workbench.methods import get
from workbench.progress import Progress, Report


def reports(*live: dict[str, object]) -> list[Report]:
    return [Report(i / len(live), "at work", told) for i, told in enumerate(live)]


def test_a_search_is_drawn_over_its_calls() -> None:
    told = [{"call": call, "value": value, "best": best} for call, value, best in ((10, 0.2, 0.3), (14, 0.5, 0.5), (18, 0.1, 0.5))]
    history = reports({}, *told)
    (picture,) = moving_pictures(history)
    assert [list(trace.x) for trace in picture.figure.data] == [[10, 14, 18]] * 2, "not 1, 2, 3"
    assert "After 18 calls the best is 0.5" in picture.says
    # Its negative control: a number of nobody's kind is drawn over reports, as there is nothing else.
    (other,) = moving_pictures(reports({"warmth": 1.0}, {"warmth": 2.0}))
    assert list(other.figure.data[0].x) == [0.0, 1.0] and other.name == "live-warmth"


def test_probes_are_drawn_over_their_layers_with_the_first_report_in_grey() -> None:
    history = reports({"probe_accuracy": [0.5, 0.6], "layers": [1, 3]}, {"probe_accuracy": [0.7, 0.9], "layers": [1, 3]})
    (picture,) = moving_pictures(history)
    assert [list(trace.y) for trace in picture.figure.data] == [[0.5, 0.6], [0.7, 0.9]]
    assert "layer 3 is right in 90%" in picture.says
    assert len(moving_pictures(history[:1])[0].figure.data) == 1


@pytest.mark.parametrize(("name", "slug"), [("hpr", "live-probes"), ("lora", "live-loss")])
def test_a_real_fit_reports_what_its_picture_needs(tiny_gpt2: Any, name: str, slug: str) -> None:
    from tests.theory.test_canonical_protocol import canonical_rows

    history: list[Report] = []
    known = get(name)
    values = {"epochs": 2} if name == "lora" else {"epochs": 3, "layers": (1,)}
    rows = canonical_rows() if name == "lora" else contrast_rows(40)
    known.fit(tiny_gpt2, rows, known.configure(values), progress=Progress(history.append))
    assert slug in {picture.name for picture in moving_pictures(history)}
