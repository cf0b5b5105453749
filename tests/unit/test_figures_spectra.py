"""Pictures of SEA, HPR and gates are made from the report alone, with numbers beside them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import contrast_rows
from workbench import methods
from workbench.figures.reports import report_pictures


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        ("sea", {"gate": "hard"}, {"spectrum-1", "k-of-share", "edit-size", "moved-2", "overlap", "gate-0"}),
        ("hpr", {"min_steps": 10, "epochs": 1, "max_damage": 10.0}, {"turns-probes", "turns-gates", "turns-gain"}),
        ("hpr", {"min_steps": 10, "epochs": 1, "layers": (1,)}, {"turns-probes", "turns-angles-1"}),
    ],
)
def test_every_picture_has_a_figure_and_rows(tiny_gpt2: Any, name: str, values: dict[str, Any], wanted: set[str]) -> None:
    chosen = methods.get(name)
    report = chosen.fit(tiny_gpt2, contrast_rows(), chosen.configure(values)).report
    found = {picture.name: picture for picture in report_pictures(report)}
    assert wanted <= set(found)
    assert all(picture.figure.data and picture.rows and picture.figure.layout.title.text for picture in found.values())
    assert len({picture.name for picture in report_pictures(report)}) == len(report_pictures(report))


def test_an_edit_without_gates_has_no_picture_of_them(tiny_gpt2: Any) -> None:
    report = methods.get("sea").fit(tiny_gpt2, contrast_rows()).report
    assert not any(picture.name.startswith("gate") for picture in report_pictures(report))
