"""Objectives on generated text: a classifier learned from the demonstrations, or anybody's own reward."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from workbench.data.demonstrations import Demonstration
from workbench.errors import NotEnoughData
from workbench.shapes import Float, Tensor


@dataclass(frozen=True)
class WordClassifier:
    """Score texts by the mean log-odds of their words (naive Bayes with add-one counts), in nats a word; 0 for unseen words."""

    log_odds: Mapping[str, float]

    @classmethod
    def of(cls, good: Sequence[str], bad: Sequence[str]) -> WordClassifier:
        """Learn from texts to be made likelier and texts to be made rarer.

        Raises:
            NotEnoughData: one side has no words.
        """
        counts = [Counter(word for text in side for word in _words(text)) for side in (good, bad)]
        if not counts[0] or not counts[1]:
            raise NotEnoughData("A classifier of generated text needs words of both kinds.", "Fill positive and negative.")
        known = set(counts[0]) | set(counts[1])
        totals = [sum(count.values()) + len(known) for count in counts]
        odds = {w: math.log((counts[0][w] + 1) / totals[0]) - math.log((counts[1][w] + 1) / totals[1]) for w in sorted(known)}
        return cls(odds)

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, " text"]:
        """Return one score a text: positive where it reads like the good ones."""
        found = [[self.log_odds.get(word, 0.0) for word in _words(text)] for text in texts]
        return torch.tensor([sum(values) / max(1, len(values)) for values in found], dtype=torch.float64)


def classifier_of(rows: Sequence[Demonstration]) -> WordClassifier:
    """Return the classifier of the rows' positive against negative continuations.

    Raises:
        NotEnoughData: the rows have no such pairs.
    """
    pairs = [(row.positive, row.negative) for row in rows if row.positive and row.negative]
    return WordClassifier.of([good for good, _ in pairs], [bad for _, bad in pairs])


def _words(text: str) -> list[str]:
    return [word for word in (part.strip(".,;:!?\"'()").casefold() for part in text.split()) if word]
