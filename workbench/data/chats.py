"""Layouts of conversations, as data sets of the hub have them: turns with an answer, and answers that were chosen and rejected.

`messages` hold `role` and `content`, `conversations` (ShareGPT) hold `from` and `value`. `chosen` and `rejected` are whole conversations
that part at the last turn, answers to a `prompt`, or texts of `Human:` and `Assistant:` turns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from workbench.conversations import Conversation, Prompt, Turn, as_chat, conversation
from workbench.data.demonstrations import Demonstration
from workbench.data.rows import BadRow, Context, Values, continuation, list_of, split_of, text_of
from workbench.errors import BadPrompt

_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def talk_of(messages: object) -> Conversation:
    """A list of messages as a conversation.

    Raises:
        BadRow: it is none.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise BadRow(f"has a {type(messages).__name__} where messages are needed.", "Give a list of messages with role and content.")
    try:
        return conversation(cast(Sequence[Mapping[str, Any]], messages))
    except BadPrompt as error:
        raise BadRow(f"has a damaged conversation. {error}", error.hint) from error


def messages(values: Values, context: Context) -> Demonstration:
    """A conversation: its last turn, if it is the assistant's, is the positive answer to the turns before it."""
    column = "messages" if "messages" in values else "conversations"
    is_written = isinstance(values[column], str) and values[column].lstrip().startswith("[")
    talk = talk_of(list_of(values, column) if is_written else values[column])
    system = values.get("system")
    if isinstance(system, str) and system.strip() and talk.system is None:
        talk = talk.with_system(system)
    prompt, answer = _parted(talk)
    if not prompt.turns:
        raise BadRow("has an answer and no question.", "Give the turn of the user before it.")
    return Demonstration(prompt, answer or None, **_rest(values))


def preferences(values: Values, context: Context) -> Demonstration:
    """Two answers to the same turns: the chosen one is positive, the rejected one negative."""
    sides = [_turns(values[side]) for side in ("chosen", "rejected")]
    asked = values.get("prompt")
    if None in sides:
        return _answers(values)
    good, bad = (cast(Conversation, side) for side in sides)
    (shared, positive), (other, negative) = _parted(good), _parted(bad)
    if asked and not shared.turns:
        shared = other = talk_of(asked) if isinstance(asked, list) else as_chat(text_of(values, "prompt"))
    if positive is None or negative is None or shared != other:
        raise BadRow("has a chosen and a rejected conversation that do not part at the last answer.", "Give both the same turns before it.")
    if not shared.turns:
        raise BadRow("has two answers and no question.", "Give a prompt, or the turns before the answers.")
    return Demonstration(shared, positive or None, negative or None, **_rest(values))


def _answers(values: Values) -> Demonstration:
    """Two texts that answer a prompt."""
    good, bad = (text_of(values, side) for side in ("chosen", "rejected"))
    asked = values.get("prompt")
    prompt: Prompt = talk_of(asked) if isinstance(asked, list) else text_of(values, "prompt")
    if isinstance(prompt, str):
        good, bad = (continuation(text.removeprefix(prompt)) for text in (good, bad))
    return Demonstration(prompt, good or None, bad or None, **_rest(values))


def _turns(value: object) -> Conversation | None:
    """Messages, or a text of turns, as a conversation; None for any other text."""
    if not isinstance(value, str):
        return talk_of(value)
    parts = _SPEAKER.split(value)
    if len(parts) < 3 or parts[0].strip():
        return None
    turns = [Turn("user" if who == "Human" else "assistant", text.strip()) for who, text in zip(parts[1::2], parts[2::2])]
    return Conversation(tuple(turns))


def _parted(talk: Conversation) -> tuple[Conversation, str | None]:
    last = talk.turns[-1]
    return (Conversation(talk.turns[:-1]), last.text) if last.role == "assistant" else (talk, None)


def _rest(values: Values) -> dict[str, Any]:
    name = values.get("id", values.get("prompt_id"))
    split = values.get("split")
    return {"split": split_of(split)} | ({"id": str(name)} if isinstance(name, str | int) else {})
