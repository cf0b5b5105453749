"""What a method needs of demonstrations and model, and what is in its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import SIDES, sided
from workbench.sites import LAYER_WEIGHTS

TaskKind = Literal["contrast", "label", "concept", "canonical"]


@dataclass(frozen=True)
class Obstacle:
    """Why a method cannot run here, and what to change."""

    reason: str
    hint: str


@dataclass(frozen=True)
class Needs:
    """What a method needs of demonstrations and model: filled columns, rows in the fit split, and perhaps senses or heads.

    `sites`: kinds of site of which the model must have one at least; the method leaves out layers without. `parameters`: every parameter
    has to be open to a delta. `sets`: two sets of prompts, told by label or concept, do as well as the columns beside the prompt.
    """

    columns: tuple[str, ...]
    task: TaskKind = "contrast"
    min_rows: int = 2
    senses: bool = False
    heads: bool = False
    sites: tuple[str, ...] = ()
    parameters: bool = False
    sets: bool = False

    @property
    def weights(self) -> bool:
        """Whether the edits change weights of layers, or all parameters."""
        return self.parameters or any(kind in LAYER_WEIGHTS for kind in self.sites)

    @property
    def has_place(self) -> bool:
        """Whether the edits can be told where to act: those that change weights, or the table of senses, act at every token."""
        return not self.weights and not self.senses

    @property
    def in_words(self) -> str:
        """What it needs, as people say it: `Needs a good and a bad answer to each of 4 prompts or more.`"""
        rows = _ROWS[self.task].format(n=self.min_rows)
        others = " or two sets of prompts" * self.sets
        return f"Needs {rows}{others}{', and a Backpack' * self.senses}."


_ROWS: dict[TaskKind, str] = {
    "contrast": "a good and a bad answer to each of {n} prompts or more",
    "label": "{n} prompts or more with the label that is right",
    "concept": "{n} prompts or more of each of two kinds",
    "canonical": "a few short examples of what should hold",
}


def n_complete(needs: Needs, rows: Demonstrations) -> int:
    """How many rows have all that is needed: the columns or, where two sets of prompts do as well and no row is a pair, a side."""
    if needs.sets and not rows.having("positive", "negative"):
        return sum(map(len, sided(rows).values()))
    return len(rows.having(*needs.columns))


def lacking(title: str, needs: Needs, rows: Demonstrations, takers: Sequence[str]) -> list[Obstacle]:
    """Columns that rows to fit lack; of two sets of prompts a side that is too small, or that no sets will do.

    Args:
        takers: titles of the methods that take two sets of prompts.
    """
    absent = {column: sum(not getattr(row, column) for row in rows) for column in needs.columns}
    sides = sided(rows) if any(absent.values()) and "negative" in absent and not rows.having("positive", "negative") else None
    if sides is None or not any(sides.values()):
        hint = " Or label prompts target and anti_target: two sets of prompts do as well." if needs.sets else ""
        return [
            Obstacle(f"{n} of {len(rows)} demonstrations to fit have no {column}.", f"Fill the column {column}.{hint}")
            for column, n in absent.items()
            if n
        ]
    counts = " and ".join(f"{len(sides[side])} {side}" for side in SIDES)
    if not needs.sets:
        what = f"{title} needs a good and a bad answer to each prompt; here are two sets of prompts ({counts}) without answers."
        return [Obstacle(what, f"Fill positive and negative, or use a method that takes two sets: {', '.join(takers)}.")]
    if min(len(sides[side]) for side in SIDES) < needs.min_rows:
        return [Obstacle(f"Of two sets of prompts, {counts} are marked fit; {needs.min_rows} of each are needed.", "Mark more fit.")]
    return []
