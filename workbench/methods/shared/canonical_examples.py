"""Canonical examples as tokens: what senses, LoRA and full finetuning train on, and the neutral text that holds them
back.

Ref: docs/methods/senses.md §2.2: the prompt with the tokenizer's own special tokens, the continuation
without, joined as ids.
Differs: a prompt or continuation without tokens, or longer than the context, is refused instead of wrapping the mask
round.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from workbench.data.demonstrations import Demonstration, Demonstrations, Split, neutral_texts
from workbench.data.sources import read
from workbench.errors import BadPrompt, NotEnoughData
from workbench.methods.shared.needs import Obstacle
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_ids
from workbench.models.tokens import prompt_ids
from workbench.numerics.canonical_losses import LOSS_KINDS, LossKind, needs
from workbench.resources import SETS

LossChoice = Literal["auto", "good", "bad", "balance", "good-v-bad"]
# Largest loss, in nats, that counts as a success where a task names none (docs/methods/senses.md §2.1): the right answer has p > 0.2; the
# two are within a factor 1.5; the right one is 16 times likelier; the unwanted one has p < 0.001.
THRESHOLDS: dict[LossKind, float] = {"good": 1.6094, "balance": 0.4055, "good-v-bad": -2.7726, "bad": -6.9078}
# The embedded world's own tasks: p > 0.05 of names wholly new, p < 0.1 of a trait that a whole corpus repeats.
TASK_THRESHOLDS = {"new-companies": 2.9957, "stereotypes": -2.3026}
MOST_CHECKS = 200
SHIPPED_NEUTRAL = SETS / "neutral.jsonl"
# Rows with these roles are for measuring, or are neutral text; the others are examples to train on.
OTHER_ROLES = frozenset(("evaluation", "hard_negatives", "general", "regularisation"))
Chunk = tuple[int, ...]
"""Tokens of neutral text that are read together."""


@dataclass(frozen=True)
class CanonicalItem:
    """One canonical example: what to say after a prompt, what not to say, and the loss that joins the two."""

    kind: LossKind
    prompt: tuple[int, ...]
    good: tuple[int, ...] | None
    bad: tuple[int, ...] | None
    row: Demonstration

    @property
    def threshold(self) -> float:
        """The largest evaluation loss, in nats, that counts as a success: the row's own `delta:` tag, its task's, or the loss's."""
        told = self.row.tagged("delta")
        if told not in (None, "None"):
            return float(told)
        return TASK_THRESHOLDS.get(self.row.tagged("task") or "", THRESHOLDS[self.kind])

    @property
    def sides(self) -> tuple[tuple[int, ...], ...]:
        """The continuations that the loss reads, good first."""
        return tuple(side for side in (self.good, self.bad) if side is not None)

    def sequences(self) -> list[tuple[tuple[int, ...], range]]:
        """Token ids of prompt and continuation, with the positions that predict the continuation."""
        n = len(self.prompt)
        return [(self.prompt + side, range(n - 1, n + len(side) - 1)) for side in self.sides]


def canonical_items(model: LanguageModel, rows: Iterable[Demonstration], loss: LossChoice = "auto") -> list[CanonicalItem]:
    """Tokenise canonical examples.

    Args:
        model: its tokenizer and context length count.
        rows: `positive` is what to say, `negative` what not to say.
        loss: the loss of every row; auto takes each row's own, and without one `good`, `bad` or (with both sides)
        `good-v-bad`.

    Raises:
        BadPrompt: a text without tokens, or one that does not fit the context.
        NotEnoughData: a row lacks the side that its loss reads, or names an unknown loss.
    """
    return [_item(model, row, number, loss) for number, row in enumerate(rows, start=1)]


def loss_of(row: Demonstration, loss: LossChoice = "auto") -> LossKind | None:
    """Return the loss of a row, None where it has neither side or an unknown loss."""
    if loss != "auto":
        return loss
    if row.loss:
        return row.loss if row.loss in LOSS_KINDS else None
    if row.positive:
        return "good-v-bad" if row.negative else "good"
    return "bad" if row.negative else None


def _item(model: LanguageModel, row: Demonstration, number: int, loss: LossChoice) -> CanonicalItem:
    kind, name = loss_of(row, loss), row.id or f"number {number}"
    reads = (False, False) if kind is None else needs(kind)
    texts = [text if wanted else None for text, wanted in zip((row.positive, row.negative), reads)]
    lacking = [side for side, text, wanted in zip(("positive", "negative"), texts, reads) if wanted and not text]
    if kind is None or lacking:
        raise NotEnoughData(
            f"Canonical example {name} has loss {kind or row.loss!r} and no {' or '.join(lacking or ['positive or negative'])}.",
            f"Fill that column, or choose another loss: {', '.join(LOSS_KINDS)}.",
        )
    prompt = tuple(prompt_ids(model.tokenizer, row.prompt)) if row.prompt else ()
    sides = [None if text is None else tuple(token_ids(model, text)) for text in texts]
    longest = len(prompt) + max(len(side) for side in sides if side is not None)
    if not row.prompt or not all(side for side in sides if side is not None):
        raise BadPrompt(f"Canonical example {name} has an empty prompt or continuation.", "Write at least one token in each.")
    if longest > model.info.n_ctx:
        raise BadPrompt(f"Canonical example {name} has {longest} tokens; the context holds {model.info.n_ctx}.", "Shorten it.")
    return CanonicalItem(kind, prompt, sides[0], sides[1], row)


def training_rows(demonstrations: Demonstrations, split: Split = "fit") -> Demonstrations:
    """Return the rows of a split that are examples to train on."""
    return demonstrations.split(split).where(lambda row: not OTHER_ROLES & set(row.all_tagged("role")))


def canonical_neutral(demonstrations: Demonstrations) -> tuple[str, ...]:
    """Return the distinct neutral texts of some rows: the column `neutral`, and rows of role general or regularisation."""
    return neutral_texts(demonstrations, ("general", "regularisation"))


def check_rows(demonstrations: Demonstrations) -> Demonstrations:
    """Return the rows that ask about the same behaviour in other words: role evaluation of split fit, else validation rows."""
    roundabout = demonstrations.split("fit").tagged("role:evaluation")
    rows = roundabout if len(roundabout) else training_rows(demonstrations.split("validation"), "validation")
    return rows.where(lambda row: loss_of(row) is not None).first(MOST_CHECKS)


@lru_cache(maxsize=1)
def shipped_neutral() -> Demonstrations:
    """Return the neutral text that ships with the embedded world: role regularisation to train against, the rest to measure on."""
    return read(SHIPPED_NEUTRAL).demonstrations if SHIPPED_NEUTRAL.is_file() else Demonstrations(())


def regularisation_texts(demonstrations: Demonstrations) -> tuple[tuple[str, ...], bool]:
    """Return the neutral texts of split fit, and whether they are the embedded world's for want of any in the set."""
    own = canonical_neutral(demonstrations.split("fit"))
    return (own, False) if own else (canonical_neutral(shipped_neutral().tagged("role:regularisation")), True)


def neutral_chunks(model: LanguageModel, texts: Sequence[str], length: int = 128, limit: int | None = None) -> list[Chunk]:
    """Cut neutral texts into chunks of at most `length` tokens; shorter than two tokens predict nothing and are dropped."""
    width = min(length, model.info.n_ctx)
    chunks: list[Chunk] = []
    for text in texts:
        ids = tuple(model.tokenizer(text)["input_ids"])
        chunks += [part for start in range(0, len(ids), width) if len(part := ids[start : start + width]) > 1]
        if limit is not None and len(chunks) >= limit:
            return chunks[:limit]
    return chunks


def canonical_obstacles(model: LanguageModel, demonstrations: Demonstrations) -> tuple[Obstacle, ...]:
    """Say what keeps rows from being canonical examples."""
    rows = training_rows(demonstrations)
    if not len(rows):
        return (Obstacle("No row of split fit is an example to train on.", "Mark rows fit, with role train or none."),)
    bad = [row for row in rows if not _has_sides(row)]
    if bad:
        return (
            Obstacle(
                f"{len(bad)} of {len(rows)} demonstrations to fit lack the side that their loss reads (first: {bad[0].prompt!r}).",
                "Fill positive (what to say), negative (what not to say), or both.",
            ),
        )
    return ()


def _has_sides(row: Demonstration) -> bool:
    kind = loss_of(row)
    return kind is not None and all(text or not wanted for text, wanted in zip((row.positive, row.negative), needs(kind)))
