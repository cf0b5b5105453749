"""Where a method starts if nobody names a layer, in networks of size: where the set's sides differ and a small push moves the model.

Depth alone does not say: the layer at which a set's difference can be turned is the set's own. Only rows of split `fit` are looked at: the
directions come from two prompts in three, and the others judge them. What is read is what the fit reads, once for both; the push takes few
texts, and only where the readings differ. In small networks the layers are few, and their places are known.
Ref: docs/methods/shared.md §6.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from workbench import memo
from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import SIDES, Sides, rows_of_sides, two_sides
from workbench.errors import NotEnoughData
from workbench.methods.registry import Notice
from workbench.methods.shared.layers import SMALL
from workbench.methods.shared.places import PUSH, READINGS, require_two, sides_held_apart, slopes
from workbench.methods.shared.reading import ReadAt, read_side
from workbench.models.base import LanguageModel
from workbench.numerics.intervals import placements
from workbench.progress import Progress
from workbench.shapes import Float, Tensor
from workbench.sites import Site

MOST_ROWS = 64
"""Texts a side that are looked at: two in three make directions, the others judge. The fit reads them anyway."""
MOST_PUSHED = 16
"""Texts a side that are pushed."""
DEEPEST = 0.85
"""Share of the layers above which none is taken: what moves there changes next words and no later reading."""
_BEYOND = 1.96


@dataclass(frozen=True)
class Start:
    """A layer to start from, and why it is that."""

    layer: int
    notices: tuple[Notice, ...] = ()


def start_layer(model: LanguageModel, demonstrations: Demonstrations, read: ReadAt, by_depth: int, progress: Progress) -> Start:
    """The layer of the largest first-order effect among those that tell held-out sides apart, within an error as well as any; of two sets
    of prompts, of the largest AUC.

    Args:
        by_depth: the layer in a small network, and where the rows to fit are too few or no layer tells their sides apart.

    Raises:
        As `LanguageModel.tokens`.
    """
    if model.info.n_parameters < SMALL:
        return Start(by_depth)
    rows = demonstrations.split("fit")
    reading = read if read in READINGS else "mean"
    try:
        scores, told = memo.once(("start", id(model), rows.fingerprint, reading), lambda: _scores(model, rows, reading, progress))
    except NotEnoughData as error:
        return Start(by_depth, (Notice("note", f"Layer {by_depth} by depth: {error}", "Add rows to fit."),))
    if not bool(torch.isfinite(scores).any()):
        text = f"Layer {by_depth} by depth: at no layer does the difference of sides tell apart rows that it was not made of."
        return Start(by_depth, (Notice("warning", text, "Use clearer or more demonstrations, or name a layer."),))
    layer = int(scores.argmax())
    return Start(layer, (Notice("note", f"Layer {layer} by a look at all: {told[layer]}.", "Name layers to have others."),))


def _scores(
    model: LanguageModel, rows: Demonstrations, read: ReadAt, progress: Progress
) -> tuple[Float[Tensor, " layer"], tuple[str, ...]]:
    """What ranks the layers up to the deepest that may be taken, −∞ for those that are none, and in words what each shows."""
    sites = [Site("resid_post", layer) for layer in range(max(1, int(DEEPEST * model.info.n_layers)))]
    sides, apart = _looked_at(rows)
    found = [read_side(model, sides[side], sites, progress.part(0.4 * i, 0.4 * i + 0.4)) for i, side in enumerate(SIDES)]
    good, bad = (torch.stack([getattr(side[site], read) for site in sites]) for side in found)
    of_good, of_bad = (torch.tensor(mask) for mask in apart)
    directions = torch.nn.functional.normalize(good[:, ~of_good].mean(1) - bad[:, ~of_bad].mean(1), dim=-1)
    yes, no = (torch.einsum("lrd,ld->lr", x, directions) for x in (good[:, of_good], bad[:, of_bad]))
    auc = torch.from_numpy(placements(yes.numpy(), no.numpy()).mean((1, 2)))
    n_yes, n_no = yes.shape[1], no.shape[1]
    error = math.sqrt((n_yes + n_no + 1) / (12 * n_yes * n_no))  # of the ranks of sides that do not differ
    taken = ((auc > 0.5 + _BEYOND * error) & (auc >= auc.max() - error)).nonzero()[:, 0].tolist()
    told = [f"AUC {value:.2f} on {n_yes + n_no} texts held out of the fit" for value in auc.tolist()]
    scores = torch.full_like(auc, -torch.inf)
    scores[taken] = auc[taken]
    held = [[text for text, is_apart in zip(sides[side], mask) if is_apart][:MOST_PUSHED] for side, mask in zip(SIDES, apart)]
    if taken and all(end is not None for side in held for _, end in side):
        norms = torch.stack([torch.cat([side[sites[layer]].norm for side in found]).median() for layer in taken])
        effect = (directions[taken] * slopes(model, (held[0], held[1]), progress.part(0.8, 1.0), taken)).sum(-1) * PUSH * norms
        for layer, value in zip(taken, effect.tolist()):
            scores[layer] = value if value > 0 else -torch.inf
            told[layer] += f", and a small push there moves the margin by {value:+.3f} nats a token"
    return scores, tuple(told)


def _looked_at(rows: Demonstrations) -> tuple[Sides, tuple[list[bool], list[bool]]]:
    """The first texts of each side, as a fit reads them, and which of them judge: those of every third prompt.

    Raises:
        NotEnoughData: as `sides_held_apart` and `require_two`.
    """
    judging, behind, sides = set(sides_held_apart(rows, 3)[1]), rows_of_sides(rows), two_sides(rows)
    good, bad = ([row in judging for row in behind[side][:MOST_ROWS]] for side in SIDES)
    require_two(rows, *([one for one in mask if one is kind] for mask in (good, bad) for kind in (True, False)))
    return {side: sides[side][:MOST_ROWS] for side in SIDES}, (good, bad)
