"""Probes by scikit-learn minimise what they say, and their numbers are those of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from workbench.numerics.probes import logistic_probe, principal_axes, ridge_accuracy
from workbench.numerics.ranks import auc, aucs


def rows(n: int, width: int, shift: float, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=draw, dtype=torch.float64) @ torch.randn(width, width, generator=draw, dtype=torch.float64)
    return (x + shift) * torch.logspace(0, 3, width, dtype=torch.float64)


def objective(weight: torch.Tensor, bias: torch.Tensor, yes: torch.Tensor, no: torch.Tensor, l2: float) -> torch.Tensor:
    scale = torch.cat([yes, no]).std(0)
    fit = 0.5 * softplus(-(yes @ weight + bias)).mean() + 0.5 * softplus(no @ weight + bias).mean()
    return fit + l2 * (weight * scale).square().sum()


@pytest.mark.parametrize("n_no", [60, 900])
def test_a_logistic_probe_stands_at_the_minimum_of_its_balanced_loss(n_no: int) -> None:
    yes, no = rows(200, 24, 0.5, 0), rows(n_no, 24, -0.5, 0)
    probe = logistic_probe(yes, no)
    scale = torch.cat([yes, no]).std(0)
    weight, bias = probe.weight.clone().requires_grad_(), probe.bias.clone().requires_grad_()
    found = torch.autograd.grad(objective(weight, bias, yes, no, 1e-2), (weight, bias))
    # In standardised coordinates, those of the solver; it stops where the gradient is below 1e-9.
    assert float((found[0] / scale).norm()) < 1e-6 and float(found[1].abs()) < 1e-6
    unbalanced = torch.autograd.grad(objective(weight, bias, yes[:40], no, 1e-2), (weight, bias))
    assert float((unbalanced[0] / scale).norm()) > 1e-3, "control: of other rows it is no minimum"


def test_a_constant_coordinate_has_no_weight() -> None:
    yes, no = rows(30, 3, 1.0, 0), rows(30, 3, -1.0, 1)
    yes[:, 1] = no[:, 1] = 7.0
    probe = logistic_probe(yes, no)
    assert float(probe.weight[1]) == 0 and bool(torch.isfinite(probe.weight).all())


def test_auc_counts_ties_half_and_many_directions_at_once_give_the_same() -> None:
    assert auc([2, 3], [1, 1]) == 1.0 and auc([1, 2], [1, 2]) == 0.5 and auc([1, 3], [2, 3]) == 0.375
    draw = np.random.default_rng(0)
    high, low = draw.integers(0, 6, (20, 9)).astype(float), draw.integers(0, 5, (20, 7)).astype(float)
    wins = (high[:, :, None] > low[:, None]) + 0.5 * (high[:, :, None] == low[:, None])
    assert aucs(high, low) == pytest.approx(wins.mean((1, 2)), abs=1e-15)
    assert aucs(high, low) == pytest.approx([auc(h.tolist(), x.tolist()) for h, x in zip(high, low)], abs=1e-15)


def test_ridge_accuracy_is_that_of_the_closed_form() -> None:
    x, new = torch.cat([rows(20, 64, 0.3, 0), rows(20, 64, -0.3, 1)]), torch.cat([rows(30, 64, 0.3, 2), rows(30, 64, -0.3, 3)])
    side, new_side = torch.arange(40) < 20, torch.arange(60) < 30
    centred, sign = x - x.mean(0), side.double() * 2 - 1
    gram = centred @ centred.T
    dual = torch.linalg.solve(gram + 1e-2 * gram.diagonal().mean() * torch.eye(40, dtype=torch.float64), sign - sign.mean())
    scores = (new - x.mean(0)) @ (centred.T @ dual) + sign.mean()
    assert ridge_accuracy(x, side, new, new_side) == float(((scores > 0) == new_side).double().mean())
    assert ridge_accuracy(x, side, x, ~side) == pytest.approx(1 - ridge_accuracy(x, side, x, side))


def test_principal_axes_are_the_eigenvectors_of_the_covariance() -> None:
    x = rows(30, 8, 2.0, 0).numpy()
    mean, axes = principal_axes(x, 2)
    vectors = np.linalg.eigh(np.cov(x.T))[1][:, :-3:-1].T
    assert mean == pytest.approx(x.mean(0))
    assert np.abs(np.sum(axes * vectors, 1)) == pytest.approx([1.0, 1.0], abs=1e-9)
    assert (axes[np.arange(2), np.abs(axes).argmax(1)] > 0).all(), "signs do not depend on the solver"
    assert principal_axes(np.zeros((2, 5)), 1)[1].shape == (1, 5)
