"""The rotation of HPR and its invariants, each with its negative control (docs/methods/hpr.md §6)."""

from __future__ import annotations

import math

import pytest
import torch

from workbench.numerics.angle_nets import AngleNets, widths
from workbench.numerics.householder import angle_between, clamped_angle, mirror_angle, pseudo_rotation, reflected, rotated_in_plane

D = 24


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


W, X = draw(D, seed=1), draw(60, D, seed=2)
BAD = (X @ W) <= 0


def steady(angle: float):  # noqa: ANN201
    return lambda x: torch.full(x.shape[:1], angle, dtype=x.dtype)


def edited(x: torch.Tensor, angle: float = 1.0, dose: float = 1.0, w: torch.Tensor = W) -> torch.Tensor:
    return pseudo_rotation(w, steady(angle), dose)(x[None])[0]


def test_the_reflection_is_symmetric_an_involution_and_turns_its_normal_round() -> None:
    h = reflected(torch.eye(D), W)
    assert torch.allclose(h, h.T, atol=1e-6) and torch.allclose(h @ h, torch.eye(D), atol=1e-6)
    assert float(torch.linalg.det(h.double())) == pytest.approx(-1.0, abs=1e-5)
    assert torch.allclose(reflected(torch.eye(D), -3 * W), h, atol=1e-6)
    assert torch.allclose(reflected(W, W), -W, atol=1e-5)
    flat = X - (X @ W / W.square().sum())[:, None] * W
    assert torch.allclose(reflected(flat, W), flat, atol=1e-5)
    assert not torch.allclose(reflected(X, W), X, atol=1e-2)


def test_tokens_on_the_positive_side_are_bit_identical_and_the_others_move() -> None:
    out = edited(X)
    assert torch.equal(out[~BAD], X[~BAD])
    assert bool((out[BAD] != X[BAD]).any(1).all()) and 10 < int(BAD.sum()) < 50


@pytest.mark.parametrize("angle", [0.3, 1.2, 2.5])
def test_norms_are_kept_and_the_angle_is_the_predicted_one(angle: float) -> None:
    out = edited(X, angle)
    assert torch.allclose(out.norm(dim=1), X.norm(dim=1), rtol=1e-5)
    turned = angle_between(X, out)
    assert torch.allclose(turned[BAD], torch.full_like(turned[BAD], angle), atol=1e-4)  # float32 atan2 of sums of 24 terms
    assert float(turned[~BAD].max()) == 0.0


def test_dose_zero_is_the_identity_pi_is_the_antipode_and_half_the_mirror_angle_lands_on_the_plane() -> None:
    assert torch.equal(edited(X, 1.0, dose=0.0), X)
    assert torch.allclose(edited(X, math.pi)[BAD], -X[BAD], atol=1e-4)
    gamma = mirror_angle(X, W)
    assert torch.allclose(rotated_in_plane(X[BAD], W, gamma[BAD]), reflected(X[BAD], W), atol=1e-4)
    on_plane = rotated_in_plane(X[BAD], W, gamma[BAD] / 2) @ W
    assert float(on_plane.abs().max()) < 1e-4
    assert float((X[BAD] @ W).abs().max()) > 1.0


def test_the_change_stays_in_the_plane_of_the_activation_and_the_normal() -> None:
    x, moved = X[BAD][0].double(), edited(X, 0.8)[BAD][0].double()
    plane = torch.linalg.qr(torch.stack([x, W.double()], 1))[0]
    change = moved - x
    assert float((change - plane @ (plane.T @ change)).norm() / change.norm()) < 1e-5
    other = draw(D, seed=9).double()
    assert float((other - plane @ (plane.T @ other)).norm() / other.norm()) > 0.5


@pytest.mark.parametrize("angle", [0.1, 0.6, 1.4, 3.0])
def test_the_decision_flips_exactly_when_the_angle_passes_half_the_mirror_angle(angle: float) -> None:
    out, half = edited(X, angle), mirror_angle(X, W) / 2
    wanted = X.norm(dim=1) * W.norm() * torch.sin(angle - half)
    assert torch.allclose((out @ W)[BAD], wanted[BAD], atol=1e-3, rtol=1e-4)
    assert torch.equal((out @ W)[BAD] > 0, (angle > half)[BAD])


def test_the_gate_does_not_depend_on_lengths_and_the_sign_swaps_it() -> None:
    assert torch.allclose(edited(3 * X), 3 * edited(X), atol=1e-4)  # a constant angle: with a network it depends on the scale
    assert torch.allclose(edited(X, w=5 * W), edited(X), atol=1e-5)
    moved, swapped = (edited(X) != X).any(1), (edited(X, w=-W) != X).any(1)
    assert torch.equal(moved, ~swapped)
    net = AngleNets.drawn(D, 2, None, [0], 0)
    by_net = pseudo_rotation(W, lambda x: net.angles(20 * x[None])[0])
    assert not torch.allclose(by_net(3 * X[None]), 3 * by_net(X[None]), atol=1e-2)


def test_a_second_application_changes_nothing_once_the_plane_was_crossed() -> None:
    once = edited(X, 3.0)
    crossed = mirror_angle(X, W) / 2 < 3.0
    assert torch.equal(edited(once, 3.0)[crossed], once[crossed])
    short = edited(X, 0.01)
    assert not torch.equal(edited(short, 0.01), short)


def test_the_official_formula_agrees_away_from_the_plane_and_collapses_near_it() -> None:
    cosine = (X @ W).abs() / X.norm(dim=1) / W.norm()
    far = BAD & (cosine >= 0.1)
    angle = torch.full((len(X),), 0.9)
    ours, theirs = rotated_in_plane(X[far], W, angle[far]), rotated_in_plane(X[far], W, angle[far], "official")
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-4)
    flat = X - (X @ W / W.square().sum())[:, None] * W - 1e-5 * W / W.norm()
    near = rotated_in_plane(flat, W, angle, "official").norm(dim=1) / flat.norm(dim=1)
    assert float((near - 1).abs().max()) > 1e-3
    assert torch.allclose(rotated_in_plane(flat, W, angle).norm(dim=1), flat.norm(dim=1), rtol=1e-5)


def test_zeros_antiparallel_tokens_and_nan_stay_alone() -> None:
    x = X.clone()
    x[0], x[1], x[2] = 0.0, -2 * W, float("nan")
    out = edited(x)
    assert torch.equal(out[0], x[0]) and torch.equal(out[1], x[1])
    assert torch.equal(out[3:], edited(X)[3:])


def test_tokens_are_independent_of_each_other_and_of_the_batch() -> None:
    net = AngleNets.drawn(D, 3, None, [0], 0)
    act = pseudo_rotation(W, lambda x: net.angles(x[None])[0])
    together = act(X.view(3, 20, D))
    alone = torch.stack([act(x[None, None])[0, 0] for x in X]).view(3, 20, D)
    assert torch.allclose(together, alone, atol=1e-5)  # one matrix product against sixty


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_keep_their_type_and_their_norms(dtype: torch.dtype) -> None:
    x = X.to(dtype)
    out = edited(x)
    assert out.dtype == dtype and torch.isfinite(out).all()
    assert torch.allclose(out.double().norm(dim=1), x.double().norm(dim=1), rtol=1e-9 if dtype == torch.float64 else 1e-2)
    assert not torch.equal(out, x)


def test_doses_above_one_turn_further_and_are_clamped_at_half_a_turn() -> None:
    assert torch.allclose(angle_between(X, edited(X, 0.7, 2.0))[BAD], torch.tensor(1.4), atol=1e-4)
    assert torch.allclose(edited(X, 2.5, 2.0)[BAD], -X[BAD], atol=1e-4)
    free = pseudo_rotation(W, steady(2.5), 2.0, clamp=False)(X[None])[0]
    assert not torch.allclose(free[BAD], -X[BAD], atol=1e-1)


def test_angles_are_exact_for_equal_inputs_and_symmetric_and_the_released_one_is_not_exact() -> None:
    a, b = X[:5], X[5:10]
    assert float(angle_between(a, a).max()) == 0.0
    assert torch.allclose(angle_between(a, b), angle_between(b, a))
    assert torch.allclose(clamped_angle(a, b), angle_between(a, b), atol=1e-4)
    assert float(clamped_angle(a, a).min()) > 1e-4


def test_networks_have_the_widths_counts_and_range_of_the_spec() -> None:
    assert [tuple(weight.shape[1:]) for weight in AngleNets.drawn(64, 4, None, [0], 0).weights] == [(32, 64), (16, 32), (8, 16), (1, 8)]
    sizes = widths(4096, 4)
    assert sum(n_in * n_out + n_out for n_in, n_out in zip(sizes[:-1], sizes[1:])) == 11_014_145
    assert widths(64, 3, 20) == (64, 20, 20, 1)
    angles = AngleNets.drawn(D, 3, None, [0, 1], 0).angles(100 * X.expand(2, -1, -1))
    assert float(angles.min()) > 0 and float(angles.max()) < math.pi
