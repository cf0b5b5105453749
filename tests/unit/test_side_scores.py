"""The scores of two sets of prompts: their intervals cover, and are those of the two sides apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from tests.conftest import words
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.lane import Lane
from workbench.edits.prompting import Prompting
from workbench.evaluate.benefit import benefit
from workbench.evaluate.sides import side_metrics


def test_the_intervals_of_both_scores_cover_and_are_no_wider_than_the_sides_ask() -> None:
    """Drawn sides whose texts differ by .3 nats around −3: a gap that hides in the pooled spread, an edit that lowers all texts alike."""
    rng, m, n, runs = np.random.default_rng(0), 24, 16, 400
    is_target = np.arange(m + n) < m
    truth = (0.2, 0.15, float(norm.cdf(0.2 / (0.3 * 2**0.5))))
    covered = np.zeros(3)
    for _ in range(runs):
        base = -3 + 0.3 * rng.standard_normal(m + n) + 0.2 * is_target
        after = base - 1.0 + 0.15 * is_target + 0.1 * rng.standard_normal(m + n)  # all fall by a nat, the target's by less
        gap, auc = side_metrics(np.stack([base, after]), is_target)
        change = gap.changes[1]
        assert change is not None and auc.changes[1] is not None
        for at, (told, true) in enumerate(zip((gap.values[0], change, auc.values[0]), truth)):
            covered[at] += told.low <= true <= told.high
        assert gap.values[0].high - gap.values[0].low < 0.6  # four standard errors of .3 √(1/m + 1/n) and room; pooled it is above 4
        assert change.high - change.low < 0.2
        assert auc.changes[1].estimate == pytest.approx(auc.values[1].estimate - auc.values[0].estimate)
    assert (covered / runs > 0.92).all(), covered / runs


def test_a_change_of_the_auc_has_delongs_paired_variance() -> None:
    rng, m, n = np.random.default_rng(1), 30, 20
    is_target = np.arange(m + n) < m
    changes, told = [], []
    for _ in range(300):
        base = rng.standard_normal(m + n) + 0.5 * is_target
        _, auc = side_metrics(np.stack([base, base + 0.5 * is_target + 0.5 * rng.standard_normal(m + n)]), is_target)
        change = auc.changes[1]
        assert change is not None
        changes.append(change.estimate)
        told.append((change.high - change.low) / 4)
    assert np.mean(told) == pytest.approx(np.std(changes), rel=0.15)


def test_sides_that_tags_alone_tell_are_scored(tiny_gpt2: Any) -> None:
    rows = [
        Demonstration(words(i, i + 1, i + 2), tags=(f"concept:{name}",), split=split, id=f"{name}{i}")
        for i in range(3, 15)
        for name, split in (("happy", "fit" if i % 2 else "test"), ("sad", "fit" if i % 3 else "test"))
    ]
    found = benefit(tiny_gpt2, Demonstrations(tuple(rows), "two files"), [()], split="test")
    assert [metric.name for metric in found.metrics] == ["side_gap_nats", "side_auc"]
    assert found.metrics[0].n == len({row.prompt for row in rows if row.split == "test"})  # a text of both sides counts once


def test_what_a_lane_says_before_a_text_is_read_and_not_scored(tiny_gpt2: Any) -> None:
    rows = [
        Demonstration(words(i, i + 1, i + 2, i + 3), tags=(f"concept:{name}",), split="test", id=f"{name}{i}")
        for i, name in zip(range(3, 15), ("happy", "sad") * 6)
    ]
    said = Prompting(prefix=words(20, 21, 22))
    found = benefit(tiny_gpt2, Demonstrations(tuple(rows), "two files"), [Lane((), said)], split="test").metrics[0]
    batch = tiny_gpt2.tokens([said.on(row.prompt) for row in rows])
    with torch.no_grad():
        log_p = tiny_gpt2.logits(batch)[:, :-1].log_softmax(-1).gather(-1, batch.ids[:, 1:, None])[..., 0]
    told = log_p[:, -3:].mean(1).double().numpy()  # the text's own tokens but its first
    happy = np.array([row.tags[0].endswith("happy") for row in rows])
    wanted = told[happy].mean() - told[~happy].mean()
    assert abs(found.values[1].estimate) == pytest.approx(abs(wanted), abs=1e-4)
