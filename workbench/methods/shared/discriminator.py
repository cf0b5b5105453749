"""The representation of a prompt, and the small network that tells two sets of prompts apart by it.

Ref: docs/methods/are.md §3.2, §3.3. R(x) is the concatenation, deepest block first, of the residual stream at x's last token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, final

import torch
import torch.nn.functional as F
from torch import nn

from workbench.knobs import existing_layers
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.progress import stop_if_asked
from workbench.record import activations, gather
from workbench.shapes import Bool, Float, Rows2d, Tensor
from workbench.sites import Site

Kind = Literal["mlp", "linear"]
Depth = Literal["middle", "late"]
# First and last block read, in 32nds of the depth.
_READ: dict[Depth, tuple[int, int]] = {"middle": (10, 14), "late": (16, 22)}
TARGET, ANTI = 1, 0
# What 30 passes over the released code's 256 prompts come to. Fewer prompts would leave S half trained.
MIN_STEPS = 120


def blocks_read(n_layers: int, named: Sequence[int] | None = None, depth: Depth = "late") -> tuple[int, ...]:
    """Blocks whose outputs make R, deepest first: those named, else rd(16n/32) … rd(22n/32), in the middle (the paper) rd(10n/32) …
    rd(14n/32); at least two.

    Raises:
        BadKnob: none is named, or one that the model does not have.
    """
    found = block_span(*_READ[depth], n_layers) if named is None else existing_layers("blocks", named, n_layers)
    return tuple(reversed(found))


def block_span(low: int, high: int, n_layers: int) -> tuple[int, ...]:
    """Blocks between two depths, given in 32nds; at least two where there are so many."""
    first, last = (math.floor(x * n_layers / 32 + 0.5) for x in (low, high))
    last = min(last, n_layers - 1)
    return tuple(range(max(0, min(first, last - 1)), last + 1))


def representation(model: LanguageModel, batch: TokenBatch, blocks: Sequence[int]) -> Rows2d:
    """R(x) of each row, with its gradient; the forward stops above the deepest block that is read.

    Rows are padded on the left, so the last column is each row's last token whatever its length.
    """
    sites = [Site("resid_post", block) for block in blocks]
    found = activations(model, batch, sites)
    return torch.cat([_wide(found[site][:, -1]) for site in sites], -1)


def representations(model: LanguageModel, batch: TokenBatch, blocks: Sequence[int], batch_size: int = 32) -> Rows2d:
    """R(x) of many prompts, batch by batch, without gradients.

    Raises:
        NotFinite: as `record.gather`.
    """
    sites = [Site("resid_post", block) for block in blocks]
    found = gather(model, batch, sites, batch_size=batch_size)
    return torch.cat([_wide(found[site]) for site in sites], -1)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


@final
@dataclass(frozen=True)
class Scaling:
    """A fixed map of representations to ones of mean 0 and root mean square 1 a coordinate, the same for all coordinates."""

    mean: Float[Tensor, " width"]
    spread: Float[Tensor, ""]

    @staticmethod
    def of(r: Rows2d) -> Scaling:
        """The scaling of some rows: centred, then divided by one number, so that the geometry is kept."""
        return Scaling(r.mean(0), (r - r.mean(0)).square().mean().sqrt().clamp_min(1e-12))


@final
class Discriminator(nn.Module):
    """S: R(x) → two logits, anti-target and target.

    mlp: width → hidden → ReLU → 2; linear: width → 2. Drawn as torch draws linear layers, U(−1/√in, 1/√in), but from a
    generator of its own, so that fits in other threads do not disturb it.
    """

    def __init__(
        self,
        width: int,
        kind: Kind,
        hidden: int,
        generator: torch.Generator,
        like: Tensor | None = None,
        scaling: Scaling | None = None,
    ) -> None:
        super().__init__()
        self._scaling = scaling
        sizes = [width, hidden, 2] if kind == "mlp" else [width, 2]
        layers: list[nn.Module] = []
        for into, out in zip(sizes, sizes[1:]):
            layers += [nn.ReLU()] if layers else []
            layers.append(_drawn(into, out, generator))
        self.layers = nn.Sequential(*layers)
        if like is not None:
            self.to(like.device, like.dtype)

    def forward(self, r: Rows2d) -> Float[Tensor, "row 2"]:
        """Logits of (not the concept, the concept)."""
        return self.layers(r if self._scaling is None else (r - self._scaling.mean) / self._scaling.spread)

    def frozen(self) -> Discriminator:
        """Itself, in a state in which no optimiser can move it and no gradient stays on it."""
        self.requires_grad_(False)
        self.zero_grad(set_to_none=True)
        return self

    def probability(self, r: Rows2d) -> Float[Tensor, " row"]:
        """P(target) of each row."""
        with torch.no_grad():
            return self(r).softmax(-1)[:, TARGET]


def _drawn(into: int, out: int, generator: torch.Generator) -> nn.Linear:
    layer = cast(nn.Linear, nn.utils.skip_init(nn.Linear, into, out))
    bound = into**-0.5
    with torch.no_grad():
        layer.weight.copy_((torch.rand(out, into, generator=generator) * 2 - 1) * bound)
        layer.bias.copy_((torch.rand(out, generator=generator) * 2 - 1) * bound)
    return layer


def train_discriminator(
    discriminator: Discriminator,
    r: Rows2d,
    is_target: Bool[Tensor, " row"],
    *,
    lr: float,
    eps: float,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
    min_steps: int = MIN_STEPS,
) -> tuple[float, ...]:
    """Minimise L_D = mean CE(S(R), y) by Adam over shuffled batches; return the mean loss of each epoch.

    Differs: passes are added until there were `min_steps` steps; at the paper's number of prompts that adds none.
    """
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=lr, eps=eps)
    labels = is_target.long()
    losses: list[float] = []
    for _ in range(max(epochs, math.ceil(min_steps / math.ceil(len(r) / batch_size)))):
        order, total = torch.randperm(len(r), generator=generator).to(r.device), 0.0
        for rows in order.split(batch_size):
            stop_if_asked()
            loss = F.cross_entropy(discriminator(r[rows]), labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        losses.append(total / len(r))
    return tuple(losses)


def accuracy(discriminator: Discriminator, r: Rows2d, is_target: Bool[Tensor, " row"]) -> float:
    """Share of rows that S puts on their own side."""
    return float(((discriminator.probability(r) > 0.5) == is_target).double().mean())
