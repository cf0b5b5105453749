"""Score lanes at the price of what differs: one pass of the unedited model, from which each lane departs at the first block it changes.

Three savings, none of which changes a number beyond rounding. A prompt that several answers share runs once, and the answers read its
cache. Lanes begin at the input of the first block in which they differ from the unedited model. Logits are formed only where a token is
scored, a chunk at a time. What the unedited pass left at the forks is kept for the next evaluation of the same rows, up to a limit.

Where a model cannot begin in the middle (no `blocks`), or an edit has to see a whole row at once, all is run plainly, row by row.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch

from workbench.edits.base import Edit
from workbench.edits.engine import act, planned
from workbench.models.base import LanguageModel
from workbench.models.hooks import is_quiet
from workbench.models.tokens import TokenBatch, running
from workbench.operations import AddToWeight, TransformAt, transformed
from workbench.progress import Progress, silent
from workbench.shapes import Float, Int, Tensor
from workbench.sites import Site

Stack = Sequence[Edit]
KEPT_BYTES = 256_000_000
"""Most memory that kept passes of one model take."""
TOKENS_AT_ONCE = 1024
"""Tokens × lanes that run together."""
LOGITS_AT_ONCE = 16_000_000
SHARED = ("all", "prompt", "generated")
"""Position rules that mean the same whether a row runs whole or its prompt apart."""


def fork_of(model: LanguageModel, stack: Stack) -> int | None:
    """The block at whose input a stack first differs from the unedited model: n_layers behind the last, None where nothing begins there.

    0 and None differ in that a stack which changes what comes before the blocks (embeddings) has to run whole.
    """
    first = model.info.n_layers
    for operation in (op for edit in stack for op in edit.operations()):
        site = operation.site
        if site.kind in ("ln_final", "w_u"):
            continue
        layer = _layer_of(model, site)
        if layer is None:
            return None
        first = min(first, layer + (site.kind == "resid_post"))
    return first


def _layer_of(model: LanguageModel, site: Site) -> int | None:
    if site.kind != "param":
        return site.layer
    owner = model.raw_parameter(site).module
    return next((layer for layer, block in enumerate(model.blocks) if any(module is owner for module in block.modules())), None)


def can_fork(model: LanguageModel, stack: Stack) -> bool:
    """Whether a stack may depart from the unedited pass."""
    operations = [op for edit in stack for op in edit.operations()]
    plain = all(isinstance(op, AddToWeight) or (op.where in SHARED and not op.sees_call) for op in operations)
    return plain and fork_of(model, stack) is not None


# ── the unedited pass ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────
_CACHE = object()


@dataclass
class _Pass:
    """One run of the unedited network: how each block was called, what entered the blocks at which lanes fork, what left the last."""

    batch: TokenBatch
    n_before: int
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    entering: dict[int, Tensor]

    @property
    def n_bytes(self) -> int:
        tensors = [*self.entering.values(), *(t for args, kwargs in self.calls for t in _tensors((args, kwargs)))]
        return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))  # pyright: ignore[reportUnknownArgumentType]


def _unedited(model: LanguageModel, batch: TokenBatch, n_before: int, cache: Any, forks: Sequence[int]) -> _Pass:
    """Run the network on the columns from `n_before` on, noting what lanes need that fork at `forks`."""
    blocks = model.blocks
    done = _Pass(batch, n_before, [], {})

    def called(layer: int) -> Any:
        def note(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            if layer in forks:
                done.entering[layer] = x
            kept = {key: _without(value, cache) for key, value in kwargs.items() if key != "hidden_states"}
            done.calls.append((tuple(_without(value, cache) for value in args[1:]), kept))

        return note

    def left(x: Tensor) -> None:
        done.entering[len(blocks)] = x

    with (
        model.watching([(block, called(layer)) for layer, block in enumerate(blocks)], [(blocks[-1], left)]),
        running(batch.forward(n_before)),
    ):
        model.run(batch.after(n_before), cache, last_only=True)
    return done


def _without(value: Any, cache: Any) -> Any:
    return _CACHE if cache is not None and value is cache else value


# ── lanes that depart from it ───────────────────────────────────────────────────────────────────────────────────────────────────────────
class _Group:
    """Lanes that fork at one block and run side by side from there."""

    def __init__(self, model: LanguageModel, fork: int, lanes: Sequence[int], stacks: Sequence[Stack]) -> None:
        self.fork, self.lanes = fork, list(lanes)
        self._model, self._stacks = model, stacks
        self._entered = planned(model, stacks)
        self._changes_head = any(op.site.kind in ("ln_final", "w_u") for stack in stacks for edit in stack for op in edit.operations())
        at = Site("resid_post", fork - 1)
        self._first = [
            [op for edit in stack for op in edit.operations() if isinstance(op, TransformAt) and op.site == at] for stack in stacks
        ]

    def from_here(self, done: _Pass, cache: Any) -> Float[Tensor, "lane_row pos d_model"]:
        """What leaves the last block, lane after lane; keys and values of the blocks that ran are added to `cache`."""
        n, n_rows = len(self._stacks), len(done.batch)
        forward = done.batch.forward(done.n_before)
        parts: list[Tensor] = []
        for first in self._first:
            x = done.entering[self.fork]
            for op in first:
                x = _acted(op, x, forward)
            parts.append(x)
        x = torch.cat(parts)
        with running(done.batch.repeat(n).forward(done.n_before)), self._entered():
            for block, (args, kwargs) in zip(self._model.blocks[self.fork :], done.calls[self.fork :]):
                out: Any = block(x, *_repeated(args, n, n_rows, cache), **_repeated(kwargs, n, n_rows, cache))
                x = out[0] if isinstance(out, tuple) else out
        return x

    def logits_of(self, at: int, x: Float[Tensor, "lane token d_model"]) -> Float[Tensor, "token d_vocab"]:
        """The logits of one lane of the group; `x` are those of all."""
        return self.logits(x)[at] if self._changes_head else self._model.unembed(x[at : at + 1])[0]

    def logits(self, x: Float[Tensor, "lane token d_model"]) -> Float[Tensor, "lane token d_vocab"]:
        """Through the final norm and the unembedding, as each lane has them."""
        if not self._changes_head:
            return self._model.unembed(x)
        with self._entered():
            return self._model.unembed(x)


def _acted(op: TransformAt, x: Tensor, forward: Any) -> Tensor:
    return transformed(op, x, forward) if op.needs_forward else act(op, x)


def _repeated(value: Any, n: int, n_rows: int, cache: Any) -> Any:
    """A block's argument for n lanes: tensors with a row a sequence are repeated, those that broadcast stay."""
    if value is _CACHE:
        return cache
    if isinstance(value, Tensor):
        return value.repeat(n, *(1 for _ in value.shape[1:])) if value.ndim > 1 and value.shape[0] == n_rows > 1 else value
    if isinstance(value, tuple):
        return tuple(_repeated(item, n, n_rows, cache) for item in value)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _repeated(item, n, n_rows, cache) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


# ── what is kept between evaluations ────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class _Kept:
    """The passes over one chunk of rows, and the unedited model's own scores of it."""

    passes: tuple[_Pass, ...]
    base: Tensor
    more: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def n_bytes(self) -> int:
        return sum(done.n_bytes for done in self.passes) + sum(t.untyped_storage().nbytes() for t in (self.base, *self.more.values()))


class _Store:
    """Kept chunks of one model, the least recently used dropped first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()

    def get(self, key: tuple[Any, ...], forks: set[int]) -> _Kept | None:
        with self._lock:
            found = self._chunks.get(key)
            if found is None or any(not forks <= done.entering.keys() for done in found.passes):
                return None
            self._chunks.move_to_end(key)
            return found

    def put(self, key: tuple[Any, ...], kept: _Kept) -> None:
        with self._lock:
            self._chunks[key] = kept
            self._chunks.move_to_end(key)
            while self._chunks and sum(item.n_bytes for item in self._chunks.values()) > KEPT_BYTES:
                self._chunks.popitem(last=False)

    def known_forks(self, key: tuple[Any, ...]) -> set[int]:
        with self._lock:
            found = self._chunks.get(key)
            return set() if found is None else set.intersection(*(set(done.entering) for done in found.passes))


_stores: WeakKeyDictionary[LanguageModel, _Store] = WeakKeyDictionary()
_stores_lock = threading.Lock()


def _store(model: LanguageModel) -> _Store:
    with _stores_lock:
        return _stores.setdefault(model, _Store())


def forget(model: LanguageModel) -> None:
    """Drop what is kept of a model's passes."""
    with _stores_lock:
        _stores.pop(model, None)


# ── continuations ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class _Chunk:
    """Some prompts with all of their answers. Answers are padded behind and lack their last token, which is only scored."""

    prompts: TokenBatch
    answers: TokenBatch
    of_prompt: Int[Tensor, "row"]
    rows: list[int]
    """Which rows of the whole batch these are."""
    targets: Int[Tensor, "row token"]
    n_tokens: Int[Tensor, "row"]

    @property
    def key(self) -> tuple[Any, ...]:
        return (
            self.prompts.ids.numpy(force=True).tobytes(),
            self.targets.numpy(force=True).tobytes(),
            self.n_tokens.numpy(force=True).tobytes(),
        )


def continuation_log_probs(
    model: LanguageModel,
    batch: TokenBatch,
    stacks: Sequence[Stack],
    *,
    round_to: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "lane row token"]:
    """Log-probability of every token behind each row's prompt, padded with 0 behind a row's last; all stacks have to pass `can_fork`.

    Args:
        round_to: as in `widened`.

    Raises: as `engine.lanes`.
    """
    tell = progress or silent()
    groups = _groups(model, stacks)
    widest = max((len(group.lanes) for group in groups), default=1)
    chunks = list(_chunks(batch, max(1, TOKENS_AT_ONCE // widest)))
    width = max(1, int((batch.lengths - batch.n_prompt).max()))
    found = torch.zeros(len(stacks), len(batch), width, dtype=torch.float64 if model.dtype == torch.float64 else torch.float32)
    for i, chunk in enumerate(chunks):
        scores = _score_chunk(model, chunk, len(stacks), groups, round_to)
        found[:, chunk.rows, : scores.shape[-1]] = scores.to(found)
        tell((i + 1) / len(chunks), "Scoring")
    return found


def _groups(model: LanguageModel, stacks: Sequence[Stack]) -> list[_Group]:
    """Lanes by the block at which they fork, those that equal the unedited model left out."""
    by_fork: dict[int, list[int]] = {}
    for lane, stack in enumerate(stacks):
        fork = fork_of(model, stack)
        if fork is not None and any(edit.operations() for edit in stack):
            by_fork.setdefault(fork, []).append(lane)
    return [_Group(model, fork, lanes, [stacks[lane] for lane in lanes]) for fork, lanes in by_fork.items()]


def _chunks(batch: TokenBatch, n_tokens: int) -> Iterator[_Chunk]:
    """Prompts of about one length with their answers, so many that no pass holds more than `n_tokens` (or one row's)."""
    ids = [row[mask].tolist() for row, mask in zip(batch.ids, batch.mask)]
    n_prompt = batch.n_prompt.tolist()
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for i, (row, n) in enumerate(zip(ids, n_prompt)):
        by_prompt.setdefault(tuple(row[:n]), []).append(i)
    taken: list[tuple[tuple[int, ...], list[int]]] = []
    longest = n_rows = 0
    for prompt in sorted(by_prompt, key=lambda prompt: (len(prompt), max(len(ids[i]) for i in by_prompt[prompt]))):
        for row in sorted(by_prompt[prompt], key=lambda i: len(ids[i])):
            behind = len(ids[row]) - len(prompt)
            n_prompts = len(taken) + (not taken or taken[-1][0] != prompt)
            if taken and max((n_rows + 1) * max(longest, behind), n_prompts * len(prompt)) > n_tokens:
                yield _chunk(taken, ids, batch)
                taken, longest, n_rows = [], 0, 0
            if not taken or taken[-1][0] != prompt:
                taken.append((prompt, []))
            taken[-1][1].append(row)
            longest, n_rows = max(longest, behind), n_rows + 1
    yield _chunk(taken, ids, batch)


def _chunk(taken: Sequence[tuple[tuple[int, ...], list[int]]], ids: list[list[int]], batch: TokenBatch) -> _Chunk:
    device, prompts = batch.ids.device, [prompt for prompt, _ in taken]
    rows = [i for _, mine in taken for i in mine]
    of_prompt = torch.tensor([at for at, (_, mine) in enumerate(taken) for _ in mine], device=device)
    ends = [ids[i][int(batch.n_prompt[i]) :] for i in rows]
    longest = max(len(end) for end in ends)
    targets = torch.tensor([end + [0] * (longest - len(end)) for end in ends], device=device)
    n_tokens = torch.tensor([len(end) for end in ends], device=device)
    whole = TokenBatch.of(prompts, None, device)
    shown = torch.arange(longest - 1, device=device)[None] < (n_tokens - 1)[:, None]
    answers = TokenBatch(
        torch.cat([whole.ids[of_prompt], targets[:, :-1]], 1), torch.cat([whole.mask[of_prompt], shown], 1), whole.n_prompt[of_prompt]
    )
    return _Chunk(whole, answers, of_prompt, rows, targets, n_tokens)


@torch.no_grad()
def _score_chunk(
    model: LanguageModel, chunk: _Chunk, n_lanes: int, groups: Sequence[_Group], round_to: torch.dtype | None
) -> Float[Tensor, "lane row token"]:
    store, key, forks = _store(model), ("continuations", str(round_to), *chunk.key), {group.fork for group in groups}
    kept = store.get(key, forks)
    if kept is None:
        kept = _pass_chunk(model, chunk, forks | store.known_forks(key), round_to)
        store.put(key, kept)
    found = kept.base[None].repeat(n_lanes, 1, 1)
    for group in groups:
        found[group.lanes] = _answered(model, chunk, kept.passes, group, round_to)
    return found


def _pass_chunk(model: LanguageModel, chunk: _Chunk, forks: set[int], round_to: torch.dtype | None) -> _Kept:
    n_before, cache = chunk.prompts.ids.shape[1], model.new_cache()
    passes = [_unedited(model, chunk.prompts, 0, cache, sorted(forks))]
    if chunk.answers.ids.shape[1] > n_before:
        passes.append(_unedited(model, chunk.answers, n_before, model.selected(cache, chunk.of_prompt), sorted(forks)))
    ends = [done.entering[len(model.blocks)][None] for done in passes]
    base = _read(chunk, ends, model.unembed, model.info.d_vocab, round_to)[0]
    # What leaves the last block is needed again only by lanes that change what comes behind it.
    for done in passes:
        if len(model.blocks) not in forks:
            del done.entering[len(model.blocks)]
    return _Kept(tuple(passes), base)


def _answered(
    model: LanguageModel, chunk: _Chunk, passes: tuple[_Pass, ...], group: _Group, round_to: torch.dtype | None
) -> Float[Tensor, "lane row token"]:
    cache, n_prompts, n = model.new_cache(), len(chunk.prompts), len(group.lanes)
    ends = [group.from_here(passes[0], cache)]
    if len(passes) > 1:
        rows = torch.cat([chunk.of_prompt + lane * n_prompts for lane in range(n)])
        ends.append(group.from_here(passes[1], model.selected(cache, rows)))
    return _read(chunk, [x.unflatten(0, (n, -1)) for x in ends], group.logits, model.info.d_vocab, round_to)


def _read(
    chunk: _Chunk, ends: Sequence[Float[Tensor, "lane _row _pos d_model"]], head: Any, d_vocab: int, round_to: torch.dtype | None
) -> Float[Tensor, "lane row token"]:
    """Log-probabilities of the targets: of each first token from its prompt's last position, of the others from the answer's."""
    n, d_model = ends[0].shape[0], ends[0].shape[-1]
    first = _picked(ends[0][:, :, -1], chunk.of_prompt, chunk.targets[:, 0], head, d_vocab, round_to)
    found = first.new_zeros(n, *chunk.targets.shape)
    found[:, :, 0] = first
    if len(ends) > 1:
        later = torch.arange(chunk.targets.shape[1] - 1, device=first.device)[None] < (chunk.n_tokens - 1)[:, None]
        x = ends[1][:, later].reshape(n, -1, d_model)
        own = torch.arange(x.shape[1], device=x.device)
        found[:, :, 1:][:, later] = _picked(x, own, chunk.targets[:, 1:][later], head, d_vocab, round_to)
    return found


def _picked(
    x: Float[Tensor, "lane place d_model"], place: Int[Tensor, "score"], target: Int[Tensor, "score"], head: Any, d_vocab: int,
    round_to: torch.dtype | None,
) -> Float[Tensor, "lane score"]:  # fmt: skip
    """log p(target) at some places, a chunk of places at a time; `place` ascends."""
    step = max(1, LOGITS_AT_ONCE // (x.shape[0] * d_vocab))
    parts: list[Tensor] = []
    for start in range(0, x.shape[1], step):
        logits = widened(head(x[:, start : start + step]), round_to)
        norm = logits.logsumexp(-1)
        mine = (place >= start) & (place < start + step)
        at = place[mine] - start
        parts.append(logits[:, at, target[mine]] - norm[:, at])
    return torch.cat(parts, 1)


def widened(logits: Float[Tensor, "*lead d_vocab"], round_to: torch.dtype | None = None) -> Float[Tensor, "*lead d_vocab"]:
    """Return logits in float32, or float64 if they are; first rounded, if asked: what a low precision ties stays tied."""
    rounded = logits if round_to is None else logits.to(round_to)
    return logits if rounded.dtype == torch.float64 else rounded.float()


# ── whole texts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
@torch.no_grad()
def divergences(
    model: LanguageModel, batch: TokenBatch, stacks: Sequence[Stack], *, progress: Progress | None = None
) -> tuple[Float[Tensor, "lane token"], Float[Tensor, "lane token"], Int[Tensor, "token"]]:
    """KL(unedited ‖ lane) and −log p of each token that a text predicts, in nats, and the row that each belongs to.

    Tokens are those of every text but its first. All stacks have to pass `can_fork`.

    Raises: as `engine.lanes`.
    """
    tell, groups = progress or silent(), _groups(model, stacks)
    step = max(1, TOKENS_AT_ONCE // (batch.ids.shape[1] * max((len(group.lanes) for group in groups), default=1)))
    kl: list[Tensor] = []
    nll: list[Tensor] = []
    owner: list[Tensor] = []
    for start in range(0, len(batch), step):
        part = batch.rows(slice(start, start + step)).trimmed()
        store, key = _store(model), ("texts", part.ids.numpy(force=True).tobytes(), part.mask.numpy(force=True).tobytes())
        wanted = {*(group.fork for group in groups), len(model.blocks)}
        kept = store.get(key, wanted)
        if kept is None:
            kept = _Kept((_unedited(model, part, 0, None, sorted(wanted | store.known_forks(key))),), torch.zeros(0))
            store.put(key, kept)
        predicted = part.mask[:, :-1] & part.mask[:, 1:]
        own: Tensor = kept.passes[0].entering[len(model.blocks)][:, :-1][predicted]
        lanes: dict[int, tuple[_Group, int, Tensor]] = {}
        for group in groups:
            x = group.from_here(kept.passes[0], None).unflatten(0, (len(group.lanes), -1))[:, :, :-1][:, predicted]
            lanes |= {lane: (group, at, x) for at, lane in enumerate(group.lanes)}
        one, two = _compared(model, own, lanes, part.ids[:, 1:][predicted], len(stacks))
        kl.append(one)
        nll.append(two)
        owner.append(start + predicted.nonzero()[:, 0])
        tell(min(1.0, (start + step) / len(batch)), "Reading neutral text")
    return torch.cat(kl, 1), torch.cat(nll, 1), torch.cat(owner)


def _compared(
    model: LanguageModel, own: Float[Tensor, "token d_model"], lanes: dict[int, tuple[_Group, int, Tensor]], targets: Tensor, n_lanes: int
) -> tuple[Float[Tensor, "lane token"], Float[Tensor, "lane token"]]:
    step = max(1, LOGITS_AT_ONCE // (2 * model.info.d_vocab))
    kl = torch.zeros(n_lanes, len(own), dtype=torch.float64)
    nll = torch.zeros(n_lanes, len(own), dtype=torch.float64)
    for start in range(0, len(own), step):
        span = slice(start, start + step)
        base = widened(model.unembed(own[None, span]))[0].log_softmax(-1)
        p, wanted = base.exp(), targets[span, None]
        nll[:, span] = -base.gather(-1, wanted)[:, 0].double().cpu()
        for lane, (group, at, x) in lanes.items():
            # A group's own unembedding wants all of its lanes; where it is the model's, one lane at a time is the same.
            log_p = widened(group.logits_of(at, x[:, span])).log_softmax(-1)
            kl[lane, span] = (p * (base - log_p)).sum(-1).double().cpu()
            nll[lane, span] = -log_p.gather(-1, wanted)[:, 0].double().cpu()
    return kl, nll


def runs_apart(model: LanguageModel) -> bool:
    """Whether this model's forward can be taken apart here: it has blocks, and nobody around this call edits it."""
    return bool(model.blocks) and is_quiet()


__all__ = ["can_fork", "continuation_log_probs", "divergences", "forget", "fork_of", "runs_apart", "widened"]
