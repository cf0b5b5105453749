"""What one person did since a step of a lesson began, and the vocabulary of facts that lessons ask of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FactValue = float | str | bool
ReadResult = Callable[[Any, str], FactValue | None]
"""How a fact is read off a result, perhaps for what it is asked about."""

_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Attempt:
    """The results of one person's own runs since the step began, by the place on a page that shows them.

    `settings`: what each came from. `earlier`: the results since the lesson began. `scope`: layers (`2`) and heads (`3.5`) that were
    picked since the step began. `edits`: ids of the edits that this person made since the lesson began. `kept`: facts of this step that
    were written down when it was passed, for when the results are gone.
    """

    results: Mapping[str, Any] = field(default_factory=lambda: _NONE)
    settings: Mapping[str, Any] = field(default_factory=lambda: _NONE)
    earlier: Mapping[str, Any] = field(default_factory=lambda: _NONE)
    scope: tuple[str, ...] = ()
    edits: frozenset[str] = frozenset()
    kept: Mapping[str, FactValue] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True)
class NamedFact:
    """A fact: what it is in words, and how it is read; None as long as nothing was done that tells it."""

    words: str
    read: Callable[[Attempt, str], FactValue | None]


class Vocabulary(dict[str, NamedFact]):
    """The facts by name: a closed list, so that a lesson is data and runs nothing."""

    def of(self, place: str, name: str, words: str) -> Callable[[ReadResult], ReadResult]:
        """Add a fact that is read off the result of one place alone. Raises: ValueError: the name is taken."""

        def add(read: ReadResult) -> ReadResult:
            def told(attempt: Attempt, of: str) -> FactValue | None:
                found = attempt.results.get(place)
                return None if found is None else read(found, of)

            self.add(name, words, told)
            return read

        return add

    def add(self, name: str, words: str, read: Callable[[Attempt, str], FactValue | None]) -> None:
        """Add a fact of the whole attempt. Raises: ValueError: the name is taken."""
        if name in self:
            raise ValueError(f"The fact {name} stands twice.")
        self[name] = NamedFact(words, read)
