"""Every AUC has one rule for ties: an item beside an equal one is half right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.contest import contest_on
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.lenses.locate import locate
from workbench.methods.shared import starts
from workbench.numerics.intervals import auc_interval, placements
from workbench.progress import silent


def test_placements_are_shares_that_are_rightly_ordered_with_ties_half_and_turning_the_sides_over_turns_them() -> None:
    high, low = np.array([1.0, 2.0, 2.0]), np.array([2.0, 0.0])
    mine, theirs = placements(high, low).mean(1), placements(high, low).mean(0)
    assert mine.tolist() == [0.5, 0.75, 0.75] and theirs.tolist() == pytest.approx([1 / 3, 1.0])
    draw = np.random.default_rng(0)
    high, low = draw.integers(0, 4, (3, 2, 11)).astype(float), draw.integers(0, 4, (3, 2, 7)).astype(float)
    right = placements(high, low)
    assert right.shape == (3, 2, 11, 7) and bool((right + placements(low, high).swapaxes(2, 3) == 1.0).all())
    assert right[1, 1].mean() == auc_interval(high[1, 1], low[1, 1]).estimate
    # The negative control: without the half the two ways round do not add up to 1.
    strict = (high[..., None] > low[..., None, :]).mean() + (low[..., None] > high[..., None, :]).mean()
    assert strict < 0.9


def alike(n: int = 40) -> Demonstrations:
    """Texts that all are the same to the model, on two sides."""
    sides = ("target", "anti_target")
    rows = [
        Demonstration("w1 w2 w3", label=sides[i % 2], split="validation" if i % 4 > 1 else "fit", tags=(f"question:{i}",)) for i in range(n)
    ]
    return Demonstrations(tuple(rows), "alike")


def test_sides_that_are_the_same_texts_are_told_apart_by_chance_wherever_an_auc_is_said(tiny_gpt2: Any) -> None:
    contest = contest_on(tiny_gpt2, alike())
    contest.open()
    share, items = contest._told_apart(())  # pyright: ignore[reportPrivateUsage]
    assert share == 0.5 and set(items.tolist()) == {0.5}
    _, told = starts._scores(tiny_gpt2, alike().split("fit"), "mean", silent())  # pyright: ignore[reportPrivateUsage]
    assert all(text.startswith("AUC 0.50 on") for text in told)
    assert bool((torch.as_tensor(locate(tiny_gpt2, alike()).auc) == 0.5).all())
