"""Log-probabilities of continuations and divergences on whole texts, of lanes that depart from one unedited pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.edits.base import Edit
from workbench.forks.kept import Kept, store_of
from workbench.forks.passes import Group, Pass, lane_groups, unedited_pass
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Bool, Float, Int, Tensor

TOKENS_AT_ONCE = 1024
"""Tokens × lanes that run together."""
LOGITS_AT_ONCE = 16_000_000


@dataclass(frozen=True)
class _Chunk:
    """Some prompts with all of their answers. Answers are padded behind and lack their last token, which is only scored."""

    prompts: TokenBatch
    answers: TokenBatch
    of_prompt: Int[Tensor, " row"]
    rows: list[int]
    """Which rows of the whole batch these are."""
    targets: Int[Tensor, "row token"]
    n_tokens: Int[Tensor, " row"]

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
    stacks: Sequence[Sequence[Edit]],
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
    groups = lane_groups(model, stacks)
    widest = max((len(group.lanes) for group in groups), default=1)
    chunks = list(_chunks(batch, max(1, TOKENS_AT_ONCE // widest)))
    width = max(1, int((batch.lengths - batch.n_prompt).max()))
    found = torch.zeros(len(stacks), len(batch), width, dtype=torch.float64 if model.dtype == torch.float64 else torch.float32)
    for i, chunk in enumerate(chunks):
        scores = _score_chunk(model, chunk, len(stacks), groups, round_to)
        found[:, chunk.rows, : scores.shape[-1]] = scores.to(found)
        tell((i + 1) / len(chunks), "Scoring")
    return found


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
    model: LanguageModel, chunk: _Chunk, n_lanes: int, groups: Sequence[Group], round_to: torch.dtype | None
) -> Float[Tensor, "lane row token"]:
    store, key, forks = store_of(model), ("continuations", str(round_to), *chunk.key), {group.fork for group in groups}
    kept = store.get(key, forks)
    if kept is None:
        kept = _pass_chunk(model, chunk, forks | store.known_forks(key), round_to)
        store.put(key, kept)
    found = kept.base[None].repeat(n_lanes, 1, 1)
    for group in groups:
        found[group.lanes] = _answered(model, chunk, kept.passes, group, round_to)
    return found


def _pass_chunk(model: LanguageModel, chunk: _Chunk, forks: set[int], round_to: torch.dtype | None) -> Kept:
    n_before, cache = chunk.prompts.ids.shape[1], model.new_cache()
    passes = [unedited_pass(model, chunk.prompts, 0, cache, sorted(forks))]
    if chunk.answers.ids.shape[1] > n_before:
        passes.append(unedited_pass(model, chunk.answers, n_before, model.selected(cache, chunk.of_prompt), sorted(forks)))
    ends = [done.entering[len(model.blocks)][None] for done in passes]
    base = _read(chunk, ends, model.unembed, model.info.d_vocab, round_to)[0]
    # What leaves the last block is needed again only by lanes that change what comes behind it.
    for done in passes:
        if len(model.blocks) not in forks:
            del done.entering[len(model.blocks)]
    return Kept(tuple(passes), base)


def _answered(
    model: LanguageModel, chunk: _Chunk, passes: tuple[Pass, ...], group: Group, round_to: torch.dtype | None
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
    x: Float[Tensor, "lane place d_model"], place: Int[Tensor, " score"], target: Int[Tensor, " score"], head: Any, d_vocab: int,
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


@torch.no_grad()
def divergences(
    model: LanguageModel,
    batch: TokenBatch,
    stacks: Sequence[Sequence[Edit]],
    counted: Bool[Tensor, "row pos"] | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[Float[Tensor, "lane token"], Float[Tensor, "lane token"], Int[Tensor, " token"]]:
    """KL(unedited ‖ lane) and −log p of the next token at the counted tokens, in nats, and the row that each belongs to.

    Args:
        counted: where the distribution of the next token is compared; all tokens of a text but its last if None. Behind a text's last
            token there is no next one, and −log p is 0.

    All stacks have to pass `can_fork`.

    Raises: as `engine.lanes`.
    """
    tell, groups = progress or silent(), lane_groups(model, stacks)
    step = max(1, TOKENS_AT_ONCE // (batch.ids.shape[1] * max((len(group.lanes) for group in groups), default=1)))
    where = predicting(batch) if counted is None else counted & batch.mask
    kl: list[Tensor] = []
    nll: list[Tensor] = []
    owner: list[Tensor] = []
    for start in range(0, len(batch), step):
        part = batch.rows(slice(start, start + step)).trimmed()
        at = where[start : start + step, -part.ids.shape[1] :]
        store, key = store_of(model), ("texts", part.ids.numpy(force=True).tobytes(), part.mask.numpy(force=True).tobytes())
        wanted = {*(group.fork for group in groups), len(model.blocks)}
        kept = store.get(key, wanted)
        if kept is None:
            kept = Kept((unedited_pass(model, part, 0, None, sorted(wanted | store.known_forks(key))),), torch.zeros(0))
            store.put(key, kept)
        own: Tensor = kept.passes[0].entering[len(model.blocks)][at]
        lanes: dict[int, tuple[Group, int, Tensor]] = {}
        for group in groups:
            x = group.from_here(kept.passes[0], None).unflatten(0, (len(group.lanes), -1))[:, at]
            lanes |= {lane: (group, place, x) for place, lane in enumerate(group.lanes)}
        one, two = _compared(model, own, lanes, part.ids.roll(-1, 1)[at], len(stacks))
        kl.append(one)
        nll.append(torch.where(predicting(part)[at].cpu(), two, 0.0))
        owner.append(start + at.nonzero()[:, 0])
        tell(min(1.0, (start + step) / len(batch)), "Reading neutral text")
    return torch.cat(kl, 1), torch.cat(nll, 1), torch.cat(owner)


def predicting(batch: TokenBatch) -> Bool[Tensor, "row pos"]:
    """The tokens that another one of the same text follows; texts are padded on the left."""
    return batch.mask & (torch.arange(batch.ids.shape[1], device=batch.mask.device) < batch.ids.shape[1] - 1)


def _compared(
    model: LanguageModel, own: Float[Tensor, "token d_model"], lanes: dict[int, tuple[Group, int, Tensor]], targets: Tensor, n_lanes: int
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
