"""The Patch Lens: one cell of one run in another; its cone is what is measured to move, and its edit is the patched run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import words
from workbench.edits.cell import cell_site
from workbench.edits.engine import applied
from workbench.errors import BadKnob, BadPrompt, UnknownSite
from workbench.lenses.bridged import edited_bridge
from workbench.lenses.logit_lens import logit_lens
from workbench.lenses.patch_lens import patch_lens, stream_readout
from workbench.models.tokens import running
from workbench.record import activations

SOURCE, TARGET = words(3, 7, 12, 5, 9), words(21, 8, 12, 6)
PLACES = [("resid", None), ("attn_out", None), ("mlp_out", None), ("head", 1)]
HOOKS = {"resid": "hook_resid_post", "attn_out": "hook_attn_out", "mlp_out": "hook_mlp_out", "head": "attn.hook_z"}


def stream(model: Any, prompt: str, *edits: Any) -> torch.Tensor:
    sites = [cell_site(layer) for layer in range(-1, model.info.n_layers)]
    with torch.no_grad(), applied(model, *edits):
        found = activations(model, model.tokens(prompt), sites)
    return torch.stack([found[site][0] for site in sites])


def by_hand(model: Any, place: str, head: int | None, source: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    """The same patch by TransformerLens's own hooks: logits of the target's run."""
    here, there = (f"blocks.{layer}.{HOOKS[place]}" for layer, _ in (target, source))
    given, batch = model.tokens(SOURCE), model.tokens(TARGET)
    with edited_bridge(model) as bridge, torch.no_grad():
        with running(given.forward()):
            _, cache = bridge.run_with_cache(given.ids, names_filter=[there])

        def put(x: torch.Tensor, hook: Any) -> torch.Tensor:
            y = x.clone()
            place_of = (0, target[1]) if head is None else (0, target[1], head)
            y[place_of] = cache[there][(0, source[1]) if head is None else (0, source[1], head)]
            return y

        with running(batch.forward()):
            return bridge.run_with_hooks(batch.ids, fwd_hooks=[(here, put)])[0, -1]


@pytest.mark.parametrize(("place", "head"), PLACES)
@pytest.mark.parametrize(("source", "target"), [((0, 4), (1, 1)), ((2, 1), (0, 2))])
def test_the_cone_is_what_moves_and_the_edit_is_the_patched_run(tiny_models: Any, place: Any, head: Any, source: Any, target: Any) -> None:
    for family in ("gpt2", "llama"):
        model = tiny_models[family]
        hooks, base = model.hook_count(), stream(model, TARGET)
        found = patch_lens(model, SOURCE, TARGET, *source, *target, place=place, head=head, word=" w5", distractor=" w9")
        assert np.array_equal(found.moved > 0, found.cone), "the law's cone is what was measured, no more and no less"
        assert found.cone.sum() == 1 + (model.info.n_layers - 1 - target[0]) * (len(found.readout.tokens) - target[1])
        wanted = by_hand(model, place, head, source, target)
        with torch.no_grad(), applied(model, found.draft.edit):
            got = model.logits(model.tokens(TARGET))[0, -1]
        torch.testing.assert_close(got, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)  # h + (h' - h) in float32
        edited = stream(model, TARGET, found.draft.edit)
        apart = ((edited - base).norm(dim=-1) / base.norm(dim=-1)).numpy()
        np.testing.assert_allclose(apart, found.moved, atol=1e-4)
        ids = [int(model.tokens(words(i)).ids[0, -1]) for i in (5, 9)]
        assert found.differences is not None and found.differences[2] == pytest.approx(float(wanted[ids[0]] - wanted[ids[1]]), abs=1e-4)
        assert len(found.rows()) == found.cone.sum() and model.hook_count() == hooks
        assert torch.equal(stream(model, TARGET), base)


def test_a_patch_of_a_run_into_itself_moves_nothing_and_the_whole_last_cell_brings_all_over(tiny_gpt2: Any) -> None:
    itself = patch_lens(tiny_gpt2, TARGET, TARGET, 1, 2, 1, 2, word=" w5", distractor=" w9")
    assert not itself.moved.any() and itself.brought_over is None and "still says" in itself.says
    last = tiny_gpt2.info.n_layers - 1
    whole = patch_lens(tiny_gpt2, SOURCE, TARGET, last, 4, last, 3, word=" w5", distractor=" w9")
    assert whole.brought_over == pytest.approx(1.0, abs=1e-3) and "100% of the source's" in whole.says
    assert whole.draft.after[0][0] == stream_readout(tiny_gpt2, SOURCE).texts[-1, -1, 0]


def test_what_a_cell_says_is_transformer_lens_logit_lens(tiny_models: Any) -> None:
    for family in ("gpt2", "llama"):
        found, wanted = stream_readout(tiny_models[family], TARGET), logit_lens(tiny_models[family], TARGET, top_k=3)
        kept = [i for i, name in enumerate(wanted.entries) if not name.endswith("mid")]
        np.testing.assert_allclose(found.probabilities, wanted.top_probabilities[0][kept], atol=1e-5)
        assert (found.texts == wanted.top_texts[0][kept]).mean() > 0.95  # equal shares may change places
    read = patch_lens(tiny_models["gpt2"], SOURCE, TARGET, 0, 1, 1, 2).readout
    assert np.array_equal(np.isnan(read.probabilities[..., 0]), read.texts[..., 0] == ""), "what cannot move is not read again"


def test_a_backpack_has_a_stream_too(tiny_backpack_model: Any) -> None:
    found = patch_lens(tiny_backpack_model, SOURCE, TARGET, 0, 1, 0, 2)
    assert np.array_equal(found.moved > 0, found.cone)


@pytest.mark.parametrize(
    ("cells", "options", "error", "says"),
    [((0, 9, 0, 0), {}, BadPrompt, "5 tokens, and token 9"), ((0, 0, 0, 4), {}, BadPrompt, "4 tokens, and token 4"),
     ((9, 0, 0, 0), {}, UnknownSite, "resid_post@9"), ((0, 0, 0, 0), {"place": "head"}, BadKnob, "place head"),
     ((0, 0, 0, 0), {"head": 1}, BadKnob, "place head"), ((0, 0, 0, 0), {"place": "head", "head": 9}, UnknownSite, "head_z@0.9"),
     ((0, 0, 0, 0), {"word": " w5"}, BadKnob, "One word")],
)  # fmt: skip
def test_what_cannot_be_patched_is_refused_by_name(tiny_gpt2: Any, cells: Any, options: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        patch_lens(tiny_gpt2, SOURCE, TARGET, *cells, **options)
