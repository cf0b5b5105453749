"""Knobs of sense finetuning, and what they mean for a model.

Ref: docs/methods/senses.md §3, §4, §5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from workbench.knobs import knob
from workbench.methods.senses.problem import SenseSettings
from workbench.methods.shared.canonical_config import CanonicalConfig
from workbench.models.base import LanguageModel
from workbench.numerics.canonical_loop import LoopSettings

# Below this many word types every one of them occurs in neutral text, and a price of 1000 would pick the rarest instead of the most read.
SMALL_VOCABULARY = 10_000


@dataclass(frozen=True)
class SensesConfig(CanonicalConfig):
    """Knobs of sense finetuning."""

    lr: float | None = knob(
        None,
        label="Learning rate",
        help="Step size of Adam; none: 0.1 for a small vocabulary, 0.01 for a full one.",
        bounds=(1e-5, 1.0),
        main=True,
    )
    n_neutral: int = knob(64, label="Neutral chunks", help="How many chunks of neutral text hold the model.", bounds=(0, 3000))
    top_k: int = knob(
        8, label="Senses per example", help="How many senses each example may move.", bounds=(1, 64), symbol="top_k", main=True
    )
    penalty: float | None = knob(
        None,
        label="Price of common senses",
        symbol="λ",
        bounds=(0.0, 1e5),
        help="How much less a sense scores for being read in neutral text; none: 1 for a small vocabulary, 1000 for a full one.",
    )
    gvb_importance: Literal["add", "subtract"] | None = knob(
        None,
        label="Importance of pairs",
        help="good-v-bad: senses that either side reads (add, ours), or the good side's minus the bad side's (subtract, official).",
    )
    pick_ineligible: Literal["no", "yes"] | None = knob(
        None,
        label="Pick senses that are not read",
        help="Fill up top_k with senses that the example never reads (official), or leave them (ours).",
    )
    delta_dtype: Literal["float32", "float16"] | None = knob(
        None, label="Precision of the stored table", help="float32 (ours), or float16 (official): half the file, rounded to three digits."
    )


def settings_of(config: SensesConfig, model: LanguageModel) -> SenseSettings:
    """Resolve a config for a model: what is left open, and what `compat` switches (docs/methods/senses.md §5)."""
    small, official = model.info.d_vocab < SMALL_VOCABULARY, config.official
    lr = config.lr if config.lr is not None else (0.1 if small else 0.01)
    penalty = config.penalty if config.penalty is not None else (1.0 if small else 1000.0)
    loop = LoopSettings(lr, config.epochs, config.group, config.accumulates, optimiser=config.optimises)
    gvb = config.gvb_importance or ("subtract" if official else "add")
    ineligible = official if config.pick_ineligible is None else config.pick_ineligible == "yes"
    return SenseSettings(loop, config.top_k, penalty, config.kl_weight, config.kl_direction, config.kl_reduce, gvb, ineligible)


def stored(config: SensesConfig) -> torch.dtype:
    """Return what a fitted table is stored in."""
    return getattr(torch, config.delta_dtype or ("float16" if config.official else "float32"))
