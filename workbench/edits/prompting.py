"""What a lane says before every prompt: the rival that any edit has to beat, since it costs nobody a fit.

Nothing here imports torch: pages read links before it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from workbench.conversations import Conversation, Prompt, Turn, as_chat
from workbench.errors import BadLane

_SHOWN = 48


@final
@dataclass(frozen=True)
class ShotsOf:
    """The first `n` rows of split `fit` of a set or file, each with its positive answer."""

    source: str
    n: int


@final
@dataclass(frozen=True)
class Prompting:
    """A sentence before the prompt (`prefix`), a system message, or shots; the order in which a model reads them is system, prefix, shots.

    `examples` are the shots as prompt and answer once they are read from their set, `marks` the marks of their rows.
    """

    prefix: str = ""
    system: str = ""
    shots: ShotsOf | None = None
    examples: tuple[tuple[Prompt, str], ...] = ()
    marks: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = [f"{word}:{quoted(text)}" for word, text in (("prompt", self.prefix), ("system", self.system)) if text]
        return "+".join([*told, *([f"shots:{quoted(self.shots.source)}:{self.shots.n}"] if self.shots else [])])

    @property
    def label(self) -> str:
        """In words, for a lane's chip."""
        told = [f"“{_cut(self.prefix)}”"] if self.prefix else []
        told += [f"system “{_cut(self.system)}”"] if self.system else []
        return " + ".join([*told, *([f"{self.shots.n} shots of {self.shots.source}"] if self.shots else [])])

    def on(self, prompt: Prompt) -> Prompt:
        """The prompt with what stands before it; a system message makes a conversation of a text, which the model's template renders.

        Raises:
            BadLane: the shots are not read yet.
        """
        if self.shots and not self.examples:
            raise BadLane(f"The shots of {self.shots.source!r} are only named.", "Give the lane to a session, which reads them.")
        if not self.system and isinstance(prompt, str):
            shown = [f"{asked}{answer}" for asked, answer in self.examples]
            return "\n".join([*shown, prompt]) if not self.prefix else " ".join([self.prefix, "\n".join([*shown, prompt])])
        talk = as_chat(prompt)
        turns = [turn for asked, answer in self.examples for turn in (*_without_system(as_chat(asked)), Turn("assistant", answer.strip()))]
        turns += _without_system(talk)
        if self.prefix:
            at = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
            if at is None:
                raise BadLane("A sentence before the prompt needs a user's turn.", "Let the user say something first.")
            turns[at] = Turn("user", f"{self.prefix} {turns[at].text}")
        return Conversation(tuple(turns), talk.thinking).with_system(self.system or talk.system)

    def as_text(self) -> str:
        """Everything as a plain text, as it stands before a text that is no prompt."""
        shown = [f"{asked}{answer}" for asked, answer in self.examples]
        return " ".join(filter(None, (self.system, self.prefix, "\n".join(shown))))

    def joined(self, other: Prompting) -> Prompting:
        """Both at once. Raises: BadLane, if both say the same kind of thing."""
        pairs = {"prompt": (self.prefix, other.prefix), "system": (self.system, other.system), "shots": (self.shots, other.shots)}
        for word, both in pairs.items():
            if all(both):
                raise BadLane(f"A lane gives {word} twice.", f"Write it once, all in one {word}.")
        shots = self if self.shots else other
        whole = Prompting(self.prefix or other.prefix, self.system or other.system)
        return replace(whole, shots=shots.shots, examples=shots.examples, marks=shots.marks)


def quoted(text: str) -> str:
    """A text as a lane's text holds it: in double quotes, its own doubled."""
    return '"' + text.replace('"', '""') + '"'


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _without_system(talk: Conversation) -> Sequence[Turn]:
    return [turn for turn in talk.turns if turn.role != "system"]
