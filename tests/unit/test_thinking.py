"""The thinking part of an answer: its marks are learnt from template and tokenizer, it can be left empty, and no count reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.byte_tokenizer import TURNS, byte_tokenizer
from tests.conftest import contrast_rows, words
from tests.unit.test_chat import TALK, TEMPLATES
from workbench.cli.main import app
from workbench.conversations import Conversation, Turn, as_chat
from workbench.data import damage
from workbench.data.demonstrations import Demonstration
from workbench.decode import Generated, Sampling, TokenStep, collected, generate
from workbench.errors import BadPrompt
from workbench.evaluate import benefit, side_effects
from workbench.models.chat import at_once, chat_ids, rendered, thinking_opened, thinks
from workbench.models.thinking import Answer, Marks, thinking_marks, told_apart
from workbench.session import Session
from workbench.workspace.rendering import as_read

_EACH = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n@@{% endif %}"
_HARMONY = ("<|message|>", "<|channel|>", "<|return|>")
_THINK = ("<think>", "</think>")
# What stands where the answer begins, special tokens, tokens added beside; then the marks and an answer as the model writes it.
FAMILIES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, str], str]] = {
    "qwen3": (
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
        (), _THINK, _THINK, "<think>\na b\n</think>\n\nYes.<|im_end|>",
    ),
    "r1": ("<think>\n", (), _THINK, _THINK, "a b\n</think>\n\nYes.</s>"),
    "tokens alone": ("", (), _THINK, _THINK, "<think>a b</think>Yes.</s>"),
    "magistral": ("{# [THINK] #}", ("[THINK]", "[/THINK]"), (), ("[THINK]", "[/THINK]"), "[THINK]a b[/THINK]Yes.</s>"),
    "seed": (
        "{% if thinking_budget is defined and thinking_budget == 0 %}<seed:think></seed:think>{% endif %}",
        (), (), ("<seed:think>", "</seed:think>"), "<seed:think>a b</seed:think>Yes.</s>",
    ),
    "thinking": ("{# </thinking> #}", (), (), ("<thinking>", "</thinking>"), "<thinking>a b</thinking> Yes."),
    "command a": (
        "{% if reasoning is defined and not reasoning %}<|START_THINKING|><|END_THINKING|>{% endif %}",
        ("<|START_THINKING|>", "<|END_THINKING|>"), (), ("<|START_THINKING|>", "<|END_THINKING|>"),
        "<|START_THINKING|>a b<|END_THINKING|>Yes.</s>",
    ),
    "gpt-oss": (
        "{# <|channel|>analysis<|message|> #}", _HARMONY, (), ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
        "<|channel|>analysis<|message|>a b<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
    ),
}  # fmt: skip


def made(name: str) -> Any:
    opening, special, added, *_ = FAMILIES[name]
    return byte_tokenizer(_EACH + _OPEN.replace("@@", opening), (*TURNS, *special), added)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_marks_are_those_that_template_or_tokens_declare(name: str) -> None:
    tokenizer, wanted, text = made(name), *FAMILIES[name][3:]
    marks, ids = thinking_marks(tokenizer), ids_of(tokenizer, text)
    assert [(one.opening, one.closing) for one in marks] == [wanted] and thinks(tokenizer)
    found = told_apart(tokenizer, marks, ids, thinking_opened(tokenizer, TALK))
    assert (found.thinking, found.answer) == ("a b", "Yes.")
    assert str(tokenizer.decode(ids[found.start :], skip_special_tokens=True)).strip() == "Yes."
    cut = ids_of(tokenizer, text[: text.index("b") + 1])
    assert told_apart(tokenizer, marks, cut, thinking_opened(tokenizer, TALK)) == Answer("a b", "", len(cut))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_thinking_part_can_be_left_empty_whether_the_template_can_or_not(name: str) -> None:
    tokenizer, closing = made(name), FAMILIES[name][3][1]
    asked = replace(TALK, thinking=False)
    assert rendered(tokenizer, asked).rstrip().endswith(closing) and thinking_opened(tokenizer, asked) is None
    assert tokenizer.decode(chat_ids(tokenizer, asked)) == rendered(tokenizer, asked)
    assert not rendered(tokenizer, replace(TALK, thinking=True)).rstrip().endswith(closing)
    going_on = replace(TALK.and_then("assistant", "I am"), thinking=False)  # an answer that is gone on with is not thought about again
    assert rendered(tokenizer, going_on).endswith("I am")


def test_what_nobody_declares_is_text_and_a_choice_without_a_thinking_part_is_refused() -> None:
    plain = byte_tokenizer(TEMPLATES["phi"])
    assert not thinks(plain) and thinking_marks(plain) == ()
    assert told_apart(plain, (), ids_of(plain, "<think>a</think> b")).answer == "<think>a</think> b"
    for way in (True, False):
        with pytest.raises(BadPrompt, match="no thinking part"):
            chat_ids(plain, replace(TALK, thinking=way))


def test_two_declared_marks_are_both_read_and_an_empty_part_is_refused_rather_than_guessed() -> None:
    two = byte_tokenizer(_EACH + _OPEN.replace("@@", "{# <think> [THINK] #}"))
    assert [one.opening for one in thinking_marks(two)] == ["<think>", "[THINK]"]
    for text in ("<think>a</think>b", "[THINK]a[/THINK]b"):
        assert told_apart(two, thinking_marks(two), ids_of(two, text)).answer == "b"
    with pytest.raises(BadPrompt, match=r"may stand in <think> … </think>, \[THINK\]"):
        chat_ids(two, replace(TALK, thinking=False))


def test_a_question_about_the_mark_opens_nothing_and_a_thought_that_is_gone_on_with_is_open() -> None:
    tokenizer = made("qwen3")
    assert thinking_opened(tokenizer, as_chat("What does <think> mean?")) is None
    assert thinking_opened(tokenizer, TALK.and_then("assistant", "<think>I")) == thinking_marks(tokenizer)[0]
    assert thinking_opened(tokenizer, TALK.and_then("assistant", "<think>I</think>So")) is None


@pytest.fixture
def thinker(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny model whose thinking part begins at the word w1 and ends at w2."""
    empty = "{% if enable_thinking is defined and not enable_thinking %}w1 w2{% endif %}"
    monkeypatch.setattr(tiny_gpt2.tokenizer, "chat_template", "{% for m in messages %}{{ m.content }} {% endfor %}" + empty)
    for module in ("workbench.models.chat", "workbench.decode", "workbench.workspace.rendering"):
        monkeypatch.setattr(f"{module}.thinking_marks", lambda _: (Marks("w1", "w2", empty="w1 w2"),))
    return tiny_gpt2


def written(model: Any, numbers: list[int]) -> Generated:
    """An answer of the tiny model in these words."""
    going = torch.ones(1, 1, dtype=torch.bool)
    steps = [TokenStep(i, torch.tensor([[n]]), torch.zeros(1, 1), going) for i, n in enumerate(numbers)]
    return collected(model, ["w9"], 1, steps, Sampling(max_new_tokens=len(numbers), stop=("w30",)))[0][0]


def test_refusals_and_repetition_are_counted_in_the_answer_alone(thinker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    thought = [1, *[7, 8, 9, 10] * 3, 2]
    one = written(thinker, [*thought, 20, 21, 22, 23, 24])
    assert one.said.thinking.startswith("w7 w8") and one.said.answer == "w20 w21 w22 w23 w24" and one.answer_ids == (20, 21, 22, 23, 24)
    assert side_effects.repetition_4(one.ids) > 0.2 and side_effects.repetition_4(one.answer_ids) == 0
    assert written(thinker, [*thought, 20, 30, 21]).said.answer == "w20 "
    cut = written(thinker, thought[:-1])
    assert (cut.said.answer, cut.answer_ids) == ("", ())
    for module in (benefit, side_effects):
        monkeypatch.setattr(module, "generate", lambda *given, **how: ((one,),))
    assert side_effects.repetition(thinker, ["w9"], [()])[0, 0] == 0
    found = [benefit.rate(thinker, ["w9"], [], lambda text, word=word: word in text, title="says it") for word in ("w7", "w20")]
    assert [metric.values[0].estimate for metric in found] == [0.0, 1.0]


def test_a_sets_answers_stand_behind_an_empty_thinking_part_and_thinking_first_is_another_rendering(thinker: Any, tmp_path: Path) -> None:
    rows = contrast_rows()
    session, rows = Session(thinker, tmp_path / "home"), rows.with_rows(replace(row, positive=" w3", label=None) for row in rows)
    read = as_read(thinker, rows, True)
    assert thinker.tokens(read[0].prompt).ids[0, -2:].tolist() == [1, 2]
    brings = rows.with_rows([replace(rows[0], positive=" w1 w5 w2 w3"), *rows.rows[1:]])
    assert as_read(thinker, brings, True)[0].prompt.thinking is None  # pyright: ignore[reportAttributeAccessIssue]
    edit = session.fit("mean_difference", rows, chat=True).edit
    assert edit.header.rendered.endswith(", thinking left empty")
    prompt = words(11, 12)
    assert not session.compare(as_chat(prompt, thinking=False), edit).notes
    assert "thinking left empty" in session.compare(as_chat(prompt, thinking=True), edit).notes[0]


def test_the_command_line_chooses_whether_to_think(thinker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, asked = Session(thinker, tmp_path / "home"), list[Any]()
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: session)
    honest = session.generate
    monkeypatch.setattr(session, "generate", lambda prompts, *given, **how: (asked.extend(prompts), honest(prompts, *given, **how))[1])
    for switch in ("--think", "--no-think", "--chat"):
        result = CliRunner().invoke(app, ["generate", "--prompt", words(11, 12), switch, "--max-new-tokens", "3"])
        assert result.exit_code == 0, result.output
    assert [one.thinking for one in asked] == [True, False, None]
    monkeypatch.setattr("workbench.models.chat.thinking_marks", lambda _: ())
    refused = CliRunner().invoke(app, ["generate", "--prompt", words(11, 12), "--no-think"])
    assert refused.exit_code == 2 and "no thinking part" in refused.output


def test_a_prompt_whose_thinking_is_left_empty_is_answered_as_its_ids_are(thinker: Any) -> None:
    how = Sampling(max_new_tokens=3)
    told = generate(thinker, [as_chat("w5 w6", thinking=False)], sampling=how)[0][0]
    assert told.ids == generate(thinker, ["w5 w6 w1 w2"], sampling=how)[0][0].ids
    row = Demonstration(as_chat("w5"), "w6")
    assert row.put_as_chat(thinking=False).prompt == replace(as_chat("w5"), thinking=False)
    assert as_chat("w5", "w6", False).turns[0] == Turn("system", "w6")


def test_what_ships_is_put_to_models_that_think_that_do_not_and_that_nobody_can_keep_from_it() -> None:
    none, two = (byte_tokenizer(_EACH + _OPEN.replace("@@", mark)) for mark in ("", "{# <think> [THINK] #}"))
    cases: dict[str, tuple[Any, Any]] = {name: (made(name), False) for name in FAMILIES} | {"none": (none, None), "two": (two, None)}
    for name, (tokenizer, way) in cases.items():
        assert at_once(tokenizer) is way, name
        asked = (*damage.prompts(chat=True, thinking=way), *damage.requests(chat=True, thinking=way)[0])
        asked += tuple(row.prompt for kind in damage.ABILITIES for row in damage.ability(kind, chat=True, thinking=way))
        assert len(asked) > 100 and all(isinstance(one, Conversation) and chat_ids(tokenizer, one) for one in asked), name
    with pytest.raises(BadPrompt, match="know no thinking part"):  # why the way follows from the model
        chat_ids(none, as_chat("?", thinking=False))
