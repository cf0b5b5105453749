"""Where a mixture of experts sends each token: the experts of every layer, their weights, and how evenly they are used.

Read from the call of the module that runs a layer's experts, so it is what the layer did, under any stack of edits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.lenses import registry
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.progress import Progress, silent
from workbench.shapes import Float, Int
from workbench.sites import EXPERT, Site


@dataclass(frozen=True)
class Routing:
    """The experts of one prompt's tokens. `layers` are those with experts; `weights` are the router's, as the layer multiplies by them."""

    model: str
    lanes: tuple[LaneLabel, ...]
    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    n_experts: int
    experts: Int[np.ndarray, "lane layer pos k"]
    weights: Float[np.ndarray, "lane layer pos k"]

    @property
    def entropy(self) -> Float[np.ndarray, "lane layer pos"]:
        """Nats of a token's weights taken as shares: 0 where one expert has all, log k where k share evenly."""
        share = np.abs(self.weights)
        share = share / np.maximum(share.sum(-1, keepdims=True), 1e-30)
        return -(share * np.log(np.maximum(share, 1e-30))).sum(-1)

    @property
    def load(self) -> Float[np.ndarray, "lane layer expert"]:
        """Share of a layer's token-to-expert assignments that each expert gets; even use is 1 / n_experts."""
        counts = np.stack([(self.experts == expert).sum((-1, -2)) for expert in range(self.n_experts)], -1)
        return counts / counts.sum(-1, keepdims=True)

    def rows(self) -> list[dict[str, Any]]:
        """One table row a lane, layer and token, the heaviest expert first."""
        found: list[dict[str, Any]] = []
        for i, lane in enumerate(self.lanes):
            for j, layer in enumerate(self.layers):
                for pos, token in enumerate(self.tokens):
                    order = np.argsort(-np.abs(self.weights[i, j, pos]))
                    told = ", ".join(f"{self.experts[i, j, pos, k]} ({self.weights[i, j, pos, k]:.2f})" for k in order)
                    row = {"lane": lane.label, "layer": layer, "position": pos, "token": token, "experts": told}
                    found.append(row | {"entropy_nats": float(self.entropy[i, j, pos])})
        return found


def routing(model: LanguageModel, prompt: Prompt, stacks: Sequence[Sequence[Edit]] = ((),), *, progress: Progress | None = None) -> Routing:
    """Return which experts each token of a prompt goes to, under each stack of edits.

    Raises:
        Obstructed: the model has no experts with an address. BadPrompt: as `tokens`. Others: as `engine.applied`.
    """
    registry.require("routing", model)
    tell, batch, layers = progress or silent(), model.tokens(prompt), model.layers_of(EXPERT)
    modules = [model.point(Site(EXPERT, layer, 0)).module for layer in layers]
    experts, weights = list[np.ndarray](), list[np.ndarray]()
    for index, stack in enumerate(stacks):
        tell(index / len(stacks), "Reading the routers")
        calls: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        readers = [(module, _reader(calls, layer)) for module, layer in zip(modules, layers)]
        with torch.no_grad(), applied(model, *stack), model.watching(readers):
            model.logits(batch)
        experts.append(np.stack([calls[layer][0] for layer in layers]))
        weights.append(np.stack([calls[layer][1] for layer in layers]))
    tell(1.0, "Done")
    texts = token_texts(model.tokenizer, batch.ids[0])
    return Routing(model.info.name, lane_labels(stacks), texts, layers, model.info.n_experts, np.stack(experts), np.stack(weights))


def _reader(calls: dict[int, tuple[np.ndarray, np.ndarray]], layer: int) -> Callable[[tuple[Any, ...], dict[str, Any]], None]:
    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _, index, weight = (*args, *kwargs.values())
        calls[layer] = index.cpu().numpy(), weight.float().cpu().numpy()

    return read
