"""Forked scoring gives the numbers of plain scoring, for every family, and starts where it says."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.made_edits import dense, low_rank, rows, several, shift
from workbench import forks, memo
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.models.tokens import TokenBatch
from workbench.progress import silent
from workbench.score import batch_scores, plain_scores  # pyright: ignore[reportPrivateUsage]
from workbench.sites import Site

# other shapes of the same float32 products
CLOSE = 2e-5


def questions(model: Any) -> TokenBatch:
    """Prompts with one to four answers of different lengths, one answer of a single token."""
    asked = {
        words(12, 13, 14): ["w1", "w2 w3", "w4 w5 w6"],
        words(20, 12): ["w7 w8"],
        words(31, 32, 33, 34, 35): ["w1", "w2 w3 w4 w5", "w9", "w6"],
    }
    return model.tokens([prompt for prompt, ends in asked.items() for _ in ends], [end for ends in asked.values() for end in ends])


def plainly(model: Any, batch: TokenBatch, stacks: list[tuple[Edit, ...]]) -> torch.Tensor:
    width = int((batch.lengths - batch.n_prompt).max())
    return plain_scores(model, batch, stacks, 32, width, None, silent())


def stacks_of(model: Any) -> list[tuple[Edit, ...]]:
    made = several(model)
    return [(), *((edit,) for edit in made), (made[0], made[4]), (shift(model, layer=2), made[1]), (shift(model, where="generated"),),
            (shift(model, where="prompt"),), (shift(model).scaled(0.0),), (shift(model, layer=2, spare=1.0),)]  # fmt: skip


def test_scores_are_those_of_plain_runs(tiny: Any) -> None:
    stacks, batch = stacks_of(tiny), questions(tiny)
    assert sum(forks.can_fork(tiny, stack) for stack in stacks) == len(stacks) - 1  # rows of the embedding come before all blocks
    torch.testing.assert_close(batch_scores(tiny, batch, stacks).per_token, plainly(tiny, batch, stacks), atol=CLOSE, rtol=1e-4)


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_chunks_of_any_size_give_the_same(tiny_gpt2: Any, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks, batch = stacks_of(tiny_gpt2)[:4], questions(tiny_gpt2)
    forks.forget(tiny_gpt2)
    monkeypatch.setattr(forks.bundles, "TOKENS_AT_ONCE", at_once)
    monkeypatch.setattr(forks.scores, "LOGITS_AT_ONCE", 100 * at_once)
    found = batch_scores(tiny_gpt2, batch, stacks).per_token
    torch.testing.assert_close(found, plainly(tiny_gpt2, batch, stacks), atol=CLOSE, rtol=1e-4)


def lengths(model: Any) -> TokenBatch:
    """Forty prompts of 3 to 8 words, each with answers of 1 to 12 words."""
    draw = random.Random(0)
    asked = [words(*draw.choices(range(99), k=3 + i % 6)) for i in range(40)]
    pairs = [(prompt, words(*draw.choices(range(99), k=draw.randint(1, 12)))) for prompt in asked for _ in range(draw.randint(1, 7))]
    return model.tokens(*map(list, zip(*pairs)))


def test_chunks_run_hardly_more_than_the_tokens_there_are_and_every_row_once(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks.bundles, "TOKENS_AT_ONCE", 64)
    monkeypatch.setattr(forks.bundles, "LEAST_TOKENS", 16)
    batch = lengths(tiny_gpt2)
    found = list(forks.bundles.bundles(batch))
    assert sorted(row for bundle in found for row in bundle.rows) == list(range(len(batch)))
    prompts = {tuple(ids[mask][:n].tolist()) for ids, mask, n in zip(batch.ids, batch.mask, batch.n_prompt)}
    least = sum(map(len, prompts)) + int((batch.lengths - batch.n_prompt - 1).sum())
    run = sum(bundle.prompts.ids.numel() + sum(end.targets[:, 1:].numel() for end in bundle.ends) for bundle in found)
    assert least <= run <= 1.15 * least
    assert all(end.targets.numel() <= 64 or len(end.rows) == 1 for bundle in found for end in bundle.ends)
    # Control: answers in the order of their prompts are padded to the longest of each batch.
    by_prompt = batch.n_prompt.argsort(stable=True).split(8)
    assert sum(len(rows) * int((batch.lengths - batch.n_prompt)[rows].max()) for rows in by_prompt) > 1.4 * run


def test_what_runs_together_is_bounded_whatever_the_rows(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks.bundles, "TOKENS_AT_ONCE", 64)
    monkeypatch.setattr(forks.bundles, "SELECTED_TOKENS", 200)
    monkeypatch.setattr(forks.bundles, "BUNDLE_TOKENS", 300)
    many = tiny_gpt2.tokens([words(*range(12, 32))] * 600, [words(1 + i % 9, 2) for i in range(600)])
    for batch in (lengths(tiny_gpt2), many):
        for bundle in forks.bundles.bundles(batch):
            assert sum(int(end.n_tokens.sum()) for end in bundle.ends) <= 300 or len(bundle.rows) <= 256
            assert all(end.batch.ids.numel() <= 200 for end in bundle.ends)
            assert bundle.lanes_at_once * max(end.batch.ids.numel() for end in bundle.ends) <= 200
    stacks = stacks_of(tiny_gpt2)[:4]
    found, wanted = (run(tiny_gpt2, many.rows(slice(40)), stacks) for run in (lambda *a: batch_scores(*a).per_token, plainly))
    torch.testing.assert_close(found, wanted, atol=CLOSE, rtol=1e-4)


def test_what_candidates_to_come_need_is_kept_by_the_first_pass(tiny_gpt2: Any) -> None:
    batch, blocks = questions(tiny_gpt2), tiny_gpt2.blocks
    edit, calls = shift(tiny_gpt2, layer=1), [0]

    def count(_: Any, __: Any) -> None:
        calls[0] += 1

    def first_block_calls(also: tuple[Site, ...]) -> int:
        forks.forget(tiny_gpt2)
        calls[0] = 0
        with pytest.MonkeyPatch.context() as patch, memo.remembering(also), tiny_gpt2.watching([(blocks[0], count)]):
            patch.setattr(forks.passes, "is_quiet", lambda: True)  # the watching is no edit
            batch_scores(tiny_gpt2, batch, [()])
            batch_scores(tiny_gpt2, batch, [(edit,)])
        return calls[0]

    assert first_block_calls(()) == 2 * first_block_calls((Site("resid_post", 1),)) > 0


def test_a_last_token_rule_and_a_law_over_the_call_run_plainly(tiny_gpt2: Any) -> None:
    assert not forks.can_fork(tiny_gpt2, (shift(tiny_gpt2, where="last"),))
    batch, stacks = questions(tiny_gpt2), [(shift(tiny_gpt2, where="last"),), (), (shift(tiny_gpt2),)]
    torch.testing.assert_close(batch_scores(tiny_gpt2, batch, stacks).per_token, plainly(tiny_gpt2, batch, stacks), atol=CLOSE, rtol=1e-4)


def test_forks_are_where_the_first_change_is(tiny_gpt2: Any) -> None:
    at = forks.fork_of
    assert at(tiny_gpt2, ()) == 3
    assert at(tiny_gpt2, (shift(tiny_gpt2, layer=1),)) == 2
    assert at(tiny_gpt2, (shift(tiny_gpt2, "mlp_out", 1),)) == 1
    assert at(tiny_gpt2, (low_rank(tiny_gpt2), shift(tiny_gpt2, layer=2))) == 1
    assert at(tiny_gpt2, (rows(tiny_gpt2),)) is None


def test_only_the_blocks_behind_the_fork_run(tiny_gpt2: Any) -> None:
    batch, calls = questions(tiny_gpt2), [0, 0, 0]

    def count(layer: int) -> Any:
        def note(_: Any, __: Any) -> None:
            calls[layer] += 1

        return note

    forks.forget(tiny_gpt2)
    batch_scores(tiny_gpt2, batch, [()])
    edit = shift(tiny_gpt2, layer=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forks.passes, "is_quiet", lambda: True)  # the watching below is no edit
        with tiny_gpt2.watching([(block, count(layer)) for layer, block in enumerate(tiny_gpt2.blocks)]):
            batch_scores(tiny_gpt2, batch, [(), (edit,)])
            first = list(calls)
            batch_scores(tiny_gpt2, batch, [(), (edit.scaled(0.5),), (edit.scaled(2.0),)])
    assert first[2] > first[0] > 0 and first[1] == first[0]
    assert [now - before for now, before in zip(calls, first)][:2] == [0, 0]  # the kept pass serves the second evaluation


def test_edits_around_the_call_are_not_lost(tiny_gpt2: Any) -> None:
    batch, outer = questions(tiny_gpt2), dense(tiny_gpt2, "w_o")
    with applied(tiny_gpt2, outer):
        found = batch_scores(tiny_gpt2, batch, [(), (shift(tiny_gpt2),)]).per_token
    wanted = plainly(tiny_gpt2, batch, [(outer,), (outer, shift(tiny_gpt2))])
    torch.testing.assert_close(found, wanted, atol=CLOSE, rtol=1e-4)


def test_what_is_kept_stays_within_its_limit(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forks.forget(tiny_gpt2)
    monkeypatch.setattr(forks.kept, "KEPT_BYTES", 0)
    batch_scores(tiny_gpt2, questions(tiny_gpt2), [(), (shift(tiny_gpt2),)])
    assert not forks.kept.store_of(tiny_gpt2)._chunks  # pyright: ignore[reportPrivateUsage]


def test_hooks_are_gone_afterwards(tiny: Any) -> None:
    before = tiny.hook_count()
    batch_scores(tiny, questions(tiny), stacks_of(tiny)[:3])
    assert tiny.hook_count() == before


def test_divergences_are_those_of_whole_logits(tiny: Any) -> None:
    texts = tiny.tokens([words(12, 13, 14, 15, 16), words(20, 12), words(31, 32, 33, 34)])
    stacks = [stack for stack in stacks_of(tiny) if forks.can_fork(tiny, stack)]
    kl, nll, owner = forks.divergences(tiny, texts, stacks)
    base = _log_probs(tiny, texts, ())
    for lane, stack in enumerate(stacks):
        edited = _log_probs(tiny, texts, stack)
        wanted_kl = torch.cat([(b.exp() * (b - e)).sum(-1)[:-1] for b, e in zip(base, edited)])
        wanted_nll = torch.cat([-e[:-1].gather(-1, row[mask][1:, None])[:, 0] for e, row, mask in zip(edited, texts.ids, texts.mask)])
        torch.testing.assert_close(kl[lane], wanted_kl.double(), atol=CLOSE, rtol=1e-3)
        torch.testing.assert_close(nll[lane], wanted_nll.double(), atol=CLOSE, rtol=1e-4)
    assert owner.tolist() == [0] * 4 + [1] + [2] * 3


def _log_probs(model: Any, batch: TokenBatch, stack: tuple[Edit, ...]) -> list[torch.Tensor]:
    with torch.no_grad(), applied(model, *stack):
        logits = model.logits(batch).log_softmax(-1)
    return [row[mask] for row, mask in zip(logits, batch.mask)]


def test_a_backpack_runs_plainly(tiny_backpack_model: Any) -> None:
    assert not forks.runs_apart(tiny_backpack_model)


@pytest.mark.parametrize("name", ["gpt2", "backpack"])
def test_rows_chosen_from_a_cache_go_on_as_they_would_alone(name: str, tiny_gpt2: Any, tiny_backpack_model: Any) -> None:
    model = tiny_gpt2 if name == "gpt2" else tiny_backpack_model
    batch, chosen = model.tokens([words(12, 13, 14), words(20, 12)]), torch.tensor([1, 0, 1])
    with torch.no_grad():
        _, cache = model.step(batch, model.new_cache(), 0)
        part = model.selected(cache, chosen)
        longer = TokenBatch(batch.ids[chosen], batch.mask[chosen], batch.n_prompt[chosen]).append(torch.tensor([31, 32, 33]))
        found, _ = model.step(longer, part, batch.ids.shape[1])
        torch.testing.assert_close(found, model.logits(longer)[:, -1], atol=CLOSE, rtol=1e-4)
        own = batch.append(torch.tensor([34, 35]))  # the cache that was chosen from is as it was
        torch.testing.assert_close(model.step(own, cache, batch.ids.shape[1])[0], model.logits(own)[:, -1], atol=CLOSE, rtol=1e-4)
