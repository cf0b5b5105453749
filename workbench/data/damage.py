"""What an edit must not break, for any model that reads English: prompts for its own answers, safe requests, small abilities. It ships.

Written for Retouch. An ability is a file of questions with a right and a wrong answer of like length, so that likelihood scores any model.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from workbench.conversations import Conversation, Prompt, Turn
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import BadDemonstrations
from workbench.resources import DAMAGE

ABILITIES = ("safe requests", "arithmetic", "facts", "instructions")
_COLUMNS = {"ask", "right", "wrong"}


@lru_cache(maxsize=2)
def prompts(*, chat: bool, thinking: bool | None = None) -> tuple[Prompt, ...]:
    """Questions as a user's turn; or beginnings of texts. `thinking` as in a conversation (`models.chat.at_once`), here and below.

    Raises:
        BadDemonstrations: a line of the file is of neither kind.
    """
    texts: dict[str, list[str]] = {"text": [], "chat": []}
    for number, line in enumerate((DAMAGE / "prompts.txt").read_text(encoding="utf-8").splitlines(), 1):
        kind, tab, text = line.partition("\t")
        if kind not in texts or not tab or not text.strip():
            raise BadDemonstrations(f"Line {number} of prompts.txt is no prompt: {line[:40]!r}.", "Restore the file from a copy.")
        texts[kind].append(text)
    return tuple(_asked(text, thinking) for text in texts["chat"]) if chat else tuple(texts["text"])


@lru_cache(maxsize=8)
def ability(name: str, *, chat: bool, thinking: bool | None = None) -> Demonstrations:
    """The questions of one of `ABILITIES`, as a user's turn or as a text that asks for an answer.

    Raises:
        BadDemonstrations: a line of the file is not an object of three texts.
    """
    lines = (DAMAGE / f"{name.replace(' ', '-')}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [_row(f"{name} {number}", line, chat, thinking) for number, line in enumerate(lines, 1)]
    return Demonstrations(tuple(rows), name)


@lru_cache(maxsize=2)
def requests(*, chat: bool, thinking: bool | None = None) -> tuple[tuple[Prompt, ...], tuple[Prompt, ...]]:
    """Requests that a careful assistant declines, and safe ones that only look like them, without answers. Raises: as `ability`."""
    harmful = (DAMAGE / "harmful.txt").read_text(encoding="utf-8").splitlines()
    asked = tuple(_asked(text, thinking) if chat else f"Question: {text}\nAnswer:" for text in harmful)
    return asked, tuple(row.prompt for row in ability("safe requests", chat=chat, thinking=thinking))


def _row(key: str, line: str, chat: bool, thinking: bool | None) -> Demonstration:
    try:
        values: Any = json.loads(line)
    except ValueError:
        values = None
    is_row = (
        isinstance(values, dict) and set(values) == _COLUMNS and all(isinstance(text, str) and text.strip() for text in values.values())
    )
    if not is_row:
        raise BadDemonstrations(f"Row {key} needs the texts ask, right and wrong; it is {line[:40]!r}.", "Restore the file from a copy.")
    prompt, space = (_asked(values["ask"], thinking), "") if chat else (f"Question: {values['ask']}\nAnswer:", " ")
    return Demonstration(prompt, space + values["right"], space + values["wrong"], split="test", id=key)


def _asked(text: str, thinking: bool | None) -> Conversation:
    return Conversation((Turn("user", text),), thinking=thinking)
