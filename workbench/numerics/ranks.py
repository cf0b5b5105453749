"""How well a value ranks one side above another; without torch, which checks of a demonstration set do not wait for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score


def auc(high: Sequence[float], low: Sequence[float]) -> float:
    """Chance that a value of `high` exceeds one of `low`, ties counting half: the area under the ROC curve."""
    return float(roc_auc_score(np.repeat([1, 0], [len(high), len(low)]), np.concatenate([high, low])))


def aucs(high: Float[np.ndarray, "direction m"], low: Float[np.ndarray, "direction n"]) -> Float[np.ndarray, " direction"]:
    """`auc` of many directions at once: Mann–Whitney's U over its maximum (scikit-learn's takes 2 ms a direction)."""
    return mannwhitneyu(high, low, axis=1, method="asymptotic").statistic / (high.shape[1] * low.shape[1])
