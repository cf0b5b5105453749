"""Doses of a choice: the limit is found by halving, and smaller doses are measured where they may win."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import taught_rows
from tests.shape_checks import unchecked
from workbench.errors import NoEffect
from workbench.methods import get
from workbench.methods.choice import chosen
from workbench.methods.shared.at_doses import AtDoses
from workbench.methods.shared.validation import Measured, measured

ROWS = taught_rows(30)


def seen(margin: float | Sequence[float], damage: float = 0.0) -> Measured:
    margins = (margin,) * 6 if isinstance(margin, float) else tuple(margin)
    return Measured(0.5, 0.5, damage, len(margins), margins)


def planting(monkeypatch: pytest.MonkeyPatch, measures: Any, damages: Any) -> None:
    for where in ("choice", "shared.at_doses"):
        monkeypatch.setattr(f"workbench.methods.{where}.measured", measures)
    monkeypatch.setattr("workbench.methods.shared.at_doses.neutral_kl", damages)


def test_doses_beyond_the_limit_cost_no_gain_and_the_choice_is_that_of_all(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    doses, over = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0), {"layers": ((1,),)}
    free = chosen(tiny_gpt2, "mean_difference", ROWS, over=over, doses=doses, max_damage=100.0)
    by_dose = {item.dose: item.measured for item in free.candidates}
    damage = [by_dose[dose].damage for dose in doses]
    assert damage == sorted(damage), "what the search rests on"
    looked, n_chosen = list[float](), 0

    def seen_by(model: Any, stacks: Any, rows: Any, neutral: Any, **_: Any) -> list[Measured]:
        looked.extend(stack[0].dose for stack in stacks if stack and stack[0].kind != "placebo")
        return measured(model, stacks, rows, neutral)

    monkeypatch.setattr("workbench.methods.choice.measured", seen_by)
    monkeypatch.setattr("workbench.methods.shared.at_doses.measured", seen_by)
    for n in range(1, 6):  # so many doses stay within the limit
        looked.clear()
        limit = (damage[n - 1] + damage[n]) / 2
        try:
            found = chosen(tiny_gpt2, "mean_difference", ROWS, over=over, doses=doses, max_damage=limit)
        except NoEffect as error:
            assert f"none of {n} settings" in str(error)
        else:
            n_chosen += 1
            assert len(found.candidates) == 6 and found.best.dose in doses[:n]
            mine = {item.dose: item.measured for item in found.candidates if item.measured.margins}
            assert all(one.margins == pytest.approx(by_dose[dose].margins, abs=1e-5) for dose, one in mine.items())
            assert all(one.damage == pytest.approx(by_dose[dose].damage, abs=1e-6) for dose, one in mine.items())
            rows = {row["dose"]: row for row in found.fitted.report.tables["choice"]}
            assert rows[2.0]["margin, nats a token"] is None and json.dumps(rows[2.0])
        assert sorted(looked) == list(doses[:n])
    assert n_chosen


def test_smaller_doses_are_measured_of_the_best_fits_alone_and_may_win(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = list[tuple[float, float]]()

    def measures(model: Any, stacks: Any, rows: Any, neutral: Any) -> list[Measured]:
        return [one(stack[0]) if stack and stack[0].kind != "placebo" else seen(0.4) for stack in stacks]

    def one(edit: Any) -> Measured:
        strength = edit.header.config["strength"]
        looked.append((strength, edit.dose))
        return seen(0.4 + 0.1 * strength + (0.5 if (strength, edit.dose) == (3.0, 0.5) else 0.0))

    def damages(model: Any, stacks: Any, neutral: Any) -> np.ndarray:
        # Of strength 5 no dose stays within the limit; of 4 all but the largest.
        return np.array([0.0 if (s := stack[0].header.config["strength"]) < 4 or s == 4 and stack[0].dose < 2 else 1.0 for stack in stacks])

    planting(monkeypatch, measures, damages)
    strengths, doses = (1.0, 2.0, 3.0, 4.0, 5.0), (0.5, 1.0, 2.0)
    found = chosen(tiny_gpt2, "mean_difference", ROWS, over={"layers": ((1,),), "strength": strengths}, doses=doses)
    assert (found.best.values["strength"], found.best.dose) == (3.0, 0.5)
    assert sorted(looked) == [(1.0, 2.0), *((s, dose) for s in (2.0, 3.0) for dose in doses), (4.0, 0.5), (4.0, 1.0)]
    table = {(row["strength"], row["dose"]) for row in found.fitted.report.tables["choice"]}
    assert table == {*looked, (4.0, 2.0), *((5.0, dose) for dose in doses)}


def test_a_pass_beyond_a_failure_does_not_count_and_one_way_says_nothing_of_the_other(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = {0.25: 0.5, 0.5: 9.0, 0.75: 0.5, 1.0: 0.5, 2.0: 9.0, -0.5: 0.5, -1.0: math.nan, -2.0: 0.1}
    edit = get("mean_difference").fit(tiny_gpt2, ROWS).edit

    def damage(model: Any, stacks: Any, neutral: Any) -> torch.Tensor:
        return torch.tensor([planted[stack[0].dose] for stack in stacks])

    def gain(model: Any, stacks: Any, rows: Any, neutral: Any) -> list[Measured]:
        return [Measured(stack[0].dose, 1.0, 0.0, len(rows)) for stack in stacks]

    monkeypatch.setattr("workbench.methods.shared.at_doses.neutral_kl", damage)
    monkeypatch.setattr("workbench.methods.shared.at_doses.measured", gain)
    with unchecked():
        dosed = AtDoses(tiny_gpt2, edit, tuple(planted), ROWS, None, 1.0)  # type: ignore[arg-type]
        dosed.largest()
        dosed.others()
        found = dosed.results()
    # .75 and 1 pass, and lie beyond .5, which does not; −2 passes and lies beyond −1, whose damage is no number.
    assert {dose for dose, one in found.items() if one.benefit == dose} == {0.25, -0.5}
