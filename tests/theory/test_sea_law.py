"""The law of a spectral edit and its invariants, each with its negative control (docs/methods/sea.md §6)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from workbench.numerics.feature_maps import clamped_share, mapped, unmapped
from workbench.numerics.spectral_law import SpectralLaw

D = 24


def basis(k: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    x = torch.randn(D, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(x)[0].to(dtype)


def tokens(seed: int = 5, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, 7, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def law(**how: object) -> SpectralLaw:
    return replace(SpectralLaw(basis(5, 1), basis(4, 2)), **how)


MU = torch.linspace(-1, 1, D, dtype=torch.float64)


def test_projectors_are_symmetric_idempotent_and_of_their_ranks() -> None:
    a, b = law().keep, law().drop
    plus, minus = a @ a.T, torch.eye(D, dtype=torch.float64) - b @ b.T
    for p, rank in ((plus, 5), (minus, D - 4)):
        assert torch.allclose(p, p.T, atol=1e-12) and torch.allclose(p @ p, p, atol=1e-12)
        assert int(torch.linalg.matrix_rank(p)) == rank
    slanted = a @ torch.randn(5, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert not torch.allclose(slanted @ slanted, slanted, atol=1e-3)


@pytest.mark.parametrize("centre", [None, MU])
def test_the_thin_form_equals_both_dense_projections(centre: torch.Tensor | None) -> None:
    z, one = tokens(), law(centre=centre, norm="none")
    y = z if centre is None else z - centre
    dense = y @ (one.keep @ one.keep.T) + y @ (torch.eye(D, dtype=torch.float64) - one.drop @ one.drop.T)
    assert torch.allclose(one.merged(y), dense, atol=1e-12)
    assert torch.allclose(one.at_dose(1.0)(z), dense + (0 if centre is None else centre), atol=1e-12)
    assert not torch.allclose(dense, y, atol=1e-2)


@pytest.mark.parametrize("dose", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("centre", [None, MU])
def test_the_fast_path_is_the_law(dose: float, centre: torch.Tensor | None) -> None:
    z, one = tokens(), law(centre=centre)
    y = z if centre is None else z - centre
    r = y + dose * (one.merged(y) - y)
    wanted = r * y.norm(dim=-1, keepdim=True) / r.norm(dim=-1, keepdim=True) + (0 if centre is None else centre)
    assert torch.allclose(one.at_dose(dose)(z), wanted, atol=1e-12)


def test_keeping_and_dropping_the_same_space_is_the_identity() -> None:
    a, z = basis(5, 1), tokens()
    assert torch.allclose(SpectralLaw(a, a).at_dose(1.0)(z), z, atol=1e-12)
    assert not torch.allclose(law().at_dose(1.0)(z), z, atol=1e-2)


@pytest.mark.parametrize("phi", ["none", "tanh", "elu"])
def test_keeping_nothing_and_dropping_nothing_is_the_identity(phi: str) -> None:
    none, z = torch.zeros(D, 0, dtype=torch.float64), tokens()
    assert torch.allclose(law(keep=none, drop=none, phi=phi).at_dose(1.0)(z), z, atol=1e-9)
    full = torch.eye(D, dtype=torch.float64)
    both = law(keep=full, drop=none, phi=phi).at_dose(1.0)(z)  # z₊ = z₋ = z, and the norm is restored
    assert torch.allclose(both, z, atol=1e-9)
    assert not torch.allclose(law(phi=phi).at_dose(1.0)(z), z, atol=1e-2)


@pytest.mark.parametrize("centre", [None, MU])
@pytest.mark.parametrize("dose", [0.5, 1.0, 1.7])
def test_norm_token_keeps_each_token_s_length_about_the_centre_and_norm_none_does_not(centre: torch.Tensor | None, dose: float) -> None:
    z, off = tokens(), 0 if centre is None else MU

    def lengths(x: torch.Tensor) -> torch.Tensor:
        return (x - off).norm(dim=-1)

    assert torch.allclose(lengths(law(centre=centre).at_dose(dose)(z)), lengths(z), rtol=1e-12)
    assert not torch.allclose(lengths(law(centre=centre, norm="none").at_dose(dose)(z)), lengths(z), rtol=1e-2)


def test_norm_feature_keeps_each_feature_s_length_over_tokens_and_norm_token_does_not() -> None:
    z, real = tokens(), torch.ones(2, 7, dtype=torch.bool)
    assert torch.allclose(law(norm="feature").at_dose(1.0)(z, real).norm(dim=1), z.norm(dim=1), rtol=1e-6)
    assert not torch.allclose(law().at_dose(1.0)(z).norm(dim=1), z.norm(dim=1), rtol=1e-2)


def test_norm_feature_with_one_token_only_flips_signs() -> None:
    z = tokens()[:, :1]
    out = law(norm="feature").at_dose(1.0)(z, torch.ones(2, 1, dtype=torch.bool))
    assert torch.allclose(out.abs(), z.abs(), rtol=1e-9)
    assert not torch.allclose(law().at_dose(1.0)(z).abs(), z.abs(), rtol=1e-2)


def test_norm_feature_looks_at_later_tokens_and_norm_token_does_not() -> None:
    z, real = tokens(), torch.ones(2, 7, dtype=torch.bool)
    later = z.clone()
    later[:, -1] *= 9
    token, feature = law().at_dose(1.0), law(norm="feature").at_dose(1.0)
    assert torch.equal(token(z)[:, :-1], token(later)[:, :-1])
    assert not torch.allclose(feature(z, real)[:, :-1], feature(later, real)[:, :-1], atol=1e-3)


def test_norm_feature_ignores_padding() -> None:
    z, real = tokens(), torch.ones(2, 7, dtype=torch.bool)
    real[0, :3] = False
    padded, edited = z.clone(), law(norm="feature").at_dose(1.0)
    padded[0, :3] = 1e4
    assert torch.allclose(edited(z, real)[0, 3:], edited(padded, real)[0, 3:], atol=1e-9)
    assert not torch.allclose(edited(padded, torch.ones_like(real))[0, 3:], edited(z, real)[0, 3:], atol=1e-3)


def test_linear_edits_scale_with_the_activation_and_phi_edits_do_not() -> None:
    z = tokens()
    assert torch.allclose(law().at_dose(1.0)(3 * z), 3 * law().at_dose(1.0)(z), atol=1e-12)
    curved = law(phi="tanh").at_dose(1.0)
    assert not torch.allclose(curved(3 * z), 3 * curved(z), atol=1e-2)


def test_the_centre_is_a_fixed_point_and_shifts_with_everything() -> None:
    z, shift = tokens(), 5 * torch.ones(D, dtype=torch.float64)
    assert torch.equal(law(centre=MU).at_dose(1.0)(MU.expand(1, 1, D)), MU.expand(1, 1, D))
    moved = law(centre=MU + shift).at_dose(1.0)(z + shift)
    assert torch.allclose(moved, law(centre=MU).at_dose(1.0)(z) + shift, atol=1e-12)
    assert not torch.allclose(law().at_dose(1.0)(z + shift), law().at_dose(1.0)(z) + shift, atol=1e-2)


@pytest.mark.parametrize("norm", ["token", "feature", "none"])
@pytest.mark.parametrize("phi", ["none", "tanh", "elu", "squared_exponential"])
def test_zero_vectors_and_zero_features_give_no_nan(norm: str, phi: str) -> None:
    z, real = tokens(), torch.ones(2, 7, dtype=torch.bool)
    z[0, 2] = 0
    z[:, :, 3] = 0
    edited = law(norm=norm, phi=phi).at_dose(1.0)
    assert torch.isfinite(edited(z, real) if norm == "feature" else edited(z)).all()
    if norm == "token":
        assert torch.equal(edited(z)[0, 2], z[0, 2])


def test_a_token_whose_merged_vector_vanishes_is_returned_as_it_was() -> None:
    b = basis(4, 2)
    one = SpectralLaw(torch.zeros(D, 0, dtype=torch.float64), b)
    z = (b @ torch.ones(4, dtype=torch.float64)).expand(1, 1, D)  # wholly within what is dropped
    assert torch.equal(one.at_dose(1.0)(z), z)
    assert not torch.allclose(one.at_dose(0.5)(z + 0.1), z + 0.1, atol=1e-3)


@pytest.mark.parametrize(("merge", "wanted"), [("positive", "plus"), ("negative", "minus")])
def test_the_ablations_are_one_projection_each(merge: str, wanted: str) -> None:
    z, one = tokens(), law(merge=merge, norm="none")
    plus, minus = z @ one.keep @ one.keep.T, z - z @ one.drop @ one.drop.T
    found = one.at_dose(1.0)(z)
    assert torch.allclose(found, plus if wanted == "plus" else minus, atol=1e-12)
    assert not torch.allclose(found, minus if wanted == "plus" else plus, atol=1e-2)


def test_average_is_half_the_sum_and_restores_no_norm() -> None:
    z = tokens()
    half = law(merge="average").at_dose(1.0)(z)
    assert torch.allclose(half, law(norm="none").at_dose(1.0)(z) / 2, atol=1e-12)
    assert not torch.allclose(half.norm(dim=-1), z.norm(dim=-1), rtol=1e-2)


def test_the_update_is_linear_in_the_dose_before_the_norm_is_restored() -> None:
    z, one = tokens(), law(norm="none")
    full = one.at_dose(1.0)(z) - z
    assert torch.allclose(one.at_dose(0.25)(z) - z, 0.25 * full, atol=1e-12)
    normed = law().at_dose(0.25)(z) - z
    assert not torch.allclose(normed, 0.25 * (law().at_dose(1.0)(z) - z), atol=1e-3)


def test_feature_maps_come_back_within_their_range_and_not_beyond() -> None:
    x = torch.linspace(-4.2, 4.2, 101, dtype=torch.float64)
    assert torch.allclose(unmapped(mapped(x, "tanh"), "tanh"), x, atol=1e-6)
    assert torch.allclose(unmapped(mapped(2 * x, "elu"), "elu"), 2 * x, atol=1e-6)
    assert torch.allclose(unmapped(mapped(x, "squared_exponential"), "squared_exponential"), x.abs(), atol=1e-6)
    two = torch.tensor([2.0], dtype=torch.float64)
    assert float(unmapped(mapped(two, "squared_exponential"), "squared_exponential", "squared")) == pytest.approx(4.0)
    far = torch.tensor([-20.0], dtype=torch.float64)
    assert float(unmapped(mapped(far, "tanh"), "tanh")) == pytest.approx(-4.95172, abs=1e-4)
    assert float(unmapped(mapped(far, "elu"), "elu")) == pytest.approx(-9.2103, abs=1e-3)
    assert float(unmapped(mapped(far, "squared_exponential"), "squared_exponential", "squared")) == pytest.approx(18.4207, abs=1e-3)
    assert torch.isfinite(mapped(torch.tensor([100.0, -100.0]), "elu")).all()


@pytest.mark.parametrize(("phi", "limit"), [("tanh", 4.95), ("elu", 9.21), ("squared_exponential", 4.29)])
def test_the_clamped_share_counts_what_cannot_come_back(phi: str, limit: float) -> None:
    x = torch.tensor([0.5 * limit, -0.9 * limit, -1.1 * limit, -2 * limit])
    assert clamped_share(x, phi) == 0.5  # type: ignore[arg-type]
    assert clamped_share(x, "none") == 0.0


def test_released_phi_skips_the_map_of_its_input_and_ours_does_not() -> None:
    z = tokens()
    ours, released = law(phi="tanh").at_dose(1.0)(z), law(phi="tanh", phi_mode="skip_input").at_dose(1.0)(z)
    assert not torch.allclose(ours, released, atol=1e-2)
    kept = unmapped(z @ law().keep @ law().keep.T, "tanh")
    left = unmapped(z - z @ law().drop @ law().drop.T, "tanh")
    r = kept + left
    assert torch.allclose(released, r * z.norm(dim=-1, keepdim=True) / r.norm(dim=-1, keepdim=True), atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precisions_keep_their_type_and_follow_float64(dtype: torch.dtype) -> None:
    z = tokens(dtype=dtype)
    out = law().at_dose(1.0)(z)
    assert out.dtype == dtype
    wanted = law().at_dose(1.0)(z.double())
    # computed in float32 and rounded once: half a unit in the last place of the type
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    assert torch.allclose(out.double(), wanted, atol=tolerance, rtol=tolerance)
