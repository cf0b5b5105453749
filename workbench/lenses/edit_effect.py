"""What an edit does to a target against a distractor: by which layers and heads, and how much of it through attention that moved.

Law: three rows of one prompt, the untouched model, the edited one, and the edited one with the untouched model's attention patterns in
every block. Of each run D = logit(target) − logit(distractor) at the last token is taken apart into what attention and MLP of each layer,
or each head, say directly (`attribution`); a part's effect is its number less that of the untouched run. Parts sum to the change of D.
`kept` is what the edit does through what heads read and write where they looked before; `free` − `kept` comes of looking elsewhere.
Ref: arXiv 2211.00593 (direct effects); frozen patterns as in docs/methods/shared.md, lanes that keep the attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.engine import lanes
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.errors import BadLane
from workbench.lenses.attribution import said
from workbench.lenses.bridged import bridged
from workbench.lenses.logit_difference import LogitDifference, logit_difference
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.progress import Progress, silent
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

_PARTS = ("attn_out", "mlp_out", "head_z")
_FREE, _KEPT = 0, 1


@dataclass(frozen=True)
class EditEffect:
    """Effects of each lane of edits, nats of the logit difference (of the target's logit without a distractor).

    The axis `way` is attention free, then with the base's patterns kept. `labels` are those of direct attribution by component; the last
    two are `rest`, what the edit itself adds to the stream, and `constant`. `before` is the untouched model's difference.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    target: str
    distractor: str | None
    labels: tuple[str, ...]
    parts: Float[np.ndarray, "lane way component"]
    heads: Float[np.ndarray, "lane way layer head"]
    before: float
    after: Float[np.ndarray, "lane way"]

    def strongest(self, n: int, lane: int = 0) -> list[tuple[int, int, float]]:
        """The `n` heads whose own words changed most: layer, head, nats."""
        free = self.heads[lane, _FREE]
        order = np.argsort(-np.abs(free), axis=None, kind="stable")[:n]
        return [(int(i), int(j), float(free[i, j])) for i, j in zip(*np.unravel_index(order, free.shape))]

    def rows(self) -> list[dict[str, Any]]:
        """One table row a lane and component, then one a head."""
        return [
            {"lane": lane.label, "part": name, "effect": float(free), "attention_kept": float(kept),
             "by_looking_elsewhere": float(free - kept)}
            for k, lane in enumerate(self.lanes)
            for name, (free, kept) in [
                *((label, self.parts[k, :, i]) for i, label in enumerate(self.labels)),
                *((f"L{i}H{j}", self.heads[k, :, i, j]) for i, j in np.ndindex(*self.heads.shape[2:])),
            ]
        ]  # fmt: skip


def unheld(model: LanguageModel) -> str:
    """What the network lacks that is read or held here; empty if nothing."""
    n = model.info.n_layers
    for kind in (*_PARTS, "w_q", "w_k"):
        if len(model.layers_of(kind)) < n:
            return f"It reads or holds {kind} in every layer, and {model.info.name} ({model.info.architecture}) has not all of them."
    return ""


def edit_effect(
    model: LanguageModel,
    prompt: Prompt,
    target: str,
    distractor: str | None = None,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    progress: Progress | None = None,
) -> EditEffect:
    """Take the change of the difference apart under each stack of edits that is not empty. Cost: a forward of a row, and two a stack.

    Raises:
        Obstructed: the model lacks what the lens reads. BadLane: no stack has an edit. BadPrompt: a word is no single token. Others:
        `engine.lanes`.
    """
    owner, tell = bridged(model, "edit_effect"), progress or silent()
    edited = [stack for stack in stacks if stack]
    if not edited:
        raise BadLane("No edit is on, so there is no effect to take apart.", "Turn an edit on, or name one.")
    asked = logit_difference(owner, target, distractor)
    tell(0.0, "Running the model with and without the edit")
    seen, difference = _runs(owner, prompt, edited, asked)
    tell(0.7, "Taking the difference apart")
    labels, parts, heads = _apart(owner, seen, asked, difference)
    tell(1.0, "Done")
    n = len(edited)
    by_part, by_head = ((x[1:] - x[:1]).reshape(n, 2, *x.shape[1:]) for x in (parts, heads))
    before, after = float(difference[0]), difference[1:].reshape(n, 2)
    named = owner.info.name, lane_labels(edited), asked.target, asked.distractor
    return EditEffect(*named, labels, by_part, by_head, before, after)


def _runs(
    model: BridgeModel, prompt: Prompt, edited: Sequence[Sequence[Edit]], asked: LogitDifference
) -> tuple[dict[Site, Float[Tensor, "run width"]], Float[np.ndarray, " run"]]:
    """What each site holds at the last token, and the logit difference: untouched, then each stack with attention free and kept."""
    n = model.info.n_layers
    sites = [Site("resid_pre", 0), *(Site(kind, layer) for layer in range(n) for kind in _PARTS), Site("resid_post", n - 1)]
    rows = [(), *(stack for stack in edited for _ in range(2))]
    kept = {i: 0 for i in range(2, len(rows), 2)}
    seen: dict[Site, Tensor] = {}

    def keep(site: Site) -> Callable[[Activations], None]:
        def reader(x: Activations) -> None:
            seen[site] = x[:, -1].double()

        return reader

    with torch.no_grad(), lanes(model, rows, kept), model.intercepts([(site, keep(site)) for site in sites]):
        logits = model.logits(model.tokens(prompt).repeat(len(rows)))
    return seen, asked(logits).cpu().numpy()


def _apart(
    model: BridgeModel, seen: dict[Site, Float[Tensor, "run width"]], asked: LogitDifference, difference: Float[np.ndarray, " run"]
) -> tuple[tuple[str, ...], Float[np.ndarray, "run component"], Float[np.ndarray, "run layer head"]]:
    """What each part says in each run: labels, components with what is in none of them, heads."""
    info, last = model.info, seen[Site("resid_post", model.info.n_layers - 1)]
    names = [("embed", Site("resid_pre", 0))]
    names += [(f"{i}_{kind}", Site(kind, i)) for i in range(info.n_layers) for kind in ("attn_out", "mlp_out")]
    stacked = torch.stack([seen[site] for _, site in names], 1)
    z = torch.stack([seen[Site("head_z", i)].unflatten(-1, (info.n_heads, info.d_head)) for i in range(info.n_layers)], 1)
    written = torch.einsum("rlhd,lhdm->rlhm", z, model.bridge.W_O.double())
    parts, heads = list[np.ndarray](), list[np.ndarray]()
    for run in range(len(last)):
        whole = torch.cat([stacked[run], (last[run] - stacked[run].sum(0))[None], written[run].flatten(0, 1)])
        told = said(model.bridge, whole, last[run], asked).cpu().numpy()
        n = len(names) + 1
        parts.append(np.append(told[:n], difference[run] - told[:n].sum()))
        heads.append(told[n:].reshape(info.n_layers, info.n_heads))
    return (*(name for name, _ in names), "rest", "constant"), np.stack(parts), np.stack(heads)
