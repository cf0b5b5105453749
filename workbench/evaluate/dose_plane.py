"""A dose as a plane: by how many degrees an edit turns the residual stream behind one layer, and by how much it lengthens or shortens it.

Every edit of directions does both at once, in a mixture that its law fixes: an addition turns short tokens further than long ones and makes
them longer, a rotation keeps their length, a projection shortens. Here both are set by hand: at each point of a grid the stream of every
token is turned towards one direction and scaled; what that gains on held-out rows and moves on neutral text is measured. Edits then stand
where they take the median of the tokens that they move, so that one sees which of them reach the gain inside the safe region, and at what
price.
Ref: docs/methods/shared.md §9.11.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, final

import numpy as np
import torch

from workbench.data.demonstrations import Demonstrations, Split
from workbench.data.sides import two_sides
from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused
from workbench.edits.engine import lanes
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.edits.lane import Lane
from workbench.errors import BadKnob, FitFailed
from workbench.evaluate.budget import drawn
from workbench.evaluate.fitted_rows import without_fitted
from workbench.evaluate.slopes import asked, margins
from workbench.methods.shared.ground import Ground, few_texts
from workbench.methods.shared.reading import read_sides, settled_reading
from workbench.methods.shared.validation import neutral_kl
from workbench.models.base import LanguageModel
from workbench.models.sinks import norm_bounds
from workbench.models.tokens import TokenBatch
from workbench.numerics.intervals import Interval, mean_interval
from workbench.operations import Operation, TransformAt, wide
from workbench.progress import Progress, silent
from workbench.record import gather
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

ANGLES = (0.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0)
"""Degrees by which a token is turned towards the direction: close to none in steps as small as what a network of many layers bears."""
LENGTHS = (0.7, 0.85, 1.0, 1.15, 1.3)
"""Times the token's own length."""
SAFE_NATS = 0.1
"""KL(untouched ‖ moved) a token of neutral text, up to which a point is safe."""
_SHARES = (0.5, 1.0, 2.0)
"""Shares of an edit's own dose at which it is placed."""
Spread = tuple[tuple[float, float], tuple[float, float]]
_MOVED = 1e-4
"""Share of its length by which a token has to differ to count as moved."""
_AT_ONCE = 7
_N_BOUNDS = 32


@final
@dataclass(frozen=True)
class _Turned(Edit):
    """A point of the plane: it turns the stream behind one layer and scales it, as its facts say. Made to be measured, never kept."""

    direction: Float[Tensor, " d_model"]
    kind = "turned towards"

    def tensors(self) -> Mapping[str, Tensor]:
        return {"direction": self.direction}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        return cls(header, tensors["direction"])

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        layer, angle, length = (self.header.facts[name] for name in ("layer", "angle", "length"))
        turn = turned_towards(self.direction, dose * angle, 1.0 + dose * (length - 1.0))
        return (TransformAt(Site("resid_post", layer), turn, self.direction.numel()),)

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        return {}


def turned_towards(direction: Float[Tensor, " d_model"], angle: float, length: float) -> Any:
    """What turns every token by `angle` degrees towards a direction, in the plane of both, and makes it `length` times as long.

    A token that lies along the direction already is only scaled: there is no plane to turn it in.
    """
    unit = direction / direction.norm()
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def act(x: Activations) -> Activations:
        z = wide(x)
        d = unit.to(z.dtype)
        norm = z.norm(dim=-1, keepdim=True)
        side = d - (z @ d / norm.squeeze(-1).square().clamp_min(1e-30))[..., None] * z
        side = side / side.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        return (length * (cos * z + sin * norm * side)).type_as(x)

    return act


@dataclass(frozen=True)
class Placed:
    """Where an edit takes those tokens of the scored rows and their best answers that it moves, at some of its doses: median angle in
    degrees and median ratio of lengths. At its own dose `spread` is the middle half of both, `share` how many of the tokens it moves (a
    gate leaves others alone), and `kl` its damage on neutral text, nats a token."""

    label: LaneLabel
    doses: tuple[float, ...]
    angles: tuple[float, ...]
    lengths: tuple[float, ...]
    spread: Spread
    share: float
    kl: float

    @property
    def is_still(self) -> bool:
        """Whether it leaves the stream behind this layer as it is."""
        return self.share == 0


@dataclass(frozen=True)
class DosePlane:
    """What turning and scaling gain and break at each point, and where edits lie.

    `gain` is the mean change of a row's score (nats), `gain_interval` that of the best safe point; `damage` mean KL(untouched ‖ moved) a
    token of neutral text, in nats.
    """

    model: str
    data: str
    split: Split | Literal["all"]
    layer: int
    title: str
    n: int
    n_texts: int
    source: str
    angles: tuple[float, ...]
    lengths: tuple[float, ...]
    gain: Float[np.ndarray, "angle length"]
    damage: Float[np.ndarray, "angle length"]
    best: tuple[int, int] | None
    gain_interval: Interval | None
    placed: tuple[Placed, ...]
    limit: float = SAFE_NATS
    why: str = ""

    @property
    def sentence(self) -> str:
        """What a person can repeat, in Markdown."""
        safe, turns = self.damage <= self.limit, np.array(self.angles) > 0
        text = f"{safe.sum()} of {safe.size} points are safe: neutral text moves by KL {self.limit:g} a token or less. "
        if turns.any() and not safe[turns].any():
            least = next(angle for angle in self.angles if angle > 0)
            return text + f"**No point that turns is safe**, so nothing is known of what a turn by less than {least:g}° gains."
        if self.best is None or self.gain_interval is None:
            return text + "**Nothing safe gains**: no point within it raises the score beyond chance."
        angle, length = self.angles[self.best[0]], self.lengths[self.best[1]]
        how = f"turning by {angle:g}°" + ("" if length == 1 else f" and {abs(length - 1):.0%} {'longer' if length > 1 else 'shorter'}")
        return text + f"The most it gains there is **{self.gain_interval.told('+.2f')}** nats ({self.title.lower()}, n={self.n}), by {how}."

    def table(self) -> list[dict[str, Any]]:
        """One table row a point of the plane, then one an edit."""
        rows: list[dict[str, Any]] = [
            {"what": "plane", "degrees": angle, "length": length, "gain, nats": round(float(self.gain[i, j]), 4),
             "KL, nats a token": round(float(self.damage[i, j]), 5), "safe": bool(self.damage[i, j] <= self.limit)}
            for i, angle in enumerate(self.angles) for j, length in enumerate(self.lengths)
        ]  # fmt: skip
        return rows + [
            {"what": one.label.label, "degrees": round(angle, 2), "length": round(length, 4), "gain, nats": None,
             "KL, nats a token": round(one.kl, 5) if dose == 1.0 else None, "safe": one.kl <= self.limit if dose == 1.0 else None}
            for one in self.placed for dose, angle, length in zip(one.doses, one.angles, one.lengths)
        ]  # fmt: skip


def dose_plane(
    model: LanguageModel,
    demonstrations: Demonstrations,
    layer: int,
    edits: Sequence[Edit] = (),
    *,
    split: Split | None = "validation",
    angles: Sequence[float] = ANGLES,
    lengths: Sequence[float] = LENGTHS,
    n_rows: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> DosePlane:
    """Measure the plane behind one layer and place edits in it.

    The direction is the difference of the means of both sides of the fit rows there; tokens that carry the attention sink are left alone.

    Args:
        split: whose rows are scored, those that an edit was fitted on left out, at most `n_rows` of them.
        angles: in degrees, 0 to 180. lengths: times a token's own length, above 0.

    Raises:
        BadKnob: no such layer, or angles or lengths beyond these bounds. NotEnoughData: a side has no rows to fit, or there is nothing
        to score. FitFailed: both sides have the same mean.
    """
    tell, (degrees, ratios) = progress or silent(), _grid(model, layer, angles, lengths)
    site = Site("resid_post", layer)
    direction = _direction(model, demonstrations, site, tell.part(0.0, 0.15))
    ground = few_texts(model, demonstrations, seed)
    held = without_fitted(demonstrations, split, list(edits))
    these = asked(drawn(held.rows, n_rows), demonstrations)
    prompts = list(dict.fromkeys(row.prompt for row in demonstrations.split("fit") if row.prompt))[:_N_BOUNDS]
    bounds = norm_bounds(model, model.tokens(prompts), [site]) if prompts else {}
    grid = [_point(model, direction, layer, angle, length).sparing(bounds) for angle in degrees for length in ratios]
    gain, damage = _measured(model, these, ground, grid, tell.part(0.15, 0.9))
    shape = (len(degrees), len(ratios))
    best, interval = _best(gain, damage.reshape(-1))
    read = model.tokens(these.rows.prompts(), list(these.true))
    placed = tuple(_placed(model, label, edit, read, ground, site) for label, edit in zip(_labels(edits), edits))
    tell(1.0, "Done")
    where = None if best is None else (best // shape[1], best % shape[1])
    return DosePlane(
        model.info.name, demonstrations.name, split or "all", layer, these.title, len(these.rows), len(ground.batch), ground.source,
        degrees, ratios, gain.mean(1).reshape(shape), damage.reshape(shape), where, interval, placed, why=held.why,
    )  # fmt: skip


def _grid(model: LanguageModel, layer: int, angles: Sequence[float], lengths: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    if not 0 <= layer < model.info.n_layers:
        raise BadKnob(f"{model.info.name} has no layer {layer}.", f"Name one of 0 to {model.info.n_layers - 1}.")
    if not angles or not lengths or not all(0 <= one <= 180 for one in angles) or not all(0 < one < math.inf for one in lengths):
        told = f"angles {', '.join(map(str, angles))}, lengths {', '.join(map(str, lengths))}"
        raise BadKnob(f"A plane of {told}.", "Give angles of 0 to 180 degrees and lengths above 0, for example 1.")
    return tuple(sorted(set(angles))), tuple(sorted(set(lengths)))


def _direction(model: LanguageModel, demonstrations: Demonstrations, site: Site, tell: Progress) -> Float[Tensor, " d_model"]:
    sides = two_sides(demonstrations.split("fit"))
    good, bad = read_sides(model, sides, [site], settled_reading("auto", model.info), tell)[site]
    found = good.mean(0) - bad.mean(0)
    if not float(found.norm()) > 0:
        what = f"Both sides of {demonstrations.name!r} have the same mean behind layer {site.layer}."
        raise FitFailed(what, "Name another layer, or a set whose sides differ.")
    return (found / found.norm()).float().to(model.device)


def _point(model: LanguageModel, direction: Float[Tensor, " d_model"], layer: int, angle: float, length: float) -> _Turned:
    return _Turned(
        Header("turned towards", {}, model.fingerprint, "", 0, {}, {"layer": layer, "angle": angle, "length": length}), direction
    )


def _measured(
    model: LanguageModel, these: Any, ground: Ground, grid: Sequence[_Turned], tell: Progress
) -> tuple[Float[np.ndarray, "point row"], Float[np.ndarray, " point"]]:
    base = margins(model, these, [()], silent())[0][0]
    gains, damage = list[np.ndarray](), list[np.ndarray]()
    for start in range(0, len(grid), _AT_ONCE):
        tell(start / len(grid), f"Measuring points {start + 1} to {min(start + _AT_ONCE, len(grid))} of {len(grid)}")
        part = [(one,) for one in grid[start : start + _AT_ONCE]]
        gains.append(margins(model, these, part, silent())[0] - base)
        damage.append(neutral_kl(model, part, ground))
    return np.concatenate(gains), np.concatenate(damage)


def _best(gain: Float[np.ndarray, "point row"], damage: Float[np.ndarray, " point"]) -> tuple[int | None, Interval | None]:
    """The safe point of the largest mean gain, if that one is beyond chance."""
    safe = np.flatnonzero(damage <= SAFE_NATS)
    if not len(safe):
        return None, None
    top = int(safe[gain[safe].mean(1).argmax()])
    interval = mean_interval(gain[top])
    return (top, interval) if interval.sign > 0 else (None, None)


def _labels(edits: Sequence[Edit]) -> Sequence[LaneLabel]:
    return lane_labels([Lane((edit,)) for edit in edits])


def _placed(model: LanguageModel, label: LaneLabel, edit: Edit, read: TokenBatch, ground: Ground, site: Site) -> Placed:
    before = gather(model, read, [site], "all")[site].double()
    angles, ratios, share = list[float](), list[float](), 0.0
    spread: Spread = ((0.0, 0.0), (1.0, 1.0))
    for dose in _SHARES:
        with lanes(model, [(edit.scaled(dose),)]):
            after = gather(model, read, [site], "all")[site].double()
        moves = (after - before).norm(dim=1) > _MOVED * before.norm(dim=1)
        old, new = (before[moves], after[moves]) if bool(moves.any()) else (before, before)
        ratio = new.norm(dim=1) / old.norm(dim=1).clamp_min(1e-30)
        degrees = torch.nn.functional.cosine_similarity(old, new, dim=1).clamp(-1, 1).arccos().rad2deg()
        angles.append(float(degrees.median()))
        ratios.append(float(ratio.median()))
        if dose == 1.0:
            spread, share = (_middle_half(degrees), _middle_half(ratio)), float(moves.double().mean())
    return Placed(label, _SHARES, tuple(angles), tuple(ratios), spread, share, float(neutral_kl(model, [(edit,)], ground)[0]))


def _middle_half(x: Float[Tensor, " token"]) -> tuple[float, float]:
    return float(x.quantile(0.25)), float(x.quantile(0.75))
