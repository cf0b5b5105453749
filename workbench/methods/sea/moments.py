"""The activations that SEA is fitted to, and their moments: of each side against a base, or against itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import Sides, two_sides
from workbench.methods.sea.config import SeaConfig
from workbench.methods.shared.contrast_rows import Collect, stream_rows, tokens_of, with_period
from workbench.methods.shared.reading import ReadAt, read_sides
from workbench.models.base import LanguageModel
from workbench.numerics.covariance import CrossMoments, SideMoments
from workbench.numerics.feature_maps import clamped_share, mapped
from workbench.progress import Progress
from workbench.shapes import Float, Rows2d, Tensor
from workbench.sites import Site

SPECTRAL_SIDES = ("positive", "negative")
Moments = dict[int, CrossMoments | SideMoments]


def triples(
    model: LanguageModel, rows: Demonstrations, layers: tuple[int, ...], config: SeaConfig, seed: int, progress: Progress
) -> Iterator[dict[int, tuple[Rows2d, Rows2d, Rows2d]]]:
    """Base, good and bad activations of each layer as paired rows, batch by batch, before any feature map."""
    base = None if config.base == "own" else "positive"
    tokens = tokens_of(model, rows, config.period, config.max_new_tokens, progress.part(0.0, 0.6), base=base)
    read = cast(Collect, config.read)
    sites = {layer: _fit_site(model, layer, config) for layer in layers}
    every = (tokens.positive, tokens.negative) if tokens.base is tokens.positive else (tokens.base, tokens.positive, tokens.negative)
    batches = [stream_rows(model, batch, list(sites.values()), read, seed, progress.part(0.6, 1.0)) for batch in every]
    for found in zip(*batches):
        yield {layer: (found[0][site], found[-2][site], found[-1][site]) for layer, site in sites.items()}


def cross_moments(
    model: LanguageModel, rows: Demonstrations, layers: tuple[int, ...], config: SeaConfig, seed: int, progress: Progress
) -> tuple[Moments, dict[int, float]]:
    """Moments of each layer, streamed, and the share of coordinates that the feature map clamps."""
    moments = {layer: CrossMoments(SPECTRAL_SIDES) for layer in layers}
    clamped = dict.fromkeys(layers, 0.0)
    for found in triples(model, rows, layers, config, seed, progress):
        for layer, (base, good, bad) in found.items():
            n_before, n_new = moments[layer].n_rows, base.shape[0]
            share = clamped_share(base, config.phi)
            clamped[layer] = (clamped[layer] * n_before + share * n_new) / (n_before + n_new)
            moments[layer].add(mapped(base, config.phi), {"positive": mapped(good, config.phi), "negative": mapped(bad, config.phi)})
    return {**moments}, clamped


def side_rows(
    model: LanguageModel, rows: Demonstrations, layers: tuple[int, ...], config: SeaConfig, progress: Progress
) -> dict[int, tuple[Float[Tensor, "target width"], Float[Tensor, "other width"]]]:
    """Good and bad activations of each layer, which need not be pairs. Nothing is drawn."""
    sites = {layer: _fit_site(model, layer, config) for layer in layers}
    sides: Sides = {
        side: [(prompt, end and with_period(end, config.period, negative=side == "anti_target")) for prompt, end in texts]
        for side, texts in two_sides(rows).items()
    }
    read = read_sides(model, sides, list(sites.values()), cast(ReadAt, config.read), progress)
    return {layer: read[site] for layer, site in sites.items()}


def side_moments(
    model: LanguageModel, rows: Demonstrations, layers: tuple[int, ...], config: SeaConfig, seed: int, progress: Progress
) -> tuple[Moments, dict[int, float]]:
    """As `cross_moments`, each side against itself, so that the sides need not be pairs."""
    moments: Moments = {}
    clamped: dict[int, float] = {}
    for layer, read in side_rows(model, rows, layers, config, progress).items():
        clamped[layer] = clamped_share(torch.cat(read).double(), config.phi)
        moments[layer] = SideMoments({side: mapped(x.double().cpu(), config.phi) for side, x in zip(SPECTRAL_SIDES, read)})
    return moments, clamped


def _fit_site(model: LanguageModel, layer: int, config: SeaConfig) -> Site:
    if config.compat.last_layer_fit == "ln_final" and config.fit_site == "resid_post" and layer == model.info.n_layers - 1:
        return Site("ln_final")
    return Site(config.fit_site, layer)
