"""A concept from demonstrations: the two sets of prompts, and what tells success.

Ref: docs/methods/are.md §3.1. A row is a prompt of one side if its label (or `class:` tag) is target or anti_target, or
if rows carry `concept:` tags with two names. Else a row with both answers gives one prompt to each side:
prompt + positive is target, prompt + negative anti-target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sides import GENERAL, SIDES, Side, Sides, concepts, side_of, sided
from workbench.data.splits import normalised
from workbench.errors import NotEnoughData
from workbench.methods.registry import Notice
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.shapes import Bool, Tensor

# Fewer prompts a side than this to validate on would make the accuracy jump by more than 12 points a prompt.
MIN_VALIDATION = 8
HELD_OUT = 0.25
MIN_OUTCOMES = 8


@final
@dataclass(frozen=True)
class ConceptPrompts:
    """Prompts of both sides, alternating; `ends` are their continuations where rows of answers were given."""

    texts: tuple[Prompt, ...]
    ends: tuple[str, ...] | None
    sides: tuple[Side, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def tokens(self, model: LanguageModel) -> TokenBatch:
        """All prompts with their continuations as one batch."""
        return model.tokens(list(self.texts), None if self.ends is None else list(self.ends))

    @property
    def is_target(self) -> Bool[Tensor, " row"]:
        """Which prompts are of the concept."""
        return torch.tensor([side == "target" for side in self.sides])

    def whole(self, index: int) -> str:
        """A prompt with its continuation, as a person reads it."""
        return str(self.texts[index]) + (self.ends[index] if self.ends else "")


@final
@dataclass(frozen=True)
class Concept:
    """What a fit reads: prompts to train on and to judge by, findings, and validation rows with both answers.

    `outcomes` are such rows in groups, the ones without a side first: what an edit of the concept ought to change.
    """

    train: ConceptPrompts
    validation: ConceptPrompts
    outcomes: tuple[tuple[Demonstration, ...], ...]
    notices: tuple[Notice, ...]


def concept_of(
    model: LanguageModel,
    demonstrations: Demonstrations,
    *,
    target: str | None = None,
    changed: Side = "anti_target",
    n_prompts: int | None = None,
) -> Concept:
    """Read the splits `fit` and `validation`; hold a quarter of `fit` out if validation is too small to judge by.

    Both sides are cut to the same number, in the order given, and alternate.

    Args:
        changed: the side that an edit is to make like the other; its rows are a group of outcomes.

    Raises:
        NotEnoughData: a side has fewer than two prompts to fit on.
    """
    notices: list[Notice] = []
    names = concepts(demonstrations.split("fit"))
    train, validation = (sided(demonstrations.split(split), target, names) for split in ("fit", "validation"))
    _require(train, target, demonstrations)
    if min(len(validation[side]) for side in SIDES) < MIN_VALIDATION:
        held = max(1, round(HELD_OUT * min(len(train[side]) for side in SIDES)))
        train, apart = _held_out(train, held)
        validation: Sides = {side: validation[side] + apart[side] for side in SIDES}
        n_held = min(len(apart[side]) for side in SIDES)
        text = f"Too few validation prompts: the last {n_held} of each side were held out of fitting to judge by."
        notices.append(Notice("note", text, "Mark 50 prompts a side as validation."))
    notices += _constant_ending(train)
    per_side = None if n_prompts is None else max(2, n_prompts // 2)
    return Concept(
        _alternating(train, per_side),
        _alternating(validation, None),
        _outcomes(demonstrations.split("validation").having("positive", "negative"), names, target, changed),
        tuple(notices),
    )


def _held_out(train: Sides, n: int) -> tuple[Sides, Sides]:
    """The texts to fit on, and the last `n` of each side with all others that ask the same: answers to one prompt stay together.

    Where too little would be left to fit on, texts that ask the same are parted.
    """
    asked = {normalised(str(prompt)) for side in SIDES for prompt, _ in train[side][-n:]}
    parts: list[Sides] = [
        {side: [one for one in train[side] if (normalised(str(one[0])) in asked) == held] for side in SIDES} for held in (False, True)
    ]
    if min(len(parts[0][side]) for side in SIDES) < 2:
        return {side: train[side][:-n] for side in SIDES}, {side: train[side][-n:] for side in SIDES}
    return parts[0], parts[1]


def _outcomes(rows: Demonstrations, names: Sequence[str], target: str | None, changed: Side) -> tuple[tuple[Demonstration, ...], ...]:
    rows = rows.where(lambda row: GENERAL not in row.tags)
    sides = [side_of(row, names, target) for row in rows]
    free = tuple(row for row, side in zip(rows, sides) if side is None)
    other = tuple(row for row, side in zip(rows, sides) if side == changed)
    return tuple(group for group in (free, other) if len(group) >= MIN_OUTCOMES)


def _require(train: Sides, target: str | None, demonstrations: Demonstrations) -> None:
    counts = {side: len(train[side]) for side in SIDES}
    if min(counts.values()) >= 2:
        return
    names = sorted({name for row in demonstrations for name in row.all_tagged("concept")})
    known = f" Concepts in the set: {', '.join(names)}; asked for {target!r}." if names else ""
    raise NotEnoughData(
        f"{counts['target']} target and {counts['anti_target']} anti-target prompts are marked fit; 2 are needed.{known}",
        "Label rows target or anti_target, give each row both answers, or join two files of concept prompts.",
    )


def _constant_ending(train: Sides) -> list[Notice]:
    """Tell of sides that differ by a constant last word: then position and suffix alone separate them."""
    ends: list[set[str]] = []
    for side in SIDES:
        words = [(end or str(text)).split() for text, end in train[side]]
        ends.append({found[-1] for found in words if found})
    if min(map(len, ends)) > 1 or ends[0] & ends[1]:
        return []
    text = "The sides end in different words, one of them always the same: the discriminator may read just that word."
    return [Notice("warning", text, "Use prompts of both sides that match in form.")]


def _alternating(sides: Sides, per_side: int | None) -> ConceptPrompts:
    n = min(len(sides[side]) for side in SIDES)
    n = n if per_side is None else min(n, per_side)
    items: list[tuple[Prompt, str | None, Side]] = [(*sides[side][i], side) for i in range(n) for side in SIDES]
    texts = tuple(text for text, _, _ in items)
    ends = tuple(end or "" for _, end, _ in items)
    return ConceptPrompts(texts, ends if any(ends) else None, tuple(side for _, _, side in items))
