"""Patched runs that go on from the patched layer are TransformerLens's one forward a cell."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import words
from tests.families import family_folder
from tests.made_edits import shift
from tests.operations import hooks_on
from workbench.edits.engine import applied
from workbench.lenses import resumed
from workbench.lenses.bridged import edited_bridge
from workbench.lenses.patching import STREAM_KINDS, activation_patching, n_patched_runs
from workbench.models.catalog import load
from workbench.models.tokens import running
from workbench.sites import Site

CLEAN, CORRUPT = words(3, 7, 12, 5), words(3, 8, 12, 5)


def by_hand(model: Any, *stack: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both of TransformerLens's sweeps on the corrupted run, as logit differences."""
    from transformer_lens import patching

    quiet: Any = patching
    quiet.tqdm = partial(quiet.tqdm, disable=True)
    pair = model.tokens([CLEAN, CORRUPT])
    with torch.no_grad(), edited_bridge(model, stack) as bridge, running(pair.rows(slice(0, 1)).forward()):
        _, cache = bridge.run_with_cache(pair.ids[:1])
        given = (bridge, pair.ids[1:], cache, lambda logits: logits[0, -1, 5] - logits[0, -1, 9])
        streams = patching.get_act_patch_block_every(*given)
        heads = patching.get_act_patch_attn_head_out_all_pos(*given)
    return streams.double().numpy(), heads.double().numpy()


def same(model: Any, *stack: Any) -> None:
    found = activation_patching(model, CLEAN, CORRUPT, " w5", " w9", [stack])
    streams, heads = by_hand(model, *stack)
    gap = found.clean[0] - found.corrupt[0]
    # float32 logits of order 1 in another batch shape, over a gap of order 0.1.
    for ours, theirs in ((found.streams[0], streams), (found.heads[0], heads)):
        np.testing.assert_allclose(ours * gap + found.corrupt[0], theirs, atol=1e-4)
        assert np.abs(theirs - found.corrupt[0]).max() > 1e-3, "some patch does something"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("where", ["all", "last"])
def test_every_cell_is_transformer_lens_forward_with_edits_and_without(tiny_models: Any, family: str, where: str) -> None:
    model = tiny_models[family]
    before = hooks_on(model)
    same(model)
    for layer in (0, 1):
        same(model, shift(model, layer=layer, where=where))
    assert hooks_on(model) == before


@pytest.mark.parametrize("model_type", ["bloom", "gpt_neox", "gemma2", "olmo2", "mixtral", "phi3"])
def test_every_cell_is_transformer_lens_forward_in_other_structures(model_type: str, tmp_path: Path) -> None:
    same(load(str(family_folder(model_type, tmp_path / model_type))))


@pytest.mark.parametrize("at_once", [1, 20, 4096])
def test_groups_of_any_size_give_the_same(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(resumed, "COPIED_TOKENS", at_once)
    same(tiny_gpt2)


def test_only_blocks_behind_the_change_run_and_places_before_the_first_difference_cost_nothing(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, ran = tiny_gpt2.tokens([CLEAN, CORRUPT]), [0, 0, 0]

    def count(layer: int) -> Any:
        def ran_once(args: Any, kwargs: Any) -> None:
            ran[layer] += 1

        return ran_once

    with tiny_gpt2.watching([(block, count(i)) for i, block in enumerate(tiny_gpt2.blocks)]):
        found = activation_patching(tiny_gpt2, CLEAN, CORRUPT, " w5", " w9")
    # Two runs of reference and one of the clean activations (which stops before the last block is over), then one a layer.
    assert ran == [4, 5, 6]
    first = int((pair.ids[0] != pair.ids[1]).float().argmax())
    assert first > 0 and not found.streams[..., :first].any()
    assert n_patched_runs(tiny_gpt2, pair) == 3 * (len(STREAM_KINDS) * (pair.ids.shape[1] - first) + 4)


def test_a_run_that_goes_on_from_a_block_is_the_whole_run(tiny_gpt2: Any) -> None:
    row, edit = tiny_gpt2.tokens(CLEAN), shift(tiny_gpt2, layer=1)
    with applied(tiny_gpt2, edit):
        run = resumed.Resumable(tiny_gpt2, row, 3)
        with torch.no_grad():
            whole = tiny_gpt2.logits(row)[0, -1]
        for layer in range(3):
            torch.testing.assert_close(run.changed(layer, []), whole.expand(3, -1), atol=1e-5, rtol=0)
        silent = run.changed(1, [(Site("mlp_out", 1), torch.zeros_like)])
    assert not torch.allclose(silent[0], whole, atol=1e-2)
