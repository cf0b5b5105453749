"""How often the verdict errs: null edits that it calls a success, and effects that it overlooks."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.edits.labels import LaneLabel
from workbench.evaluate.benefit import Benefit
from workbench.evaluate.metrics import Metric, mean_metric, share_metric
from workbench.evaluate.verdict import Verdict, verdict
from workbench.numerics.intervals import share_interval

LANES = (LaneLabel("base"), LaneLabel("a", ("1",)), LaneLabel("b", ("2",)), LaneLabel("placebo of a"), LaneLabel("placebo of b"))


def judged(metric: Metric) -> Verdict:
    """Of the first edit, beside its placebo."""
    return verdict(Benefit("m", LANES, "set", "test", metric.n, (metric,), ()), None, 1, 3)


@pytest.mark.parametrize("kind", [pytest.param("share", marks=pytest.mark.slow), "mean"])
def test_null_edits_are_hardly_ever_said_to_do_it(kind: str) -> None:
    """2,000 edits that are noise like their placebos: at most 2.5 % are called a success, upper bound at most 4 %."""
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(2000):
        if kind == "share":
            base = rng.random(40) < 0.35
            rows = np.stack([base, *(np.where(rng.random(40) < 0.4, rng.random(40) < 0.5, base) for _ in range(4))])
            metric = share_metric("mc1", "MC1", rows, "higher")
        else:
            base = rng.normal(size=40)
            metric = mean_metric(
                "margin_nats", "Margin", np.stack([base, *(base + rng.normal(size=40) for _ in range(4))]), "nats", "higher"
            )
        called += judged(metric).kind == "does it"
    assert called / 2000 <= 0.025 and share_interval(called, 2000).high <= 0.04


def test_half_a_standard_deviation_is_found_in_a_hundred_rows() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        base = rng.normal(size=100)
        placebo = base + rng.normal(size=(3, 100)).mean(0)
        rows = np.stack([base, base + 0.5 + rng.normal(size=100), base, placebo, base])
        found += judged(mean_metric("margin_nats", "Margin", rows, "nats", "higher")).kind == "does it"
    assert found / 400 >= 0.95
