"""The edit that HPR fits: a probe that decides which tokens move, and a network that says how far they turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, final

import torch

from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.errors import CorruptEdit
from workbench.numerics.angle_nets import AngleNets
from workbench.numerics.householder import Formula, pseudo_rotation, pseudo_rotation_everywhere
from workbench.operations import Forward, Operation, TransformAt, position_rule
from workbench.shapes import Bool, Float, Tensor
from workbench.sites import Site

_WHY = "which tokens turn, and how far, depends on the token: no change of weights equals it."


@position_rule("released")
def released_positions(forward: Forward) -> Bool[Tensor, "batch pos"]:
    """All positions of rows that score an answer, else those from which one is generated: what the released code edits."""
    scored = (forward.real & ~forward.prompt).any(1, keepdim=True)
    return torch.where(scored, forward.real, forward.generated)


@final
@dataclass(frozen=True)
class LayerTurn:
    """One layer: the probe's normal and the angle network, weights as (out, in)."""

    probe: Float[Tensor, " d_model"]
    weights: tuple[Float[Tensor, "_out _in"], ...]
    biases: tuple[Float[Tensor, " _out"], ...]

    @staticmethod
    def of(probe: Float[Tensor, " d_model"], net: AngleNets) -> LayerTurn:
        """From a stack of one net."""
        return LayerTurn(probe, tuple(weight[0] for weight in net.weights), tuple(bias[0] for bias in net.biases))

    def angle(self) -> Callable[[Tensor], Tensor]:
        """The angle in radians of each token, in the token's own precision (float32 or float64)."""
        wide = {
            dtype: [(weight.to(dtype), bias.to(dtype)) for weight, bias in zip(self.weights, self.biases)]
            for dtype in (torch.float32, torch.float64)
        }

        def predicted(x: Float[Tensor, "token d_model"]) -> Float[Tensor, " token"]:
            for i, (weight, bias) in enumerate(wide[x.dtype]):
                x = torch.nn.functional.linear(x if i == 0 else torch.nn.functional.gelu(x), weight, bias)
            return math.pi * torch.sigmoid(x[..., 0])

        return predicted


@edit_kind("householder")
@final
@dataclass(frozen=True)
class HouseholderEdit(Edit):
    """Rotate tokens on the negative side of each layer's probe; the dose multiplies the angle, never the gate."""

    turns: Mapping[int, LayerTurn]

    @property
    def layers(self) -> tuple[int, ...]:
        """Edited layers."""
        return tuple(self.turns)

    @property
    def formula(self) -> Formula:
        """How tokens turn. Edits saved before the released angle was reproduced say official without naming an angle, and keep theirs."""
        named: Formula = self.header.facts.get("formula", "closed_form")
        return "arcsin" if named == "official" and "angle" not in self.header.facts else named

    def tensors(self) -> Mapping[str, Tensor]:
        found: dict[str, Tensor] = {}
        for layer, turn in self.turns.items():
            found[f"layer{layer}.probe"] = turn.probe
            for i, (weight, bias) in enumerate(zip(turn.weights, turn.biases)):
                found |= {f"layer{layer}.mlp{i}.weight": weight, f"layer{layer}.mlp{i}.bias": bias}
        return found

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        layers: list[int] = list(header.facts.get("layers", ()))
        n_mlp = int(header.facts.get("n_mlp", 0))
        # Counted before any name is made: a damaged number would be as many names.
        counted = n_mlp >= 1 and len(tensors) == len(layers) * (1 + 2 * n_mlp)
        if not counted or {f"layer{layer}.{part}" for layer in layers for part in ("probe", *_mlp_names(n_mlp))} != set(tensors):
            raise CorruptEdit(f"A rotation edit of layers {layers} has tensors {sorted(tensors)}.", "Restore the folder from a copy.")
        return cls(
            header,
            {
                layer: LayerTurn(
                    tensors[f"layer{layer}.probe"],
                    tuple(tensors[f"layer{layer}.mlp{i}.weight"] for i in range(n_mlp)),
                    tuple(tensors[f"layer{layer}.mlp{i}.bias"] for i in range(n_mlp)),
                )
                for layer in layers
            },
        )

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        facts: Mapping[str, Any] = self.header.facts
        where: str = facts.get("positions", "all")
        clamp, formula = bool(facts.get("clamp_angle", True)), self.formula
        return tuple(
            TransformAt(
                Site("resid_post", layer),
                pseudo_rotation(turn.probe, turn.angle(), dose, clamp=clamp, formula=formula),
                turn.probe.numel(),
                where,
                traceable=pseudo_rotation_everywhere(turn.probe, turn.angle(), dose, clamp=clamp, formula=formula),
            )
            for layer, turn in self.turns.items()
        )

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        refused = Refused(f"It cannot be folded into weights: {_WHY}")
        return {"checkpoint": refused, "peft": refused, "script": Possible(), "report": Possible()}

    def restricted(self, layers: tuple[int, ...]) -> HouseholderEdit:
        """The same edit on some of its layers."""
        facts = {**self.header.facts, "layers": list(layers)}
        return replace(self, header=replace(self.header, facts=facts), turns={layer: self.turns[layer] for layer in layers})


def _mlp_names(n_mlp: int) -> list[str]:
    return [f"mlp{i}.{part}" for i in range(n_mlp) for part in ("weight", "bias")]
