"""A prompt is a text or a conversation. Conversations stay turns until a model's own template renders them, in `models.chat`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, final

from workbench.errors import BadPrompt

Role = Literal["system", "user", "assistant"]
# What other layouts call them.
_ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
}  # fmt: skip

_KEYS = ({"role", "content"}, {"from", "value"})


@final
@dataclass(frozen=True)
class Turn:
    """What one side said."""

    role: Role
    text: str


@final
@dataclass(frozen=True)
class Conversation:
    """Turns in order. One whose last turn is the assistant's is continued within that turn, any other is answered."""

    turns: tuple[Turn, ...]
    thinking: bool | None = None
    """For models that think before they answer: False asks for the answer at once, True to think first, None leaves it to the template."""

    def __str__(self) -> str:
        """As a person reads it; never what a model is given."""
        return "\n".join(f"{turn.role}: {turn.text}" for turn in self.turns)

    @property
    def system(self) -> str | None:
        """What the system turn says, None without one."""
        return next((turn.text for turn in self.turns if turn.role == "system"), None)

    @property
    def asked(self) -> str:
        """The last thing that the user said; empty without one."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    def with_system(self, text: str | None) -> Conversation:
        """The same conversation under another system turn; none if the text is empty."""
        rest = tuple(turn for turn in self.turns if turn.role != "system")
        return replace(self, turns=(Turn("system", text), *rest) if text else rest)

    def and_then(self, role: Role, text: str) -> Conversation:
        """The conversation with one more turn."""
        return replace(self, turns=(*self.turns, Turn(role, text)))

    def messages(self) -> list[dict[str, str]]:
        """As Hugging Face's templates take it, and as files hold it."""
        return [{"role": turn.role, "content": turn.text} for turn in self.turns]


Prompt = str | Conversation


def as_chat(prompt: Prompt, system: str | None = None, thinking: bool | None = None) -> Conversation:
    """A text as what a user asks, in one turn; a conversation as it is. What is given of system turn and thinking holds for either."""
    talk = prompt if isinstance(prompt, Conversation) else Conversation((Turn("user", prompt),))
    talk = talk.with_system(system) if system else talk
    return talk if thinking is None else replace(talk, thinking=thinking)


def as_written(prompt: Prompt) -> str | list[dict[str, str]]:
    """A prompt as files hold it: a text, or a list of messages. `read_prompt` reads it back."""
    return prompt.messages() if isinstance(prompt, Conversation) else prompt


def read_prompt(value: str | Sequence[Mapping[str, Any]]) -> Prompt:
    """A prompt from a file: a text as it is, a list of messages as a conversation. Raises: as `conversation`."""
    return value if isinstance(value, str) else conversation(value)


def in_a_cell(prompt: Prompt) -> str:
    """A prompt in one cell of a table: a text as it is, a conversation as the JSON list of its messages. `from_a_cell` reads it back.

    A text that would be read as such a list stands as a JSON string.
    """
    if isinstance(prompt, Conversation):
        return json.dumps(prompt.messages(), ensure_ascii=False)
    return json.dumps(prompt, ensure_ascii=False) if _is_taken(prompt) else prompt


def from_a_cell(text: str) -> Prompt:
    """A prompt from one cell of a table. Raises: as `conversation`."""
    return read_prompt(json.loads(text)) if _is_taken(text) else text


def _is_taken(text: str) -> bool:
    """Whether a cell's text means something else than itself: a list of messages, or a string that means something else."""
    if not text.startswith(("[", '"')):
        return False
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if isinstance(value, str):
        return _is_taken(value)
    found = cast(list[object], value) if isinstance(value, list) else []
    return bool(found) and all(
        isinstance(item, Mapping) and any(keys <= set(cast(Mapping[str, Any], item)) for keys in _KEYS) for item in found
    )


def conversation(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """Read a list of messages: `role` and `content`, or `from` and `value` as some sets have it.

    Raises:
        BadPrompt: a message lacks one of them, has another type, or a role that nobody knows; or there is none.
    """
    turns: list[Turn] = []
    for number, message in enumerate(messages, 1):
        found = dict(message) if isinstance(cast(object, message), Mapping) else {}
        role, text = found.get("role", found.get("from")), found.get("content", found.get("value"))
        if not isinstance(role, str) or role not in _ROLES:
            raise BadPrompt(
                f"Message {number} has the role {role!r}; needed is system, user or assistant.", "Give each message a role and a content."
            )
        if not isinstance(text, str):
            raise BadPrompt(
                f"Message {number} has a content of type {type(text).__name__}; needed is a text.", "Leave out images and tool calls."
            )
        turns.append(Turn(_ROLES[role], text))
    if not turns:
        raise BadPrompt("The conversation has no message.", "Give at least one message.")
    return Conversation(tuple(turns))
