"""Demonstrations: what a person shows a method, one frozen row each, in an immutable named set."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, final

from workbench.conversations import Conversation, Prompt, as_chat, as_written, read_prompt
from workbench.errors import NotEnoughData

Split = Literal["fit", "validation", "test"]
SPLITS: tuple[Split, ...] = ("fit", "validation", "test")
_SAID = (".", "?", "!", '."', '?"', '!"', ".”", "?”", "!”")
COLUMNS = ("prompt", "positive", "negative", "neutral", "label", "loss", "tags", "split", "id")


@dataclass(frozen=True)
class Demonstration:
    """One row. Texts after the prompt (`positive`, `negative`, `label`) are continuations with their own leading space.

    A prompt is a text, or a conversation that the model's template renders; what answers a conversation begins without a space.

    `loss` is one of good, bad, balance, good-v-bad (canonical examples); None in a column means that the row lacks it.
    """

    prompt: Prompt
    positive: str | None = None
    negative: str | None = None
    neutral: str | None = None
    label: str | None = None
    loss: str | None = None
    tags: tuple[str, ...] = ()
    split: Split = "fit"
    id: str = ""

    @property
    def question(self) -> str:
        """What is asked, as a text or as a chat, without regard to white space and system turn; else the neutral text."""
        told = (
            [turn.text for turn in self.prompt.turns if turn.role != "system"] if isinstance(self.prompt, Conversation) else [self.prompt]
        )
        return " ".join(" ".join(told).split() or (self.neutral or "").split())

    @property
    def marks(self) -> tuple[str, str]:
        """Hashes of its question, and of its question with its answers: what it is known by, whatever its id, tags and split."""
        answers = sorted({" ".join(text.split()) for text in (self.positive, self.negative, self.label) if text})
        return _mark([self.question]), _mark([self.question, "answers", *answers])

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that it says: two rows with equal texts differ in id, tags and split at most."""
        return (str(self.prompt), self.positive or "", self.negative or "", self.neutral or "", self.label or "", self.loss or "")

    def tagged(self, key: str) -> str | None:
        """Value of the first `key:value` tag, None without one."""
        return next(iter(self.all_tagged(key)), None)

    def all_tagged(self, key: str) -> tuple[str, ...]:
        """Values of every `key:value` tag: the references of a question are under `true` and `false`."""
        return tuple(tag.split(":", 1)[1] for tag in self.tags if tag.startswith(key + ":"))

    def as_answer(self, text: str) -> str:
        """A text as an answer to this prompt: behind a text with a space before it, in a conversation without."""
        return ("" if isinstance(self.prompt, Conversation) else " ") + text.strip()

    def values(self) -> dict[str, Any]:
        """Every column as a JSON value: a conversation as its messages, tags as a tuple."""
        return {name: getattr(self, name) for name in COLUMNS} | {"prompt": as_written(self.prompt)}

    @cached_property
    def line(self) -> str:
        """The row as one line of JSON, sorted keys, no column left out; `of_lines` reads it back."""
        return json.dumps(self.values(), sort_keys=True, ensure_ascii=False)

    @classmethod
    def of_lines(cls, lines: Sequence[str]) -> list[Demonstration]:
        """Read what `line` wrote. Raises: ValueError, TypeError, KeyError, BadPrompt: it is damaged."""
        rows: list[Demonstration] = []
        for line, told in zip(lines, json.loads(f"[{','.join(lines)}]"), strict=True):
            row = cls(**told | {"tags": tuple(told["tags"]), "prompt": read_prompt(told["prompt"])})
            row.__dict__["line"] = line  # as the property would: a set of 100,000 rows is saved after each change of one of them
            rows.append(row)
        return rows

    def put_as_chat(self, system: str | None = None, thinking: bool | None = None) -> Demonstration:
        """The row with its text as a user's turn, and with answers that begin without a space; a conversation stays one."""
        talk = as_chat(self.prompt, system, thinking)
        if isinstance(self.prompt, Conversation):
            return replace(self, prompt=talk)
        answers = {name: text and text.lstrip(" ") for name in ("positive", "negative", "label") for text in [getattr(self, name)]}
        return replace(self, prompt=talk, **answers)


@final
@dataclass(frozen=True)
class Demonstrations:
    """A named, ordered, immutable set of demonstrations."""

    rows: tuple[Demonstration, ...]
    name: str = "untitled"
    kept_as: str = field(default="", compare=False, repr=False)
    """The fingerprint of the same rows as they are kept, where these were put as chat; empty otherwise."""

    def __iter__(self) -> Iterator[Demonstration]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Demonstration:
        return self.rows[index]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all rows in order: two sets with equal rows have equal fingerprints, whatever their names."""
        text = f"[{', '.join(row.line for row in self.rows)}]"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def is_data_of(self, data: str, system: str = "") -> bool:
        """Whether a fingerprint is that of these rows, however they were rendered: as texts or, under a system turn, as chat."""
        return data in (self.fingerprint, self.kept_as) or data == self.put_as_chat(system or None).fingerprint

    @cached_property
    def fitted_marks(self) -> tuple[str, ...]:
        """The marks of the rows of split `fit`, sorted: what an edit that is fitted on this set carries.

        A question is marked with its answers, and alone too unless the set asks it in another split as well: then other answers to it are
        held out by intention.
        """
        fit = self.split("fit")
        held = {row.marks[0] for row in self if row.split != "fit"}
        return tuple(sorted({mark for row in fit for mark in row.marks if mark not in held}))

    def not_among(self, marks: Collection[str]) -> Demonstrations:
        """The rows that carry none of some marks: those that no fit with these marks has seen."""
        return self.where(lambda row: not any(mark in marks for mark in row.marks)) if marks else self

    def split(self, *splits: Split) -> Demonstrations:
        """The rows of the given splits."""
        return self.where(lambda row: row.split in splits)

    def where(self, keep: Callable[[Demonstration], bool]) -> Demonstrations:
        """The rows for which `keep` is true."""
        return self.with_rows(row for row in self.rows if keep(row))

    def tagged(self, tag: str) -> Demonstrations:
        """The rows that carry this tag."""
        return self.where(lambda row: tag in row.tags)

    def having(self, *columns: str) -> Demonstrations:
        """The rows in which all these columns are filled."""
        return self.where(lambda row: all(getattr(row, column) for column in columns))

    def with_rows(self, rows: Iterable[Demonstration]) -> Demonstrations:
        """The same set with other rows."""
        return Demonstrations(tuple(rows), self.name)

    @property
    def is_chat(self) -> bool:
        """Whether there are conversations among the prompts."""
        return any(isinstance(row.prompt, Conversation) for row in self.rows)

    @cached_property
    def asks(self) -> bool:
        """Whether most text prompts end where a sentence ends, as what is said to somebody does; others are to be gone on with."""
        texts = [row.prompt.rstrip() for row in self.rows if isinstance(row.prompt, str) and not _is_general(row)]
        return 2 * sum(text.endswith(_SAID) for text in texts) > len(texts)

    def put_as_chat(self, system: str | None = None, thinking: bool | None = None) -> Demonstrations:
        """The set with every prompt as a conversation, a text as one turn of the user; rows of general text stay as they are."""
        rows = (row if _is_general(row) else row.put_as_chat(system, thinking) for row in self.rows)
        return Demonstrations(tuple(rows), self.name, self.kept_as or self.fingerprint)

    def prompts(self) -> list[Prompt]:
        """The prompts in order."""
        return [row.prompt for row in self.rows]

    def first(self, n: int) -> Demonstrations:
        """The first n rows."""
        return self.with_rows(self.rows[:n])

    def column(self, name: str) -> list[str]:
        """Texts of one column, which every row must have.

        Raises:
            NotEnoughData: a row lacks it.
        """
        values = [getattr(row, name) for row in self.rows]
        missing = [row.id or str(i + 1) for i, row in enumerate(self.rows) if not getattr(row, name)]
        if missing:
            raise NotEnoughData(
                f"{len(missing)} of {len(self.rows)} demonstrations have no {name} (first: {missing[0]}).",
                f"Fill the column {name}, or leave those rows out.",
            )
        return values

    def require(self, n: int, what: str = "demonstrations") -> Demonstrations:
        """Return itself if there are at least `n` rows.

        Raises:
            NotEnoughData: there are fewer.
        """
        if len(self.rows) < n:
            raise NotEnoughData(f"Got {len(self.rows)} {what} in {self.name!r}; at least {n} are needed.", "Add more rows.")
        return self


def _is_general(row: Demonstration) -> bool:
    return any(f"role:{role}" in row.tags for role in ("general", "regularisation"))


def _mark(texts: list[str]) -> str:
    return hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode()).hexdigest()[:16]


def joined(sets: Iterable[Demonstrations]) -> Demonstrations:
    """The rows of several sets, one set after the other; rows without an id, or with one that two sets share, get the set's name."""
    parts = tuple(sets)
    counts = Counter(row.id for part in parts for row in part)
    rows = (
        replace(row, id=f"{part.name}-{row.id or i}") if not row.id or counts[row.id] > 1 else row
        for part in parts
        for i, row in enumerate(part)
    )
    return Demonstrations(tuple(rows), " + ".join(part.name for part in parts))


def neutral_texts(demonstrations: Demonstrations, roles: tuple[str, ...] = ("general",)) -> tuple[str, ...]:
    """The distinct neutral texts of a set: its column `neutral`, then the prompts of rows with one of these roles that are texts."""
    texts = [row.neutral for row in demonstrations if row.neutral]
    texts += [row.prompt for row in demonstrations if isinstance(row.prompt, str) and set(roles) & set(row.all_tagged("role"))]
    return tuple(dict.fromkeys(texts))


Source = str | Path | Demonstrations
"""Demonstrations as themselves, as the name of a set, or as a file."""
