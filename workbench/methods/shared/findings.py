"""Tell-tale failures of contrast demonstrations that any method's report should name."""

from __future__ import annotations

from workbench.data.demonstrations import Demonstrations
from workbench.methods.registry import Notice
from workbench.models.base import LanguageModel
from workbench.numerics.probes import auc

MAX_AUC = 0.8


def length_notices(model: LanguageModel, rows: Demonstrations) -> tuple[Notice, ...]:
    """Warn if the number of tokens alone tells good answers from bad ones.

    AUC = P(good longer than bad) + ½ P(equal), over all pairs of one good and one bad answer; 0.5 says nothing, 0 and 1 say all.
    """
    good, bad = (_lengths(model, rows.column(side)) for side in ("positive", "negative"))
    value = auc(good, bad)
    if max(value, 1 - value) <= MAX_AUC:
        return ()
    longer = "good" if value > 0.5 else "bad"
    return (
        Notice(
            "warning",
            f"Length separates the classes: the {longer} answer of a random pair is the longer in {max(value, 1 - value):.0%} of cases.",
            "The fit may learn length. Shorten one side, or write answers of like length.",
        ),
    )


def _lengths(model: LanguageModel, texts: list[str]) -> list[int]:
    return [len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
