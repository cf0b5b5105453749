"""Which rows of a source are wanted: `category=Health`, `lang!=fr`, `question~owl`, `score>=0.5`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.data.reading import Problem, Record
from workbench.errors import BadDemonstrations

# Longer signs first: `>=` also holds `=`.
_SIGNS = ("!=", ">=", "<=", "~", "=", ">", "<")


@dataclass(frozen=True)
class Condition:
    """One column against a value: equal (=, !=), holding it in any case (~), or as numbers (>, <, >=, <=)."""

    column: str
    sign: str
    value: str

    @classmethod
    def read(cls, text: str) -> Condition:
        """Read `column=value` with one of the signs.

        Raises:
            BadDemonstrations: no sign, no column, or no number behind > or <.
        """
        found = (
            min((at, -len(sign), sign) for sign in _SIGNS if (at := text.find(sign)) > 0) if any(s in text[1:] for s in _SIGNS) else None
        )
        if found is None:
            what = f"{text!r} is no condition."
            raise BadDemonstrations(what, "Write COLUMN=VALUE, with !=, ~ (holds), >, <, >= or <= for the sign.")
        at, _, sign = found
        value = text[at + len(sign) :].strip()
        if sign[0] in "<>" and _number(value) is None:
            raise BadDemonstrations(f"{text!r} compares with {value!r}, which is no number.", f"Write a number behind {sign}.")
        return cls(text[:at].strip(), sign, value)

    def holds(self, values: dict[str, Any]) -> bool:
        """Whether a record fulfils it. A column that a row lacks, or that is no number, fulfils only !=."""
        got = values.get(self.column)
        if self.sign == "~":
            return got is not None and self.value.casefold() in str(got).casefold()
        if self.sign in ("=", "!="):
            return (got is not None and str(got) == self.value) == (self.sign == "=")
        number, limit = _number(got), float(self.value)
        if number is None:
            return False
        return {">": number > limit, "<": number < limit, ">=": number >= limit, "<=": number <= limit}[self.sign]


def wanted(items: Iterator[Record | Problem], conditions: Sequence[Condition]) -> Iterator[Record | Problem]:
    """The records that fulfil all conditions, and every problem.

    Raises:
        BadDemonstrations: the first record lacks a column that a condition names.
    """
    is_first = True
    for item in items:
        if isinstance(item, Record):
            if is_first:
                _known(conditions, item.values)
            is_first = False
        if isinstance(item, Problem) or all(condition.holds(item.values) for condition in conditions):
            yield item


def _known(conditions: Sequence[Condition], values: dict[str, Any]) -> None:
    for condition in conditions:
        if condition.column not in values:
            what = f"There is no column {condition.column!r} to choose rows by."
            raise BadDemonstrations(what, f"There are {', '.join(name for name in values if name.isprintable()) or 'none'}.")


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
