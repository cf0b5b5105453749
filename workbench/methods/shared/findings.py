"""Tell-tale failures of contrast demonstrations that any method's report should name."""

from __future__ import annotations

from workbench.data.checks import length
from workbench.data.demonstrations import Demonstrations
from workbench.methods.registry import Notice
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_ids


def length_notices(model: LanguageModel, rows: Demonstrations) -> tuple[Notice, ...]:
    """Warn if the number of tokens alone tells good answers from bad ones, as the check of a set does."""
    found = length(rows.rows, lambda text: token_ids(model, text))
    if not found.count or found.value is None:
        return ()
    longer, value = ("good", found.value) if found.value > 0.5 else ("bad", 1 - found.value)
    what = f"Length separates the classes: the {longer} answer of a random pair is the longer in {value:.0%} of cases."
    return (Notice("warning", what, "The fit may learn length. Shorten one side, or write answers of like length."),)
