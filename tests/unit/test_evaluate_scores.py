"""Benefit, side effects, comparison: the numbers are those of the definitions, on lanes as on single runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import contrast_rows, words
from tests.operations import edit_of, shift
from workbench.data.demonstrations import Demonstration, Demonstrations, neutral_texts
from workbench.decode import Sampling
from workbench.edits.engine import applied
from workbench.errors import NotEnoughData
from workbench.evaluate import choices
from workbench.evaluate.benefit import benefit, rate
from workbench.evaluate.comparison import compare, compared_tokens
from workbench.evaluate.side_effects import neutral_losses, repetition_4, side_effects
from workbench.methods.registry import get

# float32 sums of a few dozen tokens: rounding is of the order of 1e-6.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def fitted(tiny_models: Any) -> Any:
    import workbench.methods  # noqa: F401 - registers

    return get("mean_difference").fit(tiny_models["gpt2"], contrast_rows()).edit


def log_p(model: Any, prompt: str, text: str, *edits: Any) -> float:
    batch = model.tokens(prompt, text)
    with torch.no_grad(), applied(model, *edits):
        scores = model.logits(batch)[0].double().log_softmax(-1)
    n = int(batch.n_prompt[0])
    return sum(float(scores[i - 1, batch.ids[0, i]]) for i in range(n, batch.ids.shape[1]))


def test_scores_of_choices_follow_their_definitions_over_all_references(tiny_gpt2: Any, fitted: Any) -> None:
    row = Demonstration(
        words(11, 12, 13), " w1", " w50", tags=("true:w2 w3", "true:w1", "false:w51", "false:w52 w53"), split="test", id="a"
    )
    found = benefit(tiny_gpt2, Demonstrations((row, replace(row, prompt=words(14, 15), id="b"))), [(fitted,)])
    assert [lane.label for lane in found.lanes] == ["base", "mean_difference × 1"]
    for lane, edits in enumerate([(), (fitted,)]):
        true = [log_p(tiny_gpt2, row.prompt, text, *edits) for text in (" w1", " w2 w3")]
        false = [log_p(tiny_gpt2, row.prompt, text, *edits) for text in (" w50", " w51", " w52 w53")]
        mass = np.exp(true).sum() / (np.exp(true).sum() + np.exp(false).sum())
        assert found.metric("mc2").per_item[lane, 0] == pytest.approx(mass, abs=TOLERANCE)
        assert found.metric("mc1").per_item[lane, 0] == (true[0] > max(false))
        assert found.metric("mc3").per_item[lane, 0] == np.mean([value > max(false) for value in true])
        assert found.metric("p_answer").per_item[lane, 0] == pytest.approx(np.exp(true).sum(), abs=TOLERANCE)
        assert found.metric("margin_nats").per_item[lane, 0] == pytest.approx(true[0] - max(false), abs=TOLERANCE)
        right, wrong = np.divide(true, [1, 2]), np.divide(false, [1, 1, 2])
        share = np.exp(right).sum() / (np.exp(right).sum() + np.exp(wrong).sum())
        assert found.metric("mc2_per_token").per_item[lane, 0] == pytest.approx(share, abs=TOLERANCE)
        assert found.metric("mc1_per_token").per_item[lane, 0] == (right[0] > wrong.max())
        assert found.metric("margin_nats_per_token").per_item[lane, 0] == pytest.approx(right[0] - wrong.max(), abs=TOLERANCE)
    assert len(found.items) == 4 and {item["lane"] for item in found.items} == {"base", "mean_difference × 1"}
    for i, item in enumerate(found.items):
        at, lane = divmod(i, 2)
        assert (item["id"], item["lane"]) == ("ab"[at], found.lanes[lane].label)
        for name in ("mc1", "mc2", "mc3", "p_answer", "margin_nats", "margin_nats_per_token"):
            assert item[name] == found.metric(name).per_item[lane, at]


def test_the_best_answer_alone_counts_and_a_second_true_one_does_not_help(tiny_gpt2: Any) -> None:
    prompt = words(11, 12, 13)
    words_by_log_p = sorted((f" w{i}" for i in range(1, 60)), key=lambda text: log_p(tiny_gpt2, prompt, text))
    least, middle, most = words_by_log_p[0], words_by_log_p[20], words_by_log_p[-1]
    planted = Demonstration(prompt, least, middle, tags=(f"true:{most.strip()}",), split="test", id="a")
    found = benefit(tiny_gpt2, Demonstrations((planted,)), [])
    assert found.metric("mc1").per_item[0, 0] == 0.0 and found.metric("mc3").per_item[0, 0] == 0.5
    turned = replace(planted, positive=most, tags=(f"true:{least.strip()}",))
    assert benefit(tiny_gpt2, Demonstrations((turned,)), []).metric("mc1").per_item[0, 0] == 1.0


def test_answers_that_begin_with_one_another_are_one_event(tiny_gpt2: Any) -> None:
    row = Demonstration(words(11, 12), " w1", " w50", tags=("true:w1 w2", "true:w1 w2 w3", "true:w4"), split="test", id="a")
    found = benefit(tiny_gpt2, Demonstrations((row,)), []).metric("p_answer").per_item[0, 0]
    wanted = sum(np.exp(log_p(tiny_gpt2, row.prompt, text)) for text in (" w1", " w4"))
    assert found == pytest.approx(wanted, abs=TOLERANCE) and found <= 1.0


@pytest.mark.parametrize(
    ("ids", "kept"),
    [([[1, 2], [1]], [1]), ([[1], [1, 2], [1, 2, 3]], [0]), ([[1, 2], [1, 3]], [0, 1]), ([[1], [1]], [0]), ([[2], [1, 2]], [0, 1])],
)
def test_of_nested_answers_the_shortest_counts(ids: list[list[int]], kept: list[int]) -> None:
    assert choices.counted(ids) == kept


def test_an_edit_that_adds_the_difference_of_sides_gains_on_held_out_rows_and_dose_zero_does_nothing(tiny_gpt2: Any, fitted: Any) -> None:
    found = benefit(tiny_gpt2, contrast_rows(120), [(fitted.scaled(2.0),), (fitted.scaled(0.0),)], batch_size=9)
    gain, nothing = found.metric("mc2").changes[1:]
    assert found.n == 24 and gain is not None and gain.low > 0
    # Not bit-equal: the lanes of one batch differ by the rounding of the batched matrix product.
    assert nothing is not None and abs(nothing.estimate) < 1e-6
    with pytest.raises(NotEnoughData, match="No row of split test"):
        benefit(tiny_gpt2, contrast_rows(3), [(fitted,)])


def test_labels_balance_and_lone_positives_are_scored_by_their_own_rules(tiny_gpt2: Any) -> None:
    labelled = [Demonstration(words(i, i + 1), label=f" w{1 + i % 3}", split="test") for i in range(20, 32)]
    found = benefit(tiny_gpt2, Demonstrations(tuple(labelled)), [])
    scores = np.array([[log_p(tiny_gpt2, row.prompt, text) for text in (" w1", " w2", " w3")] for row in labelled])
    right = [f" w{1 + int(i)}" == row.label for i, row in zip(scores.argmax(1), labelled)]
    assert found.metric("label_accuracy").per_item[0].tolist() == right
    assert found.metric("p_label").values[0].estimate == pytest.approx(
        np.mean([np.exp(s[int(row.label[2]) - 1]) / np.exp(s).sum() for s, row in zip(scores, labelled)]), abs=TOLERANCE
    )
    pair = Demonstration(words(20, 21), " w1", " w2", loss="balance", split="test")
    alone = Demonstration(words(20, 21), " w1 w2", loss="good", split="test")
    both = benefit(tiny_gpt2, Demonstrations((pair, alone)), [])
    ratio = log_p(tiny_gpt2, pair.prompt, " w1") - log_p(tiny_gpt2, pair.prompt, " w2")
    assert both.metric("imbalance_nats").values[0].estimate == pytest.approx(abs(ratio), abs=TOLERANCE)
    assert both.metric("first_preferred").values[0].estimate == float(ratio > 0)
    expected = log_p(tiny_gpt2, alone.prompt, " w1 w2")
    assert both.metric("log_prob_nats").values[0].estimate == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("n", [1, 21])
def test_labels_of_one_class_or_of_too_many_are_refused_with_their_number(tiny_gpt2: Any, n: int) -> None:
    rows = [Demonstration(words(i), label=f" w{1 + i % n}", split="test") for i in range(10, 40)]
    with pytest.raises(NotEnoughData, match=f"have labels alone, {n} different in the set; 2 to 20 can be chosen among"):
        benefit(tiny_gpt2, Demonstrations(tuple(rows)), [])


def test_neutral_losses_are_kl_and_nll_token_by_token_whatever_the_padding(tiny_gpt2: Any, fitted: Any) -> None:
    texts = [words(*range(20, 30)), words(40, 41, 42), words(5), words(60, 61, 62, 63, 64)]
    kl, nll, tokens = neutral_losses(tiny_gpt2, texts, [(), (fitted,)])
    bos = len(tiny_gpt2.tokens(texts[2]).ids[0]) - 1
    kept = [text for text in texts if len(text.split()) + bos >= 2]
    assert tokens.tolist() == [len(text.split()) + bos - 1 for text in kept]
    for column, text in enumerate(kept):
        batch = tiny_gpt2.tokens(text)
        with torch.no_grad():
            base = tiny_gpt2.logits(batch)[0, :-1].double().log_softmax(-1)
            with applied(tiny_gpt2, fitted):
                edited = tiny_gpt2.logits(batch)[0, :-1].double().log_softmax(-1)
        targets = batch.ids[0, 1:, None]
        wanted = (base.exp() * (base - edited)).sum(-1).mean()
        assert kl[1, column] == pytest.approx(float(wanted), abs=TOLERANCE)
        assert nll[1, column] == pytest.approx(float(-edited.gather(-1, targets).mean()), abs=TOLERANCE)
    assert np.abs(kl[0]).max() == 0 and kl[1].min() > 1e-3


def test_side_effects_grow_with_the_dose_and_keep_other_abilities_apart(tiny_gpt2: Any, fitted: Any) -> None:
    texts = [words(*range(i, i + 12)) for i in range(10, 30)]
    rows = contrast_rows(10, seed=9)  # no row that the edit was fitted on
    found = side_effects(
        tiny_gpt2, texts, [(fitted.scaled(0.2),), (fitted,), (fitted.scaled(4.0),)], capability={"other": rows},
        n_generations=4, max_new_tokens=12,
    )  # fmt: skip
    kl = [value.estimate for value in found.metric("kl_nats").values]
    assert kl[0] == 0 and kl[1] < kl[2] < kl[3]
    assert found.metric("perplexity_ratio").values[0].estimate == 1.0
    ratio = found.metric("perplexity_ratio")
    nll = neutral_losses(tiny_gpt2, texts, [(), (fitted,)])[1:]
    wanted = np.exp(((nll[0][1] - nll[0][0]) * nll[1]).sum() / nll[1].sum())
    assert ratio.values[2].estimate == pytest.approx(wanted, rel=1e-4)
    assert found.metric("repetition_4").n == 4 and found.n_texts == 20
    assert found.capability["other"].n == len(rows)
    with pytest.raises(NotEnoughData, match="0 neutral texts"):
        side_effects(tiny_gpt2, [], [(fitted,)])


def test_repetition_counts_repeated_four_grams() -> None:
    assert repetition_4([1, 2, 3]) == 0.0
    assert repetition_4(range(20)) == 0.0
    assert repetition_4([7] * 10) == pytest.approx(1 - 1 / 7)
    assert repetition_4([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 - 4 / 5)


def test_neutral_texts_come_from_the_column_and_from_general_rows() -> None:
    rows = Demonstrations((Demonstration("a", neutral="b"), Demonstration("c", tags=("role:general",)), Demonstration("d", neutral="b")))
    assert neutral_texts(rows) == ("b", "c")


def test_a_comparison_scores_each_lanes_own_text_under_base_and_lane(tiny_gpt2: Any, fitted: Any) -> None:
    prompts = [words(20, 21, 22), words(30)]
    found = compare(tiny_gpt2, prompts, [(fitted,)], Sampling(max_new_tokens=6))
    assert [lane.label for lane in found.lanes] == ["base", "mean_difference × 1"]
    for prompt, (base, edited) in zip(prompts, found.texts):
        assert all(token.kl_nats < 1e-6 and abs(token.change) < TOLERANCE for token in base.tokens)
        assert base.tokens[0].top[0][0] == base.tokens[0].text, "greedy takes the likeliest"
        total = sum(token.log_prob for token in edited.tokens)
        ids = [token.id for token in edited.tokens]
        text = " " + tiny_gpt2.tokenizer.decode(ids)
        assert total == pytest.approx(log_p(tiny_gpt2, prompt, text, fitted), abs=1e-4)
        assert sum(t.base_log_prob for t in edited.tokens) == pytest.approx(log_p(tiny_gpt2, prompt, text), abs=1e-4)
        assert max(token.kl_nats for token in edited.tokens) > 0.01
    same = compare(tiny_gpt2, prompts, [(fitted.scaled(0.0),)], Sampling(max_new_tokens=6))
    assert same.first_difference(0, 1) is None
    assert len(found.rows()) == 4


def test_kl_of_a_compared_token_is_that_of_the_distribution_before_it(tiny_gpt2: Any) -> None:
    edit = edit_of(tiny_gpt2, shift(32, "generated", site="resid_post@1"))
    tokens = compared_tokens(tiny_gpt2, [words(1, 2)], [[5, 6, 7]], (edit,))[0]
    batch = tiny_gpt2.tokens(words(1, 2), words(5, 6, 7))
    with torch.no_grad():
        base = tiny_gpt2.logits(batch)[0].double().log_softmax(-1)
        with applied(tiny_gpt2, edit):
            edited = tiny_gpt2.logits(batch)[0].double().log_softmax(-1)
    kl = (base.exp() * (base - edited)).sum(-1)[-4:-1]
    assert [token.kl_nats for token in tokens] == pytest.approx(kl.tolist(), abs=TOLERANCE)
    assert [token.text for token in tokens] == ["w5", "w6", "w7"]
    assert compared_tokens(tiny_gpt2, [words(1)], [[]], (edit,)) == ((),)


def test_a_rate_counts_matching_generations(tiny_gpt2: Any, fitted: Any) -> None:
    prompts = [words(i, i + 1) for i in range(10, 20)]
    everything = rate(tiny_gpt2, prompts, [(fitted,)], lambda text: True, title="All", sampling=Sampling(max_new_tokens=2))
    assert [value.estimate for value in everything.values] == [1.0, 1.0] and everything.n == 10
    nothing = rate(tiny_gpt2, prompts, [()], lambda text: "w101" in text, title="None", sampling=Sampling(max_new_tokens=2))
    assert nothing.values[0].estimate == 0.0 and nothing.values[0].high > 0.2
