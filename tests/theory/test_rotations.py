"""Rotations of head outputs: orthogonal, norm-preserving, additive; and the flat vector of their angles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import BadKnob, ShapeMismatch
from workbench.numerics.rotations import (
    AngleSpace,
    Variant,
    angle_count,
    at_dose,
    givens_matrices,
    givens_planes,
    mapping,
    matrices,
    mean_cosine,
    rotary_matrices,
    turned,
)

EXACT = 1e-12  # float64: a few roundings of numbers near 1
SINGLE = 2e-6  # float32: a few roundings of numbers of order 1 to 4


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("width", [2, 8, 12, 96])
@pytest.mark.parametrize("variant", ["rotary", "givens"])
def test_rotations_are_orthogonal_with_determinant_one(variant: Variant, width: int) -> None:
    angles = draw(3, angle_count(variant, width))
    rotation = matrices(variant, angles, width)
    identity = torch.eye(width, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, identity, atol=EXACT, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(3).double(), atol=EXACT, rtol=0)
    scaled = matrices("scale", torch.full((1,), 0.5).double(), width)
    assert not torch.allclose(scaled @ scaled.mT, identity[0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), half=st.integers(1, 40), single=st.booleans())
def test_norms_are_kept_and_the_fast_form_equals_the_matrix(seed: int, half: int, single: bool) -> None:
    dtype, tolerance = (torch.float32, SINGLE) if single else (torch.float64, EXACT)
    z, angles = draw(4, 3, 2 * half, seed=seed, dtype=dtype), 3 * draw(3, half, seed=seed + 1)
    out = turned(z, angles)
    assert out.dtype == z.dtype
    torch.testing.assert_close(out.norm(dim=-1), z.norm(dim=-1), atol=0, rtol=tolerance)
    by_matrix = (z[..., None, :] @ rotary_matrices(angles).to(dtype))[..., 0, :]
    torch.testing.assert_close(out, by_matrix, atol=5 * tolerance, rtol=tolerance)


def test_a_scale_does_not_keep_norms() -> None:
    z = draw(2, 3, 8)
    assert not torch.allclose(mapping("scale", torch.full((3, 1), 0.7).double())(z).norm(dim=-1), z.norm(dim=-1))


def test_angles_add_and_negative_angles_undo() -> None:
    z, a, b = draw(5, 3, 8), draw(3, 4, seed=1), draw(3, 4, seed=2)
    torch.testing.assert_close(turned(turned(z, a), b), turned(z, a + b), atol=EXACT, rtol=0)
    torch.testing.assert_close(turned(turned(z, a), -a), z, atol=EXACT, rtol=0)
    torch.testing.assert_close(rotary_matrices(-a), rotary_matrices(a).mT, atol=EXACT, rtol=0)
    givens_a, givens_b = draw(7, seed=3), draw(7, seed=4)
    added = givens_matrices(givens_a, 8) @ givens_matrices(givens_b, 8)
    assert not torch.allclose(added, givens_matrices(givens_a + givens_b, 8), atol=1e-3)  # planes share coordinates


def test_a_full_turn_changes_nothing_and_half_a_turn_negates() -> None:
    z, a = draw(5, 3, 8), draw(3, 4, seed=1)
    torch.testing.assert_close(turned(z, a + 2 * math.pi), turned(z, a), atol=EXACT, rtol=0)
    torch.testing.assert_close(turned(z, torch.full((3, 4), math.pi, dtype=torch.float64)), -z, atol=EXACT, rtol=0)
    assert not torch.allclose(turned(z, a + math.pi / 2), turned(z, a))


def test_adjacent_pairs_turn_as_complex_numbers_and_half_split_pairs_do_not() -> None:
    z, angles = draw(5, 3, 8), draw(3, 4, seed=1)
    by_phase = torch.view_as_complex(z.view(5, 3, 4, 2).contiguous()) * torch.exp(-1j * angles)
    torch.testing.assert_close(turned(z, angles), torch.view_as_real(by_phase).flatten(-2), atol=EXACT, rtol=0)
    half_split = torch.complex(z[..., :4], z[..., 4:]) * torch.exp(-1j * angles)
    assert not torch.allclose(turned(z, angles), torch.cat([half_split.real, half_split.imag], -1), atol=1e-2)


def test_zero_angles_return_the_same_bits() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        z = draw(5, 3, 8).to(dtype)
        assert torch.equal(turned(z, torch.zeros(3, 4).double()), z)
        assert torch.equal(mapping("givens", torch.zeros(3, 7).double())(z), z)
        assert torch.equal(mapping("scale", torch.ones(3, 1).double())(z), z)
        assert turned(z, torch.zeros(3, 4)) is not z


def givens_by_the_book(angles: np.ndarray, width: int) -> np.ndarray:
    """Return the product of plane rotations, one dense matrix at a time."""
    product = np.eye(width)
    k = 0
    for r in range(int(math.floor(math.log2(width)))):
        s = 2**r
        for block in range(width // (2 * s)):
            i, j = 2 * s * block, 2 * s * block + s
            plane = np.eye(width)
            plane[i, i] = plane[j, j] = math.cos(angles[k])
            plane[i, j], plane[j, i] = -math.sin(angles[k]), math.sin(angles[k])
            product = plane @ product
            k += 1
    return product


@pytest.mark.parametrize("width", [4, 8, 6, 96])
def test_givens_products_equal_the_book(width: int) -> None:
    angles = draw(width - 1)
    np.testing.assert_allclose(givens_matrices(angles, width).numpy(), givens_by_the_book(angles.numpy(), width), atol=EXACT)


def test_powers_of_two_use_every_angle_and_other_widths_drop_the_dead_ones() -> None:
    assert [len(givens_planes(width)) for width in (2, 8, 64, 128)] == [1, 7, 63, 127]
    assert len(givens_planes(96)) == 94
    assert angle_count("givens", 96, keep_dead=True) == 95
    angles = draw(95)
    changed = angles.clone()
    changed[94] += 1.0
    assert torch.equal(givens_matrices(angles, 96), givens_matrices(changed, 96))
    rotation = givens_matrices(angles, 96)
    assert float(rotation[64:, :64].abs().max()) == 0.0 == float(rotation[:64, 64:].abs().max())
    assert float(givens_matrices(draw(127), 128)[64:, :64].abs().max()) > 0


def test_mean_cosine_over_uniform_angles_is_the_sine_over_the_bound() -> None:
    for bound in (math.pi / 4, math.pi / 6):
        angles = (2 * torch.rand(200, 64, generator=torch.Generator().manual_seed(0)).double() - 1) * bound
        z = draw(200, 128)
        cosine = torch.cosine_similarity(z, turned(z, angles), dim=-1).mean()
        # .002: the mean of 12,800 cosines whose sd is below .1, in z weighted by chi-squared pairs
        assert abs(float(cosine) - math.sin(bound) / bound) < 0.002
        assert abs(float(mean_cosine("rotary", angles, 128).mean()) - math.sin(bound) / bound) < 0.002
        assert abs(float(cosine) - math.cos(bound)) > 0.02


def test_an_odd_width_is_refused_by_pairs_and_taken_by_scale() -> None:
    with pytest.raises(BadKnob, match="odd"):
        angle_count("rotary", 7)
    assert angle_count("scale", 7) == 1


@pytest.mark.parametrize("variant", ["rotary", "givens", "scale", "mlp"])
@pytest.mark.parametrize("tie", ["none", "head", "band"])
def test_each_flat_coordinate_touches_only_its_own_angles(variant: Variant, tie: str) -> None:
    space = AngleSpace(variant, (1, 4), 1 if variant == "mlp" else 3, 8, tie=tie, bands=2)  # type: ignore[arg-type]
    base = space.angles(torch.full((space.dim,), space.identity, dtype=torch.float64))
    identity = 1.0 if variant == "scale" else 0.0
    assert torch.equal(base, torch.full_like(base, identity))
    per_head = space.dim // (2 * space.n_heads)
    for k in range(space.dim):
        point = torch.full((space.dim,), space.identity, dtype=torch.float64)
        point[k] = 0.25
        touched = (space.angles(point) != base).nonzero()
        layer, head = divmod(k // per_head, space.n_heads)
        assert touched[:, 0].unique().tolist() == [layer]
        assert touched[:, 1].unique().tolist() == [head]
        assert len(touched) == (1 if tie == "none" else space.per_head // per_head if tie == "band" else space.per_head) or tie == "band"
    assert bool((space.owner >= 0).all())


def test_flat_order_is_layer_head_angle_and_points_invert_angles() -> None:
    space = AngleSpace("rotary", (0, 2), 3, 8, bound=0.5)
    point = torch.rand(space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert space.dim == 24
    torch.testing.assert_close(space.angles(point).flatten(), (2 * point - 1) * 0.5, atol=0, rtol=0)
    torch.testing.assert_close(space.points(space.angles(point)), point, atol=EXACT, rtol=0)
    with pytest.raises(ShapeMismatch):
        space.angles(point[:-1])


def test_listed_heads_alone_move() -> None:
    space = AngleSpace("rotary", (0, 2), 3, 8, heads=((2, 1), (0, 2)))
    assert space.dim == 8
    angles = space.angles(torch.rand(2, 8, generator=torch.Generator().manual_seed(0)).double())
    moved = angles.abs().sum(-1) > 0
    assert moved[0].tolist() == [[False, False, True], [False, True, False]]
    with pytest.raises(BadKnob, match="layers"):
        _ = AngleSpace("rotary", (0,), 3, 8, heads=((2, 1),)).dim


def test_dose_scales_angles_and_interpolates_scales() -> None:
    angles = draw(2, 3, 4)
    assert torch.equal(at_dose("rotary", angles, 0.5), 0.5 * angles)
    assert torch.equal(at_dose("scale", angles, 0.0), torch.ones_like(angles))
    assert torch.equal(at_dose("scale", angles, 1.0), 1 + (angles - 1))
