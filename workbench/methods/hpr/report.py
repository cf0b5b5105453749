"""What an HPR fit shows: probes, angles, gates, layers, tokens, and tell-tale failures. The arrays are listed in `methods.hpr`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from workbench.data.demonstrations import Demonstrations
from workbench.methods.hpr.config import HprConfig
from workbench.methods.hpr.edit import HouseholderEdit
from workbench.methods.hpr.select import LayerSelection
from workbench.methods.registry import Curve, FitReport, Notice
from workbench.methods.shared.edit_size import NEAR_IDENTITY, EditSize, measured_sizes
from workbench.methods.shared.findings import length_notices
from workbench.methods.shared.neutral import Neutral
from workbench.models.base import LanguageModel
from workbench.models.direction_tokens import direction_tokens
from workbench.numerics.angle_training import PairRows, Trained
from workbench.numerics.householder import angle_between
from workbench.numerics.intervals import share_interval
from workbench.progress import Progress
from workbench.record import gather
from workbench.shapes import Float, Tensor
from workbench.sites import Site

# Within this |cos| of the hyperplane the released formula keeps lengths in float32 to 1e-3 or worse (docs/methods/hpr.md §5).
DELICATE = 0.005


@dataclass(frozen=True)
class HprFit:
    """Everything that a fit made, for its report."""

    trained: Trained
    rows: PairRows
    held: PairRows
    layers: tuple[int, ...]
    edit: HouseholderEdit
    selection: LayerSelection | None
    held_rows: Demonstrations
    neutral: Neutral | None


def report(model: LanguageModel, fit: HprFit, config: HprConfig, n_rows: int, progress: Progress) -> FitReport:
    """Measure the fit on held-out rows and put everything together."""
    progress(0.0, "Measuring the edit on held-out rows")
    held = fit.held_rows.first(64)
    texts = model.tokens([*held.prompts()] * 2, [*held.column("positive"), *held.column("negative")])
    sites = [Site("resid_post", layer) for layer in fit.edit.layers]
    sizes = measured_sizes(model, fit.edit, texts, sites)
    ends = gather(model, model.tokens(held.prompts()), [Site("resid_post", layer) for layer in fit.layers])
    arrays = _probe_arrays(fit) | _gate_arrays(fit, torch.stack([x.float() for x in ends.values()]))
    arrays |= _angle_arrays(fit) | _size_arrays([sizes[site] for site in sites]) | _selection_arrays(fit)
    progress(0.7, "Reading probes as tokens")
    tables: dict[str, tuple[Mapping[str, Any], ...]] = {"layers": _layers(fit, arrays), "tokens": _tokens(model, fit)}
    if fit.selection is not None:
        tables["prefixes"] = tuple(
            {"layers": list(some), "P(good)": m.benefit, "good beats bad": m.wins, "KL on neutral text": m.damage, "n": m.n}
            for some, m in fit.selection.prefixes
        )
    chosen = [fit.layers.index(layer) for layer in fit.edit.layers]
    scalars = {
        "n_fit": float(n_rows),
        "n_held_out": float(len(fit.held_rows)),
        "n_pairs": float(fit.rows.n_pairs),
        "probe_accuracy": float(arrays["probe_accuracy"][chosen].mean()),
        "edit_size": float(arrays["edit_size_mean"].max()),
    }
    curves = tuple(
        Curve(f"{name}, layer {layer}", tuple(arrays["steps"].astype(float)), tuple(arrays[key][:, i].astype(float)), "step", name)
        for layer, i in zip(fit.edit.layers, chosen)
        for name, key in (("probe accuracy", "curve_accuracy"), ("angle loss", "curve_angle_loss"))
    )
    notices = (*_notices(fit, arrays, config, chosen), *length_notices(model, fit.held_rows))
    return FitReport(scalars, curves, arrays, tables, notices)


def _scores(x: Float[Tensor, "layer token d_model"], probes: Float[Tensor, "layer d_model"]) -> Float[Tensor, "layer token"]:
    return torch.einsum("lnd,ld->ln", x, probes)


def _share(hits: Tensor, used: Tensor) -> np.ndarray:
    return ((hits & used).sum(1) / used.sum(1).clamp_min(1)).double().cpu().numpy()


def _probe_arrays(fit: HprFit) -> dict[str, np.ndarray]:
    held, trained = fit.held, fit.trained
    good, bad, used = _scores(held.positive, trained.probes), _scores(held.negative, trained.probes), held.used
    right = ((good > 0) & used).sum(1) + ((bad <= 0) & used).sum(1)
    total = 2 * used.sum(1)
    found = [share_interval(int(k), max(1, int(n))) for k, n in zip(right, total)]
    bce = (torch.nn.functional.softplus(-good) + torch.nn.functional.softplus(bad)) * used
    difference = torch.stack([x[mask].mean(0) for x, mask in zip(fit.rows.positive - fit.rows.negative, fit.rows.used | ~fit.rows.used)])
    units = normalize(trained.probes, dim=1)
    return {
        "layers": np.array(fit.layers),
        "selected": np.array([layer in fit.edit.layers for layer in fit.layers]),
        "probe_accuracy": np.array([item.estimate for item in found]),
        "probe_accuracy_low": np.array([item.low for item in found]),
        "probe_accuracy_high": np.array([item.high for item in found]),
        "probe_bce": (bce.sum(1) / total.clamp_min(1)).double().numpy(),
        "steps": trained.steps.numpy(),
        "curve_accuracy": trained.accuracy.cpu().numpy(),
        "curve_bce": trained.bce.cpu().numpy(),
        "curve_angle_loss": trained.angle_loss.cpu().numpy(),
        "n_pairs": fit.rows.used.sum(1).cpu().numpy(),
        "n_skipped": (~fit.rows.used).sum(1).cpu().numpy(),
        "n_held_pairs": used.sum(1).cpu().numpy(),
        "probe_cosines": (units @ units.T).double().cpu().numpy(),
        "probe_mean_difference": (units * normalize(difference, dim=1)).sum(1).double().cpu().numpy(),
    }


def _gate_arrays(fit: HprFit, ends: Float[Tensor, "layer row d_model"]) -> dict[str, np.ndarray]:
    held, probes = fit.held, fit.trained.probes
    good, bad, end = _scores(held.positive, probes) <= 0, _scores(held.negative, probes) <= 0, _scores(ends, probes) <= 0
    every = torch.ones_like(end)
    found = {"gated_good": _share(good, held.used), "gated_bad": _share(bad, held.used), "gated_prompt_end": _share(end, every)}
    calm = _scores(held.neutral, probes) <= 0
    found["gated_neutral"] = _share(calm, torch.ones_like(calm)) if calm.shape[1] else np.full(len(fit.layers), np.nan)
    return found


def _angle_arrays(fit: HprFit) -> dict[str, np.ndarray]:
    held, nets, probes = fit.held, fit.trained.nets, fit.trained.probes
    with torch.no_grad():
        predicted, predicted_good = nets.angles(held.negative), nets.angles(held.positive)
    target = angle_between(held.negative, held.positive)
    lengths = held.negative.norm(dim=2).clamp_min(1e-12) * probes.norm(dim=1)[:, None]
    cosines = _scores(held.negative, probes) / lengths
    half = torch.arcsin(cosines.abs().clamp_max(1.0))
    flips = (predicted > half) & (cosines <= 0)
    error = ((predicted - target).square() * held.used).sum(1) / held.used.sum(1).clamp_min(1)
    found: dict[str, np.ndarray] = {"flipped": _share(flips, held.used & (cosines <= 0)), "explained": _explained(error, target, held)}
    for layer in fit.edit.layers:
        i = fit.layers.index(layer)
        mask = held.used[i]
        found[f"angle_target[{layer}]"] = target[i][mask].cpu().numpy()
        found[f"angle_predicted[{layer}]"] = predicted[i][mask].cpu().numpy()
        found[f"angle_predicted_good[{layer}]"] = predicted_good[i][mask].cpu().numpy()
        found[f"cosine_to_probe[{layer}]"] = cosines[i][mask].cpu().numpy()
    return found


def _explained(error: Tensor, target: Tensor, held: PairRows) -> np.ndarray:
    shares: list[float] = []
    for i, mask in enumerate(held.used):
        spread = float(target[i][mask].var(correction=0)) if int(mask.sum()) > 1 else 0.0
        shares.append(1 - float(error[i]) / spread if spread > 1e-12 else 0.0)
    return np.array(shares)


def _size_arrays(sizes: list[EditSize]) -> dict[str, np.ndarray]:
    return {
        "edit_size_mean": np.array([size.mean for size in sizes]),
        "edit_size_95": np.array([size.upper_95 for size in sizes]),
        "rotated_share": np.array([1 - size.unchanged_share for size in sizes]),
    }


def _selection_arrays(fit: HprFit) -> dict[str, np.ndarray]:
    alone = {} if fit.selection is None else fit.selection.alone
    return {
        name: np.array([getattr(alone[layer], name) if layer in alone else np.nan for layer in fit.layers])
        for name in ("benefit", "wins", "damage")
    }


def _layers(fit: HprFit, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], ...]:
    columns = {
        "edited": "selected", "probe accuracy": "probe_accuracy", "low": "probe_accuracy_low", "high": "probe_accuracy_high",
        "P(good) alone": "benefit", "KL on neutral text": "damage", "gated, bad answers": "gated_bad", "gated, good answers": "gated_good",
        "gated, end of prompt": "gated_prompt_end", "gated, neutral": "gated_neutral", "flipped": "flipped", "pairs": "n_pairs",
        "skipped": "n_skipped",
    }  # fmt: skip
    return tuple({"layer": layer, **{name: arrays[key][i].item() for name, key in columns.items()}} for i, layer in enumerate(fit.layers))


def _tokens(model: LanguageModel, fit: HprFit) -> tuple[dict[str, Any], ...]:
    found: list[dict[str, Any]] = []
    for layer, turn in fit.edit.turns.items():
        found.append({"layer": layer, **direction_tokens(model, turn.probe / turn.probe.norm()).texts()})
    return tuple(found)


def _notices(fit: HprFit, arrays: Mapping[str, np.ndarray], config: HprConfig, chosen: list[int]) -> tuple[Notice, ...]:
    found = [*_probe_notices(arrays, chosen), *_turn_notices(fit, arrays, config, chosen)]
    if fit.selection is not None and not fit.selection.is_better:
        n = len(fit.selection.base.margins)
        text = f"No effect found: the layers taken are not better than the unedited model beyond chance on {n} validation prompts."
        found.append(Notice("warning", text, "Lower the neutral weight, or use more or clearer demonstrations."))
    if fit.neutral is not None:
        found.append(Notice("note", f"Neutral text is from {fit.neutral.source}."))
    return tuple(found)


def _probe_notices(arrays: Mapping[str, np.ndarray], chosen: list[int]) -> list[Notice]:
    found: list[Notice] = []
    n_held = int(arrays["n_held_pairs"].max())
    if all(arrays["probe_accuracy_low"][i] <= 0.5 for i in chosen):
        best = float(arrays["probe_accuracy"][chosen].max())
        text = f"Probes at chance: the best edited layer has accuracy {best:.2f} on {n_held} held-out pairs."
        found.append(Notice("warning", text, "Add demonstrations, or check their labels."))
    if n_held < 50:
        text = f"{n_held} held-out tokens a class; probe accuracies of fewer than 50 are rough."
        found.append(Notice("note", text, "Mark more rows validation."))
    return found


def _turn_notices(fit: HprFit, arrays: Mapping[str, np.ndarray], config: HprConfig, chosen: list[int]) -> list[Notice]:
    found: list[Notice] = []
    if float(arrays["edit_size_mean"].max()) < NEAR_IDENTITY:
        text = "The edit is near the identity: hardly any held-out token turns."
        found.append(Notice("warning", text, "Choose other layers, or a smaller neutral weight."))
    if float(arrays["gated_prompt_end"][chosen].max()) == 0.0:
        text = "The gate never fires at the end of a held-out prompt, so the first answer token cannot change."
        found.append(Notice("warning", text, "Choose later layers, or select by benefit."))
    calm = arrays["gated_neutral"][chosen]
    if np.isfinite(calm).any() and float(np.nanmax(calm)) > 0.25:
        text = f"{np.nanmax(calm):.0%} of neutral tokens are on the negative side and turn too."
        found.append(Notice("warning", text, "Raise the neutral weight."))
    cosines = np.concatenate([np.abs(arrays[f"cosine_to_probe[{layer}]"]) for layer in fit.edit.layers])
    n_delicate = int((cosines < DELICATE).sum())
    if config.compat.formula == "official" and n_delicate:
        text = f"{n_delicate} of {len(cosines)} held-out tokens are so near the hyperplane that the official formula changes their length."
        found.append(Notice("warning", text, "Set compat.formula = closed_form."))
    return found
