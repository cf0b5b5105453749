"""A gate for any edit of activations: a linear probe decides token by token whether the edit acts.

Ref: docs/methods/shared.md §4; conditional activation steering, arXiv 2409.05907. At each edited site a probe is fitted on unedited
activations: the tokens from which answers of the demonstrations are decided (the last of the prompt, and the answers') against tokens of
neutral text. hard: act iff w·x + b > 0, b moved so that at most `leak` of held-out neutral tokens pass. soft: act by the share σ(a (w·x +
b)). The gate is part of the edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from workbench import memo
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.errors import NotEnoughData, UnsupportedExport
from workbench.methods.registry import FitReport, Fitted, Notice
from workbench.methods.shared.neutral import neutral_of, sampled_positions
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.intervals import share_interval
from workbench.numerics.probes import logistic_probe
from workbench.operations import Gate, TransformAt
from workbench.progress import Progress, silent
from workbench.record import gather
from workbench.shapes import Bool, Float, Tensor
from workbench.sites import Site

GateKind = Literal["none", "hard", "soft"]
# What a choice by validation tries.
TRIED_GATES: tuple[GateKind, ...] = ("none", "hard")
N_TOKENS = 4096


@dataclass(frozen=True)
class _Read:
    """Activations of one site: what should pass and what should not, to fit on and to check on."""

    yes: Float[Tensor, "yes width"]
    no: Float[Tensor, "no width"]
    held_yes: Float[Tensor, "held_yes width"]
    held_no: Float[Tensor, "held_no width"]


def gated(
    model: LanguageModel,
    fitted: Fitted,
    demonstrations: Demonstrations,
    kind: GateKind = "hard",
    *,
    leak: float = 0.01,
    sharpness: float = 4.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fitted:
    """Return the fit with a gate at every site of its edit, and what the gates do in its report. `none` returns it as it is.

    The report gains arrays `gate_passes` and `gate_leaks` (S,), the shares of held-out answer tokens and of held-out neutral tokens that
    pass, with `_low` and `_high`, and `gate_scores[site]`, `gate_scores_neutral[site]`.

    Raises:
        UnsupportedExport: the edit changes weights, which no gate can hold back token by token. NotEnoughData: no neutral text.
    """
    if kind == "none":
        return fitted
    sites = _sites(fitted.edit)
    made, source = _made(model, demonstrations, sites, seed, (kind, leak, sharpness), progress or silent())
    gates: dict[Site, Gate] = {}
    arrays: dict[str, np.ndarray] = {}
    found: list[tuple[float, ...]] = []
    for site in sites:
        gates[site], scores = made[site]
        arrays |= {f"gate_scores[{site}]": scores[0].numpy(), f"gate_scores_neutral[{site}]": scores[1].numpy()}
        passes, leaks = (share_interval(int((x > 0).sum()), len(x)) for x in scores)
        found.append((passes.estimate, passes.low, passes.high, leaks.estimate, leaks.low, leaks.high))
    names = ("gate_passes", "gate_passes_low", "gate_passes_high", "gate_leaks", "gate_leaks_low", "gate_leaks_high")
    arrays |= {name: np.array([row[i] for row in found]) for i, name in enumerate(names)}
    report = fitted.report
    scalars = {**report.scalars, "gate_passes": float(arrays["gate_passes"].mean()), "gate_leaks": float(arrays["gate_leaks"].mean())}
    notices = (*report.notices, *_notices(arrays, source))
    return Fitted(fitted.edit.gated(gates), replace(report, scalars=scalars, arrays={**report.arrays, **arrays}, notices=notices))


def gated_edit(model: LanguageModel, edit: Edit, demonstrations: Demonstrations, kind: GateKind = "hard", *, seed: int = 0) -> Edit:
    """As `gated`, for an edit that was fitted before. Raises: as `gated`."""
    return gated(model, Fitted(edit, FitReport()), demonstrations, kind, seed=seed).edit


def _sites(edit: Edit) -> tuple[Site, ...]:
    operations = edit.scaled(1.0).operations() if edit.dose else replace(edit, dose=1.0).operations()
    if not operations or not all(isinstance(op, TransformAt) for op in operations):
        raise UnsupportedExport(
            f"This {edit.header.method} edit changes weights, and a gate decides token by token.",
            "Gate an edit that moves activations.",
        )
    return tuple(dict.fromkeys(op.site for op in operations))


_Made = tuple[Gate, tuple[Tensor, Tensor]]


def _made(
    model: LanguageModel, demonstrations: Demonstrations, sites: tuple[Site, ...], seed: int,
    how: tuple[Literal["hard", "soft"], float, float], progress: Progress,
) -> tuple[dict[Site, _Made], str]:  # fmt: skip
    """The gate of each site with its scores, and where the neutral text is from. It does not depend on the edit: candidates share it."""
    key = ("gate", id(model), demonstrations.fingerprint, seed, how)
    known: dict[Site, tuple[_Made, str]] = {site: made for site in sites if (made := memo.recalled((*key, site))) is not None}
    left = tuple(site for site in sites if site not in known)
    if left:
        read, source = _collected(model, demonstrations, left, seed, progress)
        for site in left:
            gate, scores = made = _fitted_gate(read[site], *how)
            known[site] = made, source
            memo.keep((*key, site), known[site], sum(x.nbytes for x in (gate.weight, *scores)))
    return {site: known[site][0] for site in sites}, known[sites[0]][1]


def _collected(
    model: LanguageModel, demonstrations: Demonstrations, sites: tuple[Site, ...], seed: int, progress: Progress
) -> tuple[Mapping[Site, _Read], str]:
    neutral = neutral_of(model, demonstrations, seed)
    if not neutral.fit:
        raise NotEnoughData("No neutral text to gate against.", "Add rows with a filled neutral column, or tagged role:general.")
    rows = demonstrations.split("fit")
    held = demonstrations.split("validation")
    batches = [_answers(model, rows), model.tokens(list(neutral.fit)), _answers(model, held if len(held) else rows)]
    batches.append(model.tokens(list(neutral.held)))
    parts: list[Mapping[Site, Tensor]] = []
    for i, batch in enumerate(batches):
        mask = batch.mask if i % 2 else deciding(batch)
        part = progress.part(i / 4, (i + 1) / 4)
        parts.append(gather(model, batch, sites, sampled_positions(mask, N_TOKENS, seed), progress=part))
    return {site: _Read(*(found[site].double().cpu() for found in parts)) for site in sites}, neutral.source


def _answers(model: LanguageModel, rows: Demonstrations) -> TokenBatch:
    texts = [(row.prompt, answer) for row in rows for answer in (row.positive, row.negative, row.label) if answer]
    if not texts:
        return model.tokens(rows.prompts())
    return model.tokens([prompt for prompt, _ in texts], [answer for _, answer in texts])


def deciding(batch: TokenBatch) -> Bool[Tensor, "batch pos"]:
    """The last token of the prompt and those of the answer: where what is said next is decided."""
    return batch.mask & (batch.positions >= batch.n_prompt[:, None] - 1)


def _fitted_gate(read: _Read, kind: Literal["hard", "soft"], leak: float, sharpness: float) -> tuple[Gate, tuple[Tensor, Tensor]]:
    probe = logistic_probe(read.yes, read.no)
    # Never below the probe's own threshold: a leak that is smaller anyway needs no wider gate.
    shift = float(torch.quantile(probe.scores(read.held_no), 1 - leak).clamp_min(0.0))
    bias = probe.bias - shift
    gate = Gate(probe.weight.float(), bias.float(), kind, sharpness)
    return gate, (probe.scores(read.held_yes) - shift, probe.scores(read.held_no) - shift)


def _notices(arrays: Mapping[str, np.ndarray], source: str) -> tuple[Notice, ...]:
    found = [Notice("note", f"The gate was fitted against neutral text from {source}.")]
    passes = float(arrays["gate_passes"].max())
    if passes < 0.5:
        found.append(
            Notice(
                "warning",
                f"The gate lets only {passes:.0%} of held-out answer tokens pass, so the edit hardly acts.",
                "Gate softly, allow a larger leak, or edit later layers, where the demonstrations stand apart from neutral text.",
            )
        )
    return tuple(found)
