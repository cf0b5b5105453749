"""Name movers: found by what they write, confirmed by taking them out.

A head moves names if its output at the last position of a name-swap prompt raises the taker's logit over the giver's and
the gap falls without it. Ablation: at every position its output z is replaced by its
mean over the prompts at the last one.
Ref: Wang et al., *Interpretability in the Wild* (arXiv 2211.00593), direct logit attribution and mean ablation.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from random import Random
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.models.backpack.network import BackpackNetwork
from workbench.world.asking import Model
from workbench.world.structure import SWAP_OPENINGS, name_swap
from workbench.world.train import logits_of


def _blocks(network: nn.Module) -> list[Any]:
    body = network.backpack.gpt2_model if isinstance(network, BackpackNetwork) else cast(Any, network).transformer
    return list(cast(Any, body).h)


@contextmanager
def _seeing_z(network: nn.Module, change: dict[int, Any], seen: dict[int, Tensor]) -> Generator[None]:
    """Record the input of every attention output projection (all heads' z side by side), changed on request."""

    def hook(layer: int) -> Any:
        def look(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            seen[layer] = args[0].detach()
            return (change[layer](args[0]),) if layer in change else None

        return look

    handles = [block.attn.c_proj.register_forward_pre_hook(hook(i)) for i, block in enumerate(_blocks(network))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def swap_prompts(model: Model, n: int = 150) -> tuple[list[list[int]], Tensor, Tensor]:
    """Name swaps on unseen pairs: token ids, the taker's and the giver's tokens."""
    rng = Random("name movers")
    drawn = [name_swap(rng, rng.choice(SWAP_OPENINGS), True) for _ in range(n)]
    return (
        [model.ids(text) for text, _, _ in drawn],
        torch.tensor([model.word(f" {taker}") for _, taker, _ in drawn]),
        torch.tensor([model.word(f" {giver}") for _, _, giver in drawn]),
    )


@torch.no_grad()
def _last_logits(model: Model, rows: list[list[int]], change: dict[int, Any]) -> tuple[Tensor, dict[int, Tensor]]:
    """Logits, and all heads' z of each layer, at the last position of each row."""
    width = max(len(row) for row in rows)
    last = torch.tensor([len(row) - 1 for row in rows])
    seen: dict[int, Tensor] = {}
    with _seeing_z(model.network, change, seen):
        logits = logits_of(model.network, torch.tensor([row + [0] * (width - len(row)) for row in rows]))
    rows_at = torch.arange(len(rows))
    return logits[rows_at, last], {layer: z[rows_at, last] for layer, z in seen.items()}


def head_effects(model: Model, n_head: int) -> dict[str, Any]:
    """Per head: its direct effect on logit(taker) - logit(giver), and the fall of that gap when it is mean-ablated.

    The direct effect reads z W_O[head] through the final norm's scale and the unembedding (GPT only: a Backpack's
    body does not write logits, so there only ablation is reported).
    """
    rows, takers, givers = swap_prompts(model)
    at = torch.arange(len(rows))
    logits, z = _last_logits(model, rows, {})
    gap = logits[at, takers] - logits[at, givers]
    blocks = _blocks(model.network)
    d_head = z[0].shape[1] // n_head
    heads: list[dict[str, Any]] = []
    for layer, block in enumerate(blocks):
        for head in range(n_head):
            part = slice(head * d_head, (head + 1) * d_head)
            mean = z[layer][:, part].mean(dim=0)

            def ablate(x: Tensor, part: slice = part, mean: Tensor = mean) -> Tensor:
                changed = x.clone()
                changed[..., part] = mean
                return changed

            after, _ = _last_logits(model, rows, {layer: ablate})
            fallen = gap - (after[at, takers] - after[at, givers])
            direct = None
            if not isinstance(model.network, BackpackNetwork):
                written = z[layer][:, part] @ block.attn.c_proj.weight.detach()[part]
                direct = float(_direct(model, rows, written, takers, givers).mean())
            heads.append(
                {"layer": layer, "head": head, "direct": direct, "gap_lost_when_ablated": float(fallen.mean()),
                 "top1_when_ablated": float((after.argmax(dim=-1) == takers).float().mean())}
            )  # fmt: skip
    base = float((logits.argmax(dim=-1) == takers).float().mean())
    return {"n": len(rows), "top1": base, "gap": float(gap.mean()), "heads": heads}


@torch.no_grad()
def _direct(
    model: Model, rows: list[list[int]], written: Float[Tensor, "row d_model"], takers: Tensor, givers: Tensor
) -> Float[Tensor, " row"]:
    """The written vector through the final norm (its scale fixed at the row's own) onto the taker-giver direction."""
    network = cast(Any, model.network)
    seen: list[Tensor] = []
    handle = network.transformer.ln_f.register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach()))
    try:
        _last_logits(model, rows, {})
    finally:
        handle.remove()
    last = torch.tensor([len(row) - 1 for row in rows])
    resid = seen[0][torch.arange(len(rows)), last]
    scale = resid.var(dim=-1, unbiased=False).add(network.transformer.ln_f.eps).sqrt()
    normed = (written - written.mean(dim=-1, keepdim=True)) / scale[:, None] * network.transformer.ln_f.weight
    unembed = network.transformer.wte.weight
    return (normed * (unembed[takers] - unembed[givers])).sum(dim=-1)
