"""Where both sides of a demonstration set lie inside the network, and how well held-out rows are told apart there.

Law: at the output of a layer, x = u·h with u the unit difference of the means of the fit rows' last tokens, y the leading principal
component of what is left; AUC = P(x⁺ > x⁻) over held-out rows. Beside it the same for random directions, each turned to the side of the
difference: p = (1 + number at least as good) / (1 + number drawn). A score without that reference says little in many dimensions.
Ref: docs/methods/shared.md §2 for the sites.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.errors import NotEnoughData
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.intervals import Interval, auc_interval
from workbench.numerics.probes import principal_axes
from workbench.numerics.ranks import aucs
from workbench.progress import Progress, silent
from workbench.record import gather
from workbench.shapes import Float
from workbench.sites import Site

# Below these no score is told: it would be noise. Above MAX_ROWS a side, rows are left out: a picture shows no more.
MIN_FIT, MIN_HELD, _MAX_ROWS = 3, 6, 128
_N_RANDOM = 200


@dataclass(frozen=True)
class DemonstrationGeometry:
    """Points of both sides at each layer. `places` are the demonstrations' indices in the set, `held` marks those that no direction saw.

    `auc`, `random_auc` and `p_values` are per layer; `auc` is empty where `withheld` says why.
    """

    model: str
    data: str
    sides: tuple[str, str]
    layers: tuple[int, ...]
    places: tuple[int, ...]
    is_first: tuple[bool, ...]
    held: tuple[bool, ...]
    points: Float[np.ndarray, "layer point 2"]
    auc: tuple[Interval, ...]
    random_auc: tuple[float, ...]
    p_values: tuple[float, ...]
    withheld: str

    def rows(self) -> list[dict[str, Any]]:
        """One table row a layer: how well held-out rows are told apart."""
        return [
            {"layer": layer, "AUC": auc.estimate, "low": auc.low, "high": auc.high, "n": auc.n, "random mean": mean, "p": p}
            for layer, auc, mean, p in zip(self.layers, self.auc, self.random_auc, self.p_values)
        ]

    def table(self, layer: int) -> list[dict[str, Any]]:
        """One table row a point of a layer."""
        return [
            {"row": row + 1, "side": self.sides[0 if first else 1], "held out": held, "along the difference": float(x), "across": float(y)}
            for row, first, held, (x, y) in zip(self.places, self.is_first, self.held, self.points[self.layers.index(layer)])
        ]


def demonstration_geometry(
    model: LanguageModel,
    demonstrations: Demonstrations,
    *,
    stack: Sequence[Edit] = (),
    layers: Sequence[int] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> DemonstrationGeometry:
    """Read the last tokens of both sides at every layer: positive and negative answers, or prompts of the two labels.

    Raises:
        NotEnoughData: no row has two sides, or no two labels. Others: as `engine.applied` and `record.gather`.
    """
    tell = progress or silent()
    sides, chosen, batch = points_of(model, demonstrations)
    wanted = tuple(range(model.info.n_layers)) if layers is None else tuple(layers)
    sites = [Site("resid_post", layer) for layer in wanted]
    with applied(model, *stack):
        found = gather(model, batch, sites, progress=tell.part(0.0, 0.8))
    first = np.array([is_first for _, is_first, _ in chosen])
    held = np.array([is_held for *_, is_held in chosen])
    seen = ~held if (~held).sum() > 1 else np.ones_like(held)  # one point alone spans no axes
    withheld = _withheld(first, held)
    points: list[np.ndarray] = []
    scores: list[tuple[Interval, float, float]] = []
    rng = np.random.default_rng(seed)
    for i, site in enumerate(sites):
        tell(0.8 + 0.2 * i / len(sites), f"Projecting layer {site.layer}")
        x = found[site].double().cpu().numpy()
        points.append(_projected(x, first, seen))
        if not withheld:
            scores.append(_scored(x, first, held, rng, paired=sides == ("positive", "negative")))
    tell(1.0, "Done")
    return DemonstrationGeometry(
        model.info.name,
        demonstrations.name,
        sides,
        wanted,
        tuple(row for row, *_ in chosen),
        tuple(first.tolist()),
        tuple(held.tolist()),
        np.stack(points),
        tuple(score for score, *_ in scores),
        tuple(mean for _, mean, _ in scores),
        tuple(p for *_, p in scores),
        withheld,
    )


_Point = tuple[int, bool, bool]


def points_of(model: LanguageModel, demonstrations: Demonstrations) -> tuple[tuple[str, str], list[_Point], TokenBatch]:
    """Names of the sides; (row, is of the first side, is held out) and the tokens of each point.

    Sides are the answers where most rows are pairs, else the prompts of the two commonest labels.
    """
    pairs = [(i, row) for i, row in enumerate(demonstrations) if row.positive and row.negative]
    labels = [label for label, _ in Counter(row.label for row in demonstrations if row.label).most_common(2)]
    if 2 * len(pairs) >= len(demonstrations) > 0 or (pairs and len(labels) < 2):
        kept = _capped(pairs)
        points = [(i, first, row.split != "fit") for first in (True, False) for i, row in kept]
        answers = [str(row.positive if first else row.negative) for first in (True, False) for _, row in kept]
        return ("positive", "negative"), points, model.tokens([row.prompt for _, row in kept] * 2, answers)
    if len(labels) < 2:
        raise NotEnoughData(
            f"No row of {demonstrations.name!r} has both a positive and a negative, and there are not two labels.",
            "Fill both columns, or the column label with two values.",
        )
    told = [(i, row, row.label == labels[0]) for i, row in enumerate(demonstrations) if row.label in labels]
    kept_labels = [
        (i, row, first) for side in (True, False) for i, row in _capped([(i, row) for i, row, f in told if f == side]) for first in (side,)
    ]
    points = [(i, first, row.split != "fit") for i, row, first in kept_labels]
    return (str(labels[0]), str(labels[1])), points, model.tokens([row.prompt for _, row, _ in kept_labels])


def _capped(rows: list[tuple[int, Demonstration]]) -> list[tuple[int, Demonstration]]:
    """At most MAX_ROWS, half of them from split fit where there are enough."""
    fit, held = [r for r in rows if r[1].split == "fit"], [r for r in rows if r[1].split != "fit"]
    n_fit = min(len(fit), max(_MAX_ROWS // 2, _MAX_ROWS - len(held)))
    return fit[:n_fit] + held[: _MAX_ROWS - n_fit]


def _withheld(first: np.ndarray, held: np.ndarray) -> str:
    fit = min(int((first & ~held).sum()), int((~first & ~held).sum()))
    new = min(int((first & held).sum()), int((~first & held).sum()))
    if fit >= MIN_FIT and new >= MIN_HELD:
        return ""
    return f"{fit} rows a side to fit and {new} held out; a score needs {MIN_FIT} and {MIN_HELD}. Mark more rows validation or test."


def _projected(x: np.ndarray, first: np.ndarray, seen: np.ndarray) -> np.ndarray:
    centre = x[seen].mean(0)
    u = unit_difference(x, first, seen)
    rest = x - centre
    rest = rest - np.outer(rest @ u, u)
    v = principal_axes(rest[seen], 1)[1][0]
    return np.stack([(x - centre) @ u, rest @ v], 1)


def unit_difference(x: np.ndarray, first: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The unit difference of both means over the points seen; the first axis where a side has none or they coincide."""
    if not (first & seen).any() or not (~first & seen).any():
        return np.eye(x.shape[1])[0]
    u = x[first & seen].mean(0) - x[~first & seen].mean(0)
    size = float(np.linalg.norm(u))
    return u / size if size > 0 else np.eye(x.shape[1])[0]


def _scored(x: np.ndarray, first: np.ndarray, held: np.ndarray, rng: np.random.Generator, *, paired: bool) -> tuple[Interval, float, float]:
    """AUC on held-out points with its interval over rows, the mean AUC of random directions, and the p-value."""
    u = unit_difference(x, first, ~held)
    good, bad = x[first & held], x[~first & held]
    found = auc_interval(good @ u, bad @ u, paired=paired)
    drawn = rng.standard_normal((_N_RANDOM, x.shape[1]))
    drawn *= np.where(drawn @ u < 0, -1.0, 1.0)[:, None]
    random = aucs(drawn @ good.T, drawn @ bad.T)
    p = (1 + int((random >= found.estimate).sum())) / (1 + _N_RANDOM)
    return found, float(random.mean()), p
