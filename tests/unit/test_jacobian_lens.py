"""The Jacobian lens: TransformerLens's numbers, the logit lens where nothing stands between, kept for its model and refused on another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import words
from tests.made_edits import made
from workbench.errors import BadKnob, BadPrompt, Obstructed, StorageFailed
from workbench.lenses.bridged import edited_bridge
from workbench.lenses.jacobian_fit import FIT_TOKENS, SKIPPED, JacobianFit, fit_cost, jacobian_fit
from workbench.lenses.jacobian_lens import jacobian_lens
from workbench.lenses.logit_lens import logit_lens
from workbench.operations import TransformAt
from workbench.progress import Cancelled, Progress, Report
from workbench.session import Session
from workbench.sites import Site

PROMPT = words(1, 2, 3, 4)
TEXTS = [words(*range(3, 15)), words(*range(40, 52))]


@pytest.fixture(scope="module", params=["gpt2", "gemma", "neox"])
def fitted(request: pytest.FixtureRequest, tiny_models: Any) -> tuple[Any, JacobianFit]:
    model = tiny_models[request.param]
    return model, jacobian_fit(model, texts=TEXTS)


def test_fit_and_readout_are_transformer_lens_own(fitted: tuple[Any, JacobianFit], monkeypatch: pytest.MonkeyPatch) -> None:
    from transformer_lens.tools.analysis import JacobianLens

    model, fit = fitted
    ids = model.tokens(PROMPT).ids
    monkeypatch.setattr(model.bridge.cfg, "default_prepend_bos", False)  # Retouch puts no token before these models' texts
    assert all(torch.equal(model.bridge.to_tokens(text), model.tokens(text).ids) for text in TEXTS)
    with edited_bridge(model) as bridge:
        theirs = JacobianLens.fit(
            bridge, TEXTS, corpus="x", skip_first_positions=SKIPPED, max_seq_len=FIT_TOKENS, show_progress=False, dim_batch=8
        )
        readout = theirs.readout(bridge, ids, top_k=3, return_full_logits=True)
    assert fit.layers == tuple(theirs.source_layers) == (0, 1)
    for layer, matrix in zip(fit.layers, fit.matrices):
        # float32: other rows in a batch sum in another order; entries are of the order of 1.
        assert torch.allclose(matrix, theirs.jacobians[layer], atol=2e-5)
    found = jacobian_lens(model, PROMPT, targets=[" w5"], top_k=3, fitted=fit)
    assert found.entries == ("1_pre", "2_pre", "final_post") and found.fitted_on == fit.told
    assert readout.lens_logits is not None
    for entry, layer in enumerate((0, 1, 2)):
        log_p = readout.lens_logits[layer].log_softmax(-1)
        assert np.array_equal(found.top_ids[0, entry], readout.lens_topk_indices[layer].numpy())
        assert np.allclose(found.target_log_probs[0, entry, :, 0], log_p[:, 5].numpy(), atol=5e-5)
        assert np.allclose(found.entropy[0, entry], -(log_p.exp() * log_p).sum(-1).numpy(), atol=5e-5)


def test_with_the_identity_it_is_the_logit_lens_and_with_what_was_fitted_it_is_not(fitted: tuple[Any, JacobianFit]) -> None:
    model, fit = fitted
    plain = logit_lens(model, PROMPT, targets=[" w5"])
    one = jacobian_lens(model, PROMPT, targets=[" w5"], fitted=replace(fit, matrices=torch.eye(32).expand(2, -1, -1)))
    assert one.entries == plain.entries[1:] and np.allclose(one.kl, plain.kl[:, 1:], atol=1e-5)
    assert np.allclose(one.target_log_probs, plain.target_log_probs[:, 1:], atol=1e-5)
    found = jacobian_lens(model, PROMPT, targets=[" w5"], fitted=fit)
    assert np.array_equal(found.top_ids[:, -1], plain.top_ids[:, -1]) and (found.kl[:, -1] == 0).all(), "the last layer is the model's own"
    assert not np.allclose(found.kl[:, :-1], plain.kl[:, 1:-1], atol=1e-3)


def test_a_block_that_adds_nothing_is_carried_by_the_identity_and_one_that_adds_is_not(tmp_path: Path) -> None:
    from tests.conftest import build_folder
    from workbench.models.catalog import load

    folder = tmp_path / "gpt2"
    build_folder("gpt2", folder)
    model: Any = load(str(folder))
    with torch.no_grad():
        for part in (model.network.transformer.h[2].attn.c_proj, model.network.transformer.h[2].mlp.c_proj):
            part.weight.zero_()
            part.bias.zero_()
    fit = jacobian_fit(model, texts=TEXTS)
    assert torch.equal(fit.matrices[1], torch.eye(32)) and fit.rows()[1]["cosine_to_identity"] == pytest.approx(1)
    assert float((fit.matrices[0] - torch.eye(32)).norm()) > 0.1
    assert fit.agreement[1] == pytest.approx(1) and fit.agreement[0] < 1


def test_lanes_read_their_own_stream_through_the_same_matrices(fitted: tuple[Any, JacobianFit]) -> None:
    model, fit = fitted
    edit = made(model, lambda dose: (TransformAt(Site("resid_post", 1), lambda x: x + dose * torch.linspace(-1, 1, 32).to(x), 32),))
    found = jacobian_lens(model, PROMPT, [(), (edit,)], fitted=fit, window=(1, 4))
    assert found.start == 1 and found.kl.shape == (2, 3, 3)
    assert np.array_equal(found.entropy[0, 0], found.entropy[1, 0]), "an edit changes no layer before its own"
    assert not np.allclose(found.entropy[0, 1:], found.entropy[1, 1:], atol=1e-3)


def test_cost_is_told_counted_and_less_from_a_later_layer(tiny_gpt2: Any) -> None:
    seen: list[Report] = []
    fit = jacobian_fit(tiny_gpt2, texts=TEXTS, first_layer=1, progress=Progress(seen.append))
    whole, later = fit_cost(tiny_gpt2, 2), fit_cost(tiny_gpt2, 2, 1)
    assert fit.layers == (1,) and whole.n_gradients == later.n_gradients == 2 * 32 and later.operations < whole.operations
    assert later.n_bytes == fit.matrices.nbytes and later.seconds > 0
    shares = [report.share for report in seen]
    assert shares == sorted(shares) and shares[-1] == 1 and len({report.doing for report in seen}) == 3
    assert np.isnan(jacobian_fit(tiny_gpt2, texts=TEXTS[:1]).agreement).all()


def test_a_fit_is_stopped_between_two_gradients_and_leaves_the_model_as_it_was(tiny_gpt2: Any) -> None:
    hooks, progress = tiny_gpt2.hook_count(), Progress(lambda report: progress.cancel() if report.share > 0 else None)
    with pytest.raises(Cancelled):
        jacobian_fit(tiny_gpt2, texts=[words(*range(3, 40))] * 2, progress=progress)
    assert tiny_gpt2.hook_count() == hooks and not any(p.requires_grad for p in tiny_gpt2.network.parameters())


def test_what_cannot_be_fitted_is_told(tiny_gpt2: Any) -> None:
    with pytest.raises(BadPrompt, match="Text 2 has 3 tokens; 6 are needed"):
        jacobian_fit(tiny_gpt2, texts=[TEXTS[0], words(1, 2, 3)])
    with pytest.raises(BadPrompt, match="There is no text"):
        jacobian_fit(tiny_gpt2, texts=[])
    with pytest.raises(BadKnob, match="layer 0 to 1"):
        jacobian_fit(tiny_gpt2, first_layer=2)
    with pytest.raises(BadPrompt, match="900 texts are asked for"):
        jacobian_fit(tiny_gpt2, n=900)


def test_a_session_fits_once_and_keeps_it_for_the_model(tiny_models: Any, tmp_path: Path) -> None:
    session = Session(tiny_models["gpt2"], tmp_path)
    assert session.lens_fit() is None
    first = session.look("jacobian_lens", PROMPT, stacks=[()])
    (path,) = (tmp_path / "lenses").iterdir()
    kept, written = session.lens_fit(), path.stat().st_mtime_ns
    assert kept is not None and kept.n_texts == 4 and kept.source == "4 of its own texts" and path.stem == kept.weights
    again = Session(tiny_models["gpt2"], tmp_path).look("jacobian_lens", PROMPT, stacks=[()])
    assert np.array_equal(first.kl, again.kl) and path.stat().st_mtime_ns == written, "nothing was fitted again"
    other = session.look("jacobian_fit", texts=TEXTS)
    refitted = session.lens_fit()
    assert (
        refitted is not None and torch.equal(refitted.matrices, other.matrices) and refitted == replace(other, matrices=refitted.matrices)
    )
    assert not np.allclose(session.look("jacobian_lens", PROMPT).kl, first.kl, atol=1e-3)
    assert Session(tiny_models["llama"], tmp_path).lens_fit() is None, "another model has its own"
    with pytest.raises(Obstructed, match="was fitted on"):
        jacobian_lens(tiny_models["llama"], PROMPT, fitted=other)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StorageFailed, match="is no Jacobian lens of the loaded model"):
        session.lens_fit()


def test_a_backpack_and_a_model_of_one_layer_are_told_before(tiny_models: Any, tiny_backpack_model: Any) -> None:
    from workbench.lenses.registry import obstacles_of

    for name in ("jacobian_fit", "jacobian_lens"):
        assert "TransformerLens's bridge" in obstacles_of(name, tiny_backpack_model)[0].reason
        assert obstacles_of(name, tiny_models["gpt2"]) == ()
    with pytest.raises(Obstructed, match="bridge"):
        jacobian_lens(tiny_backpack_model, PROMPT)
