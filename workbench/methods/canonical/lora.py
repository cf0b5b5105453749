"""LoRA on canonical examples: low-rank changes of both MLP matrices in a centred block of layers (of attention's in a mixture of experts).

Ref: docs/methods/senses.md §2.5, §3.5; arXiv 2106.09685, 2402.06155. Law: W' = W + (8/rank) · B A, A ~ U(±1/√in), B = 0 at the start.
Differs: the span is c layers, start … start+c−1; the released code takes c+1 and may name a layer that is not there (`compat`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit, Header
from workbench.knobs import as_released, knob
from workbench.methods.canonical import without
from workbench.methods.canonical.compat import OFFICIAL_LORA, LoraCompat
from workbench.methods.canonical.training import LoopConfig, fit_by_loop, loop_steps
from workbench.methods.registry import Fitted, Step, header, method
from workbench.methods.shared.adapters import ATTENTION_MATRICES, MLP_MATRICES, AdapterEdit, Adapters, adapted_sites
from workbench.methods.shared.canonical_examples import canonical_obstacles
from workbench.methods.shared.layers import SMALL
from workbench.methods.shared.needs import Needs
from workbench.methods.shared.parts import MATRICES, part_sites, parts_knob
from workbench.models.base import LanguageModel, ModelInfo
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress
from workbench.shapes import Logits, Tensor

ALPHA = 8.0
_LR = 3e-3


@dataclass(frozen=True)
class LoraConfig(LoopConfig):
    """Knobs of LoRA."""

    rank: int = knob(16, label="Rank", help="In how many directions each matrix may change.", unit="directions", bounds=(1, 256), main=True)
    span: float = knob(
        0.5,
        label="Share of layers",
        help="How many of the layers change: a block around the middle.",
        unit="share",
        bounds=(0.05, 1.0),
    )
    parts: tuple[str, ...] | None = parts_knob()
    compat: LoraCompat = as_released(OFFICIAL_LORA)


def layers_of(n_layers: int, span: float, official: bool = False) -> range:
    """Return the centred block of ⌈n_layers · span⌉ layers, clipped to the network."""
    count = math.ceil(n_layers * span)
    start = n_layers // 2 - count // 2
    return range(max(0, start), min(n_layers, start + count + official))


class AdapterTrainee:
    """Adapters in training on both MLP matrices of some layers, or on attention's where the MLP is a mixture of experts; or on parts."""

    def __init__(self, model: LanguageModel, config: LoraConfig, seed: int) -> None:
        inputs = None if config.parts is None else part_sites(model, config.parts)
        layers = layers_of(model.info.n_layers, config.span, config.compat.lora_span == "c+1")
        sites = adapted_sites(model, layers) if inputs is None else list(inputs)
        # The schedule draws from the bare seed; the adapters start elsewhere.
        generator = torch.Generator().manual_seed(seed + 1_000_003)
        narrow = min(min(model.weight(site).shape) for site in sites)
        self._model, self._adapters = model, Adapters(model, sites, min(config.rank, narrow), ALPHA, generator, inputs)
        if config.master == torch.bfloat16:
            for parameter in self._adapters.parameters():
                parameter.data = parameter.data.bfloat16()

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Both factors of every adapter."""
        return self._adapters.parameters()

    def logits(self, batch: TokenBatch) -> Logits:
        """Run the model under the adapters."""
        with self._adapters.attached():
            return self._model.logits(batch)

    def edit(self, header: Header) -> AdapterEdit:
        """Freeze the adapters as they are."""
        factors = {site: replace(low, a=low.a.float(), b=low.b.float()) if low.a.dtype == torch.bfloat16 else low
                   for site, low in self._adapters.factors().items()}  # fmt: skip
        facts = {**header.facts, **AdapterEdit.facts(factors)}
        return AdapterEdit(replace(header, facts=facts), factors)


def draws(rng: Random, info: ModelInfo) -> Mapping[str, Any]:
    """Draw weight of the hold, learning rate, rank and span as the paper's sweep does, or in ranges for small networks."""
    weight, small = 10 ** rng.uniform(-1, 0), info.n_parameters < SMALL
    lr = 10 ** -(rng.uniform(1.5, 4) if small else rng.uniform(2, 6.5))
    return {"lr": lr, "kl_weight": weight, "rank": rng.randint(1, 64 if small else 256), "span": rng.uniform(0.1, 0.9)}


def steps(
    model: LanguageModel, train: Demonstrations, config: LoraConfig, neutral: Sequence[tuple[int, ...]], *, seed: int
) -> Iterator[Step]:
    """Fit epoch by epoch to all rows."""
    top = header("lora", model, train, config, seed)
    return loop_steps(model, train, config, AdapterTrainee(model, config, seed), top, _LR, neutral, seed=seed)


def _refits(
    model: LanguageModel, demonstrations: Demonstrations, edit: AdapterEdit, config: LoraConfig, *, progress: Progress
) -> Iterator[tuple[int, Edit]]:
    """The edit fitted without each example in turn. Raises: as `without.refits`."""
    seed = edit.header.seed
    return without.refits(model, demonstrations, edit, config, lambda: AdapterTrainee(model, config, seed), _LR, progress=progress)


@method(
    "lora",
    title="LoRA",
    summary="Low-rank changes of the middle layers' MLPs that make canonical examples hold; for any transformer.",
    paper="arXiv 2106.09685",
    config=LoraConfig,
    edit=AdapterEdit,
    needs=Needs(("prompt",), task="canonical", min_rows=1, sites=(*MLP_MATRICES, *ATTENTION_MATRICES)),
    presets={
        "ours": {},
        "gentle": {"lr": 1e-3, "kl_weight": 1.0, "ball": "1e-3"},
        "official-compat": {"lr": 1e-4, "compat": "official", "chunk_tokens": 500},
    },
    obstacles=canonical_obstacles,
    draws=draws,
    steps=steps,
    scopes=lambda scope: {"parts": scope.parts or tuple(f"MLP {layer}" for layer in scope.blocks)},
    holds=MATRICES,
    order=7,
    refits=_refits,
    cost="each fit trains adapters epoch by epoch: a minute or more",
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: LoraConfig, *, seed: int, progress: Progress) -> Fitted:
    """Fit adapters to the canonical examples of split `fit`.

    Raises:
        NotEnoughData, BadPrompt: as `canonical_items`.
    """
    trainee = AdapterTrainee(model, config, seed)
    top = header("lora", model, demonstrations, config, seed)
    return fit_by_loop(model, demonstrations, config, trainee, top, _LR, seed=seed, progress=progress)
