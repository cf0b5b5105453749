"""The measure by which fits choose: benefit and wins on validation rows, KL(base ‖ edited) on neutral text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows, words
from workbench.edits.engine import applied
from workbench.methods import get
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
