"""Every head's scores in one record, and one head's card: exact where they claim to be, with planted heads as known answers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import contrast_rows, words
from workbench.errors import BadKnob, BadPrompt, Obstructed, UnknownName
from workbench.lenses.ablation import head_ablation
from workbench.lenses.alone import values_alone, words_alone
from workbench.lenses.attention import attention
from workbench.lenses.bridged import edited_bridge
from workbench.lenses.head_card import head_card
from workbench.lenses.head_profile import SCORE_WORDS, head_profile
from workbench.lenses.heads import head_scores, name_movers
from workbench.models.direction_tokens import direction_tokens
from workbench.models.tokens import TokenBatch, running
from workbench.record import activations
from workbench.sites import Site

ORDER = [[f"w{i}" for i in range(10, 30)]]


def profile(model: Any, **options: Any) -> Any:
    return head_profile(model, n=2, length=10, orders=ORDER, **options)


def test_where_heads_look_is_what_the_kinds_say_and_the_first_token_stands_apart(tiny_gpt2: Any) -> None:
    found, kinds = profile(tiny_gpt2), head_scores(tiny_gpt2, n=2, length=10)
    for kind in kinds.kinds:
        np.testing.assert_allclose(found.scores[found.kinds.index(kind)], kinds.scores[0, kinds.kinds.index(kind)])
    prompt = words(3, 7, 12, 5)
    pattern = attention(tiny_gpt2, prompt).pattern[0]
    first = head_profile(tiny_gpt2, prompt).scores[found.kinds.index("first token")]
    np.testing.assert_allclose(first, pattern[..., 1:, 0].mean(-1), atol=1e-6)
    assert np.isnan(head_profile(tiny_gpt2, prompt).scores[found.kinds.index("induction")]).all(), "no token comes again"
    assert not head_profile(tiny_gpt2, prompt).top("induction")


def test_a_value_alone_is_the_heads_value_of_that_token(tiny_models: Any) -> None:
    for family in ("gpt2", "llama"):
        model, ids = tiny_models[family], [3, 7, 12]
        values, rows = values_alone(model, ids, [0, 1, 2]), words_alone(model, ids)
        with torch.no_grad():
            real = activations(model, TokenBatch.of([[i] for i in ids], None, model.device), [Site("head_z", 0), Site("head_z", 1)])
        torch.testing.assert_close(values[:, 0].flatten(1), real[Site("head_z", 0)][:, 0])
        torch.testing.assert_close(values[:, 1].flatten(1), real[Site("head_z", 1)][:, 0])
        with torch.no_grad(), model.intercept(Site("resid_pre", 2), lambda x, rows=rows: rows[:, None]):
            later = activations(model, TokenBatch.of([[i] for i in ids], None, model.device), [Site("head_z", 2)])
        torch.testing.assert_close(values[:, 2].flatten(1), later[Site("head_z", 2)][:, 0])


@pytest.fixture
def planted(tiny_gpt2: Any) -> Any:
    """Head 1.0 writes what raises each word that it looks at: the least squares map from its values to the words' unembedding."""
    slot = tiny_gpt2.weight("w_o@1")
    before = slot.parameter.detach().clone()
    yield tiny_gpt2, slot.parameter
    with torch.no_grad():
        slot.parameter.copy_(before)


def write(model: Any, parameter: Any, follows: int, sign: float = 1.0) -> None:
    heard = list(range(10, 30)) if follows else list(range(90))
    values = values_alone(model, heard, [1])[:, 0, 0]
    table = model.network.transformer.wte.weight
    with torch.no_grad():
        wanted = table[[i + follows for i in heard]]
        parameter[: model.info.d_head] = sign * 50 * torch.linalg.lstsq(values, wanted - wanted.mean(0)).solution


def test_a_planted_copier_is_found_and_its_negative_suppresses(planted: Any) -> None:
    model, parameter = planted
    base = profile(model)
    copying, suppression = (base.kinds.index(kind) for kind in ("copying", "copy suppression"))
    write(model, parameter, 0)
    found = profile(model)
    assert found.scores[copying, 1, 0] > 0.25 > 5 * found.chance[copying] and found.scores[copying, 1, 0] == found.scores[copying].max()
    assert found.scores[suppression, 1, 0] == 0
    with torch.no_grad():
        parameter[: model.info.d_head] *= -1
    swapped = profile(model)
    assert swapped.scores[suppression, 1, 0] == found.scores[copying, 1, 0], "the sign of W_O is the difference"
    others = np.ones(base.scores[copying].shape, dtype=bool)
    others[1, 0] = False
    assert np.array_equal(found.scores[copying][others], base.scores[copying][others]), "no other head's score hears of it"


def test_a_planted_successor_is_found_and_a_copier_is_none(planted: Any) -> None:
    model, parameter = planted
    write(model, parameter, 1)
    found = profile(model)
    at = found.kinds.index("successor")
    assert found.counts[at] == 19 and found.scores[at, 1, 0] > 0.2 and found.scores[at, 1, 0] == found.scores[at].max()
    assert found.scores[found.kinds.index("copying"), 1, 0] < 0.1
    write(model, parameter, 0)
    assert profile(model).scores[at, 1, 0] < 0.1
    assert np.isnan(head_profile(model, words(1, 2), orders=[["no", "words"]]).scores[at]).all()


def test_movers_are_attention_by_the_sign_of_the_push_and_records_are_json(tiny_gpt2: Any) -> None:
    prompt = words(3, 7, 12, 3)
    found, movers = head_profile(tiny_gpt2, prompt, target="w3", distractor="w7"), name_movers(tiny_gpt2, prompt, "w3", "w7")
    both = [found.scores[found.kinds.index(kind)] for kind in ("name mover", "negative mover")]
    np.testing.assert_allclose(both[0] + both[1], movers.attention[0], atol=1e-6)
    assert np.array_equal(both[0] > 0, movers.push[0] > 0) and found.kinds == tuple(SCORE_WORDS)
    rows = json.loads(json.dumps(found.rows(), allow_nan=False))
    assert len(rows) == 12 and rows[5]["head"] == "1.1" and rows[0]["successor"] is None
    best = found.top("name mover", 1)[0]
    assert best[2] == both[0].max() == both[0][best[:2]]


def test_a_sets_scores_are_the_mean_and_spread_of_its_rows_each_with_its_own_names(tiny_gpt2: Any) -> None:
    rows = contrast_rows(5)
    texts = [words(3, 7, 12, 3), words(20, 21), words(30, 31, 30, 32), words(40, 3, 41), words(5, 6)]
    names = [("w3", "w7"), ("w20", "w1"), ("w31", "w30"), ("w9", "w8"), ("w5 w6", "w1")]
    told = rows.with_rows([replace(row, prompt=t, positive=f" {a}", negative=f" {b}") for row, t, (a, b) in zip(rows, texts, names)])
    found = head_profile(tiny_gpt2, demonstrations=told)
    alone = [head_profile(tiny_gpt2, text) for text in texts]
    for kind, those in (("previous token", [0, 1, 2, 3, 4]), ("duplicate token", [0, 2])):
        at = found.kinds.index(kind)
        each = np.stack([alone[i].scores[at] for i in those])
        np.testing.assert_allclose(found.scores[at], each.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.spread[at], each.std(0, ddof=1), atol=1e-6)
        assert found.counts[at] == len(those)
    movers = [name_movers(tiny_gpt2, texts[i], *names[i]) for i in (0, 1, 2)]  # one names a word it lacks, one a word of two tokens
    for kind, sign in (("name mover", 1), ("negative mover", -1)):
        at, each = found.kinds.index(kind), np.stack([one.attention[0] * (sign * one.push[0] > 0) for one in movers])
        np.testing.assert_allclose(found.scores[at], each.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.spread[at], each.std(0, ddof=1), atol=1e-6)
        assert found.counts[at] == 3
    assert np.isnan(found.spread[found.kinds.index("copying")]).all() and "copying, spread" not in found.rows()[0]
    assert found.rows()[5]["name mover, spread"] == found.spread[found.kinds.index("name mover"), 1, 1]
    one = head_profile(tiny_gpt2, demonstrations=told.first(1))
    assert np.isnan(one.spread).all(), "one text has no spread"
    unnamed = head_profile(tiny_gpt2, texts=texts)
    assert "name mover" not in unnamed.kinds and np.array_equal(unnamed.scores[0], found.scores[0])


def test_what_cannot_be_read_is_refused_by_name(tiny_gpt2: Any, tiny_backpack_model: Any) -> None:
    with pytest.raises(BadKnob, match="one prompt, and there are 2"):
        head_profile(tiny_gpt2, texts=[words(1, 2), words(3, 4)], target="w1", distractor="w2")
    with pytest.raises(BadKnob, match="a set has names of its own"):
        head_profile(tiny_gpt2, demonstrations=contrast_rows(4), target="w1", distractor="w2")
    with pytest.raises(BadKnob, match="given together"):
        head_profile(tiny_gpt2, words(1, 2), demonstrations=contrast_rows(4))
    with pytest.raises(BadPrompt, match="does not stand"):
        head_profile(tiny_gpt2, words(1, 2), target="w5", distractor="w2")
    with pytest.raises(Obstructed):
        head_profile(tiny_backpack_model, words(1, 2))
    for nothing in ({"prompt": ""}, {"prompt": "  "}, {"texts": []}):
        with pytest.raises(BadPrompt, match="is empty|no text"):
            head_profile(tiny_gpt2, **nothing)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_a_heads_card_is_what_its_parts_are_by_hand(tiny_models: Any, family: str) -> None:
    model, prompt = tiny_models[family], words(3, 7, 12, 3)
    hooks = model.hook_count()
    for layer, head in ((0, 1), (2, 3)):
        card = head_card(model, prompt, layer, head, target="w3", distractor="w7", k=3)
        np.testing.assert_allclose(card.pattern, attention(model, prompt).pattern[0, layer, head], atol=1e-6)
        assert card.without.change == pytest.approx(head_ablation(model, prompt, "w3", "w7").change[0, layer, head], abs=1e-4)
        batch, site = model.tokens(prompt), Site("head_z", layer)
        with torch.no_grad(), edited_bridge(model) as bridge, running(batch.forward()):
            z = activations(model, batch, [site])[site][0].view(len(card.tokens), model.info.n_heads, -1)[:, head]
            _, cache = bridge.run_with_cache(batch.ids)
            v = cache[f"blocks.{layer}.attn.hook_v"][0]
            v = v.reshape(len(card.tokens), -1, model.info.d_head)
            own = v[:, head * v.shape[1] // model.info.n_heads]
            torch.testing.assert_close(torch.from_numpy(card.pattern) @ own, z, atol=1e-5, rtol=1e-4)
            matrix = bridge.W_O[layer, head]
            np.testing.assert_allclose((own @ matrix).norm(dim=-1).numpy(), card.strength, rtol=1e-4)
            assert card.output == direction_tokens(model, z[-1] @ matrix, 3) or card.output.promoted[0][1] > 0
        assert sum(plane.share for plane in card.planes) <= 1 + 1e-6 and card.planes[0].share >= card.planes[-1].share
        assert bool(card.composition) == (layer > 0) and 0 < card.rest <= 1
        assert len(card.rows()) == len(card.tokens) and "Without it" in card.says and json.dumps(card.rows())
    assert model.hook_count() == hooks


def test_composition_is_transformer_lens_and_what_is_looked_for_is_query_times_key(tiny_gpt2: Any) -> None:
    card, prompt = head_card(tiny_gpt2, words(3, 7), 2, 1), words(3, 7, 12)
    with edited_bridge(tiny_gpt2) as bridge, torch.no_grad():
        wanted = bridge.all_composition_scores("V").scores.detach()
        _, name, score = next(one for one in card.composition if one[0] == "its values")
        layer, head = map(int, name.split("."))
        assert score == pytest.approx(float(wanted[layer, head, 2, 1]), rel=1e-4)
        assert card.even["its values"] == pytest.approx(float(wanted[:2, :, 2, 1].mean()), rel=1e-4)
        batch, alone = tiny_gpt2.tokens(prompt), TokenBatch.of([[i] for i in range(99)], None, tiny_gpt2.device)
        with running(batch.forward()):
            query = bridge.run_with_cache(batch.ids)[1]["blocks.1.attn.hook_q"][0, -1, 2]
        with running(alone.forward()):
            keys = bridge.run_with_cache(alone.ids)[1]["blocks.1.attn.hook_k"][:, 0, 2]
    scores = keys @ query / tiny_gpt2.info.d_head**0.5
    scores = scores - scores.mean()
    found = head_card(tiny_gpt2, prompt, 1, 2).looks_for
    assert [text.strip() for text, _ in found] == [f"w{i}" for i in scores.topk(5).indices.tolist()]
    np.testing.assert_allclose([value for _, value in found], scores.topk(5).values, atol=1e-4)


def test_a_card_of_a_head_that_is_not_there_is_refused_and_a_silent_head_costs_nothing(planted: Any) -> None:
    model, parameter = planted
    with pytest.raises(UnknownName, match="9.0"):
        head_card(model, words(1, 2), 9, 0)
    with pytest.raises(BadKnob, match="distractor"):
        head_card(model, words(1, 2), 0, 0, distractor="w1")
    with torch.no_grad():
        parameter[: model.info.d_head] = 0
    card = head_card(model, words(3, 7, 12), 1, 0)
    assert card.without.kl == pytest.approx(0, abs=1e-12) and card.strength.max() == 0 and card.without.change is None
    assert "the answer stays the same" in card.says
