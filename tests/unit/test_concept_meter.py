"""The concept meter: scores of prompts and of tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.concepts import concept_rows, meaningless_rows
from tests.conftest import words
from workbench.errors import BadKnob, ModelMismatch
from workbench.lenses.concept_meter import concept_meter, metered_prompts, metered_tokens
from workbench.methods import get


def test_a_meter_tells_new_prompts_apart_and_one_without_meaning_does_not(tiny_gpt2: Any) -> None:
    rows = concept_rows(120)
    for kind in ("linear", "mlp"):
        meter = concept_meter(tiny_gpt2, rows, kind=kind, blocks=(1, 0))  # of a random network the lower blocks hold most of the words
        test = rows.split("test")
        scores = metered_prompts(tiny_gpt2, meter, test.column("prompt"))[0]
        is_target = torch.tensor([row.label == "target" for row in test])
        assert meter.accuracy > 0.85
        assert scores[is_target].mean() > scores[~is_target].mean() + 0.3
    assert concept_meter(tiny_gpt2, meaningless_rows(120)).accuracy < 0.75


def test_the_last_token_of_a_strip_is_the_score_of_the_prompt_and_generated_tokens_are_marked(tiny_gpt2: Any) -> None:
    meter, prompt = concept_meter(tiny_gpt2, concept_rows()), words(12, 13, 50)
    (strip,) = metered_tokens(tiny_gpt2, meter, prompt)
    alone = float(metered_prompts(tiny_gpt2, meter, [prompt])[0, 0])
    assert strip.summary == strip.tokens[-1].probability == pytest.approx(alone, abs=1e-5)  # float32, another batch shape
    (said,) = metered_tokens(tiny_gpt2, meter, prompt, [" w1 w2"])
    assert [token.generated for token in said.tokens][-2:] == [True, True]
    assert sum(token.generated for token in said.tokens) == 2
    assert [token.probability for token in said.tokens[:-2]] == pytest.approx([token.probability for token in strip.tokens], abs=1e-5)
    assert said.summary == pytest.approx(sum(token.probability for token in said.tokens[-2:]) / 2)


def test_each_lane_is_read_under_its_own_edit(tiny_gpt2: Any) -> None:
    rows = concept_rows()
    config = get("are").configure({"lr_g": 1e-2, "max_rounds": 1, "epochs_g": 1, "n_prompts": 16, "min_accuracy": 0.0, "sample_every": 0})
    edit = get("are").fit(tiny_gpt2, rows, config).edit
    meter = concept_meter(tiny_gpt2, rows)
    base, edited = metered_prompts(tiny_gpt2, meter, [words(20, 21, 50), words(30, 31, 51)], [(), (edit,)])
    assert (edited > base + 0.1).all()
    strips = metered_tokens(tiny_gpt2, meter, words(20, 21, 50), [None, " w1"], [(), (edit,)])
    assert [strip.lane for strip in strips] == [0, 1]
    assert strips[1].tokens[-2].probability != strips[0].tokens[-1].probability


def test_a_meter_of_another_model_and_missing_continuations_are_refused(tiny_gpt2: Any) -> None:
    meter = concept_meter(tiny_gpt2, concept_rows())
    with pytest.raises(BadKnob, match="1 continuations for 2 lanes"):
        metered_tokens(tiny_gpt2, meter, words(1), [None], [(), ()])
    with pytest.raises(ModelMismatch):
        metered_prompts(tiny_gpt2, replace(meter, model=replace(meter.model, weights="other")), [words(1)])
