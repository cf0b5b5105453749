"""The four losses of canonical examples, as functions of the negative log-likelihoods of a good and a bad continuation.

    M(y) = mean NLL of y's tokens (training)      S(y) = summed NLL (evaluation)
    good: M(y⁺)    bad: −M(y⁻)    balance: |M(y⁺) − M(y⁻)|    good-v-bad: M(y⁺) − M(y⁻)

An item succeeds when its evaluation value is at most the task's threshold δ (nats).

Ref: docs/methods/senses.md §2.1; *Model Editing with Canonical Examples*, arXiv 2402.06155, Table 1.
Differs: a value that is not finite is a failure (in the released code a NaN counts as success); δ itself is a
success, as in the code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

LossKind = Literal["good", "bad", "balance", "good-v-bad"]
LOSS_KINDS: tuple[LossKind, ...] = get_args(LossKind)


def needs(kind: LossKind) -> tuple[bool, bool]:
    """Say whether a loss reads the good continuation, and whether it reads the bad one."""
    return kind != "bad", kind != "good"


def loss_value(kind: LossKind, good: float, bad: float) -> float:
    """Return the loss of an item from the NLLs of its continuations; the one that the loss does not read is ignored."""
    if kind == "good":
        return good
    if kind == "bad":
        return -bad
    return abs(good - bad) if kind == "balance" else good - bad


def loss_slopes(kind: LossKind, good: float, bad: float) -> tuple[float, float]:
    """Return the loss's derivatives by the good and by the bad NLL; `balance` has slope 0 where both are equal."""
    if kind == "good":
        return 1.0, 0.0
    if kind == "bad":
        return 0.0, -1.0
    if kind == "good-v-bad":
        return 1.0, -1.0
    sign = float((good > bad) - (good < bad))
    return sign, -sign


def succeeds(value: float, threshold: float) -> bool:
    """Say whether an evaluation value is within its threshold; what is not finite never is."""
    return math.isfinite(value) and value <= threshold


def success_rate(values: Sequence[float], threshold: float) -> float:
    """Return the share of items that succeed."""
    return sum(succeeds(value, threshold) for value in values) / len(values)
