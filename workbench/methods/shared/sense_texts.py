"""Texts as a Backpack reads them once, so that any table of sense vectors can be measured on them without the transformer.

Neutral text serves the KL term, the background of importance, and the ball. Ref: docs/methods/senses.md §3.3, §3.4.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from workbench.methods.shared.canonical_examples import CanonicalItem, Chunk
from workbench.models.backpack.model import BackpackModel
from workbench.models.backpack.reading import read_texts
from workbench.numerics.sense_affine import ReadText, SenseSelection, affine, nll_rows
from workbench.numerics.sense_importance import background
from workbench.numerics.sense_training import NeutralLoss, SenseExample, example_losses, neutral_loss
from workbench.operations import wide
from workbench.progress import Progress
from workbench.shapes import Float, Tensor

# Readings kept per model: neutral text to train against and to measure on, for a few sets of demonstrations.
_KEPT = 4


@dataclass(frozen=True)
class NeutralReading:
    """Neutral chunks with all positions as rows, their NLLs without edit, and the background of importance."""

    chunks: Sequence[ReadText]
    base_rows: Sequence[Float[Tensor, " _row"]]
    background: Float[Tensor, "d_vocab sense"]

    @property
    def n_tokens(self) -> int:
        """Predicted tokens: all but the first of each chunk."""
        return sum(len(rows) for rows in self.base_rows)

    def loss(self, selection: SenseSelection) -> NeutralLoss:
        """Return the general loss as a function of a table over these senses."""
        return neutral_loss(self.chunks, self.base_rows, selection)


_kept: WeakKeyDictionary[BackpackModel, OrderedDict[tuple[Chunk, ...], NeutralReading]] = WeakKeyDictionary()
_lock = threading.Lock()


def neutral_reading(model: BackpackModel, chunks: Sequence[Chunk], progress: Progress | None = None) -> NeutralReading:
    """Read neutral chunks without edits, or return the reading kept from before; the last few are kept while the model lives."""
    key = tuple(chunks)
    with _lock:
        mine = _kept.setdefault(model, OrderedDict())
        if key in mine:
            mine.move_to_end(key)
            return mine[key]
    reading = _read(model, key, progress)
    with _lock:
        mine[key] = reading
        while len(mine) > _KEPT:
            mine.popitem(last=False)
    return reading


@torch.no_grad()
def _read(model: BackpackModel, chunks: tuple[Chunk, ...], progress: Progress | None) -> NeutralReading:
    texts = read_texts(model.network, [(chunk, range(len(chunk))) for chunk in chunks], True, progress)
    if not texts:
        return NeutralReading((), (), torch.zeros(model.info.d_vocab, model.n_senses))
    none = SenseSelection.of([])
    E = wide(model.embedding)
    base = nll_rows([affine(text.predicting(), none) for text in texts], E.new_zeros(0, E.shape[1]), E)
    return NeutralReading(texts, base, background(texts, model.info.d_vocab))


def item_texts(model: BackpackModel, items: Sequence[CanonicalItem], progress: Progress | None = None) -> list[list[ReadText]]:
    """Read prompt and continuations of each item once; one text for each side that its loss reads."""
    read = iter(read_texts(model.network, [part for item in items for part in item.sequences()], progress=progress))
    return [[next(read) for _ in item.sides] for item in items]


def sides(item: CanonicalItem, texts: Sequence[ReadText]) -> tuple[ReadText | None, ReadText | None]:
    """Put an item's texts back under good and bad."""
    remaining = iter(texts)
    return (next(remaining) if item.good is not None else None), (next(remaining) if item.bad is not None else None)


def as_examples(items: Sequence[CanonicalItem], texts: Sequence[Sequence[ReadText]], selection: SenseSelection) -> list[SenseExample]:
    """Return items that have been read as affine functions of a table."""
    found: list[SenseExample] = []
    for item, read in zip(items, texts, strict=True):
        good, bad = (None if text is None else affine(text, selection) for text in sides(item, read))
        found.append(SenseExample(item.kind, good, bad))
    return found


def losses(
    items: Sequence[CanonicalItem],
    texts: Sequence[Sequence[ReadText]],
    selection: SenseSelection,
    delta: Tensor,
    E: Tensor,
    normalise: bool = False,
) -> list[float]:
    """Return the evaluation losses (of summed NLLs, or of mean ones) of items that have been read, under a table."""
    return example_losses(as_examples(items, texts, selection), delta, E, normalise)
