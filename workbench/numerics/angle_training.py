"""Train the probes and angle networks of all layers at once.

Ref: docs/methods/hpr.md §3.4, §3.5, §3.6. Per layer, on pairs (x⁺, x⁻) of a batch and on neutral tokens x⁰ with weight ω times the
negatives: L_probe = mean BCE(w·x, label), label 1 for x⁺ and x⁰; L_angle = mean (π sigmoid(MLP(x)) − θ*)², θ* = angle(x⁻, its x⁺) for x⁻
and 0 for x⁺ and x⁰. Differs: each probe and each net is a problem of its own with its own clip and its own best checkpoint, so a layer's
result does not depend on which others are trained; `joint` reproduces the released code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from workbench.numerics.angle_nets import AngleNets, drawn_probes
from workbench.numerics.householder import angle_between, clamped_angle
from workbench.progress import stop_if_asked
from workbench.shapes import Bool, Float, Int, Tensor

Checkpoint = Literal["per_module", "joint_probe_accuracy"]
WarmUp = Literal["from_first_step", "from_zero"]


@final
@dataclass(frozen=True)
class PairRows:
    """Activations of pairs, layer by layer: row i of both is the same token position. `used`: not skipped."""

    positive: Float[Tensor, "layer pair d_model"]
    negative: Float[Tensor, "layer pair d_model"]
    neutral: Float[Tensor, "layer token d_model"]
    used: Bool[Tensor, "layer pair"]

    @property
    def n_pairs(self) -> int:
        """Pairs a layer, used or not."""
        return int(self.positive.shape[1])


@final
@dataclass(frozen=True)
class Training:
    """How to optimise: AdamW, warm-up then linear decay to 0.

    As released: `is_joint` clips all layers' gradients together; `warm_up` from_zero is transformers' Trainer's, whose first step has a
    rate of 0 and whose length is rounded up; `clamps_target` takes angles by `clamped_angle`, those of positives to themselves too.
    """

    lr: float
    n_steps: int
    batch_pairs: int
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    neutral_weight: float = 1.0
    checkpoint: Checkpoint = "per_module"
    is_joint: bool = False
    warm_up: WarmUp = "from_first_step"
    clamps_target: bool = False
    n_evaluations: int = 20


@final
@dataclass(frozen=True)
class Trained:
    """Probes and nets at their best checkpoints, and what was measured on the evaluation rows along the way."""

    probes: Float[Tensor, "layer d_model"]
    nets: AngleNets
    steps: Int[Tensor, " check"]
    accuracy: Float[Tensor, "check layer"]
    bce: Float[Tensor, "check layer"]
    angle_loss: Float[Tensor, "check layer"]


def train_angles(
    rows: PairRows,
    held: PairRows,
    layers: tuple[int, ...],
    how: Training,
    *,
    n_mlp: int,
    width: int | None,
    seed: int,
    tell: Callable[[float, Float[Tensor, " layer"]], None],
) -> Trained:
    """Train every layer's probe and net on `rows`; choose checkpoints on `held`. Deterministic in the seed."""
    d_model = rows.positive.shape[-1]
    probes = drawn_probes(d_model, layers, seed).to(rows.positive.device).requires_grad_()
    drawn = AngleNets.drawn(d_model, n_mlp, width, layers, seed)
    nets = drawn.map([tensor.to(probes.device).requires_grad_() for tensor in drawn.parameters()])
    optimizer = torch.optim.AdamW([probes, *nets.parameters()], lr=how.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=how.weight_decay)
    targets = _targets(rows, how)
    best = _Best(len(layers), how.checkpoint)
    steps: list[int] = []
    checks: list[tuple[Tensor, Tensor, Tensor]] = []
    every = max(1, how.n_steps // how.n_evaluations)
    for step, (picked, calm) in enumerate(_batches(rows, how, seed)):
        stop_if_asked()
        for group in optimizer.param_groups:
            group["lr"] = how.lr * _schedule(step, how)
        optimizer.zero_grad()
        _loss(probes, nets, rows, targets, picked, calm, how).sum().backward()
        _clip(probes, nets, how)
        optimizer.step()
        if (step + 1) % every == 0 or step + 1 == how.n_steps:
            with torch.no_grad():
                found = evaluated(probes, nets, held, how)
            best.offer(probes, nets, *found)
            steps.append(step + 1)
            checks.append(found)
            tell((step + 1) / how.n_steps, found[0])
    kept_probes, kept_nets = best.kept(nets)
    series = [torch.stack([check[i] for check in checks]) for i in range(3)]
    return Trained(kept_probes, kept_nets, torch.tensor(steps), series[0], series[1], series[2])


def _batches(rows: PairRows, how: Training, seed: int) -> Iterator[tuple[Int[Tensor, " pair"], Int[Tensor, " token"]]]:
    """Indices of pairs, every one once before any comes again, and of as many neutral tokens, drawn freely; one batch a step."""
    order, queue = torch.Generator().manual_seed(seed), torch.zeros(0, dtype=torch.long)
    for _ in range(how.n_steps):
        if len(queue) == 0:
            queue = torch.randperm(rows.n_pairs, generator=order)
        picked, queue = queue[: how.batch_pairs], queue[how.batch_pairs :]
        calm = torch.randint(max(1, rows.neutral.shape[1]), (len(picked),), generator=order)
        yield picked.to(rows.positive.device), calm.to(rows.positive.device)


def _targets(rows: PairRows, how: Training) -> tuple[Float[Tensor, "layer pair"], Float[Tensor, "layer pair"]]:
    """Angles to the pair's positive: of positives (0, but for the released clamp) and of negatives."""
    if how.clamps_target:
        return clamped_angle(rows.positive, rows.positive), clamped_angle(rows.negative, rows.positive)
    return torch.zeros_like(rows.used, dtype=rows.positive.dtype), angle_between(rows.negative, rows.positive)


def _schedule(step: int, how: Training) -> float:
    if how.warm_up == "from_zero":
        warm, done = math.ceil(how.n_steps * how.warmup_ratio), step
    else:
        warm, done = max(1, round(how.warmup_ratio * how.n_steps)), step + 1
    return done / warm if step < warm else max(0.0, (how.n_steps - step) / max(1, how.n_steps - warm))


def _loss(
    probes: Tensor, nets: AngleNets, rows: PairRows, targets: tuple[Tensor, Tensor], picked: Tensor, calm: Tensor, how: Training
) -> Float[Tensor, " layer"]:
    good, bad, used = rows.positive[:, picked], rows.negative[:, picked], rows.used[:, picked].float()
    parts, weights = [good, bad], [used, used]
    angles = [target[:, picked] for target in targets]
    labels = [torch.ones_like(used), torch.zeros_like(used)]
    if how.neutral_weight > 0 and rows.neutral.shape[1]:
        parts.append(rows.neutral[:, calm])
        weights.append(torch.full_like(used, how.neutral_weight))
        angles.append(torch.zeros_like(used))
        labels.append(torch.ones_like(used))
    x, weight = torch.cat(parts, 1), torch.cat(weights, 1)
    scores = torch.einsum("lnd,ld->ln", x, probes)
    bce = binary_cross_entropy_with_logits(scores, torch.cat(labels, 1), reduction="none")
    squared = (nets.angles(x) - torch.cat(angles, 1)).square()
    return (weight * (bce + squared)).sum(1) / weight.sum(1).clamp_min(1e-12)


def _clip(probes: Tensor, nets: AngleNets, how: Training) -> None:
    """Scale gradients down to the clip norm: a probe and a net at a time, or (released) everything together."""
    grads = [probes.grad, *(p.grad for p in nets.parameters())]
    found = [grad for grad in grads if grad is not None]
    squares = [grad.square().flatten(1).sum(1) for grad in found]
    if how.is_joint:
        n_layers = len(probes)  # the released total is the mean over layers; ours sums
        norm = torch.stack(squares).sum().sqrt() / n_layers
        for grad in found:
            grad.mul_((how.clip_norm / norm.clamp_min(1e-12)).clamp_max(1.0))
        return
    for group in (found[:1], found[1:]):
        norm = torch.stack([grad.square().flatten(1).sum(1) for grad in group]).sum(0).sqrt()
        scale = (how.clip_norm / norm.clamp_min(1e-12)).clamp_max(1.0)
        for grad in group:
            grad.mul_(scale.view(-1, *[1] * (grad.ndim - 1)))


def evaluated(
    probes: Tensor, nets: AngleNets, held: PairRows, how: Training
) -> tuple[Float[Tensor, " layer"], Float[Tensor, " layer"], Float[Tensor, " layer"]]:
    """Probe accuracy and BCE, and angle loss, on held-out rows; neutral tokens count as in training."""
    good, bad = torch.einsum("lnd,ld->ln", held.positive, probes), torch.einsum("lnd,ld->ln", held.negative, probes)
    used, n = held.used.float(), held.used.float().sum(1).clamp_min(1e-12)
    right = ((good > 0).float() * used).sum(1) / n, ((bad <= 0).float() * used).sum(1) / n
    costs = (softplus(-good) * used).sum(1) / n, (softplus(bad) * used).sum(1) / n
    sides = zip((held.positive, held.negative), _targets(held, how))
    squares = [((nets.angles(side) - target).square() * used).sum(1) / n for side, target in sides]
    hits, bces, losses, total = right[0] + right[1], costs[0] + costs[1], squares[0] + squares[1], 2.0
    if how.neutral_weight > 0 and held.neutral.shape[1]:
        calm, w = torch.einsum("lnd,ld->ln", held.neutral, probes), how.neutral_weight
        hits, total = hits + w * (calm > 0).float().mean(1), total + w
        bces = bces + w * softplus(-calm).mean(1)
        losses = losses + w * nets.angles(held.neutral).square().mean(1)
    return hits / total, bces / total, losses / total


class _Best:
    """The best checkpoint of each probe and each net (or, released, of all together by mean probe accuracy)."""

    def __init__(self, n_layers: int, how: Checkpoint) -> None:
        self._how = how
        self._accuracy, self._bce = torch.full((n_layers,), -1.0), torch.full((n_layers,), torch.inf)
        self._loss, self._joint = torch.full((n_layers,), torch.inf), -1.0
        self._probes: Tensor | None = None
        self._nets: list[Tensor] = []

    def offer(self, probes: Tensor, nets: AngleNets, accuracy: Tensor, bce: Tensor, loss: Tensor) -> None:
        if self._probes is None:
            self._probes, self._nets = probes.detach().clone(), [p.detach().clone() for p in nets.parameters()]
        accuracy, bce, loss = accuracy.cpu(), bce.cpu(), loss.cpu()
        if self._how == "joint_probe_accuracy":
            better = torch.full_like(accuracy, float(accuracy.mean()) > self._joint).bool()
            self._joint = max(self._joint, float(accuracy.mean()))
            closer = better
        else:
            better = (accuracy > self._accuracy) | ((accuracy == self._accuracy) & (bce < self._bce))
            closer = loss < self._loss
        self._accuracy, self._bce = torch.where(better, accuracy, self._accuracy), torch.where(better, bce, self._bce)
        self._loss = torch.where(closer, loss, self._loss)
        self._probes[better] = probes.detach()[better]
        for mine, theirs in zip(self._nets, nets.parameters()):
            mine[closer] = theirs.detach()[closer]

    def kept(self, nets: AngleNets) -> tuple[Tensor, AngleNets]:
        return (torch.zeros(0) if self._probes is None else self._probes), nets.map(self._nets)
