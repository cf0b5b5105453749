"""Which demonstration did it: what each row of a fit does to the score of each held-out row.

The influence of a demonstration on a row is how much the row's score falls when the edit is fitted without it, what the fit chose held.
A method that knows its edit without each row in closed form is asked for it, and scores follow to first order (`slopes`). One that trains
is fitted without each, its draws held, where that takes no more fits than are granted. Else the method is fitted on random halves of its
rows, and a demonstration's influence is half of what it is worth to be among a half, which is the same to first order.

Ref: docs/methods/shared.md §9.8; Koh and Liang, arXiv 1703.04730; datamodels, arXiv 2202.00622.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from workbench.data.demonstrations import Demonstration, Demonstrations, Split
from workbench.edits.base import Edit
from workbench.edits.labels import lane_labels
from workbench.edits.lane import Lane
from workbench.evaluate.benefit import Benefit
from workbench.evaluate.fitted_rows import without_fitted
from workbench.evaluate.halves import by_halves
from workbench.evaluate.metrics import ROUNDING
from workbench.evaluate.slopes import asked, effects, instead, margins, sites_of
from workbench.knobs import renamed
from workbench.methods.registry import get
from workbench.methods.shared.canonical_examples import training_rows
from workbench.models.base import LanguageModel
from workbench.numerics.intervals import Interval, mean_interval
from workbench.progress import Progress, silent
from workbench.shapes import Float

Way = Literal["closed form", "refits without each", "refits of halves"]
N_REFITS = 40
_BEHIND = 3
"""Demonstrations that are named behind a harmed row."""


@dataclass(frozen=True)
class Influence:
    """What each demonstration does to each held-out row, in nats of its score: above 0 it helps, below 0 it harms.

    `before` and `after` are the rows' scores without and with the edit. `fits` counts the refits, and `reliability`, of halves, is the
    correlation of the demonstrations' means from one half of these fits with those from the other; None else.
    """

    model: str
    data: str
    split: str
    edit: str
    edit_id: str
    title: str
    way: Way
    demonstrations: tuple[Demonstration, ...]
    rows: tuple[Demonstration, ...]
    matrix: Float[np.ndarray, "demonstration row"]
    before: Float[np.ndarray, " row"]
    after: Float[np.ndarray, " row"]
    fits: int = 0
    reliability: float | None = None
    why: str = ""

    def of(self, demonstration: int) -> Interval:
        """Its mean influence over the rows, with the interval over them."""
        return mean_interval(self.matrix[demonstration])

    def is_harmful(self, demonstration: int) -> bool:
        """Whether it lowers the mean score beyond chance, held to account for as many demonstrations as are looked at (Bonferroni)."""
        return mean_interval(self.matrix[demonstration], level=1 - 0.05 / len(self.demonstrations)).sign < 0

    @property
    def order(self) -> tuple[int, ...]:
        """The demonstrations, the most harmful first."""
        return tuple(int(i) for i in self.matrix.mean(1).argsort(kind="stable"))

    @property
    def victims(self) -> tuple[int, ...]:
        """The rows whose score the edit lowers, the most harmed first."""
        change = self.after - self.before
        return tuple(int(j) for j in change.argsort(kind="stable") if change[j] < -ROUNDING)

    @property
    def harmful(self) -> tuple[int, ...]:
        """The demonstrations that lower the mean score beyond chance, the worst first."""
        return tuple(i for i in self.order if self.is_harmful(i))

    def behind(self, row: int, most: int = _BEHIND) -> tuple[int, ...]:
        """The demonstrations that harm a row most, the worst first."""
        return tuple(int(i) for i in self.matrix[:, row].argsort(kind="stable")[:most] if self.matrix[i, row] < 0)

    @property
    def sentence(self) -> str:
        """What a person can repeat, in Markdown."""
        n, lost = len(self.demonstrations), self.victims
        text = f"Of {len(self.rows)} held-out rows the edit harms **{len(lost)}**."
        bad = self.harmful
        if not bad:
            return f"{text} **None of {n} demonstrations** lowers the mean score beyond chance."
        share = float(self.matrix[list(bad)].sum(0).mean())
        told = f"{len(bad)} of {n} demonstrations {'lowers' if len(bad) == 1 else 'lower'}"
        return f"{text} **{told} the mean score** beyond chance, together by {-share:.2g} nats."

    def table(self) -> list[dict[str, Any]]:
        """One table row a demonstration, the most harmful first."""
        found: list[dict[str, Any]] = []
        for i in self.order:
            mean, row = self.of(i), self.demonstrations[i]
            low, high = mean.bounds
            told = {"id": row.id or f"row {i + 1}", "prompt": str(row.prompt), "positive": row.positive, "negative": row.negative}
            found.append(told | {"influence": mean.estimate, "low": low, "high": high, "harms": int((self.matrix[i] < -ROUNDING).sum())})
        return found

    def victim_table(self) -> list[dict[str, Any]]:
        """One table row a harmed row, the most harmed first, with the demonstrations behind it and what each takes from its score."""
        return [
            {
                "id": self.rows[j].id or f"row {j + 1}",
                "prompt": str(self.rows[j].prompt),
                "before": float(self.before[j]),
                "after": float(self.after[j]),
                "behind it": " · ".join(f"{self._name(i)} ({self.matrix[i, j]:.2g})" for i in self.behind(j)),
            }
            for j in self.victims
        ]

    def _name(self, i: int) -> str:
        return self.demonstrations[i].id or str(self.demonstrations[i].prompt)


@final
@dataclass(frozen=True)
class Refit:
    """An edit fitted again without some demonstrations, and both on the rows of a split: lanes are base, edit, refit."""

    edit: Edit
    dropped: tuple[str, ...]
    benefit: Benefit

    @property
    def sentence(self) -> str:
        """What a person can repeat, in Markdown."""
        score = self.benefit.metrics[0]
        gap = score.between(2, 1)
        told = f"Without {len(self.dropped)} demonstrations: **{score.values[2].words}** {score.unit}, with all {score.values[1].words}"
        beyond = "no more than chance" if not gap.sign else "beyond chance"
        return f"{told} ({score.title}, {score.n} rows of split {self.benefit.split}); the change is {gap.words}, {beyond}."


def influence(
    model: LanguageModel,
    demonstrations: Demonstrations,
    edit: Edit,
    *,
    split: Split | None = "validation",
    n_refits: int = N_REFITS,
    progress: Progress | None = None,
) -> Influence:
    """Say what each demonstration that an edit was fitted on does to each row of a split, at the edit's dose.

    Args:
        demonstrations: those of its fit, read as its fit read them.
        n_refits: fits that a method without closed form is granted; each costs a fit. As many as demonstrations or more: one without each,
            for a method that can hold its draws. Else they are fitted on halves.

    Raises:
        NotEnoughData: no row of the split can be scored, or fewer than four demonstrations. FittedRows: all rows were fitted on.
        Others: as the method's fit, `Method.refits` and `engine.lanes`.
    """
    tell, method = progress or silent(), get(edit.header.method)
    config = method.configure(renamed(method.config, edit.header.config))
    whole = demonstrations.split("fit")
    fit = (training_rows(demonstrations) if method.needs.task == "canonical" else whole).require(4, "demonstrations to fit")
    unseen = without_fitted(demonstrations, split, [edit])
    these = asked(unseen.rows, demonstrations)
    scores, worst = margins(model, these, [(), (edit,)], tell.part(0.0, 0.1))
    sites, rest = sites_of(edit), tell.part(0.1, 1.0)
    fits, reliability = 0, None
    if method.without is not None and sites is not None:
        way, matrix = "closed form", np.zeros((len(fit), len(these.rows)))
        left = dict(method.without(model, demonstrations, edit, config, progress=rest.part(0.0, 0.4)))
        moves = [instead(model, edit, other) for other in left.values()]
        matrix[list(left)] = -effects(model, these, worst[1], (edit,), sites, moves, rest.part(0.4, 1.0))
    elif method.refits is not None and len(fit) <= n_refits:
        way, fits, refits = "refits without each", len(fit), method.refits(model, demonstrations, edit, config, progress=rest)
        left = {id(whole[at]): margins(model, these, [(other,)], silent())[0][0] for at, other in refits}
        matrix = scores[1] - np.stack([left[id(row)] for row in fit])
    else:
        way, fits, places = "refits of halves", n_refits, {id(row): at for at, row in enumerate(demonstrations)}
        matrix, reliability = by_halves(model, demonstrations, [places[id(row)] for row in fit], edit, config, these, n_refits, rest)
    (label,) = lane_labels([Lane((edit,))])
    return Influence(
        model.info.name, demonstrations.name, split or "all", label.label, edit.id, these.title, way, fit.rows, these.rows.rows,
        matrix, scores[0], scores[1], fits, reliability, unseen.why,
    )  # fmt: skip
