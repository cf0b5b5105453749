"""Linear readings of activations by scikit-learn, in float64: what a straight cut tells apart, and along which axes rows vary most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from workbench.shapes import Bool, Float, Rows2d, Tensor


@dataclass(frozen=True)
class LinearProbe:
    """score(x) = w·x + b; positive means the first class."""

    weight: Float[Tensor, " width"]
    bias: Float[Tensor, ""]

    def scores(self, x: Rows2d) -> Float[Tensor, " row"]:
        """w·x + b of each row, in float64."""
        return x.double() @ self.weight + self.bias


def logistic_probe(yes: Float[Tensor, "yes width"], no: Float[Tensor, "no width"], l2: float = 1e-2) -> LinearProbe:
    """Minimise ½ mean BCE over `yes` + ½ mean BCE over `no` + l2 ‖w‖² in standardised coordinates; return the probe in raw ones.

    Strictly convex, so the result does not depend on a seed. Standardised, because coordinates of a residual stream differ much in size.
    """
    x = torch.cat([yes, no]).double().cpu()
    centre, scale = x.mean(0), x.std(0).clamp_min(1e-8)
    labels = np.repeat([1, 0], [len(yes), len(no)])
    weights = np.repeat([0.5 / len(yes), 0.5 / len(no)], [len(yes), len(no)])
    # scikit-learn minimises C Σ weight · BCE + ½ ‖w‖², so C = 1 / (2 l2).
    model = LogisticRegression(C=0.5 / l2, tol=1e-9, max_iter=1000)
    model.fit(((x - centre) / scale).numpy(), labels, sample_weight=weights)
    weight = torch.from_numpy(np.asarray(model.coef_)[0]) / scale
    return LinearProbe(weight, torch.tensor(np.asarray(model.intercept_)[0]) - weight @ centre)


def ridge_accuracy(
    x: Rows2d, is_first: Bool[Tensor, " row"], new: Float[Tensor, "new width"], new_is_first: Bool[Tensor, " new"], ridge: float = 1e-2
) -> float:
    """Accuracy on new rows of a ridge classifier: what stays readable by a straight cut.

    The penalty is `ridge` times the mean eigenvalue of the rows' Gram matrix, so it does not depend on the scale of the activations.
    """
    rows = _rows(x)
    penalty = ridge * max(float(np.square(rows - rows.mean(0)).sum(1).mean()), 1e-30)
    model = RidgeClassifier(alpha=penalty).fit(rows, is_first.cpu().numpy())
    return float(model.score(_rows(new), new_is_first.cpu().numpy()))


def principal_axes(x: Float[np.ndarray, "row width"], n: int) -> tuple[Float[np.ndarray, " width"], Float[np.ndarray, "n width"]]:
    """Mean and first `n` principal axes of at least `n` rows: unit vectors, widest first, each with its largest coordinate positive."""
    with np.errstate(invalid="ignore"):  # rows that are all alike have no variance to be a share of
        model = PCA(n, svd_solver="full").fit(x)
    return np.asarray(model.mean_), np.asarray(model.components_)


def _rows(x: Rows2d) -> Float[np.ndarray, "row width"]:
    return x.double().cpu().numpy()
