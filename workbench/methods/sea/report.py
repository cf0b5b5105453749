"""What a SEA fit shows: spectra, ranks, angles, edit size and projections on held-out texts, tokens, and tell-tale failures.

The arrays are listed in the docstring of `methods.sea`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import SIDES, are_pairs, concepts, two_sides
from workbench.methods.registry import Curve, FitReport, Notice
from workbench.methods.sea.config import SeaConfig
from workbench.methods.sea.edit import SpectralEdit
from workbench.methods.shared.contrast_rows import with_period
from workbench.methods.shared.edit_size import NEAR_IDENTITY, EditSize, measured_sizes
from workbench.methods.shared.findings import length_notices
from workbench.methods.shared.layers import SMALL
from workbench.models.base import LanguageModel
from workbench.models.direction_tokens import direction_tokens
from workbench.models.tokens import TokenBatch
from workbench.numerics.covariance import CrossMoments, SideMoments
from workbench.numerics.spectra import Spectrum, principal_cosines, without
from workbench.numerics.spectral_law import SpectralLaw
from workbench.progress import Progress
from workbench.shapes import Bool, Tensor
from workbench.sites import Site

KEEP_GRID = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.993, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1.0)
# Kept and dropped subspaces that differ in a smaller share of their directions are mostly the same.
MOSTLY_SAME = 0.2
WHY_UNCENTRED = (
    "Without centring, the first singular direction is the mean activation: every text, good or bad, points along it. It alone explains "
    "nearly all of the spectrum, so the share to keep is reached at rank 1 on both sides. The edit then keeps and drops one direction, "
    "and the two cancel. Subtract the means first, and what is left is what tells good from bad."
)


@dataclass(frozen=True)
class LayerFit:
    """One layer's fit: its law, the bases in float64, both spectra, and the moments behind them."""

    law: SpectralLaw
    keep: Tensor
    drop: Tensor
    plus: Spectrum
    minus: Spectrum
    moments: CrossMoments | SideMoments
    clamped_share: float


def _most_held(model: LanguageModel) -> int:
    """Rows that the edit is measured on: a statistic of its size needs no more, and each costs a large network as much as a row to fit."""
    return 64 if model.info.n_parameters < SMALL else 32


def report(
    model: LanguageModel,
    edit: SpectralEdit,
    fits: Mapping[int, LayerFit],
    config: SeaConfig,
    demonstrations: Demonstrations,
    rows: Demonstrations,
    progress: Progress,
) -> FitReport:
    """Measure the fit on held-out rows (split `validation`; the fit rows if there are none) and put everything together."""
    held = demonstrations.split("validation")
    held = (held.having("prompt", "positive", "negative") if are_pairs(rows) else held.where(lambda row: not row.positive)).first(
        _most_held(model)
    )
    progress(0.0, "Measuring the edit on held-out rows")
    names = concepts(rows)
    held = held if all(two_sides(held, names).values()) else held.first(0)
    texts, is_good = _held_texts(model, held or rows, config, names)
    sites = [Site(edit.site_kind, layer) for layer in edit.layers]
    sizes = measured_sizes(model, edit, texts, sites)
    arrays = _arrays(fits, edit, sizes) | {"projection_is_good": is_good}
    for layer, site in zip(edit.layers, sites):
        directions = _leading_pair(fits[layer])
        for when, x in (("before", sizes[site].before_last), ("after", sizes[site].after_last)):
            arrays[f"projection_{when}[{layer}]"] = (x.double() @ directions).numpy()
    progress(0.7, "Reading directions as tokens")
    tables = {"ranks": _ranks(fits), "tokens": _tokens(model, fits)}
    curves = (_per_layer("edit size", edit.layers, arrays["edit_size_mean"], "mean ‖Δ‖ / ‖h‖"),)
    scalars = {
        "n_fit": float(len(rows)),
        "n_held_out": float(len(held)),
        "edit_size": float(arrays["edit_size_mean"].max()),
        "k_plus": float(arrays["k_plus"].max()),
        "k_minus": float(arrays["k_minus"].max()),
    }
    lengths = length_notices(model, rows) if are_pairs(rows) else ()
    notices = (*_notices(fits, arrays, config, len(rows), bool(len(held))), *lengths)
    return FitReport(scalars, curves, arrays, tables, notices)


def _held_texts(
    model: LanguageModel, rows: Demonstrations, config: SeaConfig, names: Sequence[str]
) -> tuple[TokenBatch, Bool[np.ndarray, " text"]]:
    """The texts of both sides, the good ones first, and which are good; the concepts' names are those of the rows to fit."""
    sides = two_sides(rows, names)
    prompts = [prompt for side in SIDES for prompt, _ in sides[side]]
    ends = [end and with_period(end, config.period, negative=side == "anti_target") for side in SIDES for _, end in sides[side]]
    texts = model.tokens(prompts, [end for end in ends if end] if all(ends) else None)
    return texts, np.repeat([True, False], [len(sides[side]) for side in SIDES])


def _arrays(fits: Mapping[int, LayerFit], edit: SpectralEdit, sizes: Mapping[Site, EditSize]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {"layers": np.array(list(fits)), "keep_grid": np.array(KEEP_GRID)}
    for layer, item in fits.items():
        for sign, spectrum in (("plus", item.plus), ("minus", item.minus)):
            found[f"spectrum_{sign}[{layer}]"] = spectrum.values.numpy()
            found[f"cumulative_{sign}[{layer}]"] = spectrum.cumulative.numpy()
            found[f"k_of_keep_{sign}[{layer}]"] = np.array([spectrum.kept(keep) for keep in KEEP_GRID])
        found[f"cosines[{layer}]"] = principal_cosines(item.keep, item.drop).numpy()
    found |= _per_layer_arrays(fits)
    measured = [sizes[Site(edit.site_kind, layer)] for layer in fits]
    found["edit_size_mean"] = np.array([size.mean for size in measured])
    found["edit_size_95"] = np.array([size.upper_95 for size in measured])
    found["edit_cosine"] = np.array([size.cosine for size in measured])
    found["guard_share"] = np.array([size.unchanged_share for size in measured])
    return found


def _per_layer_arrays(fits: Mapping[int, LayerFit]) -> dict[str, np.ndarray]:
    items = list(fits.values())
    overlap = [float((item.keep.T @ item.drop).square().sum()) for item in items]
    means = [torch.stack([item.moments.mean("negative"), item.moments.mean("positive")], 1) for item in items]
    return {
        "k_plus": np.array([item.keep.shape[1] for item in items]),
        "k_minus": np.array([item.drop.shape[1] for item in items]),
        "rank_plus": np.array([item.plus.rank for item in items]),
        "rank_minus": np.array([item.minus.rank for item in items]),
        # ‖A Aᵀ − B Bᵀ‖_F² = k₊ + k₋ − 2 ‖Aᵀ B‖_F²
        "net_size": np.array([max(0.0, i.keep.shape[1] + i.drop.shape[1] - 2 * o) ** 0.5 for i, o in zip(items, overlap)]),
        "mean_share_plus": np.array([item.moments.mean_share("positive") for item in items]),
        "mean_share_minus": np.array([item.moments.mean_share("negative") for item in items]),
        "mean_norm": np.array([float(item.moments.mean("base").norm()) for item in items]),
        "signature": np.array([float(torch.linalg.svdvals(mean).sum()) for mean in means]),
    }


def _leading_pair(item: LayerFit) -> Tensor:
    """The kept direction furthest from what is dropped, and the dropped one furthest from what is kept: (d, 2)."""
    return torch.stack([without(item.keep, item.drop)[:, 0], without(item.drop, item.keep)[:, 0]], 1)


def _ranks(fits: Mapping[int, LayerFit]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "layer": layer,
            "kept": item.keep.shape[1],
            "share kept": float(item.plus.cumulative[item.keep.shape[1] - 1]),
            "rank, good side": item.plus.rank,
            "dropped": item.drop.shape[1],
            "share dropped": float(item.minus.cumulative[item.drop.shape[1] - 1]),
            "rank, bad side": item.minus.rank,
            "demonstrations": item.moments.n_rows,
        }
        for layer, item in fits.items()
    )


def _tokens(model: LanguageModel, fits: Mapping[int, LayerFit]) -> tuple[dict[str, Any], ...]:
    found: list[dict[str, Any]] = []
    for layer, item in fits.items():
        for name, basis in (("kept, not dropped", without(item.keep, item.drop)), ("dropped, not kept", without(item.drop, item.keep))):
            for i in range(min(3, basis.shape[1])):
                if float(basis[:, i].norm()) == 0.0:
                    continue
                found.append({"layer": layer, "space": name, "direction": i, **direction_tokens(model, basis[:, i]).texts()})
    return tuple(found)


def _per_layer(name: str, layers: tuple[int, ...], values: np.ndarray, label: str) -> Curve:
    return Curve(name, tuple(map(float, layers)), tuple(map(float, values)), "layer", label)


def _notices(
    fits: Mapping[int, LayerFit], arrays: Mapping[str, np.ndarray], config: SeaConfig, n: int, has_held: bool
) -> tuple[Notice, ...]:
    found: list[Notice] = []
    ones = [layer for layer, item in fits.items() if item.keep.shape[1] == 1 and item.drop.shape[1] == 1]
    share = float(np.median(arrays["mean_share_plus"]))
    if ones and config.center == "none" and share > 0.5:
        found.append(
            Notice(
                "warning",
                f"k = 1 on both sides at {len(ones)} of {len(fits)} layers: the mean activation explains {share:.1%} of the leading "
                "direction, so the edit keeps and drops the same thing.",
                "Set center = demonstrations, or set k_plus and k_minus by number.",
                WHY_UNCENTRED,
            )
        )
    if float(arrays["edit_size_mean"].max()) < NEAR_IDENTITY:
        found.append(
            Notice(
                "warning",
                f"The edit is near the identity: it moves held-out activations by {arrays['edit_size_mean'].max():.1e} of their length.",
                "Centre the demonstrations, choose another share to keep, or other layers.",
            )
        )
    # Two k-dimensional subspaces with m directions of their own have ‖P₊ − P₋‖_F² = 2 m.
    own = {layer: float(net) ** 2 / 2 for layer, net in zip(fits, arrays["net_size"])}
    least = min(fits, key=lambda layer: own[layer] / min(fits[layer].keep.shape[1], fits[layer].drop.shape[1]))
    n_kept, n_dropped = fits[least].keep.shape[1], fits[least].drop.shape[1]
    if own[least] < MOSTLY_SAME * min(n_kept, n_dropped):
        found.append(
            Notice(
                "note",
                f"What is kept and what is dropped are mostly the same: at layer {least} they differ in about {own[least]:.1f} of "
                f"{n_kept} and {n_dropped} directions. The effect rests on these, and may jump as the share to keep changes.",
                "Try neighbouring shares on validation rows.",
            )
        )
    clamped = max(item.clamped_share for item in fits.values())
    if clamped > 0.01:
        found.append(
            Notice(
                "warning",
                f"{clamped:.1%} of coordinates are beyond what the inverse of {config.phi} can bring back.",
                "Use elu, no feature map, or earlier layers; large activations are destroyed.",
            )
        )
    if n < 25:
        found.append(Notice("note", f"{n} demonstrations; spectra of fewer than 25 are rough.", "Add demonstrations."))
    if not has_held:
        found.append(Notice("note", "No validation rows: edit size and projections are of the fit rows.", "Mark some rows validation."))
    return tuple(found)
