"""What each operation means, said once: how an activation is transformed, and what a delta of a weight does.

The engine lets operations act on a live forward, TransformerLens's tree on its own modules, a training step with gradients, a fold in a
copy of the weights, an exported script on a plain transformers model. All of them call what stands below the line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from workbench.shapes import Bool, Float, Int
from workbench.sites import Site

# ── the meaning: an exported script carries everything below, so it needs torch alone ───────────────────────────────────────────────────


# What a transformers network calls its cache of earlier tokens: `cache` since 5.24, `past_key_values` before.
CACHES = ("cache", "past_key_values")


@dataclass(frozen=True)
class Forward:
    """Positions of the running forward, one row a sequence.

    `real`: not padding. `prompt`: belongs to the prompt. `generated`: the last prompt token and every later one, whose outputs decide
    generated tokens. `since`: how many tokens after the last of the prompt, where it is 0. `read`: ids and mask (true where no padding) of
    every token up to here, those before this call too; None where only positions are known.
    """

    real: Bool[Tensor, "batch pos"]
    prompt: Bool[Tensor, "batch pos"]
    generated: Bool[Tensor, "batch pos"]
    since: Int[Tensor, "batch pos"]
    read: tuple[Tensor, Tensor] | None = None

    def rows(self, rows: slice) -> Forward:
        """What is known about some rows."""
        found = self.of(lambda part: part[rows])
        return found if self.read is None else replace(found, read=(self.read[0][rows], self.read[1][rows]))

    def on(self, device: torch.device) -> Forward:
        """The same on a device: layers of one network may lie on several."""
        return self if self.real.device == device else self.of(lambda part: part.to(device))

    def of(self, take: Callable[[Tensor], Tensor]) -> Forward:
        """What is known, each part of it but the ids through a function."""
        return Forward(take(self.real), take(self.prompt), take(self.generated), take(self.since), self.read)


def wide(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return x in at least float32, where all arithmetic is done."""
    return x if x.dtype == torch.float64 else x.float()


PositionRule = Callable[[Forward], Tensor]
POSITION_RULES: dict[str, PositionRule] = {}


def position_rule(name: str) -> Callable[[PositionRule], PositionRule]:
    """Register under a name which positions of a call an operation acts at; `TransformAt.where` names it, so edits and scripts can keep it.

    A rule is pure and uses torch alone: an exported script carries its source.
    """

    def register(rule: PositionRule) -> PositionRule:
        if POSITION_RULES.setdefault(name, rule) is not rule:
            raise ValueError(f"The position rule {name!r} is taken.")
        return rule

    return register


@position_rule("all")
def everywhere(forward: Forward) -> Bool[Tensor, "batch pos"]:
    """Every position."""
    return torch.ones_like(forward.real)


@position_rule("prompt")
def in_prompt(forward: Forward) -> Bool[Tensor, "batch pos"]:
    """The tokens of the prompt."""
    return forward.prompt


@position_rule("generated")
def in_answer(forward: Forward) -> Bool[Tensor, "batch pos"]:
    """The tokens from which those of the answer are decided."""
    return forward.generated


def at_the_beginning(forward: Forward, n: int) -> Bool[Tensor, "batch pos"]:
    """The tokens from which the first n of the answer are decided."""
    return forward.generated & (forward.since < n)


@position_rule("last")
def at_the_end(forward: Forward) -> Bool[Tensor, "batch pos"]:
    """The last position of each call."""
    mask = torch.zeros_like(forward.real)
    mask[:, -1] = True
    return mask


def rule_of(where: str) -> PositionRule | None:
    """The position rule of a name, `first n` for any n among them; None for a name that none has."""
    word, _, n = where.partition(" ")
    if word == "first" and n.isdecimal():
        return lambda forward: at_the_beginning(forward, int(n))
    return POSITION_RULES.get(where)


@final
@dataclass(frozen=True)
class Gate:
    """Decide per token whether an edit acts: a linear probe on the incoming activation.

    hard: act iff w·x + b > 0. soft: act by the share sigmoid(sharpness (w·x + b)). Ref: conditional activation steering, arXiv 2409.05907.
    """

    weight: Float[Tensor, " width"]
    bias: Float[Tensor, ""]
    kind: Literal["hard", "soft"] = "hard"
    sharpness: float = 1.0

    def __call__(self, x: Float[Tensor, "batch pos width"]) -> Float[Tensor, "batch pos 1"]:
        """Share of the edit that acts at each position, in [0, 1]."""
        return self.opens(x).float() if self.kind == "hard" else torch.sigmoid(self.sharpness * self._score(x))

    def opens(self, x: Float[Tensor, "batch pos width"]) -> Bool[Tensor, "batch pos 1"]:
        """Whether w·x + b > 0, which is where a hard gate lets the edit act."""
        return self._score(x) > 0

    def through(self, x: Float[Tensor, "batch pos width"], y: Float[Tensor, "batch pos width"]) -> Float[Tensor, "batch pos width"]:
        """What a soft gate lets through of the change from x to y."""
        share = self(x)
        return torch.where(share > 0, (wide(x) + share * (wide(y) - wide(x))).type_as(x), x)

    def _score(self, x: Float[Tensor, "batch pos width"]) -> Float[Tensor, "batch pos 1"]:
        z = wide(x)
        return torch.nn.functional.linear(z, self.weight.to(z.dtype)[None], self.bias.to(z.dtype)[None])


@final
@dataclass(frozen=True)
class TransformAt:
    """Replace the activation x at `site` by fn(x): pure, position-wise, of the same shape, returned as the type of x.

    where: the name of a position rule. gate: decides per token. spare: a norm bound; tokens with ‖x‖ above it stay bit-equal, since those
    carry the attention sink and moving them wrecks a model. sees_call: fn(x, forward) is a law over all tokens of a call, so that cached
    and full forwards differ. traceable: the same law without shapes or branches that depend on data, where `fn` has them, for a script to
    record. within: the coordinates outside of which fn leaves x as it is; None: it may move all. rule: the position rule itself, where
    `where` names one that the engine has to make for a model first.
    """

    site: Site
    fn: Callable[..., Float[Tensor, "batch pos width"]]
    width: int
    where: str = "all"
    gate: Gate | None = None
    spare: float | None = None
    sees_call: bool = False
    traceable: Callable[..., Float[Tensor, "batch pos width"]] | None = None
    within: tuple[int, ...] | None = None
    rule: PositionRule | None = None

    @property
    def needs_forward(self) -> bool:
        """Whether it has to be told what the running forward knows about its positions."""
        return self.sees_call or self.where != "all"

    @property
    def is_plain(self) -> bool:
        """Whether its function is all there is to it."""
        return not self.needs_forward and self.gate is None and self.spare is None


def transformed(
    op: TransformAt, x: Float[Tensor, "batch pos all"], forward: Forward | None = None, columns: slice | None = None
) -> Float[Tensor, "batch pos all"]:
    """Return what an operation makes of activations; `columns` are its site's slice of the width, None for all of it."""
    if columns is not None:
        part = transformed(op, x[..., columns], forward)
        return torch.cat([x[..., : columns.start], part, x[..., columns.stop :]], -1)
    forward = None if forward is None else forward.on(x.device)
    acts = _acting(op, x, forward)
    # Where nothing acts, the law need not be asked; on an accelerator, asking costs more than the law.
    if acts is not None and x.device.type == "cpu" and not acts.any():
        return x
    y = op.fn(x, forward) if op.sees_call else op.fn(x)
    if op.gate is not None and op.gate.kind == "soft":
        y = op.gate.through(x, y)
    # where, not a product with 0: a NaN of the unused branch must not spread, and what is left alone stays bit-equal.
    return y if acts is None else torch.where(acts, y, x)


def by_sequence(x: Tensor, real: Bool[Tensor, "batch pos"]) -> Tensor:
    """Return activations as (batch, pos, width): some blocks lay all tokens one behind another."""
    flat = x.ndim == 2 and x.is_floating_point() and x.shape[0] == real.numel()
    return x.view(*real.shape, -1) if flat else x


def with_expert(
    output: Float[Tensor, "*shape width"],
    run: Callable[..., Tensor],
    expert: int,
    call: tuple[Float[Tensor, "token width"], Int[Tensor, "token chosen"], Float[Tensor, "token chosen"]],
    change: Callable[[Tensor], Tensor],
) -> Float[Tensor, "*shape width"]:
    """Return a mixture's output with one expert's share of it changed; `call` is what `run` was called with: tokens, the indices of their
    experts, and the weights of these. Tokens that do not go to the expert keep what they have."""
    tokens, index, weight = call
    share = (weight * (index == expert)).sum(-1, keepdim=True)
    own = run(tokens, index[:, :1] * 0 + expert, share)
    return output + (change(own) - own) * (share != 0)


def _acting(op: TransformAt, x: Float[Tensor, "batch pos width"], forward: Forward | None) -> Bool[Tensor, "batch pos 1"] | None:
    """At which positions an operation acts; None for all."""
    found: list[Tensor] = []
    if op.where != "all" and forward is not None:
        rule = op.rule or rule_of(op.where)
        if rule is None:
            raise LookupError(f"No position rule {op.where!r}.")
        found.append(rule(forward)[..., None])
    if op.gate is not None and op.gate.kind == "hard":
        found.append(op.gate.opens(x))
    if op.spare is not None:
        found.append(~(torch.linalg.vector_norm(wide(x), dim=-1, keepdim=True) > op.spare))
    if not found:
        return None
    acts = found[0]
    for mask in found[1:]:
        acts = acts & mask
    return acts


@final
@dataclass(frozen=True)
class LowRank:
    """The delta `scale · b @ a` of a matrix, never formed."""

    a: Float[Tensor, "rank in"]
    b: Float[Tensor, "out rank"]
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in), as the matrix would have."""
        return (self.b.shape[0], self.a.shape[1])

    def dense(self) -> Float[Tensor, "out in"]:
        """The matrix itself, in float64: for folding and exports."""
        return self.scale * (self.b.double() @ self.a.double())


@final
@dataclass(frozen=True)
class Rows:
    """A delta of a few rows of a table, looked up by token id."""

    ids: Int[Tensor, " row"]
    values: Float[Tensor, "row width"]


@final
@dataclass(frozen=True)
class AddToWeight:
    """Add a delta to the weight at `site`: a delta, never a new value, so two edits add up. Matrices are given as (out, in)."""

    site: Site
    delta: Tensor | LowRank | Rows


Operation = TransformAt | AddToWeight


def term(delta: Tensor | LowRank | Rows, x: Tensor) -> Float[Tensor, "... out"]:
    """Return what a delta adds to its module's output where the module's input is x (token ids for rows), in at least float32.

    A vector is the delta of a bias and adds itself.
    """
    if isinstance(delta, Rows):
        return (x[..., None] == delta.ids).to(delta.values.dtype) @ delta.values
    z = wide(x)
    if isinstance(delta, LowRank):
        y = torch.nn.functional.linear(torch.nn.functional.linear(z, delta.a.to(z.dtype)), delta.b.to(z.dtype))
        return y if delta.scale == 1.0 else delta.scale * y
    return torch.nn.functional.linear(z, delta.to(z.dtype)) if delta.ndim == 2 else delta.to(z.dtype).expand(*z.shape[:-1], -1)


def with_term(y: Float[Tensor, "... all"], part: Float[Tensor, "... out"], columns: Tensor | None = None) -> Float[Tensor, "... all"]:
    """Return a module's output with a term added; `columns` are those of a fused matrix that the term belongs to, None for all."""
    return y + part.to(y.dtype) if columns is None else y.index_add(-1, columns, part.to(y.dtype))


def add_delta(stored: Tensor, delta: Tensor | LowRank | Rows, *, transposed: bool = False, columns: Tensor | None = None) -> None:
    """Add a delta, in place, to a weight as it is stored: perhaps (in, out), perhaps with other matrices in one."""
    if isinstance(delta, Rows):
        stored.index_add_(0, delta.ids, delta.values.to(stored.dtype))
        return
    dense = (delta.dense() if isinstance(delta, LowRank) else delta).to(stored.dtype)
    dense = dense.T if transposed else dense
    if columns is None:
        stored.add_(dense)
    else:
        stored.index_add_(1 if transposed else 0, columns, dense)


def own_part(stored: Tensor, *, transposed: bool = False, columns: Tensor | None = None) -> Float[Tensor, "out *in"]:
    """Return, as (out, in), the matrix of one site within a weight as it is stored: where `add_delta` adds. A vector stays one."""
    whole = stored.T if transposed and stored.ndim == 2 else stored
    return whole if columns is None else whole[columns]
