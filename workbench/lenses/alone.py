"""What a head makes of one token when it looks at nothing else: the token's own value, its query and its key, before any position.

A sequence of one token attends to itself with weight one, so a forward of single tokens shows each head's value of each; what enters
a block is replaced by the vector that is asked about. The vectors of tokens are the stream behind block 0 of each alone: what later heads
read of a word before context (arXiv 2211.00593 does the same with the first MLP).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from workbench.lenses.bridged import edited_bridge
from workbench.models.bridge import BridgeModel
from workbench.models.hooks import ReadWrite
from workbench.models.tokens import TokenBatch, running
from workbench.record import activations
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site


def words_alone(model: BridgeModel, ids: Sequence[int]) -> Float[Tensor, "token d_model"]:
    """The stream behind block 0 of each token alone.

    Raises:
        UnknownSite: the model has no stream behind block 0.
    """
    site = Site("resid_post", 0)
    with torch.no_grad():
        return activations(model, _rows(model, ids), [site])[site][:, 0]


def values_alone(model: BridgeModel, ids: Sequence[int], layers: Sequence[int]) -> Float[Tensor, "token layer head d_head"]:
    """Each head's value of each token alone: block 0 reads the token itself, every later one the stream behind block 0.

    Args:
        layers: those that are read, in the order in which they stand in the result.

    Raises:
        UnknownSite: a layer is not there, or shows no heads.
    """
    seen: dict[int, Tensor] = {}
    first: list[Tensor] = []

    def keep(layer: int) -> ReadWrite:
        def read(z: Activations) -> None:
            seen[layer] = z[:, 0]

        return read

    def again(x: Activations) -> Activations | None:
        return first[0].to(x.device) if first else first.append(x)

    # What enters block 1 is noted and given to every later block.
    acting: list[tuple[Site, ReadWrite]] = [(Site("resid_pre", layer), again) for layer in range(1, model.info.n_layers)]
    with torch.no_grad(), model.intercepts([*acting, *((Site("head_z", layer), keep(layer)) for layer in layers)]):
        model.logits(_rows(model, ids))
    shape = (len(ids), model.info.n_heads, model.info.d_head)
    return torch.stack([seen[layer].reshape(shape).to(model.device) for layer in layers], 1)


def read_alone(model: BridgeModel, rows: Float[Tensor, "row d_model"], layer: int, names: Sequence[str]) -> dict[str, Tensor]:
    """What one layer's attention makes of vectors that enter its block, each alone, at hook points of TransformerLens: (row, head, d_head).

    `names` are those of its attention: `hook_z` the value, `hook_q` and `hook_k` query and key before positions.

    Raises:
        KeyError: the bridge has no such layer or hook point, which `registry.require` tells by name before.
    """
    found: dict[str, Tensor] = {}
    batch = _rows(model, [int(model.tokenizer.eos_token_id or 0)] * len(rows))

    def put(x: Tensor, hook: Any) -> Tensor:
        return rows[:, None].to(x)

    def keep(name: str) -> Any:
        def note(x: Tensor, hook: Any) -> None:
            found[name] = x[:, 0].clone()

        return note

    hooks = [(f"blocks.{layer}.hook_resid_pre", put), *((f"blocks.{layer}.attn.{name}", keep(name)) for name in names)]
    with torch.no_grad(), edited_bridge(model) as bridge, running(batch.forward()):
        bridge.run_with_hooks(batch.ids, fwd_hooks=hooks, stop_at_layer=layer + 1)
    return found


def _rows(model: BridgeModel, ids: Sequence[int]) -> TokenBatch:
    return TokenBatch.of([[token] for token in ids], None, model.device)
