"""The measure by which fits choose: benefit and wins on validation rows, KL(base ‖ edited) on neutral text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows, words
from workbench.data.passages import Passages
from workbench.decode import Generated
from workbench.edits.engine import applied
from workbench.methods import get
from workbench.methods.shared import ground, neutral
from workbench.methods.shared.ground import ground_of
from workbench.methods.shared.validation import measured, neutral_kl

NEUTRAL = [words(*range(20, 32)), words(40, 41, 42), words(60, 61, 62, 63, 64)]


@pytest.fixture(scope="module")
def edit(tiny_models: Any) -> Any:
    return get("mean_difference").fit(tiny_models["gpt2"], contrast_rows()).edit.scaled(3.0)


def log_p(model: Any, texts: list[str], *edits: Any) -> torch.Tensor:
    with torch.no_grad(), applied(model, *edits):
        batch = model.tokens(texts)
        return model.logits(batch)[batch.mask].double().log_softmax(-1)


def test_damage_is_the_divergence_of_the_edited_model_from_the_base_a_token_and_not_the_reverse(tiny_gpt2: Any, edit: Any) -> None:
    base, moved = log_p(tiny_gpt2, NEUTRAL), log_p(tiny_gpt2, NEUTRAL, edit)
    forward = float((base.exp() * (base - moved)).sum(-1).mean())
    reverse = float((moved.exp() * (moved - base)).sum(-1).mean())
    assert abs(forward - reverse) > 0.01 * forward, "control: here the two differ"
    # float32 logits: rounding of about 1e-6 a token.
    assert neutral_kl(tiny_gpt2, [(), (edit,)], NEUTRAL) == pytest.approx([0.0, forward], abs=2e-6)
    assert neutral_kl(tiny_gpt2, [(edit,), ()], []).tolist() == [0.0, 0.0]


def test_many_texts_and_stacks_give_what_they_give_alone(tiny_gpt2: Any, edit: Any) -> None:
    texts = [words(*range(10 + i, 14 + i + i % 9)) for i in range(60)]
    stacks = [(edit.scaled(dose),) for dose in (0.5, 1.0, 2.0)]
    together = neutral_kl(tiny_gpt2, stacks, texts)
    base = log_p(tiny_gpt2, texts)
    for stack, found in zip(stacks, together):
        moved = log_p(tiny_gpt2, texts, *stack)
        assert found == pytest.approx(float((base.exp() * (base - moved)).sum(-1).mean()), abs=2e-6)


def test_benefit_is_the_share_of_the_good_answer_and_wins_are_counted(tiny_gpt2: Any, edit: Any) -> None:
    rows = contrast_rows(60).split("validation")

    def total(texts: list[str], *edits: Any) -> torch.Tensor:
        found: list[float] = []
        for prompt, text in zip(rows.column("prompt"), texts):
            batch = tiny_gpt2.tokens(prompt, text)
            with torch.no_grad(), applied(tiny_gpt2, *edits):
                scores = tiny_gpt2.logits(batch)[0].double().log_softmax(-1)
            n = int(batch.n_prompt[0])
            found.append(sum(float(scores[i - 1, batch.ids[0, i]]) for i in range(n, batch.ids.shape[1])))
        return torch.tensor(found, dtype=torch.float64)

    lanes = [(), (edit,)]
    good, bad = ([total(rows.column(side), *lane) for lane in lanes] for side in ("positive", "negative"))
    before = torch.logaddexp(good[0], bad[0])
    found = measured(tiny_gpt2, lanes, rows, NEUTRAL)
    for i, one in enumerate(found):
        kept = (torch.logaddexp(good[i], bad[i]) - before).clamp(max=0.0).exp()
        assert one.benefit == pytest.approx(float((torch.sigmoid(good[i] - bad[i]) * kept).mean()), abs=2e-5)
        assert one.wins == float((good[i] > bad[i]).double().mean()) and one.n == len(rows)
    assert [one.damage for one in found] == pytest.approx(neutral_kl(tiny_gpt2, lanes, NEUTRAL).tolist(), abs=1e-9)


def test_margins_are_a_token_of_each_answer_and_a_prompts_rows_are_one_observation(tiny_gpt2: Any, edit: Any) -> None:
    asked = [words(12, 13), words(12, 13), words(20, 21, 22)]
    good, bad = [words(1), words(2, 3, 4), words(5, 6)], [words(7, 8, 9), words(10), words(11)]
    rows = contrast_rows(3).with_rows(
        replace(row, prompt=prompt, positive=yes, negative=no) for row, prompt, yes, no in zip(contrast_rows(3), asked, good, bad)
    )

    def per_token(prompt: str, text: str) -> tuple[float, int]:
        batch = tiny_gpt2.tokens(prompt, text)
        with torch.no_grad(), applied(tiny_gpt2, edit):
            scores = tiny_gpt2.logits(batch)[0].double().log_softmax(-1)
        n = int(batch.n_prompt[0])
        found = [float(scores[i - 1, batch.ids[0, i]]) for i in range(n, batch.ids.shape[1])]
        return sum(found), len(found)

    def of(prompt: str, yes: str, no: str, *, a_token: bool) -> float:
        (one, n), (other, m) = per_token(prompt, yes), per_token(prompt, no)
        return one / n - other / m if a_token else one - other

    margins, sums = ([of(*row, a_token=by) for row in zip(asked, good, bad)] for by in (True, False))
    (found,) = measured(tiny_gpt2, [(edit,)], rows, [])
    assert found.margins == pytest.approx(((margins[0] + margins[1]) / 2, margins[2]), abs=2e-5)
    assert found.margin == pytest.approx((margins[0] + margins[1]) / 4 + margins[2] / 2, abs=2e-5)
    assert abs(sums[2] - margins[2]) > 0.1, "control: summed over tokens it is another number"


def test_the_ground_of_a_choice_holds_the_models_own_greedy_answers_of_which_the_answer_alone_counts(tiny_gpt2: Any) -> None:
    found = ground_of(tiny_gpt2, contrast_rows(), 0)
    assert found.source == "4 texts (the demonstrations) and 4 of the model's own answers" and len(found.batch) == 8
    for i in range(len(found.batch)):
        ids, counted = found.batch.ids[i][found.batch.mask[i]], found.counted[i][found.batch.mask[i]]
        n = int(found.batch.n_prompt[i])
        assert counted.nonzero()[:, 0].tolist() == list(range(n - 1, len(ids)))  # of a given text all: its first token is its prompt
        if i < 4:
            assert n == 1
            continue
        with torch.no_grad():
            said = tiny_gpt2.logits(tiny_gpt2.tokens(tiny_gpt2.tokenizer.decode(ids)))[0].argmax(-1)
        assert said[n - 1 : -1].tolist() == ids[n:].tolist() and len(ids) > n


def test_a_model_that_reads_the_passages_is_measured_on_them_drawn_by_the_seed_and_goes_on_from_others(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tuple(words(*range(10 + i % 40, 18 + i % 40 + i // 40)) for i in range(80))
    monkeypatch.setattr(ground, "passages", lambda: Passages(texts, ()))
    monkeypatch.setattr(ground, "reads_passages", lambda model: True)
    found, other = (ground_of(tiny_gpt2, contrast_rows(), seed) for seed in (0, 1))
    assert found.source == f"{ground.N_TEXTS} texts (shipped passages) and {ground.N_OWN} of the model's own answers"
    said = [tiny_gpt2.tokenizer.decode(ids[mask]) for ids, mask in zip(found.batch.ids, found.batch.mask)]
    given, own = said[: ground.N_TEXTS], said[ground.N_TEXTS :]
    kept = set(Passages(texts, ()).read)
    assert set(given) <= kept and len(set(given)) == ground.N_TEXTS, "no text that edits are measured on"
    openings = {" ".join(text.split()[:6]) for text in kept - set(given)}
    assert all(" ".join(text.split()[:6]) in openings for text in own)
    again = [tiny_gpt2.tokenizer.decode(ids[mask]) for ids, mask in zip(other.batch.ids, other.batch.mask)]
    assert set(again[: ground.N_TEXTS]) != set(given), "another seed draws others"


def test_samples_like_the_demonstrations_are_left_out_while_eight_others_are_left(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = contrast_rows().with_rows(replace(row, neutral=None) for row in contrast_rows())
    like = f"{rows.split('fit')[0].prompt} w70"
    fine = [words(60 + i, *range(70, 76)) for i in range(10)]

    def kept(n: int) -> set[str]:
        ids = {text: tuple(tiny_gpt2.tokenizer(text)["input_ids"]) for text in [like, *fine[:n]]}
        drawn = tuple(Generated(0, "", text, (), own, (), "length") for text, own in ids.items())
        monkeypatch.setattr(neutral.memo, "once", lambda *_: drawn)
        found = neutral.neutral_of(tiny_gpt2, rows, 0)
        assert found.source == "the model's own samples" and set(found.fit).isdisjoint(found.held)
        return {*found.fit, *found.held}

    assert kept(9) == set(fine[:9]) and kept(neutral.MIN_TEXTS) == set(fine[: neutral.MIN_TEXTS])
    assert kept(neutral.MIN_TEXTS - 1) == {like, *fine[: neutral.MIN_TEXTS - 1]}, "control: too few, so all"
