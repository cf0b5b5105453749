"""Attention patterns and the logit lens: base and edited side by side, true to the model's own forward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import FAMILIES, contrast_rows, words
from tests.operations import edit_of, shift
from workbench.edits.engine import applied
from workbench.errors import BadKnob, BadPrompt, UnknownName
from workbench.lenses.attention import attention
from workbench.lenses.bridged import edited_bridge
from workbench.lenses.logit_lens import logit_lens
from workbench.models.tokens import running
from workbench.operations import AddToWeight
from workbench.sites import Site

PROMPT = words(3, 7, 12, 3, 7)


def logits_of(model: Any, *edits: Any) -> torch.Tensor:
    with torch.no_grad(), applied(model, *edits):
        return model.logits(model.tokens(PROMPT))[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_are_causal_distributions_and_an_edit_leaves_the_layers_below_it_alone(family: str, tiny_models: Any) -> None:
    model = tiny_models[family]
    edit = edit_of(model, shift(model.info.d_model, site="resid_post@1"))
    found = attention(model, PROMPT, [(), (edit,)])
    assert found.pattern.shape == (2, 3, 4, 5, 5)
    assert np.allclose(found.pattern.sum(-1), 1, atol=1e-6)
    assert np.all(found.pattern[..., np.triu_indices(5, 1)[0], np.triu_indices(5, 1)[1]] == 0)
    assert np.array_equal(found.pattern[0, :2], found.pattern[1, :2])
    assert found.distance(1)[2].min() > 1e-3
    assert [lane.label for lane in found.lanes] == ["base", "test × 1"]
    assert found.lanes[1].edit_ids == (edit.id,)


def test_a_query_delta_moves_the_patterns_of_its_layer_only_and_asked_layers_are_given(tiny_gpt2: Any) -> None:
    delta = 0.3 * torch.randn(32, 32, generator=torch.Generator().manual_seed(1))
    found = attention(tiny_gpt2, PROMPT, [(), (edit_of(tiny_gpt2, AddToWeight(Site("w_q", 1), delta)),)], layers=[0, 1])
    assert found.layers == (0, 1)
    assert found.distance(1)[0].max() == 0
    assert found.distance(1)[1].min() > 1e-3
    with pytest.raises(UnknownName, match="No layer '9'"):
        attention(tiny_gpt2, PROMPT, layers=[9])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_entry_of_the_logit_lens_is_the_models_own_prediction(family: str, tiny_models: Any) -> None:
    model = tiny_models[family]
    unembedding = 0.1 * torch.randn(*model.weight("w_u").shape, generator=torch.Generator().manual_seed(2))
    edits = [
        edit_of(model, shift(model.info.d_model, "prompt", site="resid_post@1")),
        edit_of(model, AddToWeight(Site("w_u"), unembedding)),
        edit_of(model, shift(model.info.d_model, site="ln_final")),
    ]
    lens = logit_lens(model, PROMPT, [(), *((edit,) for edit in edits)], targets=[" w5", " w9"])
    assert lens.targets == ("w5", "w9")
    for lane, stack in enumerate([(), *((edit,) for edit in edits)]):
        log_probs = logits_of(model, *stack).log_softmax(-1)
        # float32: the bridge runs the same sums in another order; log-probabilities here are of the order of 10.
        assert np.allclose(lens.target_log_probs[lane, -1], log_probs[:, [5, 9]].numpy(), atol=2e-5)
        assert np.array_equal(lens.top_ids[lane, -1, :, 0], log_probs.argmax(-1).numpy())
        assert np.allclose(lens.entropy[lane, -1], -(log_probs.exp() * log_probs).sum(-1).numpy(), atol=2e-5)
        ranks = (log_probs > log_probs[:, [5]]).sum(-1)
        assert np.array_equal(lens.target_ranks[lane, -1, :, 0], ranks.numpy())
    assert not np.allclose(lens.target_log_probs[0, -1], lens.target_log_probs[1, -1], atol=1e-3)


def test_an_edit_changes_no_entry_below_it_and_without_targets_there_are_none(tiny_gpt2: Any) -> None:
    edit = edit_of(tiny_gpt2, shift(32, site="resid_post@1"))
    lens = logit_lens(tiny_gpt2, PROMPT, [(), (edit,)], top_k=200, halves=True)
    below = lens.entries.index("2_pre")
    assert np.array_equal(lens.top_probabilities[0, :below], lens.top_probabilities[1, :below])
    assert not np.allclose(lens.entropy[0, below:], lens.entropy[1, below:], atol=1e-3)
    assert lens.target_ranks.shape == (2, 7, 5, 0)
    assert lens.top_ids.shape[-1] == tiny_gpt2.info.d_vocab
    assert np.allclose(lens.top_probabilities.sum(-1), 1, atol=1e-5)
    assert lens.rows()[6]["top"] == str(lens.top_texts[0, 6, -1, 0])
    with pytest.raises(BadPrompt):
        logit_lens(tiny_gpt2, PROMPT, targets=[""])


@pytest.mark.parametrize("family", ["gpt2", "gemma"])
def test_every_entry_and_token_is_transformer_lens_own_readout_and_a_window_is_a_part_of_it(family: str, tiny_models: Any) -> None:
    from transformer_lens.tools.analysis import logit_lens as theirs

    model = tiny_models[family]
    found, batch = logit_lens(model, PROMPT, targets=[" w5", " w9"], top_k=3, halves=True), model.tokens(PROMPT)
    with torch.no_grad(), edited_bridge(model) as bridge, running(batch.forward()):
        top = theirs(bridge, batch.ids, positions=None, incl_mid=True, top_k=3, return_type="probs")
        asked = theirs(bridge, batch.ids, positions=None, incl_mid=True, targets=[5, 9], return_type="log_probs")
        whole = theirs(bridge, batch.ids, positions=None, incl_mid=True, return_type="log_probs").values[:, 0]
    assert found.entries == tuple(top.labels) and found.n_tokens == batch.ids.shape[1]
    assert np.array_equal(found.top_ids[0], top.readout.top_ids[:, 0].numpy())
    assert np.allclose(found.top_probabilities[0], top.values[:, 0].numpy(), atol=1e-6)
    assert np.allclose(found.entropy[0], top.readout.entropy[:, 0].numpy(), atol=1e-5)
    assert np.allclose(found.target_log_probs[0], asked.values[:, 0].numpy(), atol=1e-5)
    assert np.array_equal(found.target_ranks[0], asked.readout.target_ranks[:, 0].numpy())
    assert np.allclose(found.kl[0], (whole.exp() * (whole - whole[-1])).sum(-1).numpy(), atol=1e-5)
    assert (found.kl[0, -1] == 0).all() and found.kl[0, 0].min() > 1e-3
    part = logit_lens(model, PROMPT, targets=[" w5"], top_k=3, halves=True, window=(1, 3))
    plain = logit_lens(model, PROMPT, targets=[" w5"], top_k=3)
    whole_layers = [i for i, name in enumerate(found.entries) if not name.endswith("mid")]
    assert plain.entries == tuple(found.entries[i] for i in whole_layers) and np.allclose(plain.kl[0], found.kl[0, whole_layers], atol=1e-6)
    assert part.start == 1 and part.tokens == found.tokens[1:3]
    assert np.array_equal(part.top_ids[0], found.top_ids[0, :, 1:3]) and np.allclose(part.kl[0], found.kl[0, :, 1:3], atol=1e-6)
    with pytest.raises(BadKnob, match="window goes from token 9 to 12"):
        logit_lens(model, PROMPT, window=(9, 12))


def test_a_fitted_edit_is_labelled_with_method_and_dose(tiny_gpt2: Any) -> None:
    import workbench.methods  # noqa: F401 - registers
    from workbench.methods.registry import get

    edit = get("mean_difference").fit(tiny_gpt2, contrast_rows()).edit
    labels = [lane.label for lane in logit_lens(tiny_gpt2, PROMPT, [(), (edit,), (edit,), (edit.scaled(0.5),)]).lanes]
    assert labels == ["base", "mean_difference × 1 (1)", "mean_difference × 1 (2)", "mean_difference × 0.5"]
