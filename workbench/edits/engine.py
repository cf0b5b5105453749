"""The engine: the only code that lets edits act on a live model.

A plan is data in a context variable (see `models.base`): row group i of the running batch carries stack i. Nothing on the model changes,
so there is nothing to restore, and two threads with different plans on one model do not meet.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from workbench.edits.base import Edit
from workbench.errors import ModelMismatch, NotFinite, Obstructed, ShapeMismatch, UnknownName
from workbench.models.base import LanguageModel, WeightSlot
from workbench.models.hooks import ReadWrite, WeightTerm
from workbench.models.placing import rule_for
from workbench.models.tokens import current_forward
from workbench.operations import (
    POSITION_RULES,
    AddToWeight,
    LowRank,
    Rows,
    TransformAt,
    add_delta,
    rule_of,
    term,
    transformed,
    with_term,
)
from workbench.place import ROLES, read_place
from workbench.shapes import Activations, Tensor
from workbench.sites import EXPERT, Site

_NONE: Mapping[int, int] = MappingProxyType({})
Acting = Callable[[Activations, slice | None], Activations]


@contextmanager
def applied(model: LanguageModel, *edits: Edit) -> Generator[None]:
    """Within this context, forwards of this thread carry the edits, in the order given; nested equals listed.

    Raises: as `lanes`.
    """
    with lanes(model, [edits]):
        yield


@contextmanager
def lanes(model: LanguageModel, stacks: Sequence[Sequence[Edit]], frozen: Mapping[int, int] = _NONE) -> Generator[None]:
    """Within this context, a batch of n·r rows holds n lanes of r rows: row group i carries stack i.

    Args:
        frozen: lanes that keep the attention patterns of another lane, by number. Its queries and keys take the place of theirs in every
            block, their values stay: so both must read the same tokens. With no edit of its own such a lane equals the other.

    Lane i equals running stack i alone up to the rounding of the batched matrix product. All is validated before anything is touched.

    Raises:
        ModelMismatch: an edit was fitted on another model.
        UnknownSite, UnknownName, ShapeMismatch, NotFinite: an edit does not fit this model.
        ShapeMismatch: during a forward, a batch whose rows do not divide into the lanes.
        Obstructed: a pattern is to be kept, and the model's queries and keys have no address.
    """
    with planned(model, stacks, frozen)():
        yield


def planned(
    model: LanguageModel, stacks: Sequence[Sequence[Edit]], frozen: Mapping[int, int] = _NONE
) -> Callable[[], AbstractContextManager[None]]:
    """Validate stacks once and return what enters them, for loops that enter again and again.

    A generator must not hold a context over a `yield` (its caller would run inside it), so decoding enters once a token.

    Raises: as `lanes`.
    """
    plan = _Plan(model, [[checked(model, edit) for edit in stack] for stack in stacks])
    return model.interception(plan.readers(), [*plan.weights(), *(plan.patterns(model, frozen) if frozen else ())])


def checked(model: LanguageModel, edit: Edit) -> Edit:
    """Return the edit if it belongs to the model and holds finite numbers.

    Raises:
        ModelMismatch: it was fitted on another model, or the model was exported with it. NotFinite: a tensor holds NaN or infinite values.
    """
    if model.holds and edit.id in model.holds:
        raise ModelMismatch(
            f"{model.info.name} holds this {edit.header.method} edit {edit.id} already: it was exported with it.",
            "Load the model that it was exported from, or leave the edit off.",
        )
    ours, theirs = model.fingerprint, edit.header.model
    if not theirs.same_model(ours):
        what = (
            f"{theirs.name} in {theirs.dtype}, {theirs.processing} weights {theirs.weights[:8]}; "
            f"loaded is {ours.name} in {ours.dtype}, {ours.processing} weights {ours.weights[:8]}"
        )
        raise ModelMismatch(f"This {edit.header.method} edit was fitted on {what}.", "Load that model, or fit the edit on this one.")
    for name, tensor in edit.all_tensors().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise NotFinite(f"The tensor {name!r} of the {edit.header.method} edit holds NaN or infinite values.", "Fit it again.")
    return edit if model.device.type == "cpu" or model.is_spread else edit.on(model.device)


class _Plan:
    """Row groups → operations, arranged by the module on which they act."""

    def __init__(self, model: LanguageModel, stacks: Sequence[Sequence[Edit]]) -> None:
        self.n_lanes = len(stacks)
        self._transforms: dict[Site, list[tuple[int, Acting]]] = {}
        self._deltas: dict[int, tuple[AddToWeight, list[tuple[int, AddToWeight, WeightSlot]]]] = {}
        spread = model.is_spread
        for lane, stack in enumerate(stacks):
            for edit in stack:
                on = _on_devices(edit)
                for i, operation in enumerate(edit.operations()):
                    if isinstance(operation, TransformAt):
                        self._add_transform(model, lane, operation, partial(on, i) if spread else None)
                    else:
                        self._add_delta(model, lane, on(i, model.weight(operation.site).parameter.device) if spread else operation)

    def _add_transform(self, model: LanguageModel, lane: int, op: TransformAt, on: Callable[[torch.device], Any] | None = None) -> None:
        if model.width(op.site) != op.width:
            raise ShapeMismatch(
                f"The edit expects width {op.width} at {op.site}; this model has {model.width(op.site)}.", "Fit it on this model."
            )
        op = bound(model, op)
        # A head is a slice of its layer, a sense one of all senses: acting on the whole keeps operations on one module in the order given.
        whole = op.site if op.site.kind == EXPERT else Site(op.site.kind, None if op.site.kind == "sense" else op.site.layer)
        columns = model.point(op.site).columns
        acting = _acting(op, columns) if on is None else following(lambda device: _acting(replace(on(device), rule=op.rule), columns))
        self._transforms.setdefault(whole, []).append((lane, acting))

    def _add_delta(self, model: LanguageModel, lane: int, op: Any) -> None:
        slot = model.weight(op.site)
        wanted = slot.shape
        fits = op.delta.values.shape[1:] == wanted[1:] if isinstance(op.delta, Rows) else tuple(op.delta.shape) == wanted
        if not fits:
            got = op.delta.values.shape if isinstance(op.delta, Rows) else op.delta.shape
            raise ShapeMismatch(f"The delta at {op.site} has shape {tuple(got)}; the weight has {wanted}.", "Fit it on this model.")
        self._deltas.setdefault(id(slot.module), (op, []))[1].append((lane, op, slot))

    def readers(self) -> list[tuple[Site, ReadWrite]]:
        return [(site, self._reader(entries)) for site, entries in self._transforms.items()]

    def weights(self) -> list[tuple[Site, WeightTerm]]:
        return [(first.site, self._term(entries)) for first, entries in self._deltas.values()]

    def patterns(self, model: LanguageModel, frozen: Mapping[int, int]) -> list[tuple[Site, WeightTerm]]:
        """Queries and keys of some lanes replaced by those of others, behind whatever their edits did to them."""
        sites = [site for site in model.sites() if site.kind in ("w_q", "w_k")]
        if not sites:
            raise Obstructed(
                f"{model.info.name} has no queries and keys with an address, so no pattern can be kept.", "Leave the patterns free."
            )
        return [(site, self._kept(model.weight(site).columns, frozen)) for site in sites]

    def _kept(self, columns: Tensor | None, frozen: Mapping[int, int]) -> WeightTerm:
        def keep(_: nn.Module, __: Tensor, y: Tensor) -> Tensor:
            y = y.clone()
            for lane, other in frozen.items():
                mine, theirs = y[self.rows(lane, y.shape[0])], y[self.rows(other, y.shape[0])]
                mine.copy_(theirs if columns is None else mine.index_copy(-1, columns, theirs.index_select(-1, columns)))
            return y

        return keep

    def rows(self, lane: int, n_rows: int) -> slice:
        per_lane, rest = divmod(n_rows, self.n_lanes)
        if rest:
            raise ShapeMismatch(f"A batch of {n_rows} rows does not divide into {self.n_lanes} lanes.", "Repeat the batch once a lane.")
        return slice(lane * per_lane, (lane + 1) * per_lane)

    def _reader(self, entries: list[tuple[int, Acting]]) -> ReadWrite:
        if self.n_lanes == 1:

            def whole(x: Activations) -> Activations:
                for _, acting in entries:
                    x = acting(x, None)
                return x

            return whole

        def by_rows(x: Activations) -> Activations:
            size = self.rows(0, x.shape[0]).stop
            parts = list(x.split(size))
            for lane, acting in entries:
                parts[lane] = acting(parts[lane], slice(lane * size, (lane + 1) * size))
            return torch.cat(parts)

        return by_rows

    def _term(self, entries: list[tuple[int, AddToWeight, WeightSlot]]) -> WeightTerm:
        # Whole parameters are replaced for the row group; thin deltas are added terms on top.
        replaced = [lane for lane in range(self.n_lanes) if any(e[0] == lane and is_whole(e[1], e[2]) for e in entries)]
        copies = {lane: _with_deltas(lane, entries) for lane in replaced}
        wide = torch.float64 if entries[0][2].parameter.dtype == torch.float64 else torch.float32
        thin = [(lane, _adding(op.delta, wide), slot) for lane, op, slot in entries if not is_whole(op, slot)]

        def one(original: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            y = copies[0].forward(x) if copies else y
            for _, add, slot in thin:
                y = add(original, x, y, slot.columns)
            return y

        def by_rows(original: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            y = y.clone()
            for lane, module in copies.items():
                rows = self.rows(lane, y.shape[0])
                y[rows] = module.forward(x[rows])
            for lane, add, slot in thin:
                rows = self.rows(lane, y.shape[0])
                y[rows] = add(original, x[rows], y[rows], slot.columns)
            return y

        return one if self.n_lanes == 1 else by_rows


def _on_devices(edit: Edit) -> Callable[[int, torch.device], Any]:
    """Operation i of an edit, with its tensors on a device; each device gets its copy once."""
    made: dict[torch.device, tuple[Any, ...]] = {}

    def on(i: int, device: torch.device) -> Any:
        if device not in made:
            made[device] = edit.on(device).operations()
        return made[device][i]

    return on


def bound(model: LanguageModel, op: TransformAt) -> TransformAt:
    """The operation with the position rule of its place on this model.

    Raises:
        UnknownName: no rule has that name. BadPlace: the place cannot be told on this model.
    """
    if rule_of(op.where) is not None:
        return op
    place = read_place(op.where)
    if not place.reads_text:
        raise UnknownName("position rule", op.where, (*POSITION_RULES, *ROLES, "first 4", 'after "…"'))
    return replace(op, rule=rule_for(model.tokenizer, place))


def following(made_on: Callable[[torch.device], Acting]) -> Acting:
    """What an operation does, with its tensors on whichever device the activations come: layers of one network may lie on several."""
    known: dict[torch.device, Acting] = {}

    def acting(x: Activations, rows: slice | None) -> Activations:
        if x.device not in known:
            known[x.device] = made_on(x.device)
        return known[x.device](x, rows)

    return acting


def act(op: TransformAt, x: Activations, columns: slice | None = None) -> Activations:
    """Apply one operation to the activations of the running forward at its site's module.

    Raises:
        ShapeMismatch: its function changed the shape or the type.
    """
    return _acting(op, columns)(x, None)


def _acting(op: TransformAt, columns: slice | None) -> Acting:
    """What an operation does to the activations of some rows of the running forward (None: all)."""
    held = _guarded(op)
    if op.is_plain and columns is None:  # a few microseconds a token and lane less than `transformed`, and the same
        return lambda x, _: held.fn(x)

    def acting(x: Activations, rows: slice | None) -> Activations:
        if not op.needs_forward:
            return transformed(held, x, None, columns)
        forward = current_forward()
        if forward is None:
            raise RuntimeError("An edit that acts at some positions needs LanguageModel.logits or step, which know the positions.")
        return transformed(held, x, forward if rows is None else forward.rows(rows), columns)

    return acting


def _guarded(op: TransformAt) -> TransformAt:
    """The operation, whose function is held to the shape and type of its input."""

    def fn(x: Activations, *forward: Any) -> Activations:
        y = op.fn(x, *forward)
        if y.shape != x.shape or y.dtype != x.dtype:
            raise ShapeMismatch(f"The edit at {op.site} made {tuple(y.shape)} {y.dtype} of {tuple(x.shape)} {x.dtype}.", "Fit it again.")
        return y

    return replace(op, fn=fn)


def is_whole(op: AddToWeight, slot: WeightSlot) -> bool:
    """Whether the delta needs a changed copy of its module, as no added term of the output equals it."""
    return isinstance(op.delta, Tensor) and (slot.is_table or slot.parameter.ndim != 2)


def _with_deltas(lane: int, entries: list[tuple[int, AddToWeight, WeightSlot]]) -> Any:
    """A copy of the module, sharing all but the parameters that change; its hooks are not called."""
    module: Any = copy.copy(entries[0][2].module)
    module._parameters = dict(module._parameters)
    for at, op, slot in entries:
        if at == lane and is_whole(op, slot):
            name = slot.parameter_name.rpartition(".")[2]
            old = module._parameters[name]
            if old is not None:
                module._parameters[name] = changed(old, op, slot)
    return module


def changed(old: Tensor, op: AddToWeight, slot: WeightSlot) -> nn.Parameter:
    """A parameter of its own that is the old one with a delta added."""
    new = old.detach().clone()
    add_delta(new, op.delta, transposed=slot.is_transposed, columns=slot.columns)
    return nn.Parameter(new, requires_grad=False)


def _adding(delta: Tensor | LowRank | Rows, dtype: torch.dtype) -> Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]:
    """y + the term of a delta; what does not depend on x is formed once."""
    ready = delta
    if isinstance(delta, LowRank):
        ready = LowRank(delta.a.to(dtype), delta.scale * delta.b.to(dtype))
    elif isinstance(delta, Tensor):
        ready = delta.to(dtype)

    def add(original: nn.Module, x: Tensor, y: Tensor, columns: Tensor | None) -> Tensor:
        part = term(ready, x.to(y.device))  # which may come from the device of the layer before
        if isinstance(ready, Rows):  # Gemma's embedding multiplies what it looks up
            part = part * getattr(original, "embed_scale", 1.0)
        return with_term(y, part, columns)

    return add
