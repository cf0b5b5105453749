"""SEA, spectral editing of activations: keep what goes with good answers, drop what goes with bad ones.

Ref: docs/methods/sea.md; Qiu et al., NeurIPS 2024, arXiv 2405.09719. For each layer, with base, good and bad activations as paired rows H,
H⁺, H⁻: Ω± = (1/N) H (H±)ᵀ = U± S± V±ᵀ; A = leading U⁺, B = leading U⁻; the edit is μ + ν-restored (y + A Aᵀ y − B Bᵀ y), y = z − μ.
Differs: norms are restored token by token, sets are centred, fit and edit share their site; preset `paper` has the paper's sites and no
centring, `official-compat` the released code, defects included.

The arrays of the report, `[l]` being an edited layer, so `spectrum_plus[3]`; `±` stands for both `plus` and `minus`: `layers` (L,) ·
`spectrum_±[l]` (m,) singular values, descending · `cumulative_±[l]` (m,) cumulative share of squared values · `k_plus`, `k_minus`,
`rank_plus`, `rank_minus` (L,) · `keep_grid` (G,) and `k_of_keep_±[l]` (G,) directions for each share · `cosines[l]` (r,) cosines of the
principal angles between kept and dropped space · `net_size` (L,) ‖A Aᵀ − B Bᵀ‖_F · `mean_share_plus`, `mean_share_minus` (L,) share of
s_1 of the uncentred matrix that the means explain · `mean_norm` (L,) · `signature` (L,) · `edit_size_mean`, `edit_size_95`,
`edit_cosine`, `guard_share` (L,) on held-out texts · `projection_before[l]`, `projection_after[l]` (2n, 2) held-out pairs on the leading
kept and the leading dropped direction, good rows first · `projection_is_good` (2n,).  Tables: `ranks` (one row a layer), `tokens`
(promoted and suppressed tokens of leading directions).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import are_pairs
from workbench.errors import FitFailed
from workbench.methods.registry import FitReport, Fitted, Notice, header, method, with_notices
from workbench.methods.sea.config import PRESETS, SEA_PRESETS_SAY, SeaConfig, listed_layers, resolved, tries, wanted_count
from workbench.methods.sea.edit import SpectralEdit, mlp_facts
from workbench.methods.sea.moments import Moments, cross_moments, side_moments
from workbench.methods.sea.report import LayerFit, report
from workbench.methods.sea.without import without
from workbench.methods.shared.contrast_rows import drawn_rows, settled_period
from workbench.methods.shared.gating import gated
from workbench.methods.shared.ground import few_texts
from workbench.methods.shared.harmless import MOST_DAMAGE, finite
from workbench.methods.shared.layers import SMALL
from workbench.methods.shared.needs import Needs
from workbench.methods.shared.reading import ReadAt
from workbench.methods.shared.sparing import spared
from workbench.methods.shared.starts import Start, start_layer
from workbench.methods.shared.validation import neutral_kl
from workbench.models.base import LanguageModel
from workbench.numerics.covariance import Centre, CrossMoments, SideMoments
from workbench.numerics.spectra import Spectrum
from workbench.numerics.spectral_law import SpectralLaw
from workbench.progress import Progress
from workbench.shapes import Tensor

N_EXCLUSIVE = 2
"""Directions that the exclusive law drops unless told otherwise: one may be an accident, from three on the text suffers."""


@method(
    "sea",
    title="SEA",
    summary="Project activations towards what goes with good answers and away from what goes with bad ones: no training, one second.",
    paper="arXiv 2405.09719",
    config=SeaConfig,
    edit=SpectralEdit,
    needs=Needs(("prompt", "positive", "negative"), min_rows=2, sets=True),
    presets=PRESETS,
    preset_says=SEA_PRESETS_SAY,
    tries=tries,
    scopes=lambda scope: {"layers": scope.blocks},
    without=without,
    order=1,
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: SeaConfig, *, seed: int, progress: Progress) -> Fitted:
    """Fit kept and dropped directions of each layer from the rows of split `fit`.

    Raises:
        BadKnob: knobs that do not go together. FitFailed: all activations are equal, or neutral text is broken.
        NotFinite: NaN or infinite activations.
    """
    rows = drawn_rows(demonstrations.split("fit"), config.n_demos, seed)
    pairs = are_pairs(rows)
    config = resolved(config, model.info, pairs)
    if pairs:
        config = replace(config, final_period=settled_period(config.final_period, rows))
    layers, start = listed_layers(config, model.info), Start(0)
    if config.looks_for_layer(model.info):
        start = start_layer(model, demonstrations, cast(ReadAt, config.read), layers[0], progress.part(0.0, 0.3))
        layers = (start.layer,)
    collect = side_moments if config.base == "sides" else cross_moments
    moments, clamped = collect(model, rows, layers, config, seed, progress.part(0.3, 0.8))
    if config.layers is None and config.layer_mode == "signature":
        layers = _by_signature(moments, wanted_count(config, model.info.n_layers))
    facts: dict[str, Any] = {"layers": list(layers), "site": config.edit_site, "where": config.where} | _law_facts(config)
    if config.edit_site == "mlp_out":
        facts |= mlp_facts(model, layers)
    head, notices = header("sea", model, demonstrations, config, seed, facts), start.notices

    def made(some: SeaConfig) -> tuple[SpectralEdit, dict[int, LayerFit]]:
        progress(0.8, "Spectra")
        fits = {layer: _layer(model, moments[layer], some, layer, clamped[layer]) for layer in layers}
        return SpectralEdit(head, {layer: item.law for layer, item in fits.items()}), fits

    edit, fits = made(config)
    if config.merge == "exclusive" and config.k_minus is None and model.info.n_parameters >= SMALL:
        damage = _damage(model, edit, demonstrations, config, seed)
        if not damage <= MOST_DAMAGE:  # no number is no little damage
            edit, fits = made(replace(config, k_minus=1))
            notices = (*notices, _one_dropped(damage, finite(_damage(model, edit, demonstrations, config, seed), edit)))
    fitted = Fitted(edit, report(model, edit, fits, config, demonstrations, rows, progress.part(0.9, 0.95)))
    fitted = gated(model, fitted, demonstrations, config.gate, seed=seed, progress=progress.part(0.95, 1.0))
    return with_notices(spared(model, fitted, demonstrations, config.spare), *notices)


def _damage(model: LanguageModel, edit: SpectralEdit, demonstrations: Demonstrations, config: SeaConfig, seed: int) -> float:
    """KL(unedited ‖ edited) a token of a few neutral texts, nats, with the tokens spared that the edit will spare."""
    whole = spared(model, Fitted(edit, FitReport()), demonstrations, config.spare).edit
    return float(neutral_kl(model, [(whole,)], few_texts(model, demonstrations, seed))[0])


def _one_dropped(before: float, after: float) -> Notice:
    text = f"One direction is dropped: {N_EXCLUSIVE} would move neutral text by KL {before:.2g} nats a token, it moves it by {after:.2g}."
    if after <= MOST_DAMAGE:
        return Notice("note", text, "Set k_minus to have another number.")
    return Notice("warning", text, "Lower the dose, gate the edit, or name another layer.")


def _layer(model: LanguageModel, moments: CrossMoments | SideMoments, config: SeaConfig, layer: int, clamped: float) -> LayerFit:
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    center = cast(Centre, config.center)
    spectra = moments.spectra(center)
    for side, spectrum in spectra.items():
        if spectrum.rank == 0:
            raise FitFailed(
                f"The {side} cross-covariance of layer {layer} is zero: the answers do not change the activations there.",
                "Read at a later token (final_period = keep, read = mean), choose later layers, or use more varied demonstrations.",
            )
    k_plus = _chosen(spectra["positive"], _share(config.keep_plus, config), config.k_plus)
    k_minus = _chosen(spectra["negative"], _share(config.keep_minus, config), config.k_minus)
    a = spectra["positive"].leading(k_plus)
    b = spectra["negative"].leading(k_minus)
    if config.merge == "exclusive":
        b = spectra["negative"].outside(a, config.k_minus or N_EXCLUSIVE)
    centre = None if center == "none" else moments.centre("base", center)
    law = SpectralLaw(a.to(dtype), b.to(dtype), None if centre is None else centre.to(dtype), **_law_facts(config))
    return LayerFit(law, a, b, spectra["positive"], spectra["negative"], moments, clamped)


def _share(own: float | None, config: SeaConfig) -> float:
    return float(config.keep or 1.0) if own is None else own


def _chosen(spectrum: Spectrum, keep: float, k: int | None) -> int:
    return spectrum.kept(keep) if k is None else min(k, spectrum.rank)


def _law_facts(config: SeaConfig) -> dict[str, Any]:
    return {
        "norm": config.restored,
        "merge": config.law_merge,
        "phi": config.phi,
        "phi_mode": config.compat.phi_mode,
        "inverse": config.compat.se_inverse,
        "restore_sign": config.compat.restore_sign,
    }


def signature(moments: CrossMoments | SideMoments) -> float:
    """σ_1 + σ_2 of the matrix of both means (d, 2). Mostly tracks the activation norm, which grows with depth."""
    means: Tensor = torch.stack([moments.mean("negative"), moments.mean("positive")], 1)
    return float(torch.linalg.svdvals(means).sum())


def _by_signature(moments: Moments, count: int) -> tuple[int, ...]:
    ranked = sorted(moments, key=lambda layer: (-signature(moments[layer]), layer))
    return tuple(sorted(ranked[:count]))
