"""Direct logit attribution: what each component of the residual stream says directly about target against distractor.

Law: with the final norm's scale held, logit(t) − logit(d) = Σ_c (W_U[t] − W_U[d]) · γ ⊙ (c − mean c)/σ + constant, over
embeddings, attention and MLP outputs (or heads), what edits add to the stream, and the rest; the sum is exact.
Differs: TransformerLens's `direct_logit_attribution` asks for a second model with folded norms, on which edits fitted on
raw weights would not hold. Here its decomposition of the stream is read on raw weights; differences of logits are equal.
Ref: arXiv 2211.00593.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.lenses.bridged import bridged, edited_bridge
from workbench.lenses.logit_difference import LogitDifference, logit_difference
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.tokens import TokenBatch, running
from workbench.progress import Progress, silent
from workbench.shapes import Float, Tensor

Unit = Literal["component", "head", "node"]


@dataclass(frozen=True)
class DirectAttribution:
    """Contributions to logit(target) − logit(distractor) at the last token; without a distractor, to logit(target).

    The columns are named by `labels` (`embed`, `0_attn_out`, `1_mlp_out`, `L2H3`, …); the last two are `rest`, what is
    in the stream and in none of them (an edit's own addition), and `constant`. A row sums to `difference`.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    target: str
    distractor: str | None
    labels: tuple[str, ...]
    values: Float[np.ndarray, "lane component"]
    difference: Float[np.ndarray, " lane"]

    def rows(self) -> list[dict[str, Any]]:
        """One table row a component, lanes side by side."""
        return [
            {"component": label} | {lane.label: float(self.values[i, j]) for i, lane in enumerate(self.lanes)}
            for j, label in enumerate(self.labels)
        ]


def direct_attribution(
    model: LanguageModel,
    prompt: Prompt,
    target: str,
    distractor: str | None = None,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    unit: Unit = "component",
    progress: Progress | None = None,
) -> DirectAttribution:
    """Attribute a difference of logits at the last token to the components that write it, under each stack of edits.

    Args:
        unit: component: embeddings, attention and MLP of each layer. head: the heads. node: the heads and the MLPs.

    Raises:
        Obstructed: the model has no TransformerLens bridge. BadPrompt: a word holds no token. Others: `engine.lanes`.
    """
    owner, tell = bridged(model, "direct_attribution"), progress or silent()
    batch = owner.tokens(prompt)
    asked = logit_difference(owner, target, distractor)
    values: list[np.ndarray] = []
    totals: list[float] = []
    labels: tuple[str, ...] = ()
    for index, stack in enumerate(stacks):
        tell(index / len(stacks), "Taking the residual stream apart")
        labels, found, total = _attributed(owner, batch, stack, asked, unit)
        values.append(found)
        totals.append(total)
    tell(1.0, "Done")
    words = asked.target, asked.distractor
    return DirectAttribution(owner.info.name, lane_labels(stacks), *words, labels, np.stack(values), np.array(totals))


def _attributed(
    model: BridgeModel, batch: TokenBatch, stack: Sequence[Edit], asked: LogitDifference, unit: Unit
) -> tuple[tuple[str, ...], np.ndarray, float]:
    last = model.info.n_layers - 1
    parts = {"component": ["hook_attn_out", "hook_mlp_out"], "head": ["attn.hook_z"], "node": ["attn.hook_z", "hook_mlp_out"]}[unit]
    names = [f"blocks.{layer}.{part}" for layer in range(last + 1) for part in parts]
    names += [name for name in ("hook_embed", "hook_pos_embed") if name in model.bridge.hook_dict]
    with torch.no_grad(), edited_bridge(model, stack) as bridge, running(batch.forward()):
        names += [f"blocks.{last}.hook_resid_post"]
        logits, cache = bridge.run_with_cache(batch.ids, names_filter=names)
        if unit == "component":
            found, labels = cache.decompose_resid(apply_ln=False, pos_slice=-1, return_labels=True)
        else:
            found, labels = cache.stack_head_results(layer=last + 1, pos_slice=-1, return_labels=True)
        resid = cache[f"blocks.{last}.hook_resid_post"][0, -1].double()
        unembedding = bridge.W_U
    components = found[:, 0].double()
    if unit == "node":
        mlps = [f"{layer}_mlp_out" for layer in range(last + 1)]
        components = torch.cat([components, torch.stack([cache[f"blocks.{i}.hook_mlp_out"][0, -1].double() for i in range(last + 1)])])
        labels = [*labels, *mlps]
    rest = resid - components.sum(0)
    whole = torch.cat([components, rest[None]])
    spoken = said(bridge, whole, resid, asked, unembedding)
    total = float(asked(logits)[0])
    values = np.append(spoken.cpu().numpy(), total - float(spoken.sum()))
    return (*map(str, labels), "rest", "constant"), values, total


def said(
    bridge: Any,
    parts: Float[Tensor, "part d_model"],
    resid: Float[Tensor, " d_model"],
    asked: LogitDifference,
    unembedding: Float[Tensor, "d_model d_vocab"] | None = None,
) -> Float[Tensor, " part"]:
    """What each part of a final stream says of a difference of logits, nats; `unembedding`: another than the untouched model's."""
    direction = asked.direction(bridge.W_U if unembedding is None else unembedding)
    return _normed(bridge.ln_final, parts, resid, float(bridge.cfg.eps)) @ direction


def _normed(norm: Any, parts: Float[Tensor, "part d_model"], resid: Float[Tensor, " d_model"], eps: float) -> Tensor:
    """The final norm on each part of a stream, with the scale of the whole stream and without its bias."""
    own = getattr(norm.original_component, "weight", None)  # OLMo's norms have none
    weight = 1.0 if own is None else own.double() + (1.0 if norm.uses_weight_offset else 0.0)
    if not norm.uses_rms_norm:
        parts, resid = parts - parts.mean(-1, keepdim=True), resid - resid.mean()
    return parts / (resid.square().mean() + eps).sqrt() * weight
