"""Training of the embedded models: the same bits from the same seed, also across a stop; shipped folders load anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from workbench.world.asking import Model
from workbench.world.heads import head_effects
from workbench.world.measures import average, hits_share
from workbench.world.tokenizer import SEPARATOR, train_tokenizer
from workbench.world.train import Recipe, TrainingRun, fresh_model, logits_of, opened, ship

TINY = Recipe("gpt", steps=6, d_model=16, n_layer=2, n_head=2, n_tokens=256, warmup=2, phases="circuits:3,everything")
TINY_BACKPACK = replace(TINY, which="backpack")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(0, per_kind=60)


def _state(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("recipe", [TINY, TINY_BACKPACK], ids=lambda r: r.which)
def test_two_runs_from_one_seed_are_bit_equal_and_another_seed_differs(recipe: Recipe, tokenizer: Tokenizer, tmp_path: Path) -> None:
    states: list[dict[str, torch.Tensor]] = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = TrainingRun(replace(recipe, seed=seed), tmp_path / name, tokenizer)
        run.train(3, tell=lambda _: None)
        states.append(_state(run))
    assert _equal(states[0], states[1])
    assert not _equal(states[0], states[2])


@pytest.mark.parametrize("recipe", [TINY, TINY_BACKPACK], ids=lambda r: r.which)
def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(recipe: Recipe, tokenizer: Tokenizer, tmp_path: Path) -> None:
    whole = TrainingRun(recipe, tmp_path / "whole", tokenizer)
    whole.train(tell=lambda _: None)
    TrainingRun(recipe, tmp_path / "parts", tokenizer).train(2, tell=lambda _: None)
    resumed = TrainingRun(recipe, tmp_path / "parts", tokenizer)
    assert resumed.step == 2
    resumed.train(tell=lambda _: None)
    assert _equal(_state(whole), _state(resumed))
    assert whole.step == resumed.step == 6


def test_the_loss_falls_in_a_few_steps_and_the_curve_is_kept(tokenizer: Tokenizer, tmp_path: Path) -> None:
    run = TrainingRun(replace(TINY, steps=60, lr=1e-2, phases="everything"), tmp_path / "run", tokenizer)
    run.train(tell=lambda _: None)
    assert [step for step, _ in run.curve] == [20, 40, 60]
    assert run.curve[-1][1] < run.curve[0][1]
    kept = json.loads((tmp_path / "run" / "training.json").read_text())
    assert kept["steps_done"] == 60
    assert kept["tokens"] == 60 * 256


def test_the_learning_rate_warms_up_holds_and_falls() -> None:
    cut = Recipe("gpt", steps=1000, warmup=100, lr=1e-3, decay_share=0.5, earlier="400:0.5@300")
    assert cut.lr_at(250) == pytest.approx(7.5e-4)  # half of the way down from 200 to 400
    assert cut.lr_at(300) == pytest.approx(1e-5)  # warming up again
    assert cut.lr_at(640) == 1e-3
    recipe = Recipe("gpt", steps=1000, warmup=100, lr=1e-3, decay_share=0.3)
    assert recipe.lr_at(0) == pytest.approx(1e-5)
    assert recipe.lr_at(100) == recipe.lr_at(699) == 1e-3
    assert recipe.lr_at(850) == pytest.approx(5e-4)
    assert recipe.lr_at(999) == pytest.approx(2e-5)


@pytest.mark.parametrize("recipe", [TINY, TINY_BACKPACK], ids=lambda r: r.which)
def test_a_shipped_folder_gives_the_same_logits_but_for_half_precision(recipe: Recipe, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from workbench.world.card import loaded

    run = TrainingRun(recipe, tmp_path / "run", tokenizer)
    run.train(3, tell=lambda _: None)
    ship(opened(tmp_path / "run"), tmp_path / "shipped")
    model, n_head = loaded(tmp_path / "shipped")
    assert n_head == recipe.n_head
    ids = run.stream.batch(0)[:2]
    with torch.no_grad():
        ours, theirs = logits_of(run.model.eval(), ids), logits_of(model.network, ids)
    # half precision keeps 11 bits of each weight; logits are sums over 16 channels of size about one
    torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=0)
    assert not torch.equal(ours, theirs)
    assert model.ids("The capital")[0] == tokenizer.token_to_id(SEPARATOR)


def test_prompts_of_different_length_in_one_batch_equal_each_alone(tokenizer: Tokenizer) -> None:
    model = Model(fresh_model(TINY, tokenizer).eval(), tokenizer)
    prompts = ["The capital of France is", "Tom", "Question: What is the capital of Spain? Answer:"]
    together = model.next_log_probs(prompts)
    for row, prompt in zip(together, prompts):
        torch.testing.assert_close(row, model.next_log_probs([prompt])[0], atol=1e-5, rtol=0)  # float32 sums in another order


def test_head_effects_of_a_random_model_show_no_name_mover(tokenizer: Tokenizer) -> None:
    found = head_effects(Model(fresh_model(TINY, tokenizer).eval(), tokenizer), TINY.n_head)
    assert len(found["heads"]) == TINY.n_layer * TINY.n_head
    assert found["top1"] < 0.1
    assert max(abs(h["gap_lost_when_ablated"]) for h in found["heads"]) < 0.5


def test_intervals_hold_their_value_and_narrow_with_n() -> None:
    few, many = hits_share("few", [True] * 9 + [False]), hits_share("many", [True] * 900 + [False] * 100)
    assert few.low < 0.9 < few.high and many.low < 0.9 < many.high
    assert many.high - many.low < few.high - few.low
    assert hits_share("all", [True] * 20).high == pytest.approx(1.0)
    mean = average("mean", [0.0, 1.0] * 50)
    assert mean.low < 0.5 < mean.high
