"""Choosing knobs and dose: by validation, within the limit, and never on test rows."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import contrast_rows, taught_rows
from tests.unit.test_choice_doses import planting, seen
from workbench.errors import BadKnob, NoEffect, NotEnoughData
from workbench.evaluate.benefit import benefit
from workbench.methods import choice, get
from workbench.methods.choice import Candidate, Choice, chosen, settle
from workbench.methods.shared.layers import layer_pairs, single_layers
from workbench.methods.shared.validation import Measured, measured
from workbench.progress import Cancelled, Progress, Report
from workbench.session import Session

ROWS = taught_rows(30)
OVER = {"layers": ((0,), (2,)), "strength": (1.0, 4.0)}


def test_the_best_within_the_limit_wins_and_a_tighter_limit_is_kept(tiny_gpt2: Any) -> None:
    free = chosen(tiny_gpt2, "mean_difference", ROWS, over=OVER, doses=(0.5, 1.0), max_damage=100.0)
    assert len(free.candidates) == 7  # both doses of the best three fits, the larger alone of the fourth
    counting = [item for item in free.candidates if item.gain > 0]
    assert free.best.gain >= max(item.gain for item in counting) - 0.01 and free.best.measured.margin > free.base.margin
    assert free.fitted.edit.dose == 1.0 and free.edit.dose == free.best.dose and free.edit.id == free.fitted.edit.id
    limit = sorted(item.measured.damage for item in free.candidates)[2]
    tight = chosen(tiny_gpt2, "mean_difference", ROWS, over=OVER, doses=(0.5, 1.0), max_damage=limit)
    assert tight.best.measured.damage <= limit
    with pytest.raises(NoEffect, match="least harmful of 8 settings .* KL 0.0111 .* beyond the limit 0, so nothing is handed back"):
        chosen(tiny_gpt2, "mean_difference", ROWS, over=OVER, doses=(0.5, 1.0), max_damage=0.0)


def test_test_rows_change_nothing_and_validation_rows_do(tiny_gpt2: Any) -> None:
    def swapped(split: str) -> Any:
        rows = [dataclasses.replace(row, positive=row.negative, negative=row.positive) if row.split == split else row for row in ROWS]
        return ROWS.with_rows(rows)

    def table(rows: Any) -> list[tuple[float, float]] | str:
        try:
            found = chosen(tiny_gpt2, "mean_difference", rows, over={"layers": ((1,),)}, doses=(1.0,), max_damage=100.0)
        except NoEffect as error:
            return str(error)
        return [(item.measured.benefit, item.measured.damage) for item in found.candidates]

    assert table(swapped("test")) == table(ROWS)
    assert table(swapped("validation")) != table(ROWS)


def test_what_was_tried_before_a_cancel_is_chosen_from_and_nothing_tried_leaves_nothing(tiny_gpt2: Any, tmp_path: Path) -> None:
    def stopping(at: str) -> Progress:
        def report(told: Report) -> None:
            if at in told.doing:
                raise Cancelled

        return Progress(report)

    whole = chosen(tiny_gpt2, "mean_difference", ROWS, over=OVER, doses=(0.5,), max_damage=100.0)
    session = Session(tiny_gpt2, tmp_path)
    with pytest.raises(Cancelled) as stopped:
        session.choose("mean_difference", ROWS, over=OVER, doses=(0.5,), max_damage=100.0, progress=stopping("Trying 3 of"))
    best = stopped.value.best
    assert isinstance(best, Choice) and len(best.candidates) == 2 < len(whole.candidates)
    told = lambda choice: {str(replace(item, placebo=None)) for item in choice.candidates}  # noqa: E731
    assert told(best) < told(whole) and all(item.placebo is None for item in best.candidates)
    assert "before it stood beside a random edit" in best.fitted.report.notices[-1].text
    assert session.load_edit(best.fitted.edit.id).id == best.fitted.edit.id
    with pytest.raises(Cancelled) as nothing:
        session.choose("mean_difference", ROWS, over=OVER, doses=(0.5,), max_damage=100.0, progress=stopping("Trying 1 of"))
    assert nothing.value.best is None


def test_a_choice_cancelled_at_its_last_fit_is_the_whole_choice_and_names_the_whole_set(tiny_gpt2: Any) -> None:
    said: list[str] = []

    def tell(told: Report) -> None:
        said.append(told.doing)
        if told.share > 0.9:
            raise Cancelled

    whole = chosen(tiny_gpt2, "mean_difference", ROWS, over=OVER, doses=(0.5,), max_damage=100.0)
    with pytest.raises(Cancelled) as stopped:
        chosen(tiny_gpt2, "mean_difference", ROWS, over=OVER, doses=(0.5,), max_damage=100.0, progress=Progress(tell))
    best = stopped.value.best
    assert isinstance(best, Choice) and best.candidates == whole.candidates and best.best == whole.best
    mine, wanted = best.fitted.edit, whole.fitted.edit
    assert mine.header.data == wanted.header.data == ROWS.fingerprint
    assert all(torch.equal(a, b) for a, b in zip(mine.tensors().values(), wanted.tensors().values(), strict=True))
    assert any(text.startswith("Trying 4") for text in said)


def test_a_wrong_knob_is_refused_as_such_and_not_as_a_fit_that_failed(tiny_gpt2: Any) -> None:
    with pytest.raises(BadKnob, match="strength"):
        chosen(tiny_gpt2, "mean_difference", ROWS, {"strength": "much"}, over={"layers": ((0,),)}, doses=(1.0,))


def test_without_validation_rows_it_refuses(tiny_gpt2: Any) -> None:
    with pytest.raises(NotEnoughData, match="validation"):
        chosen(tiny_gpt2, "mean_difference", ROWS.split("fit", "test"))


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_validation_row_without_both_answers_chooses_nothing(side: str) -> None:
    rows = taught_rows(60)
    assert len(choice.choosing_rows(rows)) == 12
    halves = rows.with_rows([replace(row, **{side: None}) if row.split == "validation" else row for row in rows])
    with pytest.raises(NotEnoughData, match="0 prompts of .* are marked validation and have both answers"):
        choice.choosing_rows(halves)


def test_while_it_chooses_the_best_gain_so_far_is_told_and_the_doses_rise(tiny_gpt2: Any) -> None:
    seen = list[Report]()
    found = chosen(tiny_gpt2, "mean_difference", ROWS, over={"layers": ((1,), (2,))}, max_damage=100.0, progress=Progress(seen.append))
    told: list[Any] = [report.live["best"] for report in seen if "best" in report.live]
    first = max(one.measured.margin for one in found.candidates if one.values["layers"] == (1,) and one.measured.margins)
    assert told[:2] == [None, pytest.approx(first - found.base.margin)] and told[1] <= told[2] == told[3]
    assert list(choice.DOSES) == sorted(set(choice.DOSES)) and 1.0 in choice.DOSES, "as fitted among them"


def test_every_trial_is_fitted_with_the_preset_and_the_seed_that_were_asked_for(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known, seen = get("mean_difference"), list[tuple[float, int]]()

    def run(model: Any, rows: Any, config: Any, *rest: Any, **options: Any) -> Any:
        seeds = [one for one in (*rest, *options.values()) if isinstance(one, int)]
        seen.append((config.strength, seeds[0]))
        return known.run(model, rows, config, *rest, **options)

    spied = replace(known, run=run, presets={**known.presets, "strong": {"strength": 3.0}})
    monkeypatch.setattr(choice, "get", lambda name: spied)
    for preset, seed, told in (("strong", 7, (3.0, 7)), (None, None, None)):
        seen.clear()
        options = {"preset": preset} if seed is None else {"preset": preset, "seed": seed}
        chosen(tiny_gpt2, "mean_difference", ROWS, over={"layers": ((0,), (1,))}, doses=(1.0,), max_damage=100.0, **options)
        assert len(seen) == 3, "two trials, and the best once more"
        if told is not None:
            assert set(seen) == {told}
        else:
            assert {number for _, number in seen} == {0} and all(strength != 3.0 for strength, _ in seen)


def test_the_layers_of_a_grid_are_those_of_the_depths() -> None:
    assert [single_layers(n) for n in (12, 3, 1)] == [((4,), (6,), (8,), (10,)), ((1,), (2,)), ((0,),)]
    assert [layer_pairs(n) for n in (12, 3, 1)] == [((4, 5), (6, 7), (8, 9), (10, 11)), ((1, 2),), ()]


def test_grids_name_layers_that_exist(tiny_gpt2: Any) -> None:
    for n in (1, 2, 6, 32):
        info = dataclasses.replace(tiny_gpt2.info, n_layers=n)
        assert all(0 <= layer < n for layers in get("sea").tries(info)["layers"] for layer in layers)


def test_an_edit_that_makes_both_answers_rare_gains_less_than_its_preference_says(tiny_gpt2: Any) -> None:
    held = contrast_rows(30).split("validation")
    away = get("mean_difference").fit(tiny_gpt2, contrast_rows(30)).edit.scaled(40.0)
    scores = benefit(tiny_gpt2, held, [(away,)], split=None)
    base, moved = measured(tiny_gpt2, [(), (away,)], held, [])
    preferred = scores.metric("mc2").values
    # Control: nothing is lost by the unedited model, whose measure is the preference itself.
    assert base.benefit == pytest.approx(preferred[0].estimate, abs=1e-6)
    assert moved.benefit < preferred[1].estimate
    answer = scores.metric("p_answer").values
    assert answer[1].estimate < answer[0].estimate


@pytest.mark.parametrize(
    ("planned", "dose"),
    [
        # dose: (margin, damage) under a limit of .02
        ({0.5: (0.800, 0.010), 1.0: (0.801, 0.015), 1.5: (0.700, 0.001)}, 0.5),  # a near-tie goes to the smaller damage
        ({0.5: (0.801, 0.015), 1.0: (0.800, 0.010), 1.5: (0.700, 0.001)}, 1.0),  # whichever stands first
        ({0.5: (0.800, 0.010), 1.0: (0.810, 0.015), 1.5: (0.700, 0.001)}, 1.0),  # .01 nats more is no tie
        ({0.5: (0.800, 0.010), 1.0: (0.990, 0.021), 1.5: (0.700, 0.001)}, 0.5),  # beyond the limit nothing counts
        ({0.5: (0.800, 0.010), 1.0: (0.990, 0.020), 1.5: (0.700, 0.001)}, 1.0),  # at the limit it does
        ({0.5: (0.800, 0.030), 1.0: (0.990, 0.050), 1.5: (0.700, 0.040)}, None),  # all beyond: nothing
        ({0.5: (0.400, 0.010), 1.0: (0.990, 0.050), 1.5: (0.700, 0.040)}, None),  # what is within does nothing: nothing
        ({0.5: (0.800, 0.010), 1.0: (0.800, 0.010), 1.5: (0.800, 0.010)}, 0.5),  # all alike: the smallest dose
    ],
)
def test_the_best_within_the_limit_wins_and_near_ties_go_to_the_smaller_damage(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch, planned: dict[float, tuple[float, float]], dose: float | None
) -> None:
    def measures(model: Any, stacks: Any, rows: Any, neutral: Any) -> list[Measured]:
        known = [planned[stack[0].dose] if stack and stack[0].kind != "placebo" else (0.4, 0.0) for stack in stacks]
        return [seen(*one) for one in known]

    def damages(model: Any, stacks: Any, neutral: Any) -> np.ndarray:
        return np.array([planned[stack[0].dose][1] for stack in stacks])

    planting(monkeypatch, measures, damages)
    if dose is None:
        with pytest.raises(NoEffect, match="nothing is handed back"):
            chosen(tiny_gpt2, "mean_difference", ROWS, over={"layers": ((1,),)}, doses=tuple(planned))
        return
    found = chosen(tiny_gpt2, "mean_difference", ROWS, over={"layers": ((1,),)}, doses=tuple(planned))
    assert found.best.dose == dose == found.candidates[0].dose and found.base == seen(0.4)
    assert planned[dose][1] <= 0.02
    told = [notice for notice in found.fitted.report.notices if "chosen among" in notice.text or "stays within" in notice.text]
    gain = f"margin +0.40 → {planned[dose][0]:+.2f} nats a token (a random edit of its size: +0.40), KL {planned[dose][1]:.3g} nats a token"
    assert f"layers = 1, dose = {dose:g} were chosen among 3 settings on 6 validation rows: {gain}" in told[0].text
    assert [notice.level for notice in told] == ["note"]


def test_nothing_is_handed_back_where_nothing_is_better_and_the_words_say_so(tiny_gpt2: Any) -> None:
    fitted = get("mean_difference").fit(tiny_gpt2, ROWS, seed=0).edit
    with pytest.raises(NoEffect, match="No effect found: none of 4 settings is better than the unedited model beyond chance on 6"):
        # doses below zero push towards the bad answers
        chosen(tiny_gpt2, "mean_difference", ROWS, over={"layers": ((2,),)}, doses=(-0.5, -1.0, -2.0, -4.0), max_damage=100.0)
    assert fitted.dose == 1.0
    with pytest.raises(NotEnoughData, match="4 prompts of .* a choice needs 5"):
        chosen(tiny_gpt2, "mean_difference", contrast_rows(20), over={"layers": ((2,),)})


@dataclasses.dataclass
class Planted:
    """Candidates whose margins are drawn around known truths, over 40 prompts with a spread of 1 each."""

    truths: tuple[float, ...]
    edit: Any
    of_placebo: float = 0.0
    damage: float = 0.0
    n: int = 40

    def settled(self, seed: int) -> int | None:
        draw = np.random.default_rng(seed)
        base = draw.normal(0.0, 2.0, self.n)

        def one(truth: float) -> tuple[float, ...]:
            return tuple(base + truth + draw.normal(0.0, 1.0, self.n))

        found = [Candidate({"at": i}, 1.0, seen(one(truth), self.damage), self.edit) for i, truth in enumerate(self.truths)]
        try:
            best = settle(seen(base.tolist()), found, lambda edits: [one(self.of_placebo) for _ in edits], 0.02)[0]
        except NoEffect:
            return None
        return int(best.values["at"])


SE = math.sqrt(2 / 40)  # of the difference of two candidates, or of a candidate and its placebo


def test_planted_choices_are_made_and_null_and_harmful_ones_are_not(tiny_gpt2: Any) -> None:
    edit = get("mean_difference").fit(tiny_gpt2, ROWS).edit

    def taken(planted: Planted) -> list[int | None]:
        return [planted.settled(seed) for seed in range(200)]

    # The gain is against the placebo, so what is apart by three standard errors is two such differences.
    apart = 3 * SE * math.sqrt(2)
    assert taken(Planted((1.0, 1.0 + apart), edit)).count(1) >= 190
    assert 200 - taken(Planted((0.0,) * 24, edit)).count(None) <= 10
    assert taken(Planted((-0.6,) * 12 + (-0.3,) * 12, edit)).count(None) == 200
    # Harmful to neutral text, however much is gained.
    assert taken(Planted((1.5,) * 12, edit, damage=0.03)).count(None) == 200
    # Noise that moves a random edit as far counts as nothing, though the unedited model is beaten.
    # So with all sizes: where more are tried than stand beside placebos, the best by margin are the luckiest too.
    passed = [200 - taken(Planted((0.8,) * n, edit, of_placebo=0.8)).count(None) for n in (2, 6, 12, 24)]
    assert sum(passed) <= 0.05 * 800 and max(passed[2:]) <= 10, passed
    # Controls: one that is as good as the unedited model beside a good one is left, and a good one among null ones is found.
    assert taken(Planted((0.0,) * 23 + (1.5,), edit)).count(23) >= 195


def test_doses_that_were_left_since_others_gained_more_count_as_tried(tiny_gpt2: Any) -> None:
    edit = get("mean_difference").fit(tiny_gpt2, ROWS).edit
    n_fits, n_doses, n, alike = 8, 6, 40, 0.8

    def is_taken(seed: int, counts: bool) -> bool:
        """Fits that do nothing, whose doses nearly agree: all at their largest dose, the three luckiest at all doses."""
        draw = np.random.default_rng(seed)
        gains = alike * draw.normal(size=(n_fits, 1, n)) + math.sqrt(1 - alike**2) * draw.normal(size=(n_fits, n_doses, n))
        lucky = np.argsort(-gains[:, -1].mean(1))[:3]
        measured = [(i, j) for i in range(n_fits) for j in range(n_doses) if i in lucky or j == n_doses - 1]
        found = [Candidate({"at": i}, 1.0 + j, seen(gains[i, j].tolist()), edit) for i, j in measured]
        try:
            settle(seen([0.0] * n), found, None, 0.02, n_fits * n_doses - len(found) if counts else 0)
        except NoEffect:
            return False
        return True

    assert sum(is_taken(seed, True) for seed in range(600)) <= 0.05 * 600
    assert sum(is_taken(seed, False) for seed in range(200)) > 0.05 * 200, "as if what was measured had not been picked"
