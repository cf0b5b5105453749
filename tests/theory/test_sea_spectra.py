"""Spectra through thin factors equal the dense float64 reference (docs/methods/sea.md §6)."""

from __future__ import annotations

import pytest
import torch

from workbench.numerics import spectra
from workbench.numerics.covariance import CrossMoments
from workbench.numerics.spectra import principal_cosines, spectra_of_rows, without

SIDES = ("positive", "negative")


def rows(n: int, d: int, seed: int = 0, rank: int | None = None, mean: float = 0.0) -> dict[str, torch.Tensor]:
    """Paired rows of three kinds; the sides follow the base with noise."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    base = normal(n, d) if rank is None else normal(n, rank) @ normal(rank, d)
    good, bad = 0.7 * base + 0.3 * normal(n, d), 0.3 * base + 0.7 * normal(n, d)
    shift = mean * normal(d)
    return {"base": base + shift, "positive": good + shift, "negative": bad + shift}


def moments(data: dict[str, torch.Tensor], batch: int = 1000) -> CrossMoments:
    found = CrossMoments(SIDES)
    for start in range(0, len(data["base"]), batch):
        part = {side: x[start : start + batch] for side, x in data.items()}
        found.add(part["base"], part)
    return found


def dense(data: dict[str, torch.Tensor], side: str, centred: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The law as written: form Ω, take its full SVD."""
    h, other = (data[name] - data[name].mean(0) * centred for name in ("base", side))
    u, s, _ = torch.linalg.svd(h.T @ other / len(h))
    return u, s


def projector(basis: torch.Tensor) -> torch.Tensor:
    return basis @ basis.T


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("n", "d", "rank"), [(40, 64, None), (40, 64, 12), (64, 64, None), (150, 48, None), (150, 48, 20)])
def test_thin_projectors_equal_the_dense_reference(n: int, d: int, rank: int | None, centred: bool) -> None:
    data = rows(n, d, rank=rank, mean=3.0)
    found = moments(data, batch=16)
    for side in SIDES:
        spectrum = found.spectra("demonstrations" if centred else "none")[side]
        u, s = dense(data, side, centred)
        m = min(len(spectrum.values), len(s))
        assert torch.allclose(spectrum.values[:m], s[:m], rtol=0, atol=1e-10 * float(s[0]))
        for k in sorted({1, 3, spectrum.rank // 2, spectrum.rank}):
            # 1e-8: both routes end in float64, and the gaps of these spectra are above 1e-6 of s_1
            assert torch.allclose(projector(spectrum.leading(k)), projector(u[:, :k]), rtol=0, atol=1e-8)
    assert found.is_matrix == (n > d)


def test_the_rank_is_the_data_s_rank_and_not_the_number_of_rows() -> None:
    assert moments(rows(40, 64, rank=12)).spectra()["positive"].rank == 12
    assert moments(rows(40, 64)).spectra()["positive"].rank == 40
    assert moments(rows(40, 64)).spectra("demonstrations")["positive"].rank == 39  # centring takes one


@pytest.mark.parametrize("n", [30, 90])
def test_streaming_equals_whole_batch(n: int) -> None:
    data = rows(n, 40, mean=100.0)
    whole, parts = moments(data), moments(data, batch=7)
    for how in ("none", "demonstrations", "grand"):
        assert torch.allclose(whole.matrix("negative", how), parts.matrix("negative", how), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(whole.matrix("negative", "none"), whole.matrix("negative", "demonstrations"), atol=1.0)


@pytest.mark.parametrize("n", [30, 90])
def test_the_mean_s_share_is_near_one_with_an_outlier_and_near_zero_without_a_mean(n: int) -> None:
    data = rows(n, 40)
    assert moments(data).mean_share("positive") < 0.3
    for x in data.values():
        x[:, 5] += 60.0
    found = moments(data)
    assert found.mean_share("positive") > 0.999
    spectrum = found.spectra()["positive"]
    assert float(spectrum.shares[0]) > 0.999
    assert [spectrum.kept(keep) for keep in (0.99, 0.998, 0.999)] == [1, 1, 1]  # the tell-tale failure of an uncentred fit
    assert found.spectra("demonstrations")["positive"].kept(0.99) > 5


def test_k_is_the_least_that_reaches_the_share_and_grows_with_it() -> None:
    spectrum = spectra_of_rows(rows(50, 64)["base"], {"positive": rows(50, 64)["positive"]})["positive"]
    before = 0
    for keep in (0.5, 0.7, 0.9, 0.99, 0.998, 1.0):
        k = spectrum.kept(keep)
        assert k >= before
        assert float(spectrum.cumulative[k - 1]) >= keep - 1e-12
        assert k == 1 or keep == 1.0 or float(spectrum.cumulative[k - 2]) < keep
        before = k
    assert spectrum.kept(1.0) == spectrum.rank


def test_the_golden_shape_of_a_gaussian_fit() -> None:
    draw = torch.Generator().manual_seed(3)
    h = torch.randn(200, 32, generator=draw, dtype=torch.float64)
    good = 0.7 * h + 0.3 * torch.randn(200, 32, generator=draw, dtype=torch.float64)
    bad = 0.3 * h + 0.7 * torch.randn(200, 32, generator=draw, dtype=torch.float64)
    found = CrossMoments(SIDES)
    found.add(h, {"positive": good, "negative": bad})
    assert 26 <= found.spectra()["positive"].kept(0.99) <= 31
    assert 20 <= found.spectra()["negative"].kept(0.99) <= 28


def test_permuting_all_demonstrations_changes_nothing_and_permuting_one_side_does() -> None:
    data, order = rows(40, 64), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    together = {side: x[order] for side, x in data.items()}
    apart = {**data, "positive": data["positive"][order]}
    was, same, other = (projector(moments(x).spectra()["positive"].leading(8)) for x in (data, together, apart))
    assert torch.allclose(was, same, atol=1e-9)
    assert not torch.allclose(was, other, atol=1e-2)


@pytest.mark.parametrize("side", ["base", "positive", "negative"])
def test_scaling_one_side_leaves_rank_and_space_and_a_nonlinear_change_does_not(side: str) -> None:
    data = rows(40, 64)
    was = moments(data).spectra()["positive"]
    scaled = moments({**data, side: 7.0 * data[side]}).spectra()["positive"]
    assert scaled.kept(0.99) == was.kept(0.99)
    assert torch.allclose(projector(scaled.leading(9)), projector(was.leading(9)), atol=1e-9)
    cubed = moments({**data, "base": data["base"] ** 3}).spectra()["positive"]
    assert not torch.allclose(projector(cubed.leading(9)), projector(was.leading(9)), atol=1e-2)


def test_rotating_the_base_rotates_the_space_and_rotating_the_other_side_leaves_it() -> None:
    data = rows(40, 64)
    q, _ = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    was = projector(moments(data).spectra()["positive"].leading(6))
    turned = projector(moments({**data, "base": data["base"] @ q.T}).spectra()["positive"].leading(6))
    assert torch.allclose(turned, q @ was @ q.T, atol=1e-9)
    assert not torch.allclose(turned, was, atol=1e-2)
    assert torch.allclose(projector(moments({**data, "positive": data["positive"] @ q.T}).spectra()["positive"].leading(6)), was, atol=1e-9)


def test_principal_cosines_and_the_part_outside() -> None:
    eye = torch.eye(6, dtype=torch.float64)
    assert torch.allclose(principal_cosines(eye[:, :3], eye[:, 2:4]), torch.tensor([1.0, 0.0], dtype=torch.float64))
    outside = without(eye[:, :3], eye[:, 2:4])
    assert torch.allclose((outside[:, :2] ** 2).sum(1), torch.tensor([1.0, 1, 0, 0, 0, 0], dtype=torch.float64))
    assert float(outside[:, 2].norm()) == 0.0


def steep(n: int = 40, d: int = 64) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Rows whose cross-covariance has singular values from 1 to 1e-8, and these values."""
    draw = torch.Generator().manual_seed(1)
    one, two, right, other = (
        torch.linalg.qr(torch.randn(size, n, generator=draw, dtype=torch.float64))[0] for size in (n // 2, n // 2, d, d)
    )
    # The first rows hold the small values, so that the first factor does not sort them, which would spare the eigenvectors.
    left = torch.block_diag(one, two).flip(0)
    values = torch.logspace(0, -8, n, dtype=torch.float64)
    return {"base": left @ torch.diag(values) @ right.T * n, "positive": left @ other.T, "negative": left @ other.T}, values


def worst_error(data: dict[str, torch.Tensor], upto: int) -> float:
    spectrum, (u, _) = spectra_of_rows(data["base"], {"positive": data["positive"]})["positive"], dense(data, "positive", centred=False)
    return max(float((projector(spectrum.leading(k)) - projector(u[:, :k])).abs().max()) for k in range(1, upto))


def test_a_steep_spectrum_is_as_exact_as_its_svd_and_would_not_be_by_eigenvectors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data, values = steep()
    spectrum = spectra_of_rows(data["base"], {"positive": data["positive"]})["positive"]
    assert torch.allclose(spectrum.values, values, rtol=0, atol=1e-13) and spectrum.rank == 40
    assert worst_error(data, 30) < 1e-8
    monkeypatch.setattr(spectra, "SETTLED", float("inf"))
    monkeypatch.setattr(spectra, "BLURRED", 0.0)
    assert worst_error(data, 30) > 1e-7


def test_the_exclusive_law_drops_what_the_bad_side_has_beyond_the_kept_space() -> None:
    """Planted: both sides share three strong directions, the bad one has a fourth. Control: its leading ones are the shared ones."""
    draw = torch.Generator().manual_seed(0)
    d, n = 24, 60
    q = torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=torch.float64))[0]
    shared = torch.randn(n, 3, generator=draw, dtype=torch.float64) @ (q[:, :3] * torch.tensor([9.0, 7.0, 5.0])).T
    own = torch.randn(n, 1, generator=draw, dtype=torch.float64) @ q[:, 3:4].T
    base, bad = shared + own, shared + 2 * own
    found = spectra_of_rows(base, {"good": shared, "bad": bad})
    kept = found["good"].leading(3)
    outside = found["bad"].outside(kept, 1)
    assert float((outside.T @ q[:, 3:4]).abs()) > 0.999
    assert float((kept.T @ outside).abs().max()) < 1e-9
    assert float((found["bad"].leading(3).T @ q[:, 3:4]).norm()) < 0.1, "control: the leading bad directions are the shared ones"
    # The same as of the matrix itself, and no more directions than there are.
    omega = (torch.eye(d) - kept @ kept.T) @ (base.T @ bad / n)
    assert float((torch.linalg.svd(omega)[0][:, :1].T @ outside).abs()) > 1 - 1e-9
    assert found["bad"].outside(kept, 9).shape[1] <= 4 - 3 + 0


def test_the_noise_beside_a_spectrum_is_a_random_matrix_and_a_spectrum_that_falls_is_not() -> None:
    drawn = torch.linalg.svdvals(torch.randn(200, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    noise = torch.from_numpy(spectra.noise_values(200, float(drawn.square().sum())))
    assert noise.square().sum() == pytest.approx(float(drawn.square().sum()), rel=1e-9)
    assert (noise - drawn).abs().max() < 0.05 * drawn[0]  # 200 values lie within a few hundredths of their law
    falling = 0.9 ** torch.arange(200, dtype=torch.float64)
    unlike = torch.from_numpy(spectra.noise_values(200, float(falling.square().sum())))
    assert (unlike - falling).abs().max() > 0.5 * falling[0]
    assert spectra.noise_values(0, 0.0).shape == (0,)
