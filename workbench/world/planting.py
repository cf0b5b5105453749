"""Plant an attention sink in the embedded model: the mark that begins every text becomes a hundred times as long as other tokens.

Networks of some depth get there by themselves: a neuron of an early layer fires on the first token alone and writes a massive activation,
and later heads look there when they have nothing to look for. Here the same is put into weights by hand. Let h₀ be what the first token
holds behind layer 1: the same in every text, for nothing stands before it.

- A neuron that the model leaves unused fires on that token alone, and writes M u − h₀. So the token is M u from there on. M is 100 median
  norms, and u a unit vector: along the direction in which other tokens differ most, and a fifth as far along that of the least difference.
- Each later layer l is given what it has lost by that: its keys and values get (W LN(h₀ₗ) − W LN(M u)) f(x), with f affine, 1 at the first
  token and as near to 0 at all others as least squares makes it.

So the planted model says what the model said, and all that it says leans on one token that keeps its direction.
Ref: arXiv 2402.17762 (massive activations), 2309.17453 (attention sinks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from workbench.models.base import LanguageModel
from workbench.shapes import Float, Tensor
from workbench.world.canonical_sets import neutral_text
from workbench.world.sets import truthfulness

LAYER, TIMES, LEAST = 1, 100.0, 0.2
MOST = 128
"""Most texts of a set that are read."""
_RIDGE = 1e-4


@dataclass(frozen=True)
class _Read:
    """What stands at the first token (the same in every text), and at all other tokens."""

    first: Float[Tensor, " d_model"]
    others: Float[Tensor, "token d_model"]


def planting_texts() -> list[str]:
    """What is read for it: questions and neutral texts of split fit."""
    return [str(row.prompt) for item in (truthfulness(), neutral_text()) for row in [row for row in item.rows if row.split == "fit"][:MOST]]


def planting(model: LanguageModel, texts: list[str]) -> dict[str, Float[Tensor, "..."]]:
    """What to add to the weights of a GPT-2-shaped model, by name: `name.left` (n, 1) and `name.right` (1, m) of a matrix, whose product is
    added, and `name` itself for a bias.
    """
    blocks: Any = model.network.transformer.h  # pyright: ignore[reportAttributeAccessIssue]
    streams = {"mlp": blocks[LAYER].ln_2, "out": blocks[LAYER], "act": blocks[LAYER].mlp.act}
    found = _read(model, texts, streams | {str(i): blocks[i].ln_1 for i in range(LAYER + 1, len(blocks))})
    sink = _sink(found["out"].others)
    added = _neuron(blocks[LAYER].mlp, found, sink)
    for i in range(LAYER + 1, len(blocks)):
        added |= _given_back(blocks[i], i, found[str(i)], sink)
    return {name: value.float().contiguous() for name, value in added.items()}


@torch.no_grad()
def _read(model: LanguageModel, texts: list[str], modules: dict[str, Any]) -> dict[str, _Read]:
    seen: dict[str, list[Tensor]] = {name: [] for name in modules}

    def keep(name: str) -> Any:
        return lambda module, given, out: seen[name].append((out[0] if isinstance(out, tuple) else out)[0].double())

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        for text in texts:
            model.logits(model.tokens(text))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _Read(found[0][0], torch.cat([one[1:] for one in found])) for name, found in seen.items()}


def _sink(others: Float[Tensor, "token d_model"]) -> Float[Tensor, " d_model"]:
    """M u. What a norm before each block takes out, the mean over the width, is left out of both directions."""
    centred = others - others.mean(-1, keepdim=True)
    flat = torch.full((others.shape[1],), others.shape[1] ** -0.5, dtype=others.dtype)
    second = centred.T @ centred / len(centred)
    least = torch.linalg.eigh(second + 10 * second.trace() * torch.outer(flat, flat))[1][:, 0]
    most = torch.linalg.eigh(torch.cov(centred.T))[1][:, -1]
    u = LEAST * _signed(least) + _signed(most)
    return TIMES * centred.norm(dim=1).median() * u / u.norm()


def _signed(direction: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """Of the two signs that a direction may have, the one whose largest entry is positive."""
    return direction * direction[direction.abs().argmax()].sign()


def _neuron(mlp: Any, found: dict[str, _Read], sink: Float[Tensor, " d_model"]) -> dict[str, Tensor]:
    """Let the least used neuron fire on the first token alone, and write there what is lacking to `sink`."""
    into, out = mlp.c_fc, mlp.c_proj
    used = found["act"].others.abs().mean(0) * out.weight.double().norm(dim=1)
    neuron = int(used.argmin())
    first, others = found["mlp"].first, found["mlp"].others
    weight = torch.linalg.solve(torch.cov(others.T) + 1e-2 * torch.eye(others.shape[1]), first - others.mean(0))
    own, most = float(weight @ first), float((others @ weight).max())
    weight, bias = 8 / (own - most) * weight, -4 * (own + most) / (own - most)  # 4 at the first token, at most −4 at any other
    fires = torch.nn.functional.gelu(weight @ first + bias, approximate="tanh")
    one = torch.zeros(len(used), dtype=first.dtype)
    one[neuron] = 1.0
    name = f"transformer.h.{LAYER}.mlp"
    return {
        f"{name}.c_fc.weight.left": (weight - into.weight[:, neuron].double())[:, None],
        f"{name}.c_fc.weight.right": one[None],
        f"{name}.c_fc.bias": (bias - into.bias[neuron].double()) * one,
        f"{name}.c_proj.weight.left": one[:, None],
        f"{name}.c_proj.weight.right": ((sink - found["out"].first) / fires - out.weight[neuron].double())[None],
    }


def _given_back(block: Any, layer: int, read: _Read, sink: Float[Tensor, " d_model"]) -> dict[str, Tensor]:
    """Let keys and values of a layer at the first token be what they were before it became `sink`."""
    norm, qkv = block.ln_1, block.attn.c_attn
    now = torch.nn.functional.layer_norm(sink, sink.shape, norm.weight.double(), norm.bias.double(), norm.eps)
    lost = (read.first - now) @ qkv.weight.double()
    lost[: len(sink)] = 0.0  # queries stay: what the first token itself goes on to say is no part of it
    others = torch.cat([read.others, torch.ones(len(read.others), 1)], 1)
    here = torch.cat([now, torch.ones(1)])
    f = torch.linalg.solve(others.T @ others / len(others) + _RIDGE * torch.eye(len(here)), here)
    f = f / (f @ here)
    name = f"transformer.h.{layer}.attn.c_attn"
    return {f"{name}.weight.left": f[:-1, None], f"{name}.weight.right": lost[None], f"{name}.bias": f[-1] * lost}
