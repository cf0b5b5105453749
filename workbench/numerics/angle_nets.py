"""Stacks of probes and angle networks, one a layer, trained side by side in one batched pass.

Ref: docs/methods/hpr.md §3.3. Every tensor has the layer as its first axis; a layer's numbers depend on its own rows and its own generator
only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from workbench.shapes import Float, Tensor


def widths(d_model: int, n_mlp: int, width: int | None = None) -> tuple[int, ...]:
    """Widths of an angle network of `n_mlp` Linear layers: halving, or `width` within; always from d_model to 1."""
    inner = [d_model if i == 0 else (max(1, d_model >> i) if width is None else width) for i in range(n_mlp)]
    return (*inner, 1)


@final
@dataclass(frozen=True)
class AngleNets:
    """Angle networks of several layers: π sigmoid(Linear … GELU … Linear), in (0, π)."""

    weights: tuple[Float[Tensor, "layer _out _in"], ...]
    biases: tuple[Float[Tensor, "layer _out"], ...]

    @staticmethod
    def drawn(d_model: int, n_mlp: int, width: int | None, layers: Sequence[int], seed: int) -> AngleNets:
        """Draw weights as `torch.nn.Linear` does, uniform in ±1/√in, each layer from a generator of its own."""
        sizes = widths(d_model, n_mlp, width)
        draws = [_generator(seed, layer, 1) for layer in layers]
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for n_in, n_out in zip(sizes[:-1], sizes[1:]):
            bound = 1 / math.sqrt(n_in)
            weights.append(torch.stack([(2 * torch.rand(n_out, n_in, generator=draw) - 1) * bound for draw in draws]))
            biases.append(torch.stack([(2 * torch.rand(n_out, generator=draw) - 1) * bound for draw in draws]))
        return AngleNets(tuple(weights), tuple(biases))

    def logits(self, x: Float[Tensor, "layer token d_model"]) -> Float[Tensor, "layer token"]:
        """What the sigmoid gets."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
            if i < len(self.weights) - 1:
                x = torch.nn.functional.gelu(x)
        return x[..., 0]

    def angles(self, x: Float[Tensor, "layer token d_model"]) -> Float[Tensor, "layer token"]:
        """Angles in radians."""
        return math.pi * torch.sigmoid(self.logits(x))

    def parameters(self) -> list[Tensor]:
        """Weights, then biases."""
        return [*self.weights, *self.biases]

    def map(self, change: Sequence[Tensor]) -> AngleNets:
        """The same nets with these tensors, in the order of `parameters`."""
        n = len(self.weights)
        return AngleNets(tuple(change[:n]), tuple(change[n:]))

    def one(self, index: int) -> AngleNets:
        """The net of one layer, as a stack of one."""
        return self.map([tensor[index : index + 1].detach().clone() for tensor in self.parameters()])


def drawn_probes(d_model: int, layers: Sequence[int], seed: int) -> Float[Tensor, "layer d_model"]:
    """Bias-free probes, drawn as `torch.nn.Linear` does, each layer from a generator of its own."""
    bound = 1 / math.sqrt(d_model)
    return torch.stack([(2 * torch.rand(d_model, generator=_generator(seed, layer, 0)) - 1) * bound for layer in layers])


def _generator(seed: int, layer: int, what: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + layer) * 2 + what)
