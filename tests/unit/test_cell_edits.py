"""Verbs of a cell: an edit at one layer and token that is, at dose 1, the patched run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import words
from workbench.decode import Sampling, generate
from workbench.edits.cell import cell_site
from workbench.edits.engine import applied, lanes
from workbench.edits.store import load_edit, save
from workbench.errors import BadPrompt
from workbench.lenses.cell_edits import cell_edit
from workbench.models.tokens import TokenBatch
from workbench.record import activations

HERE, THERE = words(3, 7, 12, 5), words(3, 8, 12, 5)


def logits(model: Any, *edits: Any, prompt: str = HERE) -> torch.Tensor:
    with torch.no_grad(), applied(model, *edits):
        return model.logits(model.tokens(prompt))


@pytest.mark.parametrize("layer", [-1, 0, 2])
def test_swapping_and_patching_are_the_patched_run_and_touch_no_earlier_token(tiny: Any, layer: int) -> None:
    site, pos = cell_site(layer), tiny.tokens(HERE).ids.shape[1] - 3
    with torch.no_grad():
        there = activations(tiny, tiny.tokens(THERE), [site])[site]

    def patch(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[:, pos] = there[:, pos]
        return y

    with torch.no_grad(), tiny.intercept(site, patch):
        wanted = tiny.logits(tiny.tokens(HERE))
    base, hooks = logits(tiny), tiny.hook_count()
    for verb, given in (("swap", "w8"), ("patch", THERE)):
        found = cell_edit(tiny, HERE, layer, pos, verb, given)  # type: ignore[arg-type]
        got = logits(tiny, found.edit)
        torch.testing.assert_close(got, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)  # h + (h' - h) in float32
        assert torch.equal(got[:, :pos], base[:, :pos]), "nothing before the cell moves"
        assert torch.equal(logits(tiny, found.edit.scaled(0.0)), base)
        if layer < tiny.info.n_layers - 1:
            assert (got[:, -1] - base[:, -1]).abs().max() > 1e-4, "a later token hears of it"
        assert dict(found.after).keys() and found.after[0][1] == pytest.approx(float(got[0, -1].double().softmax(-1).max()), abs=1e-6)
    assert tiny.hook_count() == hooks


def test_it_acts_as_far_from_the_end_of_any_prompt_padded_side_by_side_and_with_a_cache(tiny_gpt2: Any, tmp_path: Path) -> None:
    edit = cell_edit(tiny_gpt2, HERE, 1, 1, "swap", "w8").edit
    texts = [HERE, words(1, 2, 3, 4, 7, 9, 11)]
    batch = tiny_gpt2.tokens(texts)
    with torch.no_grad(), applied(tiny_gpt2, edit):
        both = tiny_gpt2.logits(batch)
    for row, text in zip(both, texts):
        torch.testing.assert_close(row[-1], logits(tiny_gpt2, edit, prompt=text)[0, -1], atol=1e-5, rtol=0)
    with torch.no_grad(), lanes(tiny_gpt2, [(), (edit,)]):
        side = tiny_gpt2.logits(batch.repeat(2))
    torch.testing.assert_close(side[2:], both, atol=1e-5, rtol=0)
    said = generate(tiny_gpt2, texts[:1], [(edit,)], Sampling(max_new_tokens=4))[0][0]
    ids = tiny_gpt2.tokens(HERE).ids[0].tolist()
    n = len(ids)
    for token in said.ids:  # whole forwards, which know where the prompt ends
        with torch.no_grad(), applied(tiny_gpt2, edit):
            assert int(tiny_gpt2.logits(TokenBatch.of([ids], [n]))[0, -1].argmax()) == token
        ids.append(token)
    save(edit, tmp_path / "cell")
    again = load_edit(tmp_path / "cell")
    assert again.id == edit.id and torch.equal(logits(tiny_gpt2, again), logits(tiny_gpt2, edit))


def test_steering_makes_a_token_the_answer_and_ablation_puts_the_mean_of_the_others_there(tiny_gpt2: Any) -> None:
    found = cell_edit(tiny_gpt2, HERE, 2, 3, "steer", " w42")
    assert found.after[0][0].strip() == "w42" != found.before[0][0].strip() and "instead of" in found.says
    negative = found.edit.scaled(-1.0)
    at = tiny_gpt2.tokens(words(42)).ids[0, -1]
    assert logits(tiny_gpt2, negative)[0, -1].softmax(-1)[at] < logits(tiny_gpt2)[0, -1].softmax(-1)[at]
    site = cell_site(1)
    edit = cell_edit(tiny_gpt2, HERE, 1, 2, "ablate").edit
    with torch.no_grad(), applied(tiny_gpt2, edit):
        after = activations(tiny_gpt2, tiny_gpt2.tokens(HERE), [site])[site][0]
    with torch.no_grad():
        before = activations(tiny_gpt2, tiny_gpt2.tokens(HERE), [site])[site][0]
    torch.testing.assert_close(after[2], before[[1, 3]].mean(0), atol=1e-5, rtol=0)
    assert torch.equal(after[:2], before[:2])


@pytest.mark.parametrize(
    ("verb", "pos", "given", "says"),
    [("swap", 9, "w8", "has 4 tokens, and token 9"), ("swap", 1, " ", "no word"), ("patch", 0, "w1", "4 tokens from the end"),
     ("steer", 1, "w1 w2", "2 tokens")],
)  # fmt: skip
def test_what_makes_no_edit_is_refused_by_name(tiny_gpt2: Any, verb: Any, pos: int, given: str, says: str) -> None:
    with pytest.raises(BadPrompt, match=says):
        cell_edit(tiny_gpt2, HERE, 1, pos, verb, given)
