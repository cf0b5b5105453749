"""One cell of one run put into a cell of another: what the other run then holds, cell by cell, and the edit that does the same.

Law: put the value of a site at layer k, token i of a source run at the same kind of site at layer l, token j of a target run. In the
stream behind the layers, only the cone {(l, j)} ∪ {(m, t) : m > l, t ≥ j} can differ from the target's run: a later token is reached by
attention alone, which stands before the stream of its layer. So the whole patch is v = h_patched[l, j] − h_target[l, j], added behind layer
l at token j: the `CellEdit` of it runs as the patched run does. A window or a sparse pattern of attention makes the cone smaller.
Ref: causal tracing, arXiv 2202.05262; patches between layers and tokens as in arXiv 2401.06102.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.edits.cell import cell_site
from workbench.errors import BadKnob, BadPrompt
from workbench.lenses.cell_edits import Draft, likeliest, unmoved
from workbench.lenses.logit_difference import logit_difference
from workbench.models.base import LanguageModel
from workbench.models.hooks import ReadWrite
from workbench.models.token_texts import token_texts
from workbench.models.tokens import TokenBatch, running
from workbench.progress import Progress, silent
from workbench.record import activations
from workbench.shapes import Activations, Bool, Float, Tensor
from workbench.sites import Site

Place = Literal["resid", "attn_out", "mlp_out", "head"]
# Cells unembedded at once: each takes a row of the vocabulary.
_AT_ONCE = 64


@dataclass(frozen=True)
class StreamReadout:
    """What each cell of the stream would say next, read through the final norm and the unembedding.

    Entry 0 is the embedding, entry l + 1 the stream behind layer l. Cells that were not read have no text and NaN.
    """

    model: str
    tokens: tuple[str, ...]
    texts: np.ndarray
    probabilities: Float[np.ndarray, "entry pos k"]

    def rows(self) -> list[dict[str, Any]]:
        """One table row a cell that was read."""
        return [
            {"layer": i - 1, "token": j, "text": self.tokens[j], "top": str(self.texts[i, j, 0]), "probability": float(p[0])}
            for i, line in enumerate(self.probabilities)
            for j, p in enumerate(line)
            if p[0] == p[0]
        ]


@dataclass(frozen=True)
class PatchLens:
    """The target's run with one cell of the source's: what its cone says, how far it moved, and the edit that does the same.

    `moved` is ‖h_patched − h_target‖ / ‖h_target‖, entries as in `StreamReadout`; `cone` is where it can be more than zero. With a target
    and a distractor, `differences` are their logits' difference at the last token of the source's, the target's and the patched run.
    """

    model: str
    place: str
    source_cell: tuple[int, int]
    target_cell: tuple[int, int]
    head: int | None
    readout: StreamReadout
    moved: Float[np.ndarray, "entry pos"]
    cone: Bool[np.ndarray, "entry pos"]
    draft: Draft
    differences: tuple[float, float, float] | None

    @property
    def brought_over(self) -> float | None:
        """The share of the difference between both runs that the patch brings over; None where there is none to bring."""
        if self.differences is None or abs(self.differences[0] - self.differences[1]) < 1e-6:
            return None
        source, target, patched = self.differences
        return (patched - target) / (source - target)

    @property
    def says(self) -> str:
        """What the patch does, in one sentence or two."""
        share = self.brought_over
        return self.draft.says if share is None else f"{self.draft.says} It brings {share:.0%} of the source's logit difference over."

    def rows(self) -> list[dict[str, Any]]:
        """One table row a cell of the cone."""
        return [{**row, "moved": float(self.moved[row["layer"] + 1, row["token"]])} for row in self.readout.rows()]


def stream_readout(model: LanguageModel, prompt: Prompt, *, top_k: int = 3, progress: Progress | None = None) -> StreamReadout:
    """Read the stream of one prompt behind every layer at every token.

    Raises:
        BadPrompt: the prompt is empty or too long. UnknownSite: the network has no residual stream.
    """
    tell, batch = progress or silent(), model.tokens(prompt)
    stream, _ = _run(model, batch)
    found = _read(model, batch, stream, torch.ones(stream.shape[:2], dtype=torch.bool), top_k, tell)
    tell(1.0, "Done")
    return found


def patch_lens(
    model: LanguageModel,
    source: Prompt,
    target: Prompt,
    source_layer: int,
    source_pos: int,
    target_layer: int,
    target_pos: int,
    *,
    place: Place = "resid",
    head: int | None = None,
    word: str = "",
    distractor: str = "",
    top_k: int = 3,
    progress: Progress | None = None,
) -> PatchLens:
    """Put a cell of the source's run into the target's, and read what changes. The prompts may differ in length.

    Args:
        source_layer, target_layer: −1 is what enters the first block, for `resid` alone. source_pos, target_pos: tokens, counted from 0.
        place: the stream behind the layer, or what its attention, MLP or one `head` (before its output matrix) gives.
        word, distractor: tokens whose logits are compared at the last token; neither, or both.

    Raises:
        BadPrompt: there is no such token, or a word is not one token. BadKnob: no such place, a place without its head, or a distractor
        without a word. UnknownSite: the layer has no such place.
    """
    tell = progress or silent()
    there, here = _site(place, source_layer, head), _site(place, target_layer, head)
    if bool(word) != bool(distractor):
        raise BadKnob("One word alone makes no difference of logits.", "Give both word and distractor, or neither.")
    asked = logit_difference(model, word, distractor) if word else None
    given, batch = model.tokens(source), model.tokens(target)
    for rows, pos in ((given, source_pos), (batch, target_pos)):
        if not 0 <= pos < rows.ids.shape[1]:
            n = rows.ids.shape[1]
            raise BadPrompt(f"The prompt has {n} tokens, and token {pos} is asked for.", f"Give one from 0 to {n - 1}.")
    tell(0.1, "Running both prompts")
    with torch.no_grad():
        value = activations(model, given, [there])[there][0, source_pos]
    base, told = _run(model, batch)
    tell(0.3, "Running the patch")
    changed, moved = _run(model, batch, (here, _put(value, target_pos)))
    apart = ((changed - base).norm(dim=-1) / base.norm(dim=-1).clamp_min(1e-12)).double().cpu().numpy()
    cone = np.zeros(apart.shape, dtype=bool)
    cone[target_layer + 1, target_pos] = True
    cone[target_layer + 2 :, target_pos:] = True
    plain = unmoved(model, batch, target_layer, target_pos, "patch", str(source), source=f"{there}, token {source_pos}")
    vector = changed[target_layer + 1, target_pos] - base[target_layer + 1, target_pos]
    draft = Draft(replace(plain, vector=vector.float()), *(likeliest(model, logits) for logits in (told, moved)))
    runs = () if asked is None else (_run(model, given)[1], told, moved)
    differences = tuple(float(asked(logits[None, None])[0]) for logits in runs) if asked is not None else None
    readout = _read(model, batch, changed, torch.from_numpy(cone), top_k, tell.part(0.4, 1.0))
    tell(1.0, "Done")
    cells = ((source_layer, source_pos), (target_layer, target_pos))
    return PatchLens(model.info.name, place, *cells, head, readout, apart, cone, draft, differences)  # type: ignore[arg-type]


def _site(place: str, layer: int, head: int | None) -> Site:
    if place not in get_args(Place):
        raise BadKnob(f"{place!r} is no place of a block.", f"Give one of {', '.join(get_args(Place))}.")
    if place == "head" and head is None or place != "head" and head is not None:
        raise BadKnob("A head is named with the place head, and only there.", "Give place=head and head=3, or leave head out.")
    if place == "resid":
        return cell_site(layer)
    return Site("head_z", layer, head) if place == "head" else Site(place, layer)


def _put(value: Float[Tensor, " width"], pos: int) -> ReadWrite:
    def put(x: Activations) -> Activations:
        y = x.clone()
        y[:, pos] = value.to(x)
        return y

    return put


def _run(
    model: LanguageModel, batch: TokenBatch, change: tuple[Site, ReadWrite] | None = None
) -> tuple[Float[Tensor, "entry pos d_model"], Float[Tensor, " d_vocab"]]:
    """One row's stream, embedding first, and the logits behind its last token, perhaps with a change at one site."""
    seen: list[Tensor] = []
    # The change first: a reader at the same site then sees what it left.
    acting: Sequence[tuple[Site, ReadWrite]] = [] if change is None else [change]
    readers: list[tuple[Site, ReadWrite]] = [
        (cell_site(layer), lambda x: seen.append(x[0].detach())) for layer in range(-1, model.info.n_layers)
    ]
    with torch.no_grad(), model.intercepts([*acting, *readers]), running(batch.forward()):
        logits = model.run(batch, last_only=True)[0][0, -1]
    return torch.stack([x.to(model.device) for x in seen]), logits


def _read(
    model: LanguageModel,
    batch: TokenBatch,
    stream: Float[Tensor, "entry pos d_model"],
    wanted: Bool[Tensor, "entry pos"],
    top_k: int,
    tell: Progress,
) -> StreamReadout:
    k = min(top_k, model.info.d_vocab)
    shape = (*wanted.shape, k)
    ids, shares = np.zeros(shape, dtype=np.int64), np.full(shape, np.nan)
    cells = wanted.nonzero()
    with torch.no_grad():
        for start in range(0, len(cells), _AT_ONCE):
            tell(start / len(cells), "Reading the stream")
            at = cells[start : start + _AT_ONCE].T.tolist()
            logits = model.unembed(stream[at[0], at[1]][None])[0].float()
            best, tokens = logits.topk(k)
            shares[at[0], at[1]] = (best - logits.logsumexp(-1, keepdim=True)).exp().cpu().numpy()
            ids[at[0], at[1]] = tokens.cpu().numpy()
    names = {token: token_texts(model.tokenizer, [token])[0] for token in np.unique(ids).tolist()}
    texts = np.vectorize(names.__getitem__, otypes=[object])(ids)
    texts[~wanted.numpy()] = ""
    return StreamReadout(model.info.name, token_texts(model.tokenizer, batch.ids[0]), texts, shares)
