"""The logit lens: what the model would predict if it stopped after each layer, for base and edited models.

Ref: docs/methods/shared.md §2 for the sites; what is read are the numbers of TransformerLens's `logit_lens`, through the real final norm
and unembedding, so the last entry is the model's own prediction. Its kernel `logit_readout` is called for a few tokens at a time, all
entries of each: one pass gives top tokens, targets, ranks, entropy and what separates an entry from the last, and no more than `_AT_ONCE`
numbers are held. The stream is read where the network runs by itself; TransformerLens's bridge, which writes out every pattern, is run for
halves of layers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformer_lens import ActivationCache
from transformer_lens.tools.analysis.logit_lens import logit_readout

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.errors import BadKnob
from workbench.lenses.bridged import bridged, edited_bridge
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.token_texts import one_token, token_texts
from workbench.models.tokens import TokenBatch, running
from workbench.progress import Progress, silent
from workbench.record import activations
from workbench.shapes import Float, Int, Tensor
from workbench.sites import Site

_AT_ONCE = 2**23  # log-probabilities: 34 MB of float32
Through = Callable[[Sequence[str], Tensor], tuple[list[str], Tensor]]
"""From the names of entries and their streams to those that are read, and what is read for them."""


@dataclass(frozen=True)
class LogitLens:
    """Next-token predictions read from the residual stream at each entry (`0_pre`, `0_mid`, …, `final_post`).

    `entropy` is in nats over the whole vocabulary, `kl` nats from what an entry says to what the last one does; `target_ranks` count from
    0. Targets are single tokens. `start` is the prompt's token that stands first here, `n_tokens` how many the prompt has.
    `fitted_on` says what the matrices that the streams went through were fitted on; nothing where they were read as they are.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    tokens: tuple[str, ...]
    entries: tuple[str, ...]
    top_ids: Int[np.ndarray, "lane entry pos k"]
    top_texts: np.ndarray
    top_probabilities: Float[np.ndarray, "lane entry pos k"]
    entropy: Float[np.ndarray, "lane entry pos"]
    kl: Float[np.ndarray, "lane entry pos"]
    targets: tuple[str, ...]
    target_log_probs: Float[np.ndarray, "lane entry pos target"]
    target_ranks: Int[np.ndarray, "lane entry pos target"]
    start: int
    n_tokens: int
    fitted_on: str = ""

    def rows(self, pos: int = -1) -> list[dict[str, Any]]:
        """The lens at one position as table rows, lane by lane and entry by entry."""
        found: list[dict[str, Any]] = []
        for i, lane in enumerate(self.lanes):
            for j, entry in enumerate(self.entries):
                row: dict[str, Any] = {"lane": lane.label, "entry": entry, "top": str(self.top_texts[i, j, pos, 0])}
                row |= {"probability": float(self.top_probabilities[i, j, pos, 0])}
                row |= {"entropy_nats": float(self.entropy[i, j, pos]), "kl_to_last_nats": float(self.kl[i, j, pos])}
                for t, target in enumerate(self.targets):
                    row[f"log p({target})"] = float(self.target_log_probs[i, j, pos, t])
                    row[f"rank({target})"] = int(self.target_ranks[i, j, pos, t])
                found.append(row)
        return found


def logit_lens(
    model: LanguageModel,
    prompt: Prompt,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    targets: Sequence[str] = (),
    top_k: int = 5,
    halves: bool = False,
    window: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> LogitLens:
    """Return the logit lens of one prompt under each stack of edits.

    Args:
        halves: read the stream between attention and MLP too (`3_mid`), where there is such a place: twice the cost.
        window: the first token that is read, and the one behind the last; all of them if None. Cost goes with their number.

    Raises:
        Obstructed: the model has no TransformerLens bridge. BadPrompt: a target is not one token. BadKnob: the window holds no token of the
            prompt. Others: `engine.lanes`.
    """
    return lens_through(model, prompt, stacks, "logit_lens", (targets, top_k, halves), window, progress or silent())


def lens_through(
    model: LanguageModel,
    prompt: Prompt,
    stacks: Sequence[Sequence[Edit]],
    name: str,
    asked: tuple[Sequence[str], int, bool],
    window: tuple[int, int] | None,
    tell: Progress,
    carried: Through | None = None,
    fitted_on: str = "",
) -> LogitLens:
    """A lens of this kind by its name; `asked`: targets, how many top tokens, whether halves are read. Others, errors: as `logit_lens`."""
    owner, (targets, top_k, halves) = bridged(model, name), asked
    batch = owner.tokens(prompt)
    n = batch.ids.shape[1]
    first, behind = (0, n) if window is None else window
    if not 0 <= first < min(behind, n):
        raise BadKnob(f"The window goes from token {first} to {behind}, and the prompt has {n} tokens.", f"Give 0 to {n} or a part of it.")
    ids = [one_token(owner, target) for target in targets]
    at, parts = slice(first, min(behind, n)), list[_Read]()
    for index, stack in enumerate(stacks):
        part = tell.part(index / len(stacks), (index + 1) / len(stacks))
        parts.append(_read(owner, batch, stack, (ids, min(top_k, owner.info.d_vocab), halves, carried), at, part))
    top_ids = np.stack([part.top_ids for part in parts])
    texts = {token: token_texts(owner.tokenizer, [token])[0] for token in np.unique(top_ids).tolist()}
    tell(1.0, "Done")
    return LogitLens(
        owner.info.name,
        lane_labels(stacks),
        token_texts(owner.tokenizer, batch.ids[0, at]),
        parts[0].entries,
        top_ids,
        np.vectorize(texts.__getitem__, otypes=[object])(top_ids),
        np.stack([part.top_probabilities for part in parts]),
        np.stack([part.entropy for part in parts]),
        np.stack([part.kl for part in parts]),
        token_texts(owner.tokenizer, ids),
        np.stack([part.log_probs for part in parts]),
        np.stack([part.ranks for part in parts]),
        first,
        n,
        fitted_on,
    )


@dataclass(frozen=True)
class _Read:
    """Arrays over (entry, pos, …)."""

    entries: tuple[str, ...]
    top_ids: np.ndarray
    top_probabilities: np.ndarray
    entropy: np.ndarray
    kl: np.ndarray
    log_probs: np.ndarray
    ranks: np.ndarray


def _read(
    model: BridgeModel,
    batch: TokenBatch,
    stack: Sequence[Edit],
    asked: tuple[list[int], int, bool, Through | None],
    at: slice,
    tell: Progress,
) -> _Read:
    """Read one lane; `asked`: targets, how many top tokens, whether halves are read, and what streams go through before they are."""
    targets, top_k, halves, carried = asked
    layers = range(model.info.n_layers)
    # A parallel block has no middle, as attention and MLP read the same stream; TransformerLens names none in a state-space block.
    middle = ("hook_resid_mid", "attn.hook_out")
    mids = (
        halves
        and model.info.adds_up
        and not model.info.parallel_blocks
        and all(f"blocks.{layer}.{hook}" in model.bridge_hooks for layer in layers for hook in middle)
    )
    tell(0.0, "Running the prompt")
    labels, whole = (list[str](), torch.empty(0)) if mids else _stream(model, batch, stack)
    # The readout runs inside the context: an edit may act on the final norm or the unembedding.
    with torch.no_grad(), edited_bridge(model, stack) as bridge, running(batch.forward()):
        cache = ActivationCache({}, bridge)
        if mids:
            names = [f"blocks.{layer}.hook_resid_{place}" for layer in layers for place in ("pre", "mid", "post")]
            cache = bridge.run_with_cache(batch.ids, names_filter=names)[1]
            whole, labels = cache.accumulated_resid(layer=None, incl_mid=True, apply_ln=False, return_labels=True)
        if carried is not None:
            labels, whole = carried(labels, whole)
        normed = cache.apply_ln_to_stack(whole, layer=None, has_batch_dim=True, recompute_ln=True)[:, 0, at]
        size, n = max(1, _AT_ONCE // (len(labels) * model.info.d_vocab)), normed.shape[1]
        parts: list[tuple[Tensor, ...]] = []
        for first in range(0, n, size):
            tell(first / n, "Reading the residual stream")
            parts.append(_told(bridge, normed[:, first : first + size], targets, top_k))
    return _Read(tuple(labels), *(_array(torch.cat([part[i] for part in parts], 1)) for i in range(6)))


def _stream(model: BridgeModel, batch: TokenBatch, stack: Sequence[Edit]) -> tuple[list[str], Float[Tensor, "entry batch pos d_model"]]:
    """The stream before each layer and behind the last, named as TransformerLens names it, read where the network runs by itself: its
    bridge writes out the patterns of all heads, of a thousand tokens gigabytes."""
    n = model.info.n_layers
    sites = [*(Site("resid_pre", layer) for layer in range(n)), Site("resid_post", n - 1)]
    with torch.no_grad(), applied(model, *stack):
        found = activations(model, batch, sites)
    return [*(f"{layer}_pre" for layer in range(n)), "final_post"], torch.stack([found[site] for site in sites])


def _told(bridge: Any, normed: Float[Tensor, "entry pos d_model"], targets: list[int], top_k: int) -> tuple[Tensor, ...]:
    """What all entries say at some tokens, read once."""
    found: Any = logit_readout(bridge, normed, apply_ln=False, return_type="log_probs", chunk_size=normed[..., 0].numel())
    log_p: Tensor = found.values
    best, ids = log_p.topk(top_k)
    kl = (log_p.exp() * (log_p - log_p[-1:])).sum(-1)
    asked = log_p[..., targets]
    ranks = torch.stack([(log_p > asked[..., i : i + 1]).sum(-1) for i in range(len(targets))], -1) if targets else asked.long()
    return ids, best.exp(), found.entropy, kl, asked, ranks


def _array(x: torch.Tensor) -> np.ndarray:
    return (x.float() if x.is_floating_point() else x).cpu().numpy()
