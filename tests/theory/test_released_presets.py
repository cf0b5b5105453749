"""The presets that do as released code does give what they gave before their switches stood apart (recorded, see NUMBERS).

Of HPR and ARE what was mended is set aside here, and tested where it was mended: HPR turns by the closed form after a warm-up from its
first step, ARE trains each discriminator for 120 steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import build_folder, words
from tests.contract.test_methods import rows_for
from workbench.edits.engine import applied
from workbench.methods import get
from workbench.models.base import LanguageModel
from workbench.models.catalog import load

# Logits of four words after two prompts, under an edit fitted with seed 1 on a network of known weights, by the code before.
NUMBERS = {
    "sea official-compat": [-0.197215, -0.017065, -1.16007, 1.219459, 2.1e-05, -0.327843, -1.335993, -0.041789],
    "sea official-compat-bbq": [-0.327337, -0.622852, 0.332705, 0.33716, -0.796603, -0.07662, 0.271912, -0.551194],
    "hpr official-compat": [-1.091498, 0.493342, 0.325564, 1.005253, -0.937389, 0.443391, 0.360531, 0.673734],
    "tarot official-compat": [0.504082, -0.650096, -0.736222, 0.933979, 0.287554, -0.269641, -0.727783, 0.370951],
    "are official-compat": [-0.563739, -0.095042, -1.747547, -1.549724, 0.581432, -0.360253, -1.638789, -0.626875],
    "lora official-compat": [-0.221207, -0.168187, -0.942208, 1.066347, 0.01652, -0.206474, -1.289524, 0.283939],
    "finetuning official-compat": [-0.268757, -0.084037, -0.799044, 1.048854, -0.057479, -0.1567, -1.055689, 0.219963],
    "senses official-compat": [-0.343156, 0.165464, -1.375633, 0.746073, 1.347214, -0.363277, -0.421201, 0.676539],
}
CASES: dict[str, dict[str, Any]] = {
    "sea official-compat": {"max_new_tokens": 4, "n_demos": 40},
    "sea official-compat-bbq": {"max_new_tokens": 4, "n_demos": 40},
    "hpr official-compat": {"epochs": 1, "n_mlp": 2, "formula": "closed_form", "compat.warm_up": "from_first_step"},
    "tarot official-compat": {"budget": 14, "n_init": 6, "n_train": 6, "n_val": 4},
    "are official-compat": {"max_rounds": 2, "n_prompts": 16, "epochs_g": 1, "lr_g": 1e-2, "min_steps_d": 120},
    "lora official-compat": {"epochs": 2, "lr": 1e-2},
    "finetuning official-compat": {"epochs": 2, "lr": 1e-3},
    "senses official-compat": {"epochs": 2, "top_k": 4, "lr": 0.2},
}


def known(family: str, folder: Path) -> LanguageModel:
    """A tiny network whose weights do not depend on any library's way of drawing them."""
    model = load(str(build_folder(family, folder)))
    with torch.no_grad():
        for p, (name, weight) in enumerate(model.network.named_parameters()):
            wave = torch.sin(0.37 * torch.arange(1, weight.numel() + 1, dtype=torch.float64) ** 1.3 + 1.7 * p).view(weight.shape)
            is_scale = weight.ndim == 1 and name.endswith("weight")
            weight.copy_(1 + 0.1 * wave if is_scale else (0.2 if weight.ndim == 2 else 0.1) * wave)
    model.network.save_pretrained(folder) if family != "backpack" else model.network.save_folder(folder)  # type: ignore[operator]
    return load(str(folder))


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LanguageModel]:
    return {family: known(family, tmp_path_factory.mktemp(family)) for family in ("gpt2", "backpack")}


def numbers(model: LanguageModel, case: str) -> tuple[list[float], list[float]]:
    """Logits with the edit, and without."""
    name, preset = case.split()
    method = get(name)
    rows = rows_for(method)
    edit = method.fit(model, rows, method.configure(CASES[case], preset), seed=1).edit
    batch = model.tokens([rows.split("fit")[0].prompt, words(3, 14, 15, 9, 26)])
    with torch.no_grad(), applied(model, edit):
        found = model.logits(batch)[:, -1, :4].flatten().tolist()
    return found, model.logits(batch)[:, -1, :4].flatten().tolist()


@pytest.mark.parametrize("case", CASES)
def test_a_released_preset_gives_what_it_gave(networks: dict[str, LanguageModel], case: str) -> None:
    found, base = numbers(networks["backpack" if case.startswith("senses") else "gpt2"], case)
    # Equal to 1e-6 where they were recorded, but LoRA, whose bfloat16 factors multiply in float32 since (1.2e-3). Other processors sum in
    # other orders, which a training amplifies.
    assert found == pytest.approx(NUMBERS[case], abs=2e-3)
    assert max(abs(one - other) for one, other in zip(found, base)) > 0.03
