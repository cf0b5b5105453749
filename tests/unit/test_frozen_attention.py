"""A lane that keeps the base's attention: with no edit it is the base, what an edit does through values alone is left, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.made_edits import low_rank, shift
from workbench.decode import Sampling
from workbench.edits.engine import lanes
from workbench.edits.store import save
from workbench.errors import BadLane, Obstructed, StorageFailed, UnknownName
from workbench.evaluate.comparison import compare, compared_tokens
from workbench.models.base import LanguageModel

PROMPT = words(12, 13, 14, 15, 12, 13)
# float32 rounding of rows of one matrix product
CLOSE = 1e-5


def logits(model: LanguageModel, stacks: Any, frozen: Any = None) -> torch.Tensor:
    batch = model.tokens(PROMPT)
    with torch.no_grad(), lanes(model, stacks, frozen or {}):
        return model.logits(batch.repeat(len(stacks)))


def test_with_no_edit_it_equals_the_base_bit_for_bit_in_eager_attention(tiny: LanguageModel) -> None:
    network: Any = tiny.network
    before = network.config._attn_implementation
    network.set_attn_implementation("eager")
    try:
        base, free, kept = logits(tiny, [(), (), ()], {2: 0})
        assert torch.equal(kept, base) and torch.equal(free, base)
    finally:
        network.set_attn_implementation(before)
    base, kept = logits(tiny, [(), ()], {1: 0})
    torch.testing.assert_close(kept, base, atol=CLOSE, rtol=CLOSE)


def test_an_edit_of_queries_is_undone_by_it_and_one_of_the_stream_is_not(tiny: LanguageModel) -> None:
    queries, stream = low_rank(tiny, "w_q"), shift(tiny, layer=0)
    base, free, kept = logits(tiny, [(), (queries,), (queries,)], {2: 0})
    assert float((free - base).abs().max()) > 100 * CLOSE, "the negative control: free, it does something"
    torch.testing.assert_close(kept, base, atol=CLOSE, rtol=CLOSE)
    base, free, kept = logits(tiny, [(), (stream,), (stream,)], {2: 0})
    assert min(float((kept - other).abs().max()) for other in (base, free)) > 100 * CLOSE


def test_a_compared_lane_that_keeps_the_attention_says_what_the_scores_of_its_own_text_say(tiny_gpt2: LanguageModel) -> None:
    edit, how = low_rank(tiny_gpt2, "w_q"), Sampling(8)
    found = compare(tiny_gpt2, [PROMPT, words(20, 12)], [edit, edit], how, frozen=(1,))
    assert [lane.label.endswith("the base's attention") for lane in found.lanes] == [False, False, True]
    for base, _, kept in found.texts:
        assert kept.text == base.text and max(token.kl_nats for token in kept.tokens) < CLOSE
    mixed = compare(tiny_gpt2, [PROMPT], [shift(tiny_gpt2, layer=0)], how, frozen=(0,)).texts[0][1]
    ids = [token.id for token in mixed.tokens]
    (scored,) = compared_tokens(tiny_gpt2, [PROMPT], [ids], (shift(tiny_gpt2, layer=0),), frozen=True)
    # Greedy under the kept patterns, step by step with a cache: each token is the likeliest of the scoring pass too.
    assert [token.top_ids[0] for token in scored] == ids
    free = compare(tiny_gpt2, [PROMPT], [shift(tiny_gpt2, layer=0)], how).texts[0][1]
    assert [token.log_prob for token in free.tokens] != pytest.approx([token.log_prob for token in mixed.tokens], abs=100 * CLOSE)


def test_who_cannot_keep_it_is_refused(tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadLane, match="Lanes 3 of 1"):
        compare(tiny_gpt2, [PROMPT], [shift(tiny_gpt2)], Sampling(2), frozen=(3,))
    with pytest.raises(BadLane, match="keep the base's attention"):
        compare(tiny_gpt2, [PROMPT], ['prompt:"w1"'], Sampling(2), frozen=(0,))
    monkeypatch.setattr(type(tiny_gpt2), "sites", lambda _: ())
    with pytest.raises(Obstructed, match="no queries and keys"):
        logits(tiny_gpt2, [(), ()], {1: 0})


def test_an_edit_acts_where_its_lane_says(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    from workbench.edits.labels import edit_label

    edit = shift(tiny_gpt2, layer=0)
    base, prompt, answer, everywhere = logits(tiny_gpt2, [(), *((edit.acting(rule),) for rule in ("prompt", "generated", ""))])
    assert torch.equal(prompt, everywhere), "all that is read is prompt"
    torch.testing.assert_close(answer[:-1], base[:-1], atol=CLOSE, rtol=CLOSE)
    assert float((answer[-1] - base[-1]).abs().max()) > 100 * CLOSE
    assert edit_label(edit.acting("generated")) == "made × 1 on the answer" and edit.acting("").where == ""
    with pytest.raises(BadLane, match="changes weights"):
        low_rank(tiny_gpt2).acting("prompt")
    with pytest.raises(UnknownName, match="position rule"):
        edit.acting("nowhere")
    with pytest.raises(StorageFailed, match="at some positions"):
        save(replace(edit, where="prompt"), tmp_path / "placed")
