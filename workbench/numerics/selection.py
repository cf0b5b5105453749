"""Which of many candidates gain more than chance? One exact test for all of them together.

If a candidate does nothing, the sign of each of its rows' gains is a coin's. Flipping the signs of whole rows keeps what candidates have
in common (doses of one fit nearly agree), so the largest statistic under flips says how large the best of so many null candidates gets.
Ref: Westfall and Young 1993, Resampling-based multiple testing (single step, largest statistic); Fisher 1935 (signs).
"""

from __future__ import annotations

import numpy as np

from workbench.shapes import Float

EXACT_UP_TO = 12
N_FLIPS = 4999
MIN_ROWS = 5
"""With fewer rows no candidate can be told from chance at .05: 2⁻⁴ is above it."""


def chance_of_best(gains: Float[np.ndarray, "candidate row"], *, seed: int = 0) -> Float[np.ndarray, " candidate"]:
    """The probability that the best of candidates without effect looks at least as good as each of these, one-sided.

    Statistic: mean / root mean square of a candidate's gains, which rises with Student's t; 0 where all gains are 0.
    All sign patterns up to 12 rows, else 4,999 seeded ones and the one that was seen.
    """
    n = gains.shape[1]
    rms = np.sqrt((gains**2).mean(1, keepdims=True))
    unit = np.divide(gains, rms, out=np.zeros_like(gains, dtype=np.float64), where=rms > 0)
    if n <= EXACT_UP_TO:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        drawn = np.random.default_rng(seed).integers(0, 2, (N_FLIPS, n)) * 2.0 - 1.0
        signs = np.concatenate([np.ones((1, n)), drawn])
    best = (signs @ unit.T / n).max(1)
    return (best[:, None] >= unit.mean(1) - 1e-12).mean(0)
