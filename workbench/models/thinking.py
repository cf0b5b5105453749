"""Models that think before they answer: which marks stand around the thinking part, as template and tokenizer declare them.

A mark that neither declares is text like any other: nothing is told apart by a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

# What families call the part, and how a mark is written around such a name. Of a pair, one mark that is declared is enough.
_NAME = r"(?:\w+:)?(?:think|thinking|thought|reasoning)"
_PAIRS = (("<{}>", "</{}>"), ("[{}]", "[/{}]"), ("◁{}▷", "◁/{}▷"), ("<|START_{}|>", "<|END_{}|>"), ("<|begin_of_{}|>", "<|end_of_{}|>"))


@final
@dataclass(frozen=True)
class Marks:
    """What stands before and behind the thinking part.

    `before_closing` is what a model writes between the part and its closing mark. `empty` is the part left empty, as a model reads it.
    """

    opening: str
    closing: str
    before_closing: str = ""
    empty: str = ""

    def __str__(self) -> str:
        return f"{self.opening} … {self.closing}"


# gpt-oss writes channels: what is thought, then, in a message of its own, what is said.
_CHANNELS = Marks(
    "<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "<|end|><|start|>assistant", "<|channel|>final<|message|>"
)
_INNER = Marks("<|inner_prefix|>", "<|inner_suffix|>", empty="<|inner_prefix|><|inner_suffix|>")


@final
@dataclass(frozen=True)
class Answer:
    """A generated text, its thinking part told apart: `thinking` is empty where there is none, `answer` is what a person is told.

    `start` is the token at which the answer begins; the number of tokens if it never did.
    """

    thinking: str
    answer: str
    start: int = 0


def template_text(tokenizer: Any) -> str:
    """The text of a tokenizer's chat template, of all of them if it has several; empty without one."""
    template = getattr(tokenizer, "chat_template", None) or ""
    return template if isinstance(template, str) else "\n".join(map(str, template.values()))


def thinking_marks(tokenizer: Any) -> tuple[Marks, ...]:
    """The marks of the thinking part that the template names, else those among the tokenizer's own tokens; none if neither has any."""
    added = getattr(tokenizer, "get_added_vocab", dict[str, int])()
    return _declared(template_text(tokenizer)) or _declared("\n".join(added))


def _declared(text: str) -> tuple[Marks, ...]:
    found: dict[Marks, None] = {}
    if _CHANNELS.opening in text:
        found[_CHANNELS] = None
    if _INNER.opening in text:
        found[_INNER] = None
    for pair in _PAIRS:
        forms = [re.escape(mark).replace(r"\{\}", f"({_NAME})") for mark in pair]
        names = {name for form in forms for name in re.findall(form, text, re.IGNORECASE)}
        found |= dict.fromkeys(_marks(pair, name) for name in sorted(names))
    return tuple(found)


def _marks(pair: tuple[str, str], name: str) -> Marks:
    opening, closing = (mark.format(name) for mark in pair)
    gap = "\n\n" if opening == f"<{name}>" else ""
    return Marks(opening, closing, empty=f"{opening}{gap}{closing}{gap}")


def left_open(marks: Sequence[Marks], text: str) -> Marks | None:
    """The marks whose thinking part a text opens at its very end, so that what follows is thought; None if it opens none."""
    return next((one for one in marks if text.rstrip().endswith(one.opening)), None)


def told_apart(tokenizer: Any, marks: Sequence[Marks], ids: Sequence[int], opened: Marks | None = None) -> Answer:
    """Split the thinking part, or one that was cut off, from the answer behind it.

    Args:
        marks: those that the model declares. ids: tokens of its answer. opened: the marks of a part that the prompt opened already.
    """
    whole = str(tokenizer.decode(ids, skip_special_tokens=True))
    raw = str(tokenizer.decode(ids)) if marks else ""
    found = opened or min((one for one in marks if one.opening in raw), key=lambda one: raw.index(one.opening), default=None)
    if found is None:
        return Answer("", whole)
    before, opening, rest = ("", "", raw) if opened and found.opening not in raw else raw.partition(found.opening)
    thought, closing, answer = rest.partition(found.closing)
    thinking = _plain(tokenizer, thought.removesuffix(found.before_closing)).strip()
    if not closing:
        return Answer(thinking, _plain(tokenizer, before).strip(), len(ids))
    start = _reaching(tokenizer, ids, len(before) + len(opening) + len(thought) + len(closing))
    return Answer(thinking, _plain(tokenizer, before + answer).strip(), start)


def _reaching(tokenizer: Any, ids: Sequence[int], n: int) -> int:
    """How many tokens it takes to write the first n characters."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(tokenizer.decode(ids[:middle])) >= n else (middle + 1, high)
    return low


def _plain(tokenizer: Any, text: str) -> str:
    """A text without the tokenizer's special tokens."""
    for special in tokenizer.all_special_tokens:
        text = text.replace(special, "")
    return text
