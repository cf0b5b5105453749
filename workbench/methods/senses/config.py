"""Knobs of sense finetuning, and what they mean for a model.

Ref: docs/methods/senses.md §3, §4, §5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from workbench.knobs import as_released, knob
from workbench.methods.senses.compat import OFFICIAL, SensesCompat
from workbench.methods.senses.problem import SenseSettings
from workbench.methods.shared.canonical_config import GROUP, CanonicalConfig
from workbench.models.base import LanguageModel, ModelInfo
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
    )
    n_neutral: int = knob(
        64, label="Neutral chunks", help="How many chunks of neutral text hold the model.", unit="chunks", bounds=(0, 3000)
    )
    top_k: int = knob(
        8,
        label="Senses per example",
        symbol="top_k",
        help="How many senses each example may move.",
        unit="senses",
        bounds=(1, 64),
        main=True,
    )
    penalty: float | None = knob(
        None,
        label="Price of common senses",
        symbol="λ",
        bounds=(0.0, 1e5),
        help="How much less a sense scores for being read in neutral text; none: 1 for a small vocabulary, 1000 for a full one.",
    )
    compat: SensesCompat = as_released(OFFICIAL)


def sense_settings(config: SensesConfig, model: LanguageModel) -> SenseSettings:
    """Resolve what a config leaves open for a model."""
    small, compat = model.info.d_vocab < SMALL_VOCABULARY, config.compat
    lr = config.lr if config.lr is not None else (0.1 if small else 0.01)
    penalty = config.penalty if config.penalty is not None else (1.0 if small else 1000.0)
    loop = LoopSettings(lr, config.epochs, config.group or GROUP, compat.accumulate, optimiser=compat.optimiser)
    ineligible = compat.pick_ineligible == "yes"
    return SenseSettings(
        loop, config.top_k, penalty, config.kl_weight, compat.kl_direction, compat.kl_reduce, compat.gvb_importance, ineligible
    )


def stored(config: SensesConfig) -> torch.dtype:
    """Return what a fitted table is stored in."""
    return getattr(torch, config.compat.delta_dtype)


def draws(rng: Random, info: ModelInfo) -> Mapping[str, Any]:
    """Draw weight of the hold, learning rate, senses and price as the paper's sweep does; both rates follow the size of the vocabulary."""
    weight, few = 10 ** rng.uniform(-1, 0), info.d_vocab < SMALL_VOCABULARY
    lr = 10 ** -(rng.uniform(0.7, 2.5) if few else rng.uniform(1.5, 4))
    penalty = rng.choice([0.0, 1.0, 10.0, 100.0, 1000.0] if few else [1000.0])
    return {"lr": lr, "kl_weight": weight, "top_k": rng.randint(5, 11), "penalty": penalty}
