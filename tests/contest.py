"""The game of ARE on tiny models."""

from __future__ import annotations

from typing import Any

import torch

from tests.concepts import concept_rows
from tests.conftest import words
from workbench.data.demonstrations import Demonstrations
from workbench.methods import get
from workbench.methods.are.config import AreConfig
from workbench.methods.are.rounds import Contest
from workbench.methods.registry import Fitted, header
from workbench.methods.shared.concept import concept_of

TEXTS = [words(1, 2, 3, 4), words(5, 6), words(7, 8, 9, 10, 11, 12)]


# float32 rounding of matrix products in another order or batch shape
CLOSE = 2e-5


QUICK = {"lr_g": 1e-2, "epochs_g": 1, "n_prompts": 16, "sample_every": 0}


def config(**values: Any) -> AreConfig:
    return get("are").configure({**QUICK, **values})


def contest_on(model: Any, rows: Demonstrations | None = None, seed: int = 0, **values: Any) -> Contest:
    rows = rows or concept_rows()
    how = config(**values)
    concept = concept_of(model, rows, n_prompts=how.n_prompts)
    neutral = model.tokens([words(60, 61, 62), words(63, 64)])
    return Contest(model, concept, (neutral, neutral), how, header("are", model, rows, how, seed), seed)


def fitted(model: Any, seed: int = 0, rows: Demonstrations | None = None, **values: Any) -> Fitted:
    return get("are").fit(model, rows or concept_rows(), config(max_rounds=1, min_accuracy=0.0, **values), seed=seed)


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.network.named_parameters()}
