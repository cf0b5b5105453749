"""Where an edit acts: at which tokens, in words that lanes, commands, pages and files share.

    all                     every token
    prompt, generated       what is asked; what is answered, from the prompt's last token on, which decides the answer's first
    first 4                 the tokens from which the first four of the answer are decided
    last                    the last token of each call
    system, user, assistant the turns of one side, under the model's chat template
    after "Answer:"         from the token on with which this text is complete, in the prompt or in what is generated
    after regex "\\d+ euros" the same, of a regular expression

A double quote within the quotes is written twice. Nothing here imports torch: pages read links before it is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import regex

from workbench.errors import BadPlace

ROLES = ("system", "user", "assistant")
LABELS: Mapping[str, str] = {
    "all": "everywhere", "prompt": "on the prompt", "generated": "on the answer", "last": "at the last token",
    "first 1": "on the first token of the answer", "system": "on the system turn", "user": "on the user's turns",
    "assistant": "on the assistant's turns",
}  # fmt: skip
"""Places that need nothing but their name, as people call them."""
SECONDS = 1.0
"""How long one search of a regular expression may take: some take for ever, and nothing else runs meanwhile."""
_LONGEST = 500
_AFTER = re.compile(r'after\s+(?P<regex>regex\s+)?"(?P<text>(?:[^"]|"")*)"', re.DOTALL)
_FIRST = re.compile(r"first\s+(\d+)")
_HOW = 'Write after "Answer:" for a text, or after regex "[0-9]+" for a regular expression.'


@final
@dataclass(frozen=True)
class Where:
    """A place: a name (of a position rule, of a side, or `after`), and the text or regular expression that it waits for."""

    name: str
    text: str = ""
    is_regex: bool = False

    @property
    def reads_text(self) -> bool:
        """Whether the tokens have to be read as a text to find it."""
        return self.name == "after" or self.name in ROLES

    def __str__(self) -> str:
        quoted = self.text.replace('"', '""')
        return f'after {"regex " if self.is_regex else ""}"{quoted}"' if self.name == "after" else self.name

    @property
    def label(self) -> str:
        """In words, as behind the name of an edit: `on the prompt`, `after “Answer:”`."""
        if self.name == "after":
            return f"after {'a match of ' if self.is_regex else ''}“{self.text}”"
        first = _FIRST.fullmatch(self.name)
        return LABELS.get(self.name) or (f"on the first {first[1]} tokens of the answer" if first else f"at {self.name}")

    def occurs(self, text: str, n_new: int) -> bool:
        """Whether what it waits for occurs in a text whose last `n_new` characters are new, and in which it did not occur before.

        Raises:
            BadPlace: the search takes too long.
        """
        if not self.is_regex:
            return text.find(self.text, max(0, len(text) - n_new - len(self.text) + 1)) >= 0
        try:
            return regex.search(self.text, text, timeout=SECONDS) is not None
        except TimeoutError as error:
            what = f"The regular expression {self.text!r} takes more than {SECONDS:g} s on a text of {len(text):,} characters."
            raise BadPlace(what, "Write it without a repetition within a repetition, or give a plain text.") from error


def read_place(text: str) -> Where:
    """The place that a text names. A plain word may be a position rule of a method, which only the engine knows.

    Raises:
        BadPlace: there is nothing to wait for, the regular expression cannot be read, or it matches the empty text.
    """
    text = text.strip()
    if re.match(r"after\b", text) is None:
        first = _FIRST.fullmatch(text)
        if first and int(first[1]) < 1:
            raise BadPlace(f"{text!r} is no token of the answer.", "Write first 1 for the first one.")
        return Where(f"first {int(first[1])}" if first else text)
    found = _AFTER.fullmatch(text)
    if found is None:
        raise BadPlace(f"{text!r} does not say after what.", _HOW)
    place = Where("after", found["text"].replace('""', '"'), bool(found["regex"]))
    if not place.text:
        raise BadPlace("A place after the empty text is everywhere.", "Write the text after which the edit is to act, or the place all.")
    if len(place.text) > _LONGEST:
        raise BadPlace(f"A text of {len(place.text):,} characters is to be waited for; {_LONGEST} are the most.", "Give its end alone.")
    if place.is_regex:
        _try(place.text)
    return place


def _try(pattern: str) -> None:
    try:
        empty = regex.compile(pattern).search("") is not None
    except regex.error as error:
        raise BadPlace(f"{pattern!r} is no regular expression: {error}.", _HOW) from error
    if empty:
        raise BadPlace(
            f"The regular expression {pattern!r} matches the empty text, so it would act everywhere.", "Let it ask for at least one letter."
        )


def after(text: str, *, is_regex: bool = False) -> str:
    """The place behind a text or a regular expression, as it is written. Raises: as `read_place`."""
    return str(read_place(str(Where("after", text, is_regex))))
