"""Trials of a search: every point that was evaluated, what came out, and how healthy the surrogate was that proposed it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from workbench.errors import NotEnoughData, ShapeMismatch
from workbench.shapes import Float, Tensor

STAGES = ("identity", "initial", "search")
_SCALARS = (
    "value", "best", "predicted", "predicted_sd", "noise", "lengthscale", "region", "success", "uninformative", "stage", "batch",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Trial:
    """Hold one objective call.

    `predicted` and `predicted_sd` are the surrogate's forecast made before the call; `noise` is its fitted noise as a share of the
    standardised variance, `lengthscale` in units of the box side; `region` is the trust region's side (or the step of `es`). Where an
    optimiser has no such thing the field is NaN. `success` says whether the batch that holds the trial improved on the best so far.
    """

    index: int
    batch: int
    stage: str
    point: Float[Tensor, " dim"]
    value: float
    best: float
    predicted: float = math.nan
    predicted_sd: float = math.nan
    noise: float = math.nan
    lengthscale: float = math.nan
    region: float = math.nan
    success: bool = False
    uninformative: bool = False


@dataclass(frozen=True, eq=False)
class Trials:
    """Hold the trials of one search in the order of their calls."""

    rows: tuple[Trial, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.rows)

    @property
    def points(self) -> Float[Tensor, "trial dim"]:
        """Return every evaluated point, float64 in the unit cube.

        Raises:
            NotEnoughData: there is none.
        """
        if not self.rows:
            raise NotEnoughData("A search without trials has no points.", "Evaluate at least one point first.")
        return torch.stack([row.point for row in self.rows])

    @property
    def values(self) -> Float[Tensor, " trial"]:
        """Return every objective value."""
        return torch.tensor([row.value for row in self.rows], dtype=torch.float64)

    @property
    def best(self) -> Trial:
        """Return the first trial that reached the highest value.

        Raises:
            NotEnoughData: there is none.
        """
        if not self.rows:
            raise NotEnoughData("A search without trials has no best point.", "Evaluate at least one point first.")
        return max(self.rows, key=lambda row: (row.value, -row.index))

    def top(self, count: int) -> tuple[Trial, ...]:
        """Return the `count` best trials, best first, earlier ones first among equals."""
        return tuple(sorted(self.rows, key=lambda row: (-row.value, row.index))[:count])

    def table(self) -> list[dict[str, float | int | str | bool]]:
        """Return one row per trial without the point itself, for a table, a figure or a file."""
        names = ("index", "batch", "stage", *(name for name in _SCALARS if name not in ("stage", "batch")))
        return [{name: getattr(row, name) for name in names} for row in self.rows]

    def tensors(self) -> dict[str, Tensor]:
        """Return the trials as plain tensors: `points` (trial, dim) and `scalars` (trial, field); exact, see `from_tensors`."""
        if not self.rows:
            return {"points": torch.zeros(0, 0, dtype=torch.float64), "scalars": torch.zeros(0, len(_SCALARS))}
        scalars = [
            [float(STAGES.index(row.stage)) if name == "stage" else float(getattr(row, name)) for name in _SCALARS] for row in self.rows
        ]
        return {"points": self.points, "scalars": torch.tensor(scalars, dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Trials:
        """Rebuild the trials that `tensors` returned.

        Raises:
            ShapeMismatch: they are of other shapes.
        """
        points, scalars = tensors["points"], tensors["scalars"]
        if scalars.ndim != 2 or scalars.shape[1] != len(_SCALARS) or points.shape[0] != scalars.shape[0]:
            raise ShapeMismatch(
                f"Trials need points (trial, dim) and scalars (trial, {len(_SCALARS)}); got {tuple(points.shape)} and "
                f"{tuple(scalars.shape)}.",
                "Pass the two tensors exactly as `Trials.tensors()` returned them.",
            )
        rows: list[Trial] = []
        for index, (point, line) in enumerate(zip(points, scalars.tolist())):
            field = dict(zip(_SCALARS, line))
            stage, batch = STAGES[int(field.pop("stage"))], int(field.pop("batch"))
            success, uninformative = bool(field.pop("success")), bool(field.pop("uninformative"))
            rows.append(Trial(index, batch, stage, point.clone(), success=success, uninformative=uninformative, **field))
        return cls(tuple(rows))


@dataclass(frozen=True, eq=False)
class Found:
    """Hold what a search ended with; `stopped` is `budget`, `target`, `patience` or `cancelled`."""

    trials: Trials
    stopped: str

    @property
    def best(self) -> Trial:
        """Return the best trial."""
        return self.trials.best


@dataclass(frozen=True)
class Health:
    """Say whether the optimiser optimised, or only drew points.

    `rank_correlation` compares the surrogate's forecast with the outcome over the searched trials (NaN without a surrogate);
    `trend` is Spearman's correlation of value and call; `spread` is the mean per-coordinate standard deviation of the searched points
    (independent uniform points: .289); `boundary` the share of coordinates on the box's faces; `noise` the median fitted noise;
    `uninformative` the number of calls whose surrogate explained less than half of the variance.
    """

    rank_correlation: float
    trend: float
    spread: float
    boundary: float
    noise: float
    uninformative: int
    calls: int


def health(trials: Trials) -> Health:
    """Return the health of the searched trials (identity and initial design left out).

    Ref: docs/methods/tarot.md §8.

    Raises:
        NotEnoughData: fewer than three searched trials.
    """
    rows = [row for row in trials.rows if row.stage == "search"]
    if len(rows) < 3:
        raise NotEnoughData(f"Health needs 3 searched trials, got {len(rows)}.", "Raise the budget above the initial design.")
    points = torch.stack([row.point for row in rows])
    values = torch.tensor([row.value for row in rows], dtype=torch.float64)
    predicted = torch.tensor([row.predicted for row in rows], dtype=torch.float64)
    calls = torch.arange(len(rows), dtype=torch.float64)
    noise = torch.tensor([row.noise for row in rows], dtype=torch.float64)
    return Health(
        rank_correlation=rank_correlation(predicted, values),
        trend=rank_correlation(calls, values),
        spread=float(points.std(dim=0).mean()),
        boundary=float(((points <= 0) | (points >= 1)).double().mean()),
        noise=float(noise.nanmedian()),
        uninformative=sum(row.uninformative for row in rows),
        calls=len(rows),
    )


def rank_correlation(left: Float[Tensor, " n"], right: Float[Tensor, " n"]) -> float:
    """Return Spearman's rank correlation over the pairs without NaN (ties share their mean rank); NaN where one side is constant."""
    known = ~(left.isnan() | right.isnan())
    if int(known.sum()) < 3:
        return math.nan
    a, b = (_ranks(side[known]) for side in (left, right))
    a, b = a - a.mean(), b - b.mean()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else math.nan


def _ranks(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    distinct, where = values.unique(return_inverse=True)
    counts = torch.bincount(where, minlength=len(distinct)).double()
    ends = counts.cumsum(0)
    return (ends - (counts - 1) / 2)[where]
