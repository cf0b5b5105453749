"""A family that scales what joins the stream (Granite): each lens gives numbers, or names its obstacle before it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import family_checks
from tests.conftest import words
from tests.families import family_folder
from workbench.lenses import registry
from workbench.lenses.logit_lens import logit_lens
from workbench.models.catalog import load

# As Granite 3's released files have them; a tiny default config multiplies by 1, which hides all of it.
SCALES = {"residual_multiplier": 0.22, "embedding_multiplier": 12.0, "attention_multiplier": 0.0625, "logits_scaling": 8.0}


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("granite")
    family_folder("granite", folder, **SCALES)
    return load(str(folder))


def test_every_lens_looks_or_says_first_why_not(scaled: Any) -> None:
    found = {name: family_checks.lens(scaled, name) for name in family_checks.LENSES}
    assert not scaled.info.adds_up
    for name in ("direct_attribution", "circuit", "node_table", "upstream", "flow", "head_profile"):
        assert "is not all that joins it" in found[name] and registry.obstacles_of(name, scaled)
    assert all(found[name] == "yes" for name in ("logit_lens", "attention", "head_ablation", "activation_patching", "reader", "steering"))


def test_the_last_entry_of_the_lens_is_the_models_own_prediction(scaled: Any) -> None:
    prompt = words(12, 13, 14, 12)
    with torch.no_grad():
        own = scaled.logits(scaled.tokens(prompt))[0].log_softmax(-1)
    found = logit_lens(scaled, prompt, targets=[" w5"])
    np.testing.assert_allclose(found.target_log_probs[0, -1, :, 0], own[:, 5].numpy(), atol=1e-4)
