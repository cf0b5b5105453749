"""Where a method starts if nobody names a layer, in networks of size: where the set's sides differ and a small push moves the model.

Depth alone does not say: the layer at which a set's difference can be turned is the set's own. Only rows of split `fit` are looked at: the
directions come from three prompts in four, and the others judge them. In small networks the layers are few, and their places are known.
Ref: docs/methods/shared.md §6.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from workbench import memo
from workbench.data.demonstrations import Demonstrations
from workbench.errors import NotEnoughData
from workbench.methods.registry import Notice
from workbench.methods.shared.layers import SMALL
from workbench.methods.shared.places import PUSH, READINGS, apart_sides, read_both, slopes
from workbench.methods.shared.reading import ReadAt
from workbench.models.base import LanguageModel
from workbench.numerics.intervals import placements
from workbench.progress import Progress
from workbench.shapes import Float, Tensor

MOST_ROWS = 24
"""Texts a side, to make directions of or to judge by."""
DEEPEST = 0.85
"""Share of the layers above which none is taken: what moves there changes next words and no later reading."""
_BEYOND = 1.96


@dataclass(frozen=True)
class Start:
    """A layer to start from, and why it is that."""

    layer: int
    notices: tuple[Notice, ...] = ()


def start_layer(model: LanguageModel, demonstrations: Demonstrations, read: ReadAt, by_depth: int, progress: Progress) -> Start:
    """The layer of the largest first-order effect among those that tell held-out sides apart; of two sets of prompts, of the largest AUC.

    Args:
        by_depth: the layer in a small network, and where the rows to fit are too few or no layer tells their sides apart.

    Raises:
        As `LanguageModel.tokens`.
    """
    if model.info.n_parameters < SMALL:
        return Start(by_depth)
    rows = demonstrations.split("fit")
    reading = READINGS.index(read if read in READINGS else "mean")
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
    model: LanguageModel, rows: Demonstrations, reading: int, progress: Progress
) -> tuple[Float[Tensor, " layer"], tuple[str, ...]]:
    """What ranks the layers, −∞ for those that are none, and in words what each shows."""
    fit, held = apart_sides(rows, MOST_ROWS)
    (good, bad, norms), (held_good, held_bad, _) = (read_both(model, texts, progress) for texts in (fit, held))
    directions = torch.nn.functional.normalize(good[reading].mean(1) - bad[reading].mean(1), dim=-1)
    yes, no = (torch.einsum("lrd,ld->lr", side[reading], directions) for side in (held_good, held_bad))
    auc = torch.from_numpy(placements(yes.numpy(), no.numpy()).mean((1, 2)))
    n, m = yes.shape[1], no.shape[1]
    beyond = 0.5 + _BEYOND * math.sqrt((n + m + 1) / (12 * n * m))  # of the ranks of sides that do not differ
    told = [f"AUC {value:.2f} on {n + m} texts held out of the fit" for value in auc.tolist()]
    scores = auc
    if all(end is not None for side in held for _, end in side):
        scores = (directions * slopes(model, held, progress)).sum(-1) * PUSH * norms
        told = [
            f"{text}, and a small push there moves the margin by {effect:+.3f} nats a token" for text, effect in zip(told, scores.tolist())
        ]
    index = torch.arange(len(scores))
    taken = (auc > beyond) & (index < max(1, int(DEEPEST * len(scores)))) & (scores > 0)
    return torch.where(taken, scores, -torch.inf), tuple(told)
