"""The verdict says of every kind of outcome what it is, in whole sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from workbench.edits.labels import Lane
from workbench.evaluate.benefit import Benefit
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.metrics import Better, Metric, mean_metric, share_metric
from workbench.evaluate.side_effects import SideEffects
from workbench.evaluate.verdict import Verdict, verdict
from workbench.numerics.intervals import Interval

# Lanes: base, edit, another edit, placebo of the edit, placebo of the other.
BASE, EDIT, OTHER, PLACEBO = 0, 1, 2, 3
LANES = (Lane("base"), Lane("a", ("1",)), Lane("b", ("2",)), Lane("placebo of a"), Lane("placebo of b"))


def spread(*means: float, n: int = 20) -> np.ndarray:
    """Items of every lane: the means, each with the same even spread, and noise of its own that the pairing keeps."""
    noise = np.random.default_rng(0).normal(0, 0.002, (len(means), n))
    return np.array(means)[:, None] + np.linspace(-0.05, 0.05, n) + noise - noise.mean(1, keepdims=True)


def gain(*means: float, better: Better = "higher", n: int = 20, name: str = "mc2") -> Metric:
    return mean_metric(name, "P(truth)", spread(*means, n=n), "", better)


def judged(*metrics: Metric, side: SideEffects | None = None, placebo: int | None = PLACEBO, edit: int = EDIT) -> Verdict:
    n = metrics[0].n if metrics else 0
    return verdict(Benefit("m", LANES, "set", "test", n, metrics, ()), side, edit, placebo)


def test_the_edits_number_stands_first_then_the_bases_then_the_placebos() -> None:
    shares = np.zeros((5, 20), dtype=bool)
    shares[BASE, :4], shares[EDIT, :18], shares[PLACEBO, :6] = True, True, True
    found = judged(share_metric("mc1", "Multiple choice (MC1)", shares, "higher"))
    assert found.plain == (
        "0.90 [0.68, 0.99] with the edit, 0.20 [0.06, 0.44] without: Multiple choice (MC1), 20 rows of split test. "
        "It does what was asked, beyond chance. A random edit of equal size gives 0.30 [0.12, 0.54]."
    )
    assert found.text.startswith("**0.90 [0.68, 0.99]** with the edit, **0.20 [0.06, 0.44]** without") and "**" not in found.plain


@pytest.mark.parametrize(
    ("base", "edit", "better", "says"),
    [
        (0.2, 0.8, "higher", "It does what was asked, beyond chance."),
        (0.8, 0.2, "lower", "It does what was asked, beyond chance."),
        (0.8, 0.2, "higher", "It does the **opposite** of what was asked, beyond chance."),
        (0.2, 0.8, "lower", "It does the **opposite** of what was asked, beyond chance."),
        (0.2, 0.8, "neither", "The change is beyond chance."),
        (0.8, 0.2, "neither", "The change is beyond chance."),
        (0.4, 0.4, "higher", "The change is within chance."),
        (0.4, 0.4, "neither", "The change is within chance."),
    ],
)
def test_a_change_is_judged_by_its_paired_interval_and_the_wanted_side(base: float, edit: float, better: Any, says: str) -> None:
    text = judged(gain(base, edit, 0.5, base, base, better=better), placebo=None).text
    assert f"20 rows of split test. {says}" in text
    others = {"what was asked", "opposite", "within chance", "The change is beyond chance"} - {part for part in [says] if part}
    assert [part for part in others if part in text] == [part for part in others if part in says]


def test_few_rows_are_told_instead_of_judged() -> None:
    text = judged(gain(0.2, 0.8, 0.5, 0.2, 0.2, n=5), placebo=None).text
    assert text == (
        "**0.80** with the edit, **0.20** without: P(truth), 5 rows of split test. "
        "Whether the change is beyond chance cannot be told: 5 items by weight, fewer than 8."
    )
    assert "1 row of split" in judged(gain(0.2, 0.8, 0.5, 0.2, 0.2, n=1)).text


def test_nothing_scored_and_nothing_edited_are_told() -> None:
    assert judged() == Verdict("Nothing on this set could be scored.", False)
    assert judged(gain(0.2), edit=0, placebo=None).text.endswith("20 rows of split test. No edit was measured.")


def test_an_interval_that_ends_at_zero_is_within_chance() -> None:
    found = gain(0.2, 0.8, 0.5, 0.2, 0.2)
    for low, high in ((0.0, 0.5), (-0.5, 0.0)):
        changes = (None, Interval(0.1, low, high, 20, "t"), *found.changes[2:])
        assert "The change is within chance." in judged(replace(found, changes=changes)).text


@pytest.mark.parametrize(
    ("edit", "placebo", "better", "beats"),
    [
        (0.8, 0.3, "higher", True), (0.8, 0.79, "higher", False), (0.3, 0.8, "higher", False),
        (0.3, 0.8, "lower", True), (0.79, 0.8, "lower", False), (0.8, 0.3, "lower", False), (0.8, 0.3, "neither", True),
    ],
)  # fmt: skip
def test_an_edit_beats_its_placebo_only_with_its_whole_interval(edit: float, placebo: float, better: Any, beats: bool) -> None:
    found = gain(0.2, edit, 0.5, placebo, 0.1, better=better)
    assert judged(found).beats_placebo is beats
    assert judged(found, placebo=None).beats_placebo is False
    assert judged(gain(0.2, edit, 0.5, placebo, 0.1, better=better, n=5)).beats_placebo is False, "without bounds nothing is beaten"
    apart = replace(found, values=tuple(replace(value, low=value.estimate, high=value.estimate) for value in found.values))
    level = replace(apart, values=(*apart.values[:PLACEBO], apart.values[EDIT], apart.values[4]))
    assert judged(level).beats_placebo is False, "an interval that ends at the placebo does not exclude it"


def test_costs_and_what_is_kept_follow_each_in_its_own_numbers() -> None:
    side = SideEffects(
        "m", LANES, 20, 400,
        (
            mean_metric("perplexity_ratio", "Perplexity ratio", spread(1.0, 1.7, 1, 1, 1), "", "lower"),
            mean_metric("kl_nats", "KL on neutral text", spread(0.0, 0.0314, 0.9, 0.8, 0.7), "nats/token", "lower"),
            gain(0.75, 0.5, 0.1, 0.2, 0.3, name="facts_mc2"),
            gain(0.65, 0.6, 0.1, 0.2, 0.3, name="sums_mc2"),
        ),
        {name: Benefit("m", LANES, name, "all", 20, (), ()) for name in ("facts", "sums")},
    )  # fmt: skip
    answers = mean_metric("p_answer", "Probability of a true answer", spread(0.0123, 0.456, 0, 0, 0), "", "higher")
    text = judged(gain(0.2, 0.8, 0.5, 0.3, 0.1), answers, side=side).text
    assert text.endswith(
        " A random edit of equal size gives 0.30 [0.29, 0.31]. On neutral text it moves the model by 0.0314 nats/token."
        " A true answer gets 0.456 of all probability, 0.0123 without."
        " P(truth): 0.50 [0.49, 0.51] with it, 0.75 [0.74, 0.76] without, 20 rows."
        " P(truth): 0.60 [0.59, 0.61] with it, 0.65 [0.64, 0.66] without, 20 rows."
    )
    bare = replace(side, metrics=side.metrics[:1], capability={})
    alone = judged(gain(0.2, 0.8, 0.5, 0.3, 0.1), side=bare).text
    assert alone.endswith("gives 0.30 [0.29, 0.31].") and "neutral" not in alone and "true answer" not in alone


def test_an_evaluation_judges_its_first_edit_beside_that_edits_placebo() -> None:
    benefit = Benefit("m", LANES, "set", "test", 20, (gain(0.2, 0.8, 0.5, 0.3, 0.1),), ())
    found = Evaluation(benefit, None, (None, None, None, 1, 2), 1)
    assert found.verdict == verdict(benefit, None, EDIT, PLACEBO)
    assert Evaluation(benefit, None, (None, None, None, 2, 1), 1).verdict == verdict(benefit, None, EDIT, 4)
    bare = replace(benefit, lanes=LANES[:3])
    assert Evaluation(bare, None, (None, None, None), 0).verdict == verdict(benefit, None, EDIT, None)
    base = replace(benefit, lanes=LANES[:1], metrics=(gain(0.2),))
    assert "No edit was measured." in Evaluation(base, None, (None,), 0).verdict.text
