"""A checkpoint of full finetuning holds every parameter's delta, and a tied matrix once. Ref: docs/methods/senses.md §2.6."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.operations import edit_of, noise
from tests.theory.test_canonical_protocol import canonical_rows
from workbench.edits.engine import applied
from workbench.edits.export import export
from workbench.methods import get
from workbench.models.catalog import load
from workbench.operations import AddToWeight
from workbench.sites import Site

# float32: log-probabilities of two forwards that add the same numbers in another order.
EXACT = 3e-5


def logits(model: Any, *edits: Any) -> torch.Tensor:
    with torch.no_grad(), applied(model, *edits):
        return model.logits(model.tokens(words(3, 7, 12, 5)))


def finetuned(model: Any) -> Any:
    method = get("finetuning")
    return method.fit(model, canonical_rows(), method.configure({"epochs": 2, "lr": 3e-3, "n_neutral": 2})).edit


@pytest.mark.parametrize("family", ["gpt2", "neox", "gemma"])
def test_the_folded_checkpoint_is_the_finetuned_model_and_the_shared_model_stays(family: str, tiny_models: Any, tmp_path: Path) -> None:
    model = tiny_models[family]
    edit, before = finetuned(model), logits(model)
    wanted = logits(model, edit)
    report = export(model, edit, "checkpoint", tmp_path / "out", fresh_process=False)
    assert report.parity is not None and report.parity < EXACT
    again = load(str(tmp_path / "out"))
    assert again.info.tied_embeddings == model.info.tied_embeddings, "one delta for a tied matrix leaves it tied"
    torch.testing.assert_close(logits(again), wanted, atol=EXACT, rtol=EXACT)
    # Negative controls: the edit is no small thing, and the model in memory is bit-equal to before.
    assert (wanted - before).abs().max() > 0.05 and torch.equal(logits(model), before)


def test_every_parameter_is_in_the_file_moved_by_its_own_delta(tiny_gpt2: Any, tmp_path: Path) -> None:
    edit = finetuned(tiny_gpt2)
    export(tiny_gpt2, edit.scaled(0.5), "checkpoint", tmp_path / "out", fresh_process=False)
    base, again = (dict(model.network.named_parameters()) for model in (tiny_gpt2, load(str(tmp_path / "out"))))
    assert set(edit.moves) == set(base)
    for name, delta in edit.moves.items():
        # Half a unit in the last place of numbers around 1.
        torch.testing.assert_close(again[name], base[name] + 0.5 * delta, atol=1e-6, rtol=1e-6)
    assert any(not torch.equal(again[name], base[name]) for name in base)


def test_a_finetuned_backpack_is_folded_too_and_dose_zero_folds_nothing(tiny_backpack_model: Any, tmp_path: Path) -> None:
    edit = finetuned(tiny_backpack_model)
    assert edit.scaled(0.0).folded(tiny_backpack_model) == ()
    report = export(tiny_backpack_model, edit, "checkpoint", tmp_path / "out", fresh_process=False)
    assert report.parity is not None and report.parity < EXACT
    torch.testing.assert_close(logits(load(str(tmp_path / "out"))), logits(tiny_backpack_model, edit), atol=EXACT, rtol=EXACT)


def test_an_edit_of_the_unembedding_alone_beside_it_takes_a_tied_matrix_apart_and_both_ends_keep_the_delta(
    tiny_gpt2: Any, tmp_path: Path
) -> None:
    edit, other = finetuned(tiny_gpt2), edit_of(tiny_gpt2, AddToWeight(Site("w_u"), noise(*tiny_gpt2.weight("w_u").shape)))
    report = export(tiny_gpt2, [edit, other], "checkpoint", tmp_path / "out", fresh_process=False)
    assert report.parity is not None and report.parity < EXACT and not load(str(tmp_path / "out")).info.tied_embeddings
