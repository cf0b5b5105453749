"""One sentence for each technical word that pages show; whatever is drawn through the frame has them as its tooltip."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from workbench.resources import GLOSSARY


@dataclass(frozen=True)
class Term:
    """A technical word: a pattern of all its forms, its sentence, at most one formula, and the lesson that explains it."""

    pattern: re.Pattern[str]
    says: str
    formula: str = ""
    lesson: str = ""


def _read() -> dict[str, Term]:
    told: dict[str, dict[str, Any]] = yaml.load(GLOSSARY.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    found: dict[str, Term] = {}
    for name, item in told.items():
        forms = [name, *item.get("forms", ())]
        any_form = "|".join(form if "\\" in form else re.escape(form) for form in sorted(forms, key=len, reverse=True))
        # Abbreviations are told from words by their capitals: KL, AUC, MC1, n.
        exact = name.upper() == name or len(name) == 1
        pattern = re.compile(rf"(?<![\w-])(?:{any_form})(?!\w)", 0 if exact else re.IGNORECASE)
        found[name] = Term(pattern, item["says"], item.get("formula", ""), item.get("lesson", ""))
    return found


KNOWN = _read()
TERMS = {term: one.says for term, one in KNOWN.items()}
"""What each word means, in one sentence."""


def terms_in(*texts: str) -> list[str]:
    """The technical words of some texts, in the order in which they come."""
    whole = " ".join(texts)
    at = {term: match.start() for term, one in KNOWN.items() if (match := one.pattern.search(whole))}
    return sorted(at, key=at.__getitem__)


def tip(*texts: str) -> str | None:
    """The tooltip of some texts: a line a technical word; None where there is none."""
    return "\n\n".join(f"**{term}**: {TERMS[term]}{_formula(term)}" for term in terms_in(*texts)) or None


def _formula(term: str) -> str:
    formula = KNOWN[term].formula
    return f" `{formula}`" if formula else ""


def columns(names: Iterable[str]) -> dict[str, str]:
    """The tooltips of a table's columns, by name, for those that have one."""
    return {name: told for name in names if (told := tip(name))}
