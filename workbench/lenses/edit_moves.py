"""What any edit does to the residual stream at the ends of some answers: how far and at which angle it moves each layer, along which
directions, what these say, and where the answers of both sides go; beside a random edit of equal size.

Law: at a layer's output Δ = h' − h, one row a text. Directions are the right singular vectors of Δ, uncentred, the strongest first; each is
turned so that the moves along it are positive in the mean. Above the edited layer, Δ holds what the network made of the edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import SIDES, concepts, two_sides
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.edits.labels import edit_label
from workbench.edits.placebo import rotated
from workbench.errors import NotEnoughData
from workbench.models.base import LanguageModel
from workbench.models.direction_tokens import direction_tokens
from workbench.progress import Progress, silent
from workbench.record import gather
from workbench.shapes import Bool, Float, Tensor
from workbench.sites import Site

N_ANSWERS = 64
N_DIRECTIONS = 6
N_FARTHEST = 3
# A layer that moves by less than this share of its length is not edited; its directions would be rounding.
_STILL = 1e-6


@dataclass(frozen=True)
class Direction:
    """A direction of the moves of one layer: its share of their squares, the tokens that it promotes, and the texts farthest along it both
    ways, before the edit, the strongest first."""

    share: float
    promotes: tuple[str, ...]
    suppresses: tuple[str, ...]
    most: tuple[str, ...]
    least: tuple[str, ...]


@dataclass(frozen=True)
class LayerMoves:
    """One layer: directions of the edit, the shares of a random edit's directions, and where the texts lie on the two leading ones, with
    `random` under a random edit."""

    layer: int
    directions: tuple[Direction, ...]
    random_shares: tuple[float, ...]
    before: Float[np.ndarray, "text 2"]
    after: Float[np.ndarray, "text 2"]
    random: Float[np.ndarray, "text 2"]


@dataclass(frozen=True)
class EditMoves:
    """An edit on the stream. `sizes` are mean ‖Δ‖ / ‖h‖, `angles` mean degrees between h' and h, of the edit and of the random one; `moved`
    holds the layers that the edit moves."""

    model: str
    edit: str
    data: str
    split: str
    layers: tuple[int, ...]
    sizes: Float[np.ndarray, "who layer"]
    angles: Float[np.ndarray, "who layer"]
    moved: tuple[LayerMoves, ...]
    is_good: Bool[np.ndarray, " text"]

    @property
    def strongest(self) -> int:
        """The layer that is moved most, by its share of length."""
        return self.layers[int(self.sizes[0].argmax())]

    def at(self, layer: int) -> LayerMoves:
        """The moves of a layer that is moved (a KeyError else)."""
        return {one.layer: one for one in self.moved}[layer]

    def rows(self) -> list[dict[str, Any]]:
        """One table row a layer."""
        return [
            {
                "layer": layer, "move, of the length": round(float(self.sizes[0, i]), 5),
                "angle, degrees": round(float(self.angles[0, i]), 3),
                "random edit: move": round(float(self.sizes[1, i]), 5), "random edit: angle": round(float(self.angles[1, i]), 3),
            }
            for i, layer in enumerate(self.layers)
        ]  # fmt: skip


def edit_moves(
    model: LanguageModel, edit: Edit, demonstrations: Demonstrations, *, seed: int = 0, progress: Progress | None = None
) -> EditMoves:
    """Read the stream at the last tokens of held-out answers of both sides, without the edit, with it, and with a random one of its size.

    The rows are of split `validation`, `test` where there are none, and those to fit where there is neither.

    Raises:
        NotEnoughData: there is no answer of either side. Others: as `engine.applied` and `record.gather`.
    """
    tell, (split, prompts, ends, is_good) = progress or silent(), _texts(demonstrations)
    batch = model.tokens(prompts, [end for end in ends if end is not None] if None not in ends else None)
    sites = [Site("resid_post", layer) for layer in range(model.info.n_layers)]
    runs: list[dict[Site, Tensor]] = []
    for i, stack in enumerate(((), (edit,), (rotated(edit, seed),))):
        with applied(model, *stack):
            found = gather(model, batch, sites, "last", progress=tell.part(i / 3, (i + 1) / 3))
        runs.append({site: x.double().cpu() for site, x in found.items()})
    names = [f"{prompt} {end or ''}".strip() for prompt, end in zip(prompts, ends)]
    told = [_layer(model, site, (runs[0][site], runs[1][site], runs[2][site]), names) for site in sites]
    sizes, angles = (np.array([numbers[i] for numbers, _ in told]).T for i in range(2))
    moved = tuple(one for _, one in told if one is not None)
    tell(1.0, "Done")
    layers = tuple(range(model.info.n_layers))
    return EditMoves(model.info.name, edit_label(edit), demonstrations.name, split, layers, sizes, angles, moved, is_good)


def _texts(demonstrations: Demonstrations) -> tuple[str, list[Prompt], list[str | None], Bool[np.ndarray, " text"]]:
    names = concepts(demonstrations.split("fit"))
    for split in ("validation", "test", "fit"):
        sides = two_sides(demonstrations.split(split), names)
        texts = [[*sides[side]][: N_ANSWERS // 2] for side in SIDES]
        if any(texts):
            break
    else:
        raise NotEnoughData(f"{demonstrations.name!r} has no answer of either side.", "Fill positive and negative.")
    is_good = np.repeat([True, False], [len(side) for side in texts])
    return split, [prompt for side in texts for prompt, _ in side], [end for side in texts for _, end in side], is_good


def _layer(
    model: LanguageModel, site: Site, runs: tuple[Tensor, Tensor, Tensor], names: list[str]
) -> tuple[tuple[tuple[float, float], tuple[float, float]], LayerMoves | None]:
    """Sizes and angles of both, and what the edit's moves are made of where there are any. `runs`: without, with it, with a random one."""
    base, *both = runs
    edited, random = both
    length = base.norm(dim=-1).clamp_min(1e-12)
    sizes = [float(((x - base).norm(dim=-1) / length).mean()) for x in both]
    cosines = [torch.nn.functional.cosine_similarity(x, base, dim=-1).clamp(-1, 1) for x in both]
    angles = [float(torch.rad2deg(torch.arccos(cosine)).mean()) for cosine in cosines]
    numbers = ((sizes[0], sizes[1]), (angles[0], angles[1]))
    if sizes[0] <= _STILL:
        return numbers, None
    directions, shares = _directions(edited - base)
    _, random_shares = _directions(random - base)
    centred = (base - base.mean(0)) @ directions.T  # (text, k)
    told = [_direction(model, v, float(share), along, names) for v, share, along in zip(directions, shares, centred.T)]
    plane = directions[:2] if len(directions) > 1 else torch.cat([directions, torch.zeros_like(directions)])
    before, after, by_chance = (((x - base.mean(0)) @ plane.T).numpy() for x in (base, edited, random))
    return numbers, LayerMoves(site.layer or 0, tuple(told), tuple(random_shares.tolist()), before, after, by_chance)


def _directions(moves: Float[Tensor, "text d_model"]) -> tuple[Float[Tensor, "k d_model"], Float[Tensor, " k"]]:
    """Leading directions, turned the way the moves go, and their shares of the squares."""
    _, values, v = torch.linalg.svd(moves, full_matrices=False)
    total = values.square().sum().clamp_min(torch.finfo(torch.float64).tiny)
    v = v[:N_DIRECTIONS]
    signs = torch.where((moves @ v.T).mean(0) < 0, -1.0, 1.0).to(v.dtype)
    return v * signs[:, None], (values.square() / total)[:N_DIRECTIONS]


def _direction(model: LanguageModel, v: Tensor, share: float, along: Float[Tensor, " text"], names: list[str]) -> Direction:
    said = direction_tokens(model, v, 6).texts()
    order = along.argsort(descending=True).tolist()
    most, least = (tuple(names[i] for i in part) for part in (order[:N_FARTHEST], order[::-1][:N_FARTHEST]))
    return Direction(share, said["promoted"], said["suppressed"], most, least)
