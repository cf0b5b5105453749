"""Sense finetuning as a problem that is posed once and then solved without the transformer.

Ref: docs/methods/senses.md §3.3, §3.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from workbench.methods.shared.canonical_compat import RELEASED_CHUNK
from workbench.methods.shared.canonical_examples import CanonicalItem
from workbench.methods.shared.sense_texts import NeutralReading, as_examples, item_texts, sides
from workbench.models.backpack.model import BackpackModel
from workbench.numerics.canonical_loop import LoopSettings, descend, seeded_schedule
from workbench.numerics.sense_affine import SenseSelection, affine
from workbench.numerics.sense_importance import Pick, pair_importance, picks
from workbench.numerics.sense_training import SenseObjective
from workbench.operations import wide
from workbench.progress import Progress
from workbench.shapes import Float, Tensor


@dataclass(frozen=True)
class SenseSettings:
    """Everything that decides a sense fit beside its data and seed."""

    loop: LoopSettings
    top_k: int = 8
    penalty: float = 1000.0
    kl_weight: float = 0.3
    kl_direction: Literal["p0_to_p", "p_to_p0"] = "p0_to_p"
    kl_reduce: Literal["sum", "mean"] = "sum"
    gvb: Literal["add", "subtract"] = "add"
    pick_ineligible: bool = False


@dataclass(frozen=True)
class SenseProblem:
    """Canonical examples as affine functions of a table over the senses picked for them."""

    picks: Sequence[Sequence[Pick]]
    selection: SenseSelection
    objective: SenseObjective

    def fresh(self) -> Float[Tensor, "chosen d_model"]:
        """Return the table of zeros that training starts from."""
        return self.objective.E.new_zeros(len(self.selection), self.objective.E.shape[1])


def posed(
    model: BackpackModel,
    items: Sequence[CanonicalItem],
    neutral: NeutralReading,
    settings: SenseSettings,
    progress: Progress | None = None,
) -> SenseProblem:
    """Read the examples, pick the senses that each reads most beyond its background, and write all as affine functions of them."""
    texts = item_texts(model, items, progress)
    chosen = [
        picks(
            pair_importance(*sides(item, read), item.kind == "good-v-bad", settings.gvb),
            neutral.background,
            settings.top_k,
            settings.penalty,
            model.n_tokens,
            settings.pick_ineligible,
        )
        for item, read in zip(items, texts, strict=True)
    ]
    selection = SenseSelection.of((pick.token, pick.sense) for found in chosen for pick in found)
    chunks = [affine(chunk, selection, touched_only=True) for chunk in neutral.chunks]
    weights = [_weight(settings, len(chunk.ids)) for chunk in neutral.chunks]
    objective = SenseObjective(wide(model.embedding), as_examples(items, texts, selection), chunks, weights, settings.kl_direction)
    return SenseProblem(chosen, selection, objective)


def _weight(settings: SenseSettings, n_positions: int) -> float:
    return settings.kl_weight * (RELEASED_CHUNK if settings.kl_reduce == "sum" else 1.0) / n_positions


def trained(problem: SenseProblem, settings: SenseSettings, seed: int) -> Iterator[tuple[int, Float[Tensor, "chosen d_model"]]]:
    """Yield (0, zeros) and then each epoch's number with the table after it; the table is trained in place, so copy what is kept."""
    delta, objective = problem.fresh(), problem.objective
    schedule = seeded_schedule(len(objective.examples), len(objective.chunks), torch.Generator().manual_seed(seed))
    for epoch in descend([delta], lambda draws: [objective.gradient(delta, draws)], schedule, settings.loop):
        yield epoch, delta
