"""Bayesian optimisation in a random low-dimensional embedding of the box.

Every coordinate of the box listens, with a random sign, to one of `embedding_dim` hidden coordinates (a count sketch). Hidden points fill
their whole cube, so nothing has to be clipped, and a function that depends on few directions keeps most of its range.

Ref: Nayebi, Munteanu, Poloczek 2019 (HeSBO). Differs: the hidden centre is the identity, also where the identity is a corner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from workbench.search.bayes import WholeBoxProposer
from workbench.search.config import SearchConfig
from workbench.search.proposers import Proposal, Proposer, initial_design
from workbench.search.trials import Trials
from workbench.shapes import Float, Int, Tensor


@dataclass(frozen=True, eq=False)
class Sketch:
    """Hold which hidden coordinate every coordinate listens to, and its sign."""

    bucket: Int[Tensor, " dim"]
    sign: Float[Tensor, " dim"]
    identity: float
    hidden_dim: int

    def lift(self, hidden: Float[Tensor, "n hidden"]) -> Float[Tensor, "n dim"]:
        """Return the box points of hidden points; the hidden centre goes to the identity, the hidden cube stays in the box."""
        signed = (2 * hidden - 1)[..., self.bucket] * self.sign
        room = torch.where(signed > 0, 1.0 - self.identity, self.identity).to(hidden.dtype)
        return (self.identity + signed * room).clamp(0.0, 1.0)


def sketch(config: SearchConfig) -> Sketch:
    """Return the embedding of a search, drawn from its seed; every hidden coordinate has at least one listener if there are enough."""
    hidden = min(config.embedding_dim, config.dim)
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + 17)
    spread = torch.arange(config.dim) % hidden
    bucket = spread[torch.randperm(config.dim, generator=generator)]
    sign = torch.randint(0, 2, (config.dim,), generator=generator).double() * 2 - 1
    return Sketch(bucket, sign, config.identity, hidden)


class EmbeddingProposer(Proposer):
    """Optimise over the hidden cube of a sketch and hand out lifted points."""

    def __init__(self, config: SearchConfig) -> None:
        super().__init__(config)
        self.sketch = sketch(config)
        self.inner = replace(config, dim=self.sketch.hidden_dim, optimizer="bo", identity=0.5)

    def design(self) -> Float[Tensor, "n_init dim"]:
        # The embedding sees only lifted points: its design is drawn in the hidden cube, whose centre is the identity.
        return self.sketch.lift(initial_design(self.inner))

    def propose(self, trials: Trials, lanes: int) -> Proposal:
        lowered = self.lower(trials.points)
        hidden = Trials(tuple(replace(row, point=point) for row, point in zip(trials.rows, lowered)))
        proposal = WholeBoxProposer(self.inner).propose(hidden, lanes)
        return replace(proposal, points=self.sketch.lift(proposal.points))

    def lower(self, points: Float[Tensor, "n dim"]) -> Float[Tensor, "n hidden"]:
        """Return the hidden points of lifted ones.

        With the identity on a face of the box a listener shows only one half of its hidden coordinate, so each hidden
        coordinate is read from the listener that moved most.
        """
        moved = points - self.sketch.identity
        room = torch.where(moved > 0, 1.0 - self.sketch.identity, self.sketch.identity).clamp_min(1e-300)
        signed = moved / room * self.sketch.sign
        where = self.sketch.bucket.expand_as(signed)
        empty = signed.new_zeros(len(points), self.sketch.hidden_dim)
        high, low = empty.scatter_reduce(1, where, signed, "amax"), empty.scatter_reduce(1, where, signed, "amin")
        return (torch.where(high > -low, high, low) + 1) / 2
