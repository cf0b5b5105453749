"""A text set put as chat: one choice, kept in the edit's header, followed by measurements, and said where it is another's."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.conftest import build_folder, contrast_rows, words
from workbench import Conversation, as_chat
from workbench.cli.main import app
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sources import write
from workbench.edits.base import Edit
from workbench.edits.store import load_edit
from workbench.errors import BadPrompt, Obstructed
from workbench.evaluate.controls import shuffled_fit
from workbench.knobs import renamed
from workbench.methods import get
from workbench.models.chat import template_name
from workbench.opening import open_session
from workbench.session import Session
from workbench.workspace.rendering import as_read, goes_as_chat, shuffled_as_fitted

TEMPLATE = "{% for m in messages %}<e> w1 {{ m.content }} w2 {% endfor %}<e> w3"
NEUTRAL = Demonstrations(tuple(Demonstration(words(i, i + 3, i + 5), tags=("role:general",), split="test") for i in range(9)), "calm")


@pytest.fixture
def session(tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(tiny_gpt2.tokenizer, "chat_template", TEMPLATE)
    return Session(tiny_gpt2, tmp_path / "home")


def asking() -> Demonstrations:
    rows = contrast_rows()
    return rows.with_rows(Demonstration(f"{row.prompt} .", row.positive, row.negative, split=row.split, id=row.id) for row in rows)


def test_a_set_that_asks_goes_as_chat_where_there_is_a_template(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    asks, goes_on = asking(), contrast_rows()
    assert goes_as_chat(session.model, asks) and not goes_as_chat(session.model, goes_on)
    assert as_read(session.model, goes_on, None) is goes_on and as_read(session.model, asks, False) is asks
    assert as_read(session.model, goes_on, True) == goes_on.put_as_chat()
    assert as_read(session.model, goes_on, None, "w9") == goes_on.put_as_chat("w9")
    with pytest.raises(BadPrompt, match="chat is off"):
        as_read(session.model, goes_on, False, "w9")
    monkeypatch.setattr(session.model.tokenizer, "chat_template", None)
    assert not goes_as_chat(session.model, asks)
    with pytest.raises(BadPrompt, match="no chat template"):
        as_read(session.model, asks, True)


def test_an_edit_says_how_its_demonstrations_were_rendered(session: Session, tmp_path: Path) -> None:
    rows, name = contrast_rows(), template_name(session.model.tokenizer)
    plain = session.fit("mean_difference", rows).edit
    chat = session.fit("mean_difference", rows, chat=True, system="w9").edit
    assert (plain.header.rendered, plain.header.system) == ("", "")
    assert (chat.header.rendered, chat.header.system) == (name, "w9") and name.startswith("own template ")
    assert chat.header.data == plain.header.data == rows.fingerprint and chat.id != plain.id
    session.shelf.write(chat, tmp_path / "edit")
    kept = load_edit(tmp_path / "edit")
    assert (kept.header.rendered, kept.header.system, kept.id) == (name, "w9", chat.id)
    card = (tmp_path / "edit" / "README.md").read_text()
    assert name in card and "System turn: w9" in card
    assert session.fit("mean_difference", rows.put_as_chat("w9")).edit.header.rendered == name


def test_the_shuffled_control_is_fitted_as_the_edit_was_read(session: Session) -> None:
    rows = contrast_rows(60)
    chat = session.fit("mean_difference", rows, chat=True, system="w9").edit
    read = as_read(session.model, rows, True, "w9")
    control, wrong = shuffled_as_fitted(session.model, chat, rows), shuffled_fit(session.model, chat, rows)
    right = shuffled_fit(session.model, chat, read)
    assert isinstance(control, Edit) and isinstance(right, Edit) and isinstance(wrong, Edit)
    for name, x in control.tensors().items():
        assert torch.equal(x, right.tensors()[name]) and not torch.equal(x, wrong.tensors()[name])
    assert torch.equal(*(next(iter(shuffled_as_fitted(session.model, chat, one).tensors().values())) for one in (rows, read)))
    with pytest.raises(Obstructed, match="not the set"):
        shuffled_as_fitted(session.model, chat, contrast_rows(60, seed=4))


def test_measurements_follow_the_edit_and_another_rendering_is_said(session: Session) -> None:
    rows = contrast_rows()
    plain, chat = session.fit("mean_difference", rows).edit, session.fit("mean_difference", rows, chat=True).edit
    how = {"neutral": NEUTRAL, "n_placebos": 0, "n_generations": 0}
    follows = session.evaluate(chat, rows, **how)
    as_told = session.evaluate(chat, rows.put_as_chat(), **how)
    assert not follows.notes and follows.benefit.metrics[0].values == as_told.benefit.metrics[0].values
    other = session.evaluate(chat, rows, chat=False, **how)
    assert len(other.notes) == 1 and chat.id[:6] in other.notes[0] and "another rendering" in other.notes[0]
    assert other.benefit.metrics[0].values != follows.benefit.metrics[0].values
    assert not session.evaluate(plain, rows, **how).notes
    assert plain.id[:6] in session.evaluate(plain, rows, chat=True, **how).notes[0]
    prompt = words(11, 12, 13)
    assert session.compare(prompt, [plain, chat]).notes[0].startswith(f"Edit {chat.id[:6]}")
    assert session.compare(as_chat(prompt), [plain, chat]).notes[0].startswith(f"Edit {plain.id[:6]}")
    assert not session.compare(as_chat(prompt), chat).notes


def test_a_choice_and_a_search_that_goes_on_keep_the_rendering(session: Session) -> None:
    rows = contrast_rows(60)
    found = session.choose("mean_difference", rows, chat=True, max_damage=10.0, over={"layers": [(1,)]}, doses=(1.0, 2.0))
    assert found.fitted.edit.header.rendered and found.fitted.edit.header.data == rows.fingerprint
    knobs = {"budget": 12, "n_init": 6, "n_train": 6, "n_val": 4, "optimizer": "random", "shots": "zero"}
    first = session.fit("tarot", rows, knobs, chat=True, system="w9").edit
    more = session.proceed(first.id, rows, 14).edit
    assert (more.header.rendered, more.header.system, more.header.data) == (first.header.rendered, "w9", rows.fingerprint)


def test_an_older_edit_whose_method_rendered_by_a_knob_of_its_own_is_understood() -> None:
    known = get("are")
    assert known.configure(renamed(known.config, {"template": "auto", "max_rounds": 3})).max_rounds == 3


def test_the_template_of_the_other_hash_is_another_rendering(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = session.fit("mean_difference", contrast_rows(), chat=True).edit
    monkeypatch.setattr(session.model.tokenizer, "chat_template", TEMPLATE + " w4")
    assert session.compare(as_chat(words(11, 12)), chat).notes


def test_the_command_line_puts_prompts_and_sets_as_chat(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: session)

    def said(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code and "Traceback" not in result.output, result.output
        return result.output

    prompt, data, out = words(11, 12, 13), str(write(contrast_rows(), tmp_path / "pairs.jsonl")), str(tmp_path / "edit")
    rest = ("--max-new-tokens", "4")
    assert said("generate", "--prompt", prompt, "--chat", *rest).startswith(f"> user: {prompt}")
    assert said("generate", "--prompt", prompt, "--system", "w9", *rest).startswith(f"> system: w9⏎user: {prompt}")
    assert "Read as conversations (own template " in said("fit", "mean_difference", "--data", data, "--chat", "--out", out)
    assert "another rendering" in said("compare", "--prompt", prompt, "--edit", out, *rest)
    assert "another rendering" not in said("compare", "--prompt", prompt, "--edit", out, "--chat", *rest)
    measure = ("evaluate", "--data", data, "--edit", out, "--neutral", str(write(NEUTRAL, tmp_path / "calm.jsonl")), "--generations", "0")
    assert "another rendering" not in said(*measure)
    assert "another rendering" in said(*measure, "--no-chat")
    ids = session.model.tokens(as_chat(prompt)).ids.shape[1]
    lens = ("look", "attention", "--prompt", prompt)
    assert said(*lens, "--chat", "--json").count("w") > 0 and ids > session.model.tokens(prompt).ids.shape[1]
    assert "reads no prompt" in said("look", "head_scores", "--chat", code=2)


def test_the_public_helper_makes_one_turn() -> None:
    talk = as_chat("Why?", "Be brief.")
    assert isinstance(talk, Conversation) and talk.system == "Be brief." and as_chat(talk) is talk
    assert as_chat(talk, "Be long.").messages()[0]["content"] == "Be long."


def test_every_token_of_a_conversation_is_read(session: Session) -> None:
    ids = session.model.tokens(as_chat("w5")).ids
    assert torch.equal(ids, torch.tensor([[99, 1, 5, 2, 99, 3]]))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_conversation_is_answered_like_generate_of_the_folder_and_of_the_exported_script(family: str, tmp_path: Path) -> None:
    """A folder with a template, two ends of text and a repetition penalty: base and edited text are those of transformers alone."""
    folder = build_folder(family, tmp_path / family)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    told = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(told | {"eos_token_id": [99, 98], "repetition_penalty": 1.4}))
    session = open_session(str(folder), tmp_path / "home", records=False)
    prompt, how = words(11, 12, 13), session.model.generation.sampling(max_new_tokens=12)
    assert how.repetition_penalty == 1.4 and session.model.generation.end_ids == (99, 98)
    edit = session.fit("mean_difference", contrast_rows(), {"layers": (1,)}, chat=True).edit.scaled(4.0)
    base, edited = (session.generate(as_chat(prompt), lane, how)[0][0] for lane in ((), edit))
    assert base.text != edited.text
    session.export(edit, "script", tmp_path / "out")
    for found, off in ((base, ["--off"]), (edited, [])):
        command = [sys.executable, "-I", str(tmp_path / "out" / "edit.py"), "--prompt", prompt, "--chat", "--max-new-tokens", "12", *off]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rendered = session.model.tokenizer.decode(session.model.tokens(as_chat(prompt)).ids[0], skip_special_tokens=True)
        assert done.stdout.strip() == f"{rendered} {found.text}".strip(), done.stderr
    assert "rendered by the own template" in (tmp_path / "out" / "edit.py").read_text()


def test_an_edit_without_rows_knows_its_set_however_it_is_rendered(session: Session) -> None:
    """An edit of an older version names its set by a fingerprint alone: its rows are left out as text, as chat, and as conversations."""
    rows = contrast_rows(40)
    fits = [session.fit("mean_difference", rows, chat=False).edit, session.fit("mean_difference", rows, chat=True, system="w9").edit]
    read = rows.put_as_chat("w9")
    as_once = replace(fits[1], header=replace(fits[1].header, data=read.fingerprint))
    for edit in (*fits, as_once):
        older = replace(edit, header=replace(edit.header, rows=()))
        for put in ({"chat": False}, {"chat": True}, {"chat": True, "system": "w8"}):
            found = session.evaluate(older, rows, neutral=NEUTRAL, n_placebos=0, n_generations=0, **put).benefit
            assert "does not say which rows" not in found.why and found.n == len(rows.split("test"))
        other = rows.with_rows([replace(rows[0], positive=" w4 w4"), *rows.rows[1:]])
        assert "does not say which rows" in session.evaluate(older, other, neutral=NEUTRAL, n_placebos=0, n_generations=0).benefit.why
    assert read.where(lambda row: row.split == "test").kept_as == "" and read.kept_as == rows.fingerprint


def test_a_sweep_puts_its_set_as_it_is_told_and_says_another_rendering(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: session)
    data, calm = (str(write(rows, tmp_path / f"{i}.jsonl")) for i, rows in enumerate((contrast_rows(), NEUTRAL)))
    session.shelf.write(session.fit("mean_difference", contrast_rows(), chat=True).edit, tmp_path / "edit")

    def swept(*more: str) -> dict[str, Any]:
        told = ("sweep", "--data", data, "--neutral", calm, "--json", *more)
        result = CliRunner().invoke(app, list(told))
        assert result.exit_code == 0, result.output
        return json.loads(result.output[result.output.index("{") :])

    doses = ("--edit", str(tmp_path / "edit"), "--doses", "1")
    follows, chat, text, system = (swept(*doses, *more) for more in ((), ("--chat",), ("--no-chat",), ("--system", "w9")))
    assert follows == chat and not chat["notes"] and "another rendering" in text["notes"][0]
    assert chat["rows"] != text["rows"] and chat["rows"] != system["rows"]
    grid = ("--method", "mean_difference", "--grid", "layers=1|2")
    assert swept(*grid, "--chat")["rows"] != swept(*grid, "--no-chat")["rows"]
