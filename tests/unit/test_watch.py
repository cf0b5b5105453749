"""A long watch: a planted loop is told at its first period, text that does not go round is not, and where lanes part is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.conftest import word_tokenizer, words
from tests.made_edits import made, shift
from workbench.edits.engine import applied
from workbench.evaluate.watch import LEAST_REPEATED, LoopFinder, watch
from workbench.models.catalog import load
from workbench.operations import TransformAt
from workbench.progress import Progress, Report
from workbench.sampling import Sampling
from workbench.session import Session
from workbench.sites import Site

DRAWN = np.random.default_rng(0).integers(1, 90, 500).tolist()


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny random GPT-2 with a context of 512."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=512, bos_token_id=99, eos_token_id=99, tie_word_embeddings=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.lm_head.weight.normal_(0, 1.0)
    folder = tmp_path_factory.mktemp("long") / "gpt2"
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return load(str(folder))


def writes(model: Any, ids: list[int]) -> Any:
    """An edit under which the model writes given tokens, one a forward."""
    table = model.network.get_output_embeddings().weight.detach()
    table = 30.0 * table / table.norm(dim=1, keepdim=True)
    site, turn = Site("ln_final"), iter(ids)

    def say(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :-1], table[next(turn)].to(x)[None, None].expand(len(x), 1, -1)], 1)

    return made(model, lambda dose: (TransformAt(site, say, x_width),))


x_width = 32


@pytest.mark.parametrize("period", [3, 20, 57])
def test_a_loop_planted_after_300_tokens_is_told_at_its_first_period(long_model: Any, period: int) -> None:
    ids = DRAWN[:300] + (DRAWN[300 : 300 + period] * 100)[:190]
    found = watch(long_model, words(11, 12), [writes(long_model, ids)], 480)
    text = found.texts[1]
    assert text.ended == "loop" and text.loop is not None
    assert (text.loop.start, text.loop.period) == (300, period)
    assert text.loop.told_at == 300 + period + max(period, LEAST_REPEATED) - 1 == len(text.ids) - 1
    assert list(text.ids) == ids[: len(text.ids)] and text.text == long_model.tokenizer.decode(ids[: len(text.ids)])
    round_of = {1: "1 token a round"}.get(period, f"{period} tokens a round")
    assert text.sentence.startswith(f"**It goes round** from token 300 on, {round_of}: seen after {len(text.ids)} tokens. It parts from")


def test_what_does_not_go_round_is_no_loop(long_model: Any) -> None:
    ids = DRAWN[:200] + DRAWN[150:200][:LEAST_REPEATED] + DRAWN[200:300] + [5] * (LEAST_REPEATED - 1) + DRAWN[300:460]
    found = watch(long_model, words(11, 12), [writes(long_model, ids)], 440).texts[1]
    assert found.loop is None and found.ended == "length" and len(found.ids) == 440
    finder = LoopFinder()
    assert [finder.add(token) for token in DRAWN].count(None) == len(DRAWN)


def test_curves_are_those_of_a_plain_forward_and_the_parting_token_is_named(long_model: Any) -> None:
    edit = shift(long_model, layer=1)
    found = watch(long_model, words(11, 12, 13), [edit], 30)
    base, mine = found.texts
    assert mine.parted is not None and mine.ids[: mine.parted] == base.ids[: mine.parted]
    assert mine.ids[mine.parted] != base.ids[mine.parted] and mine.instead == repr(base.tokens[mine.parted])
    assert base.parted is None and np.abs(base.kl).max() < 1e-6 and base.kl_since == 0.0
    batch = long_model.tokens(words(11, 12, 13), None)
    whole = type(batch).of([[*batch.ids[0].tolist(), *mine.ids]], None)
    with torch.no_grad():
        plain = long_model.logits(whole).float().log_softmax(-1)[0, batch.ids.shape[1] - 1 : -1]
        with applied(long_model, edit):
            edited = long_model.logits(whole).float().log_softmax(-1)[0, batch.ids.shape[1] - 1 : -1]
    kl, entropy = (plain.exp() * (plain - edited)).sum(-1), -(edited.exp() * edited).sum(-1)
    assert np.allclose(mine.kl, kl.numpy(), atol=1e-4) and np.allclose(mine.entropy, entropy.numpy(), atol=1e-4)
    assert mine.kl_since == pytest.approx(float(kl[mine.parted :].mean()), abs=1e-4)
    # The untouched model is told of beside nothing, and a lane is the same only as far as there is something to be the same as.
    assert "untouched" not in base.sentence and "parts from the untouched model" in mine.sentence
    assert mine.beside == len(base.ids) and base.beside is None
    same = dataclasses.replace(mine, parted=None, beside=len(mine.ids))
    assert same.sentence.endswith("It never leaves the untouched model's text.")
    assert dataclasses.replace(same, beside=7).sentence.endswith("text, of which there are 7 tokens.")


def test_drawn_text_is_its_seeds_and_a_lane_that_changes_nothing_draws_what_the_untouched_model_draws(long_model: Any) -> None:
    nothing = shift(long_model).scaled(0.0)
    found, again, other = (
        watch(long_model, words(11, 12), [nothing], 20, sampling=Sampling(temperature=1.0, seed=seed)).texts for seed in (0, 0, 1)
    )
    assert found[0].ids == again[0].ids != other[0].ids and found[0].ids == found[1].ids, "the lanes share their draws"
    assert found[0].ids != watch(long_model, words(11, 12), [], 20).texts[0].ids, "and are not the likeliest words"


def test_a_watch_ends_with_the_context_and_a_session_keeps_it(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path / "home")
    edit = shift(tiny_gpt2)
    found = session.watch(words(11, 12), [edit])
    assert [row["lane"] for row in found.table()][0] == "base"
    assert [row["mean entropy"] for row in found.table()] == [round(float(one.entropy.mean()), 3) for one in found.texts]
    for one in found.texts:
        assert one.ended in ("loop", "end", "context") and len(one.ids) <= tiny_gpt2.info.n_ctx
    assert [run.kind for run in session.workspace.runs.list()] == ["watch"]


def test_while_it_runs_each_text_says_which_lane_writes_it(tiny_gpt2: Any) -> None:
    told: list[Report] = []
    watch(tiny_gpt2, words(11, 12), [shift(tiny_gpt2)], 3, progress=Progress(told.append))
    lanes = [one["lane"] for one in cast(Any, told[0].live["watch"])]
    assert lanes[0] == "base" and lanes[1] != "base" and len(lanes) == 2 and told[0].doing == "token 1"
