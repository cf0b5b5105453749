"""Log-probabilities of continuations and divergences on whole texts, of lanes that depart from one unedited pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from workbench import memo
from workbench.edits.base import Edit
from workbench.forks.bundles import Bundle, bundles, of_like_length, side_by_side
from workbench.forks.kept import Kept, store_of
from workbench.forks.passes import Group, Pass, lane_groups, unedited_pass
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Bool, Float, Int, Tensor

Head = Callable[[Tensor], Tensor]
LOGITS_AT_ONCE = 16_000_000


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
    parts = list(bundles(batch))
    groups = lane_groups(model, stacks, min(bundle.lanes_at_once for bundle in parts))
    width = max(1, int((batch.lengths - batch.n_prompt).max()))
    found = torch.zeros(len(stacks), len(batch), width, dtype=_wide(model.dtype))
    tell = _counted(progress or silent(), sum(1 + len(bundle.ends) for bundle in parts) * (1 + len(groups)))
    for bundle in parts:
        found[:, bundle.rows, : bundle.longest] = _score_bundle(model, bundle, len(stacks), groups, round_to, tell).to(found)
    return found


def _counted(progress: Progress, n: int) -> Callable[[int], None]:
    """Tell that some more of `n` passes are done."""
    done = 0

    def tell(more: int = 1) -> None:
        nonlocal done
        done += more
        progress(done / n, "Scoring")

    return tell


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _forks(model: LanguageModel, groups: Sequence[Group], known: set[int]) -> set[int]:
    """Where lanes fork: these, those of earlier evaluations, and those of candidates to come."""
    coming = {site.layer + 1 for site in memo.wanted_too() if site.kind == "resid_post" and site.layer is not None}
    return {*(group.fork for group in groups), *known, *coming}


@torch.no_grad()
def _score_bundle(
    model: LanguageModel, bundle: Bundle, n_lanes: int, groups: Sequence[Group], round_to: torch.dtype | None, tell: Callable[[int], None]
) -> Float[Tensor, "lane row token"]:
    store, key = store_of(model), ("continuations", str(round_to), *bundle.key)
    kept = store.get(key, {group.fork for group in groups})
    if kept is None:
        kept = _pass_bundle(model, bundle, _forks(model, groups, store.known_forks(key)), round_to, tell)
        store.put(key, kept)
    else:
        tell(1 + len(bundle.ends))
    found = kept.base[None].repeat(n_lanes, 1, 1)
    for group in groups:
        found[group.lanes] = _answered(model, bundle, kept.passes, group, round_to, tell)
    return found


def _pass_bundle(model: LanguageModel, bundle: Bundle, forks: set[int], round_to: torch.dtype | None, tell: Callable[[int], None]) -> Kept:
    n_before, cache, last = bundle.prompts.ids.shape[1], model.new_cache(), len(model.blocks)
    passes: list[Pass] = []

    def run() -> Iterator[Float[Tensor, "one _row _pos d_model"]]:
        for end in (None, *(end for end in bundle.ends if end.is_fed)):
            if end is None:
                done = unedited_pass(model, bundle.prompts, 0, cache, sorted(forks))
            else:
                done = unedited_pass(model, end.batch, n_before, model.selected(cache, end.of_prompt), sorted(forks))
            tell(1)
            passes.append(done)
            # What leaves the last block is needed again only by lanes that change what comes behind it.
            yield (done.entering[last] if last in forks else done.entering.pop(last))[None]

    base = _read(bundle, run(), model.unembed, model.info.d_vocab, round_to)[0]
    tell(1 + len(bundle.ends) - len(passes))
    return Kept(tuple(passes), base)


def _answered(
    model: LanguageModel, bundle: Bundle, passes: tuple[Pass, ...], group: Group, round_to: torch.dtype | None, tell: Callable[[int], None]
) -> Float[Tensor, "lane row token"]:
    cache, n_prompts, n = model.new_cache(), len(bundle.prompts), len(group.lanes)

    def run() -> Iterator[Float[Tensor, "lane _row _pos d_model"]]:
        first = group.from_here(passes[0], cache).unflatten(0, (n, -1))
        tell(1)  # before it is handed on: nobody comes back behind the last one
        yield first
        for done, end in zip(passes[1:], (end for end in bundle.ends if end.is_fed)):
            rows = torch.cat([end.of_prompt + lane * n_prompts for lane in range(n)])
            read = group.from_here(done, model.selected(cache, rows)).unflatten(0, (n, -1))
            tell(1)
            yield read

    found = _read(bundle, run(), group.logits, model.info.d_vocab, round_to)
    tell(1 + len(bundle.ends) - len(passes))
    return found


def _read(
    bundle: Bundle, passes: Iterator[Float[Tensor, "lane _row _pos d_model"]], head: Head, d_vocab: int, round_to: torch.dtype | None
) -> Float[Tensor, "lane row token"]:
    """Log-probabilities of the targets: of each first token from its prompt's last position, of the others from the answer's."""
    x = next(passes)[:, :, -1]
    firsts = torch.cat([end.targets[:, 0] for end in bundle.ends])
    found = torch.zeros(len(x), len(firsts), bundle.longest, dtype=_wide(x.dtype), device=x.device)
    found[:, :, 0] = _picked(x, torch.cat([end.of_prompt for end in bundle.ends]), firsts, head, d_vocab, round_to)
    start = 0
    for end in bundle.ends:
        if end.is_fed:
            n_later = end.targets.shape[1] - 1
            later = torch.arange(n_later, device=x.device)[None] < (end.n_tokens - 1)[:, None]
            x = next(passes)[:, later]
            scores = _picked(x, torch.arange(x.shape[1], device=x.device), end.targets[:, 1:][later], head, d_vocab, round_to)
            found[:, start : start + len(end.rows), 1 : 1 + n_later][:, later] = scores
        start += len(end.rows)
    return found


def _picked(
    x: Float[Tensor, "lane place d_model"], place: Int[Tensor, " score"], target: Int[Tensor, " score"], head: Head, d_vocab: int,
    round_to: torch.dtype | None,
) -> Float[Tensor, "lane score"]:  # fmt: skip
    """log p(target) at some places, a bundle of places at a time."""
    step = max(1, LOGITS_AT_ONCE // (x.shape[0] * d_vocab))
    found = torch.zeros(len(x), len(target), dtype=_wide(x.dtype), device=x.device)
    for start in range(0, x.shape[1], step):
        logits = widened(head(x[:, start : start + step]), round_to)
        mine = (place >= start) & (place < start + step)
        at = place[mine] - start
        found[:, mine] = logits[:, at, target[mine]] - logits.logsumexp(-1)[:, at]
    return found


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
    tell, parts = progress or silent(), list(of_like_length(batch.lengths))
    groups = lane_groups(model, stacks, min(side_by_side(len(rows) * int(batch.lengths[rows[-1]])) for rows in parts))
    where = predicting(batch) if counted is None else counted & batch.mask
    store = store_of(model)
    kl: list[Tensor] = []
    nll: list[Tensor] = []
    owner: list[Tensor] = []
    for i, rows in enumerate(parts):
        part = batch.rows(rows).trimmed()
        at = where[rows][:, -part.ids.shape[1] :]
        key = ("texts", part.ids.numpy(force=True).tobytes(), part.mask.numpy(force=True).tobytes())
        wanted = {*(group.fork for group in groups), len(model.blocks)}
        kept = store.get(key, wanted)
        if kept is None:
            forks = _forks(model, groups, wanted | store.known_forks(key))
            kept = Kept((unedited_pass(model, part, 0, None, sorted(forks)),), torch.zeros(0))
            store.put(key, kept)
        own: Tensor = kept.passes[0].entering[len(model.blocks)][at]
        lanes: dict[int, tuple[Group, int, Tensor]] = {}
        for group in groups:
            x = group.from_here(kept.passes[0], None).unflatten(0, (len(group.lanes), -1))[:, at]
            lanes |= {lane: (group, place, x) for place, lane in enumerate(group.lanes)}
        one, two = _compared(model, own, lanes, part.ids.roll(-1, 1)[at], len(stacks))
        kl.append(one)
        nll.append(torch.where(predicting(part)[at].cpu(), two, 0.0))
        owner.append(rows[at.nonzero()[:, 0]].cpu())
        tell((i + 1) / len(parts), "Reading neutral text")
    whose = torch.cat(owner)
    order = whose.argsort(stable=True)  # rows ran by their length
    return torch.cat(kl, 1)[:, order], torch.cat(nll, 1)[:, order], whose[order]


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
