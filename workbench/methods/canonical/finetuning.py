"""Full finetuning on canonical examples: every parameter moves.

Ref: docs/methods/senses.md §2.6. Law: θ' = θ + dose · Δ. Differs: single-precision weights and updates (released: bfloat16, where most
steps round to nothing).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Self, final

import torch

from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.errors import CorruptEdit
from workbench.methods.canonical import without
from workbench.methods.canonical.training import LoopConfig, fit_by_loop, loop_steps
from workbench.methods.registry import Fitted, Step, header, method
from workbench.methods.shared.canonical_examples import canonical_obstacles
from workbench.methods.shared.layers import SMALL
from workbench.methods.shared.needs import Needs
from workbench.models.backpack.network import BackpackNetwork
from workbench.models.base import LanguageModel, ModelInfo
from workbench.models.hooks import clear_hooks
from workbench.models.tokens import TokenBatch, running
from workbench.operations import AddToWeight, Operation
from workbench.progress import Progress
from workbench.shapes import Logits, Tensor
from workbench.sites import Site

_LR_SMALL, _LR = 1e-4, 1e-6


@edit_kind("delta")
@final
@dataclass(frozen=True)
class DeltaEdit(Edit):
    """Add a delta to every parameter. Where the unembedding is the embedding's own matrix, both ends move."""

    moves: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def tensors(self) -> Mapping[str, Tensor]:
        return self.moves

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        if "tied" not in header.facts or not tensors:
            raise CorruptEdit("A delta edit lacks its tensors, or says not which matrix is tied.", "Restore the folder from a copy.")
        return cls(header, dict(tensors))

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        tied: str | None = self.header.facts["tied"]
        ends = () if tied is None else (AddToWeight(Site("w_u"), dose * self.moves[tied]),)
        return (*self._parameters(dose), *ends)

    def deltas(self, model: LanguageModel) -> tuple[AddToWeight, ...]:
        # In a file a tied matrix is stored once.
        return self._parameters(self.dose)

    def _parameters(self, dose: float) -> tuple[AddToWeight, ...]:
        return tuple(AddToWeight(Site("param", name=name), dose * delta) for name, delta in self.moves.items())

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        return {
            "checkpoint": Possible(),
            "peft": Refused("It is no low-rank change of weights."),
            "script": Refused("It changes every weight; a checkpoint holds it better."),
            "report": Possible(),
        }


class TwinTrainee:
    """A copy of the network in training; the shared model is never touched. In bfloat16 the copy starts rounded."""

    def __init__(self, model: LanguageModel, dtype: torch.dtype | None = None) -> None:
        self._model, self._base = model, dict(model.network.named_parameters())
        self._twin: Any = copy.deepcopy(model.network)
        clear_hooks(self._twin)
        # A model in half precision is trained as it is.
        if dtype == torch.bfloat16 or model.dtype == torch.bfloat16:
            self._twin.to(torch.bfloat16)
        self._twin.requires_grad_(True)
        self._names = [name for name, _ in self._twin.named_parameters()]

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Every parameter of the twin."""
        return list(self._twin.parameters())

    def logits(self, batch: TokenBatch) -> Logits:
        """Run the copy."""
        with running(batch.forward()):
            if isinstance(self._twin, BackpackNetwork):
                return self._twin(batch.ids, batch.mask)
            found = self._twin(input_ids=batch.ids, attention_mask=batch.mask.long(), position_ids=batch.positions, use_cache=False)
            return found.logits

    @torch.no_grad()
    def edit(self, header: Header) -> DeltaEdit:
        """Freeze how far every parameter has moved."""
        moves = {name: (p.to(self._base[name].dtype) - self._base[name]).detach().clone() for name, p in zip(self._names, self.parameters)}
        end = self._model.weight("w_u").parameter
        tied = next((name for name, p in self._base.items() if p is end), None) if self._model.info.tied_embeddings else None
        facts = {**header.facts, "tied": tied}
        return DeltaEdit(replace(header, facts=facts), moves=moves)


def draws(rng: Random, info: ModelInfo) -> Mapping[str, Any]:
    """Draw the weight of the hold and the learning rate as the paper's sweep does, or in a range for small networks."""
    weight, exponent = 10 ** rng.uniform(-1, 0), (3, 5.5) if info.n_parameters < SMALL else (4, 8.5)
    return {"lr": 10 ** -rng.uniform(*exponent), "kl_weight": weight}


def steps(
    model: LanguageModel, train: Demonstrations, config: LoopConfig, neutral: Sequence[tuple[int, ...]], *, seed: int
) -> Iterator[Step]:
    """Fit epoch by epoch to all rows."""
    top = header("finetuning", model, train, config, seed)
    return loop_steps(model, train, config, TwinTrainee(model, config.master), top, _lr(model.info), neutral, seed=seed)


def _lr(info: ModelInfo) -> float:
    return _LR_SMALL if info.n_parameters < SMALL else _LR


def _refits(
    model: LanguageModel, demonstrations: Demonstrations, edit: DeltaEdit, config: LoopConfig, *, progress: Progress
) -> Iterator[tuple[int, Edit]]:
    """The edit fitted without each example in turn. Raises: as `without.refits`."""
    lr = _lr(model.info)
    return without.refits(model, demonstrations, edit, config, lambda: TwinTrainee(model, config.master), lr, progress=progress)


@method(
    "finetuning",
    title="Full finetuning",
    summary="Move every weight until canonical examples hold: the baseline that costs the rest of the model most.",
    paper="arXiv 2402.06155",
    config=LoopConfig,
    edit=DeltaEdit,
    needs=Needs(("prompt",), task="canonical", min_rows=1, parameters=True),
    presets={
        "ours": {},
        "gentle": {"kl_weight": 1.0, "ball": "1e-3"},
        "official-compat": {"lr": 1e-6, "compat": "official", "chunk_tokens": 500},
    },
    obstacles=canonical_obstacles,
    draws=draws,
    steps=steps,
    refits=_refits,
    cost="each fit trains all weights epoch by epoch: a minute or more",
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: LoopConfig, *, seed: int, progress: Progress) -> Fitted:
    """Fit all weights to the canonical examples of split `fit`.

    Raises:
        NotEnoughData, BadPrompt: as `canonical_items`.
    """
    top = header("finetuning", model, demonstrations, config, seed)
    return fit_by_loop(model, demonstrations, config, TwinTrainee(model, config.master), top, _lr(model.info), seed=seed, progress=progress)
