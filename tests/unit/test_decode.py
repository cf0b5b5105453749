"""Decoding: greedy and sampled, lanes, seeds, stop strings, cancel, log-probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.made_edits import shift
from workbench.decode import Sampling, collected, decode, generate, processed
from workbench.errors import BadKnob
from workbench.models.backpack.cache import FIRST_CAPACITY, GrowingRows
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.progress import Cancelled, Progress, Report

PROMPTS = [words(12, 13, 14, 15), words(20, 12)]


def test_greedy_tokens_are_those_of_hugging_face(tiny: LanguageModel) -> None:
    batch = tiny.tokens(PROMPTS)
    with torch.no_grad():
        theirs = tiny.network.generate(  # pyright: ignore
            input_ids=batch.ids, attention_mask=batch.mask.long(), max_new_tokens=8, do_sample=False, pad_token_id=0,
        )[:, batch.ids.shape[1] :]  # fmt: skip
    (ours,) = generate(tiny, PROMPTS, sampling=Sampling(max_new_tokens=8))
    for row, made in enumerate(ours):
        assert list(made.ids) == theirs[row, : len(made.ids)].tolist()


def test_a_lane_equals_the_same_stack_alone(tiny: LanguageModel) -> None:
    a, b = shift(tiny), shift(tiny, "mlp_out", 0, seed=4)
    stacks = [(), (a,), (a, b)]
    for how in (Sampling(max_new_tokens=6), Sampling(max_new_tokens=6, temperature=1.0, top_k=20, top_p=0.9, seed=3)):
        together = generate(tiny, PROMPTS, stacks, how)
        for lane, stack in enumerate(stacks):
            (alone,) = generate(tiny, PROMPTS, [stack], how)
            assert [made.ids for made in together[lane]] == [made.ids for made in alone]
            for mine, theirs in zip(together[lane], alone):
                torch.testing.assert_close(torch.tensor(mine.log_probs), torch.tensor(theirs.log_probs), atol=1e-4, rtol=1e-3)


def test_log_probabilities_are_those_of_a_full_forward(tiny: LanguageModel) -> None:
    edit = shift(tiny)
    from workbench.edits.engine import applied

    _, (made, _) = generate(tiny, PROMPTS, [(), (edit,)], Sampling(max_new_tokens=5))
    whole = tiny.tokens(PROMPTS[0]).append(torch.tensor([made.ids[0]]))
    for token in made.ids[1:]:
        whole = whole.append(torch.tensor([token]))
    with torch.no_grad(), applied(tiny, edit):
        log_probs = tiny.logits(whole).log_softmax(-1)[0]
    n = int(whole.n_prompt[0])
    wanted = [float(log_probs[n - 1 + i, token]) for i, token in enumerate(made.ids)]
    assert list(made.log_probs) == pytest.approx(wanted, abs=1e-4)


def test_seeds_repeat_and_differ_as_asked(tiny_gpt2: LanguageModel) -> None:
    def texts(seed: int, same: bool = True) -> list[list[str]]:
        how = Sampling(max_new_tokens=12, temperature=1.5, seed=seed, same_seed=same)
        return [[made.text for made in lane] for lane in generate(tiny_gpt2, PROMPTS, [(), ()], how)]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)
    assert texts(1)[0] == texts(1)[1]
    apart = texts(1, same=False)
    assert apart[0] != apart[1]


def test_a_row_does_not_depend_on_the_rest_of_the_batch(tiny_gpt2: LanguageModel) -> None:
    how = Sampling(max_new_tokens=8, temperature=1.0, seed=5)
    assert generate(tiny_gpt2, PROMPTS, sampling=how)[0][0].ids == generate(tiny_gpt2, PROMPTS[:1], sampling=how)[0][0].ids


def test_filters_leave_only_what_they_should(tiny_gpt2: LanguageModel) -> None:
    greedy = generate(tiny_gpt2, PROMPTS, sampling=Sampling(max_new_tokens=6))
    for how in (Sampling(6, temperature=2.0, top_k=1), Sampling(6, temperature=2.0, top_p=1e-6)):
        assert [m.ids for m in generate(tiny_gpt2, PROMPTS, sampling=how)[0]] == [m.ids for m in greedy[0]]
    # negative control: without the filter the same noise chooses otherwise
    free = generate(tiny_gpt2, PROMPTS, sampling=Sampling(6, temperature=2.0))
    assert [m.ids for m in free[0]] != [m.ids for m in greedy[0]]


def test_a_repetition_penalty_breaks_a_loop(tiny_gpt2: LanguageModel) -> None:
    plain = generate(tiny_gpt2, PROMPTS, sampling=Sampling(10))[0][0]
    punished = generate(tiny_gpt2, PROMPTS, sampling=Sampling(10, repetition_penalty=50.0))[0][0]
    assert len(set(plain.ids)) < len(plain.ids)
    assert len(set(punished.ids)) == len(punished.ids) > 3


def test_stop_strings_and_the_context_end_a_row(tiny_gpt2: LanguageModel) -> None:
    plain = generate(tiny_gpt2, PROMPTS, sampling=Sampling(10))[0][0]
    word = plain.tokens[2]
    first = plain.text.find(word)
    stopped = generate(tiny_gpt2, PROMPTS, sampling=Sampling(10, stop=(word,)))[0][0]
    assert (stopped.text, stopped.ended) == (plain.text[:first], "stop")
    long = generate(tiny_gpt2, [words(*([1] * 60))], sampling=Sampling(30))[0][0]
    assert (len(long.ids), long.ended) == (5, "context")


def test_cancel_stops_between_two_tokens(tiny_gpt2: LanguageModel) -> None:
    progress, seen = Progress(), 0
    with pytest.raises(Cancelled):
        for _ in decode(tiny_gpt2, PROMPTS, sampling=Sampling(30), progress=progress):
            seen += 1
            if seen == 3:
                progress.cancel()
    assert seen == 3


@pytest.mark.parametrize("bad", [{"temperature": -1}, {"top_p": 0}, {"top_k": 0}, {"max_new_tokens": 0}, {"repetition_penalty": 0}])
def test_impossible_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(BadKnob) as told:
        Sampling(**bad)  # pyright: ignore
    assert told.value.hint


@pytest.mark.parametrize("dim", [1, 2])
def test_rows_that_grow_are_those_that_were_appended_beyond_the_first_capacity_too(dim: int) -> None:
    draw = torch.Generator().manual_seed(0)
    rows, parts = GrowingRows(dim), []
    for n in (FIRST_CAPACITY - 1, 1, 1, 3, FIRST_CAPACITY):
        shape = [2, 4, 4, 3]
        shape[dim] = n
        parts.append(torch.randn(shape, generator=draw))
        assert torch.equal(rows.append(parts[-1]), torch.cat(parts, dim)) and rows.length == sum(part.shape[dim] for part in parts)


def test_generating_at_once_equals_generating_token_by_token_and_leaves_nothing_behind_when_cancelled(tiny: LanguageModel) -> None:
    stacks, how, hooks = [(), (shift(tiny),)], Sampling(max_new_tokens=5), tiny.hook_count()
    steps = list(decode(tiny, PROMPTS, stacks, how))
    assert collected(tiny, PROMPTS, 2, steps, how) == generate(tiny, PROMPTS, stacks, how)
    base = tiny.logits(tiny.tokens(PROMPTS))

    def stop(report: Report) -> None:
        if report.share > 0.5:
            progress.cancel()

    progress = Progress(stop)
    with pytest.raises(Cancelled):
        generate(tiny, PROMPTS, stacks, how, progress=progress)
    assert tiny.hook_count() == hooks and torch.equal(tiny.logits(tiny.tokens(PROMPTS)), base)


@pytest.mark.parametrize(
    "set_by", ["temperature", "top_k", "top_p", "repetition_penalty", "suppress_tokens", "begin_suppress_tokens", "all"]
)
def test_scores_are_those_that_transformers_draws_by(tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch, set_by: str) -> None:
    """The folder's own generation config, sampled: every processed logit of every step, to 1e-5 (float32)."""
    given: dict[str, Any] = {
        "temperature": 0.7, "top_k": 12, "top_p": 0.8, "repetition_penalty": 1.7, "suppress_tokens": [3, 4], "begin_suppress_tokens": [5, 6]
    }  # fmt: skip
    network: Any = tiny_gpt2.network
    config = network.generation_config
    monkeypatch.setattr(config, "do_sample", True)
    for name, value in given.items():
        if set_by in (name, "all"):
            monkeypatch.setattr(config, name, value)
    ids = tiny_gpt2.tokens(words(12, 13, 12)).ids
    torch.manual_seed(0)
    found = network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, pad_token_id=99, output_scores=True, return_dict_in_generate=True
    )
    own = tiny_gpt2.generation
    how = own.sampling(max_new_tokens=5)
    assert how.temperature == (0.7 if set_by in ("temperature", "all") else 1.0)
    assert how.top_k == (12 if set_by in ("top_k", "all") else 50)  # what transformers takes where the folder names none
    for step, theirs in enumerate(found.scores):
        row = found.sequences[0, : ids.shape[1] + step].tolist()
        batch = TokenBatch.of([row], [ids.shape[1]], tiny_gpt2.device)
        with torch.no_grad():
            ours = processed(tiny_gpt2.logits(batch)[:, -1].float(), batch, how, own, is_first=step == 0)
        assert torch.equal(ours.isinf(), theirs.isinf())
        assert (ours - theirs)[~theirs.isinf()].abs().max() < 1e-5


def test_greedy_text_under_the_folders_repetition_penalty_is_that_of_transformers(tiny_gpt2: LanguageModel, monkeypatch: Any) -> None:
    network: Any = tiny_gpt2.network
    monkeypatch.setattr(network.generation_config, "repetition_penalty", 1.6)
    prompt = words(12, 13, 12)
    ids = tiny_gpt2.tokens(prompt).ids
    wanted = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=99)
    found = generate(tiny_gpt2, [prompt], sampling=tiny_gpt2.generation.sampling(max_new_tokens=8))[0][0]
    assert list(found.ids) == wanted[0, ids.shape[1] :].tolist()
    assert found.ids != generate(tiny_gpt2, [prompt], sampling=Sampling(max_new_tokens=8))[0][0].ids


def test_what_a_folder_asks_for_and_is_not_done_is_named(tiny_gpt2: LanguageModel, monkeypatch: Any) -> None:
    network: Any = tiny_gpt2.network
    assert tiny_gpt2.generation.undone == ()
    monkeypatch.setattr(network.generation_config, "min_p", 0.05)
    assert tiny_gpt2.generation.undone == ("min_p",)
    assert tiny_gpt2.generation.sampling(temperature=0.5, top_k=0).top_k is None
