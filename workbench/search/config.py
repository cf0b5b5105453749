"""What a search is asked for: the box, the budget, the optimiser and its constants."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from workbench.errors import BadKnob, UnknownName

OPTIMIZERS = ("random", "es", "turbo", "bo", "embedding", "official_bo")
KERNELS = ("rbf", "matern", "ibnn")
WHOLE_BOX_DIM = 20


@dataclass(frozen=True)
class SearchConfig:
    """Hold the constants of one search over the unit cube [0, 1]^dim; the objective is always maximised.

    Ref: docs/methods/tarot.md §3.6.

    Args:
        dim: number of coordinates.
        optimizer: `random`, `es`, `turbo`, `bo`, `embedding`, `official_bo`, or `auto` (`turbo` above 20 coordinates, else `bo`).
        budget: objective calls, the initial design included.
        n_init: calls of the initial design, the identity included.
        include_identity: whether call 1 is the identity.
        identity: every coordinate of the point that changes nothing (.5 for angles, 1 for scales).
        seed: one seed for the design, the proposals and the acquisition's starts.
        lanes: candidates that are proposed, and handed to the objective, at once.
        kernel: surrogate kernel of `bo`.
        embedding_dim: coordinates of the random embedding.
        region_start: first side of the trust region, share of the box.
        region_min: side below which the region starts again.
        region_max: largest side.
        success_tol: improving steps in a row that double the region.
        failure_tol: steps without improvement in a row that halve it; None: max(4, ceil((budget - n_init) / 12)) calls.
        step: first standard deviation of `es`, share of the box.
        target: value at which the search stops early.
        patience: calls without improvement after which the search stops early.
        maximize: False makes the acquisition look for the worst point: a negative control, never useful.
    """

    dim: int
    optimizer: str = "auto"
    budget: int = 124
    n_init: int = 10
    include_identity: bool = True
    identity: float = 0.5
    seed: int = 0
    lanes: int = 1
    kernel: str = "rbf"
    embedding_dim: int = 10
    region_start: float = 0.8
    region_min: float = 2.0**-7
    region_max: float = 1.6
    success_tol: int = 3
    failure_tol: int | None = None
    step: float = 0.2
    target: float | None = None
    patience: int | None = None
    maximize: bool = True

    def __post_init__(self) -> None:
        if self.optimizer not in (*OPTIMIZERS, "auto"):
            raise UnknownName("optimizer", self.optimizer, (*OPTIMIZERS, "auto"))
        if self.kernel not in KERNELS:
            raise UnknownName("kernel", self.kernel, KERNELS)
        for name in ("dim", "budget", "n_init", "lanes", "embedding_dim", "success_tol"):
            if getattr(self, name) < 1:
                raise BadKnob(f"{name} = {getattr(self, name)}, but at least 1 is needed.", f"Set {name} to 1 or more.")
        if not 0 <= self.identity <= 1:
            raise BadKnob(f"The identity lies at {self.identity}, outside of [0, 1].", "Give a coordinate of the unit cube.")
        if not 0 < self.region_min <= self.region_start <= self.region_max:
            raise BadKnob(
                f"Trust region sides {self.region_min}, {self.region_start}, {self.region_max} are not increasing.",
                "Keep 0 < tr_min <= tr_length <= tr_max.",
            )

    @property
    def chosen(self) -> str:
        """Return the optimiser that `auto` stands for."""
        if self.optimizer != "auto":
            return self.optimizer
        return "turbo" if self.dim > WHOLE_BOX_DIM else "bo"

    @property
    def initial_calls(self) -> int:
        """Return the calls of the initial design, never more than the budget."""
        return min(self.n_init, self.budget)

    @property
    def failure_steps(self) -> int:
        """Return the failing batches in a row that halve the region; a batch of q lanes counts as q calls."""
        if self.failure_tol is not None:
            return self.failure_tol
        return max(4, math.ceil((self.budget - self.initial_calls) / (12 * self.lanes)))

    def official(self) -> SearchConfig:
        """Return the preset of the released code: 4 uniform points, no identity, one candidate at a time, depth-12 IBNN kernel."""
        return replace(self, optimizer="official_bo", n_init=4, include_identity=False, lanes=1)
