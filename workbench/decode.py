"""Generate tokens: streaming, with a KV cache, several lanes side by side in one batch.

Lane-major rows: with n lanes and r prompts, row `lane · r + prompt` of the batch continues `prompt` under stack `lane`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.edits.engine import planned
from workbench.edits.prompting import Prompting
from workbench.errors import BadPrompt
from workbench.models.base import LanguageModel
from workbench.models.chat import thinking_opened
from workbench.models.generation import GenerationDefaults
from workbench.models.thinking import Answer, thinking_marks, told_apart
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.sampling import Sampling
from workbench.shapes import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class TokenStep:
    """One more token in every row that is still running.

    `log_probs` are natural logarithms under the lane's own distribution, before temperature and filters.
    """

    index: int
    ids: Int[Tensor, "lane prompt"]
    log_probs: Float[Tensor, "lane prompt"]
    running: Bool[Tensor, "lane prompt"]
    """Rows to which this token belongs; the others had ended before."""


@dataclass(frozen=True)
class Generated:
    """One continuation. `ended` is end (end-of-text token), stop (a stop string), length, or context (the context is full)."""

    lane: int
    prompt: Prompt
    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    ended: str
    said: Answer = field(default_factory=lambda: Answer("", ""))
    """The text with its thinking part told apart."""

    @property
    def answer_ids(self) -> tuple[int, ...]:
        """The tokens of the answer, without what was thought before it."""
        return self.ids[self.said.start :]


def decode(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    stacks: Sequence[Sequence[Edit]] = ((),),
    sampling: Sampling | None = None,
    *,
    said: Sequence[Prompting | None] = (),
    forced: Sequence[Sequence[int]] = (),
    frozen: Sequence[int] = (),
    progress: Progress | None = None,
) -> Generator[TokenStep]:
    """Generate token by token. No context is held between tokens, so the caller may run anything in between, or stop listening.

    Args:
        said: what each lane says before every prompt; nothing if empty.
        forced: token ids with which every answer to a prompt begins, whatever a lane would have said; they count among the new tokens and
            take their draws, so what a lane said once and is forced to say again goes on as it did.
        frozen: lanes, by number, that keep the attention patterns which the untouched model has on their texts: it runs beside each.

    Raises:
        BadPrompt: a prompt is empty or fills the context, or ids are forced that do not fit. Cancelled: between two tokens. Others: as
            `engine.lanes`.
    """
    n, begun = len(stacks), _begun(model, prompts, forced)
    told = [*(said or [None] * n)]
    asked = _asked(prompts, [*told, *(told[lane] for lane in frozen)], n + len(frozen))
    plan = planned(model, [*stacks, *([()] * len(frozen))], {lane: n + k for k, lane in enumerate(frozen)})
    return _steps(model, asked, n, sampling or Sampling(), begun, progress or silent(), plan, frozen)


def _begun(model: LanguageModel, prompts: Sequence[Prompt], forced: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
    """The ids with which each prompt's answers begin."""
    if forced and len(forced) != len(prompts):
        raise BadPrompt(f"Got {len(prompts)} prompts and the beginnings of {len(forced)}.", "Give one list of token ids a prompt.")
    wrong = next((token for ids in forced for token in ids if not 0 <= token < model.info.d_vocab), None)
    if wrong is not None:
        raise BadPrompt(f"The token {wrong} is forced; the model has {model.info.d_vocab} tokens.", "Take ids of this model's tokenizer.")
    return forced or [()] * len(prompts)


def _asked(prompts: Sequence[Prompt], said: Sequence[Prompting | None], n_lanes: int) -> list[Prompt]:
    """The prompts of every lane, lane by lane."""
    return [one.on(prompt) if one else prompt for one in said or [None] * n_lanes for prompt in prompts]


def _steps(
    model: LanguageModel,
    asked: Sequence[Prompt],
    n_lanes: int,
    how: Sampling,
    begun: Sequence[Sequence[int]],
    tell: Progress,
    entered: Callable[[], AbstractContextManager[None]],
    followed: Sequence[int] = (),
) -> Generator[TokenStep]:
    """Behind the `n_lanes` stand lanes that say what those in `followed` say, and are not told."""
    batch, shape = model.tokens(list(asked)), (n_lanes + len(followed), len(begun))
    choose = _Chooser(how, model.generation, shape[0], begun, model.device)
    ends = _Ends(model.tokenizer, model.generation.end_ids, how, len(batch), model.device)
    cache, n_before = model.new_cache(), 0
    for index in range(how.max_new_tokens):
        if batch.ids.shape[1] > model.info.n_ctx:
            return
        tell(index / how.max_new_tokens, "Generating")
        with torch.no_grad(), entered():
            logits, cache = model.step(batch, cache, n_before)
        n_before = batch.ids.shape[1]
        picked, log_probs = choose(logits, batch)
        for k, lane in enumerate(followed):
            picked.view(shape)[n_lanes + k] = picked.view(shape)[lane]
        running = ends.running.clone()
        batch = batch.append(picked)
        ends.add(picked)
        yield TokenStep(index, *(x.view(shape)[:n_lanes] for x in (picked, log_probs, running)))
        if not ends.running.any():
            return


def generate(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    stacks: Sequence[Sequence[Edit]] = ((),),
    sampling: Sampling | None = None,
    *,
    said: Sequence[Prompting | None] = (),
    forced: Sequence[Sequence[int]] = (),
    progress: Progress | None = None,
) -> tuple[tuple[Generated, ...], ...]:
    """Generate to the end; return one tuple of continuations a lane. Arguments and errors: `decode`."""
    how, begun = sampling or Sampling(), _begun(model, prompts, forced)
    # Nobody runs between these tokens, so the context may be held over all of them: entering it costs as much as an edit does.
    with planned(model, stacks)():
        steps = list(_steps(model, _asked(prompts, said, len(stacks)), len(stacks), how, begun, progress or silent(), nullcontext))
    return collected(model, prompts, len(stacks), steps, how)


def collected(
    model: LanguageModel, prompts: Sequence[Prompt], n_lanes: int, steps: Sequence[TokenStep], sampling: Sampling
) -> tuple[tuple[Generated, ...], ...]:
    """Put steps together into continuations; also of a decoding that still runs."""

    # As lists at once: asking tensors for one number each would cost more than the tokens of another lane.
    all_ids, all_log_probs = [step.ids.tolist() for step in steps], [step.log_probs.tolist() for step in steps]
    all_running = [step.running.tolist() for step in steps]
    distinct = {token for step in all_ids for lane in step for token in lane}
    words = {token: str(model.tokenizer.decode([token])) for token in distinct}
    ends, marks = model.generation.end_ids, thinking_marks(model.tokenizer)
    opened = [thinking_opened(model.tokenizer, prompt) if marks else None for prompt in prompts]

    def one(lane: int, row: int) -> Generated:
        mine = [i for i, running in enumerate(all_running) if running[lane][row]]
        ids = tuple(all_ids[i][lane][row] for i in mine)
        log_probs = tuple(all_log_probs[i][lane][row] for i in mine)
        tokens = tuple(words[token] for token in ids)
        text = str(model.tokenizer.decode(ids, skip_special_tokens=True))
        said = told_apart(model.tokenizer, marks, ids, opened[row]) if marks else Answer("", text)
        ended = "length" if len(ids) >= sampling.max_new_tokens else "context"
        if ids and ids[-1] in ends:
            ended = "end"
        if any(stop in text for stop in sampling.stop):
            text, said, ended = _before(text, sampling.stop), replace(said, answer=_before(said.answer, sampling.stop)), "stop"
        return Generated(lane, prompts[row], text, tokens, ids, log_probs, ended, said)

    return tuple(tuple(one(lane, row) for row in range(len(prompts))) for lane in range(n_lanes))


def _before(text: str, stops: Sequence[str]) -> str:
    return text[: min([text.find(stop) for stop in stops if stop in text], default=len(text))]


def processed(
    logits: Float[Tensor, "batch d_vocab"], batch: TokenBatch, how: Sampling, own: GenerationDefaults, *, is_first: bool
) -> Float[Tensor, "batch d_vocab"]:
    """The scores that tokens are drawn by, in the order of transformers: repetition penalty, tokens never said, temperature, top k, top p.

    A token that cannot be drawn has the score −∞. Penalty (CTRL, arXiv 1909.05858): of tokens that are there already, positive logits are
    divided and negative ones multiplied. At temperature 0 nothing is scaled or cut: the likeliest token is the same.
    """
    scores = logits
    if how.repetition_penalty != 1.0:
        punished = torch.where(scores > 0, scores / how.repetition_penalty, scores * how.repetition_penalty)
        scores = torch.where(_seen(batch, scores.shape[-1]), punished, scores)
    never = (*own.suppressed, *(own.suppressed_first if is_first else ()))
    if never:
        scores = scores.index_fill(-1, torch.tensor(never, device=scores.device), -torch.inf)
    if how.temperature == 0:
        return scores
    scores = scores / how.temperature
    if how.top_k is not None and how.top_k < scores.shape[-1]:
        scores = scores.masked_fill(scores < scores.topk(how.top_k, -1).values[:, -1:], -torch.inf)
    if how.top_p < 1.0:
        ordered, index = scores.sort(-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        dropped = torch.zeros_like(scores, dtype=torch.bool).scatter(1, index, before >= how.top_p)
        scores = scores.masked_fill(dropped, -torch.inf)
    return scores


class _Chooser:
    """Turn last logits into tokens and their log-probabilities; the first tokens of a row may be given."""

    def __init__(self, how: Sampling, own: GenerationDefaults, n_lanes: int, begun: Sequence[Sequence[int]], device: torch.device) -> None:
        self._how, self._own, self._device, self._index = how, own, device, 0
        self._begun, self._longest, n_prompts = [*begun] * n_lanes, max(map(len, begun)), len(begun)
        seeds = [how.seed * 1_000_003 + (0 if how.same_seed else lane * 7_919) + row for lane in range(n_lanes) for row in range(n_prompts)]
        self._draws = [torch.Generator().manual_seed(seed) for seed in seeds] if how.temperature > 0 else []

    def __call__(self, logits: Tensor, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        raw = logits.float()
        scores = processed(raw, batch, self._how, self._own, is_first=self._index == 0)
        if self._how.temperature > 0:
            scores = scores + self._noise(raw.shape[-1])
        picked = scores.max(-1).indices  # a few times as fast as argmax on a CPU
        if self._index < self._longest:
            given = [ids[self._index] if self._index < len(ids) else -1 for ids in self._begun]
            told = torch.tensor(given, device=picked.device)
            picked = torch.where(told >= 0, told, picked)
        self._index += 1
        return picked, raw.log_softmax(-1).gather(-1, picked[:, None])[:, 0]

    def _noise(self, d_vocab: int) -> Tensor:
        uniform = torch.stack([torch.rand(d_vocab, generator=draw) for draw in self._draws]).clamp(1e-20, 1 - 1e-7)
        return -(-uniform.log()).log().to(self._device)


def _seen(batch: TokenBatch, d_vocab: int) -> Bool[Tensor, "batch d_vocab"]:
    """Which tokens each row holds; padding does not count."""
    counts = torch.zeros(len(batch), d_vocab, dtype=torch.long, device=batch.ids.device)
    return counts.scatter_add(1, batch.ids, batch.mask.long()) > 0


class _Ends:
    """Which rows still run: not past the end-of-text token, nor past a stop string."""

    def __init__(self, tokenizer: object, end_ids: tuple[int, ...], how: Sampling, n_rows: int, device: torch.device) -> None:
        self._tokenizer, self._stop = tokenizer, how.stop
        self._ids: list[list[int]] = [[] for _ in range(n_rows)]
        self._ends = torch.tensor(end_ids, dtype=torch.long, device=device)
        self.running = torch.ones(n_rows, dtype=torch.bool, device=device)

    def add(self, picked: Int[Tensor, " batch"]) -> None:
        if len(self._ends):
            self.running &= ~torch.isin(picked, self._ends)
        if not self._stop:
            return
        for row, token in enumerate(picked.tolist()):
            self._ids[row].append(token)
            text = self._tokenizer.decode(self._ids[row])  # pyright: ignore[reportAttributeAccessIssue]
            if any(stop in text for stop in self._stop):
                self.running[row] = False
