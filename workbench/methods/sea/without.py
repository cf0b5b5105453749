"""SEA without each demonstration in turn: the cross-covariances less one row, a downdate of rank one, at the numbers of directions held.

Ref: docs/methods/shared.md §9.8. Held are layers, numbers of directions, gates and bounds; the centre moves with the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import are_pairs
from workbench.methods.sea.config import SeaConfig, resolved
from workbench.methods.sea.edit import SpectralEdit
from workbench.methods.sea.moments import side_rows, triples
from workbench.methods.shared.contrast_rows import drawn_rows, settled_period
from workbench.methods.shared.left_out import gone, owners
from workbench.models.base import LanguageModel
from workbench.numerics.downdate import Paired, Span
from workbench.numerics.feature_maps import mapped
from workbench.numerics.spectral_law import SpectralLaw
from workbench.progress import Progress
from workbench.shapes import Float, Tensor

Sided = tuple[Tensor, Tensor, list[int]]
"""Rows (row, m) that a side is read against, its own, and the row of the set that each is of."""


def without(
    model: LanguageModel, demonstrations: Demonstrations, edit: SpectralEdit, config: SeaConfig, *, progress: Progress
) -> Iterator[tuple[int, SpectralEdit]]:
    """The edit without each row that it was fitted on, exactly, from one reading of all rows. Raises: as the fit."""
    whole = demonstrations.split("fit")
    rows, seed = drawn_rows(whole, config.n_demos, edit.header.seed), edit.header.seed
    pairs = are_pairs(rows)
    config = resolved(config, model.info, pairs)
    if pairs:
        config = replace(config, final_period=settled_period(config.final_period, rows))
    read = _read(model, rows, edit.layers, config, seed, progress)
    at = [i for i, row in enumerate(whole) if any(row is kept for kept in rows)]
    for row in sorted({owner for _, _, owned in next(iter(read.values())).sides.values() for owner in owned}):
        yield at[row], replace(edit, laws={layer: found.law(edit.laws[layer], config, row) for layer, found in read.items()})


@dataclass(frozen=True)
class _Read:
    """The rows of a layer in their own span: each side's, what it is read against, and the row of the set that each is of."""

    span: Span
    shift: Float[Tensor, " d_model"]
    sides: Mapping[str, Sided]
    is_crossed: bool

    def law(self, law: SpectralLaw, config: SeaConfig, row: int) -> SpectralLaw:
        """A law fitted without a row, with as many directions."""
        sums = {name: Paired.of(x, y).without(x[out], y[out]) for name, (x, y, owned) in self.sides.items() for out in [gone(owned, row)]}
        means = {name: one.right / one.n_rows for name, one in sums.items()}
        base = next(iter(sums.values())).left / sums["positive"].n_rows
        grand = torch.stack([*([base] if self.is_crossed else []), *means.values()]).mean(0)
        nothing = torch.zeros_like(grand)
        own = base if self.is_crossed else grand
        centres = {"none": nothing, "grand": grand, "demonstrations": own}

        def centre(side: str | None) -> Tensor:
            if config.center != "demonstrations" or side is None:
                return centres[config.center]
            return means[side]

        left = {name: None if self.is_crossed else name for name in sums}
        spectra = {name: one.spectrum(centre(left[name]), centre(name)) for name, one in sums.items()}
        k_plus, k_minus = law.keep.shape[1], law.drop.shape[1]
        a, b = spectra["positive"].leading(k_plus), spectra["negative"]
        dropped = b.outside(a, k_minus) if config.merge == "exclusive" else b.leading(k_minus)
        found = None if law.centre is None else self.shift + self.span.basis @ centre(None)
        return replace(
            law, keep=(self.span.basis @ a).to(law.keep), drop=(self.span.basis @ dropped).to(law.drop),
            centre=None if found is None or law.centre is None else found.to(law.centre),
        )  # fmt: skip


def _read(
    model: LanguageModel, rows: Demonstrations, layers: tuple[int, ...], config: SeaConfig, seed: int, progress: Progress
) -> dict[int, _Read]:
    if config.base == "sides":
        good_of, bad_of = owners(rows).values()
        found = side_rows(model, rows, layers, config, progress)
        return {layer: _within(config, None, {"positive": (x[0], good_of), "negative": (x[1], bad_of)}) for layer, x in found.items()}
    batches = list(triples(model, rows, layers, config, seed, progress))
    joined = {layer: [torch.cat([batch[layer][i] for batch in batches]) for i in range(3)] for layer in layers}
    every = list(range(len(rows)))
    return {layer: _within(config, x[0], {"positive": (x[1], every), "negative": (x[2], every)}) for layer, x in joined.items()}


def _within(config: SeaConfig, base: Tensor | None, sides: Mapping[str, tuple[Tensor, list[int]]]) -> _Read:
    """Rows about their common mean, so that sums of squares keep their digits, unless nothing is to be centred."""

    def bent(x: Tensor) -> Tensor:
        return mapped(x.double().cpu(), config.phi)

    wide = {name: bent(x) for name, (x, _) in sides.items()}
    parts = [*([] if base is None else [bent(base)]), *wide.values()]
    mean = torch.cat(parts).mean(0)
    shift = torch.zeros_like(mean) if config.center == "none" else mean
    span = Span.of([x - shift for x in parts])
    inner = {name: span.within(x - shift) for name, x in wide.items()}
    against = inner if base is None else dict.fromkeys(inner, span.within(parts[0] - shift))
    return _Read(span, shift, {name: (against[name], inner[name], owned) for name, (_, owned) in sides.items()}, base is not None)
