"""A long watch: lanes that write on until they end, fill the context, or fall into a loop, with entropy, KL and repetition token by token.

Beside each lane runs the untouched model on what the lane has written, so KL says at every token how far the lane would go another way. A
loop is told at its first period: once the last tokens are those before them over again. Ref: docs/methods/shared.md §9.10.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.decode import processed
from workbench.edits.engine import planned
from workbench.edits.labels import LaneLabel, edits_of, lane_labels
from workbench.edits.lane import LanesLike
from workbench.evaluate.metrics import with_base
from workbench.evaluate.side_effects import repetition_4
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.progress import Progress, silent
from workbench.sampling import Sampling
from workbench.shapes import Float, Int, Tensor

MOST_TOKENS = 1000
LEAST_REPEATED = 12
"""Tokens that have to come over again before a short period counts: a refrain of two words is no loop."""
_TELL_EVERY_S = 0.5
_WINDOW = 64
"""Tokens over which the running repetition is counted."""

Ended = Literal["loop", "end", "context", "length"]


@dataclass(frozen=True)
class Loop:
    """Where a text began to go round: the first token of the first period, tokens a period, and the token at which it was told."""

    start: int
    period: int
    told_at: int


@final
@dataclass
class LoopFinder:
    """Tells a loop as tokens come; each token costs one comparison a period."""

    longest: int = 256
    _ids: list[int] = field(default_factory=list)
    _run: Int[np.ndarray, " period"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def add(self, token: int) -> Loop | None:
        """Take one more token; the loop that it completes, the shortest if several."""
        if not len(self._run):
            self._run = np.zeros(self.longest, dtype=np.int64)
        self._ids.append(token)
        before = np.full(self.longest, -1)
        last = self._ids[-2 : -self.longest - 2 : -1]
        before[: len(last)] = last
        self._run = np.where(before == token, self._run + 1, 0)
        periods = np.arange(1, self.longest + 1)
        found = np.flatnonzero(self._run >= np.maximum(periods, LEAST_REPEATED))
        if not len(found):
            return None
        period, n = int(periods[found[0]]), len(self._ids)
        return Loop(n - int(self._run[found[0]]) - period, period, n - 1)


@dataclass(frozen=True)
class WatchedText:
    """What a lane wrote, with the entropy of its next-token distribution, KL(untouched ‖ lane) on its own text, both in nats, and the share
    of repeated 4-grams among the last 64 tokens, at every token.

    `parted` is the first token at which it left the untouched model's text, None if it never did; `tokens[parted]` is what it wrote there,
    `instead` what the untouched model did. `beside` is how many tokens of that text there are, None for the untouched model itself.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    entropy: Float[np.ndarray, " token"]
    kl: Float[np.ndarray, " token"]
    repetition: Float[np.ndarray, " token"]
    ended: Ended
    loop: Loop | None
    parted: int | None = None
    instead: str = ""
    beside: int | None = None

    @property
    def kl_since(self) -> float:
        """Mean KL a token since the lane parted, in nats; 0 if it never did."""
        return 0.0 if self.parted is None or self.parted >= len(self.kl) else float(self.kl[self.parted :].mean())

    @property
    def sentence(self) -> str:
        """What a person can repeat, in Markdown."""
        told = {"end": "It ends by itself", "context": "It fills the context", "length": "It goes on"}.get(self.ended, "")
        if self.loop is not None:
            round_of = f"{self.loop.period} token{'s' * (self.loop.period > 1)} a round"
            told = f"**It goes round** from token {self.loop.start} on, {round_of}: seen"
        text = f"{told} after {len(self.ids)} tokens."
        if self.beside is None:
            return text
        if self.parted is None:
            told = f", of which there are {self.beside} tokens" if self.beside < len(self.ids) else ""
            return f"{text} It never leaves the untouched model's text{told}."
        mine = repr(self.tokens[self.parted]) if self.parted < len(self.tokens) else "its end"
        return f"{text} It parts from the untouched model at token {self.parted}: {mine} for {self.instead}."


@dataclass(frozen=True)
class Watch:
    """Lanes on one prompt; lane 0 is the untouched model."""

    model: str
    prompt: Prompt
    lanes: tuple[LaneLabel, ...]
    texts: tuple[WatchedText, ...]

    def table(self) -> list[dict[str, Any]]:
        """One table row a lane."""
        return [
            {
                "lane": lane.label,
                "tokens": len(one.ids),
                "ended": one.ended,
                "loop from": one.loop and one.loop.start,
                "period": one.loop and one.loop.period,
                "parted at": one.parted,
                "mean entropy": round(float(one.entropy.mean()), 3) if len(one.entropy) else None,
                "mean KL since": round(one.kl_since, 4),
                "text": one.text,
            }
            for lane, one in zip(self.lanes, self.texts)
        ]


@dataclass
class _Lane:
    """A lane that is being written."""

    ids: list[int] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    repetition: list[float] = field(default_factory=list)
    finder: LoopFinder = field(default_factory=LoopFinder)
    loop: Loop | None = None
    ended: Ended | None = None


def watch(
    model: LanguageModel,
    prompt: Prompt,
    lanes: LanesLike,
    max_new_tokens: int = MOST_TOKENS,
    sampling: Sampling | None = None,
    *,
    progress: Progress | None = None,
) -> Watch:
    """Let the untouched model and each lane write on from a prompt until each ends, loops or is full.

    While it runs, `progress` is told `watch`: the texts so far with their curves. Lanes draw with the same random numbers: they part only
    where their distributions do. Stop strings are passed over: a watch is for what comes behind a first answer.

    Raises: as `engine.lanes` and `LanguageModel.tokens`.
    """
    whole, how, tell = with_base(lanes), sampling or Sampling(), progress or silent()
    asked = [lane.prompting.on(prompt) if lane.prompting else prompt for lane in whole]
    n, labels = len(whole), lane_labels(whole)
    # A lane's twin is the untouched model on the untouched prompt, reading what the lane writes.
    batch = model.tokens([*asked, *([prompt] * n)])
    entered = planned(model, [*(edits_of(lane) for lane in whole), *([()] * n)])
    mine, cache, n_before, told = [_Lane() for _ in whole], model.new_cache(), 0, 0.0
    draw, ends = torch.Generator().manual_seed(how.seed), set(model.generation.end_ids)
    for index in range(max_new_tokens):
        if batch.ids.shape[1] > model.info.n_ctx:
            break
        with torch.no_grad(), entered():
            logits, cache = model.step(batch, cache, n_before)
        n_before, raw = batch.ids.shape[1], logits if logits.dtype == torch.float64 else logits.float()
        scores = processed(raw[:n], batch.rows(slice(0, n)), how, model.generation, is_first=index == 0)
        if how.temperature > 0:
            uniform = torch.rand(raw.shape[-1], generator=draw).clamp(1e-20, 1 - 1e-7)
            scores = scores - (-uniform.log()).log().to(scores)
        picked = scores.argmax(-1)
        _note(mine, raw, picked.tolist(), ends)
        batch = batch.append(torch.cat([picked, picked]))
        if time.monotonic() - told > _TELL_EVERY_S:
            told = time.monotonic()
            tell(index / max_new_tokens, f"token {index + 1:,}", watch=[_so_far(model, lane.label, one) for lane, one in zip(labels, mine)])
        if all(one.ended for one in mine):
            break
    full = batch.ids.shape[1] > model.info.n_ctx
    otherwise: Ended = "context" if full else "length"
    texts = [_text(model, one, otherwise, mine[0].ids if at else None) for at, one in enumerate(mine)]
    return Watch(model.info.name, prompt, labels, tuple(texts))


def _note(mine: list[_Lane], raw: Float[Tensor, "row d_vocab"], picked: list[int], ends: set[int]) -> None:
    log_p = raw.log_softmax(-1)
    own, base = log_p.chunk(2)
    entropy = -(own.exp() * own).sum(-1)
    kl = (base.exp() * (base - own)).sum(-1).clamp_min(0)
    for one, token, h, moved in zip(mine, picked, entropy.tolist(), kl.tolist()):
        if one.ended is not None:
            continue
        one.ids.append(token)
        one.entropy.append(h)
        one.kl.append(moved)
        one.repetition.append(repetition_4(one.ids[-_WINDOW:]))
        one.loop = one.finder.add(token)
        one.ended = "loop" if one.loop is not None else "end" if token in ends else None


def _so_far(model: LanguageModel, lane: str, one: _Lane) -> dict[str, Any]:
    text, curves = str(model.tokenizer.decode(one.ids, skip_special_tokens=True)), (one.entropy, one.kl, one.repetition)
    entropy, kl, repetition = map(list, curves)
    return {"lane": lane, "text": text, "entropy": entropy, "kl": kl, "repetition": repetition, "ended": one.ended}


def _text(model: LanguageModel, one: _Lane, otherwise: Ended, base: Sequence[int] | None) -> WatchedText:
    """What a lane wrote, beside what the untouched model did; None for that itself."""
    untouched, beside = base or (), None if base is None else len(base)
    parted = next((i for i, (a, b) in enumerate(zip(one.ids, untouched)) if a != b), None)
    tokens = tuple(token_texts(model.tokenizer, one.ids))
    instead = "" if parted is None else repr(token_texts(model.tokenizer, [untouched[parted]])[0])
    entropy, kl, repetition = (np.array(x) for x in (one.entropy, one.kl, one.repetition))
    text = str(model.tokenizer.decode(one.ids, skip_special_tokens=True))
    ended = one.ended or otherwise
    return WatchedText(text, tokens, tuple(one.ids), entropy, kl, repetition, ended, one.loop, parted, instead, beside)
