"""Base against edits on prompts: texts side by side, and token by token what changed.

Each lane's own text is scored by the base and by the lane itself, so a token's KL and Δ log-probability say where the
lane departs from the base, not where two different texts differ.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from workbench.conversations import Prompt
from workbench.decode import Generated, Sampling, TokenStep, collected, decode
from workbench.edits.base import Edit
from workbench.edits.engine import lanes
from workbench.edits.labels import LaneLabel, edits_of, lane_labels
from workbench.edits.lane import LaneLike, LanesLike, lane_of
from workbench.edits.prompting import Prompting
from workbench.errors import BadLane
from workbench.evaluate.metrics import HARDLY_MOVES, Lanes, with_base
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.models.tokens import TokenBatch
from workbench.progress import Cancelled, Progress, silent
from workbench.shapes import Float, Tensor

_TELL_EVERY_S = 0.15
FROZEN = ", the base's attention"
STOPPED = "stopping"
"""How a text ended that somebody stopped."""
Top = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ComparedToken:
    """One token of a lane's text under the base and under the lane; log-probabilities and KL(base ‖ lane) in nats."""

    text: str
    id: int
    log_prob: float
    base_log_prob: float
    kl_nats: float
    top: Top
    base_top: Top
    top_ids: tuple[int, ...] = ()
    base_top_ids: tuple[int, ...] = ()

    @property
    def change(self) -> float:
        """Δ log-probability, lane minus base, in nats."""
        return self.log_prob - self.base_log_prob


@dataclass(frozen=True)
class LaneText:
    """What one lane wrote after one prompt; `ended` as in `decode.Generated`. `answer` is the text without what was thought before it."""

    text: str
    ended: str
    tokens: tuple[ComparedToken, ...]
    thinking: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Comparison:
    """Texts of all lanes for all prompts: `texts[prompt][lane]`; lane 0 is the base model."""

    model: str
    lanes: tuple[LaneLabel, ...]
    prompts: tuple[Prompt, ...]
    sampling: Sampling
    texts: tuple[tuple[LaneText, ...], ...]
    forced: tuple[tuple[int, ...], ...] = ()
    """Of each prompt, the token ids with which every lane's answer had to begin; empty where nothing was forced."""
    notes: tuple[str, ...] = ()
    """What to know of the lanes: edits that were fitted under another rendering, or whose fit said that it hardly does anything."""

    def near_identity(self) -> tuple[str, ...]:
        """In words, which edits hardly move the model on these texts."""
        found: list[str] = []
        for at, lane in enumerate(self.lanes):
            kl = [token.kl_nats for texts in self.texts for token in texts[at].tokens]
            if lane.edit_ids and kl and sum(kl) / len(kl) < HARDLY_MOVES:
                found.append(f"{lane.label} is near the identity: it hardly moves the model on these texts.")
        return tuple(found)

    def first_difference(self, prompt: int, lane: int) -> int | None:
        """Index of the first token at which a lane's text leaves the base's; None if it never does."""
        base, mine = self.texts[prompt][0].tokens, self.texts[prompt][lane].tokens
        for index, (one, other) in enumerate(zip(base, mine)):
            if one.id != other.id:
                return index
        return None if len(base) == len(mine) else min(len(base), len(mine))

    def rows(self) -> list[dict[str, str | float]]:
        """One table row a prompt and lane: the text, and mean KL a token."""
        return [
            {
                "prompt": str(prompt),
                "lane": lane.label,
                "text": text.text,
                "ended": text.ended,
                "mean_kl_nats": sum(token.kl_nats for token in text.tokens) / max(1, len(text.tokens)),
            }
            for prompt, texts in zip(self.prompts, self.texts)
            for lane, text in zip(self.lanes, texts)
        ]


def compare(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    lanes: LanesLike,
    sampling: Sampling | None = None,
    *,
    forced: Sequence[Sequence[int]] = (),
    frozen: Sequence[int] = (),
    top_k: int = 10,
    progress: Progress | None = None,
) -> Comparison:
    """Generate under the base and each stack, and compare token by token. `forced` and errors: as `decode`.

    `frozen` names lanes of those given, from 0, that keep the base's attention patterns on their own texts: what is left of an edit then is
    not by looking elsewhere. BadLane: such a lane says something before prompts, so that the base reads other tokens.

    Stopped while it generates, it hands on what was said so far (`Cancelled.best`), texts that ended by stopping, without their tokens.

    While it runs, `progress` is told `texts`: the labels of the lanes, and `texts[prompt][lane]` so far.
    """
    whole, how, tell = with_base(lanes), sampling or Sampling(), progress or silent()
    held = _frozen(whole, frozen)
    generated = _streamed(model, prompts, whole, how, forced, held, tell.part(0.0, 0.7))
    found = annotated(model, prompts, whole, generated, how, frozen=held, top_k=top_k, progress=tell.part(0.7, 1.0))
    return replace(found, forced=tuple(map(tuple, forced)))


def _frozen(whole: Lanes, frozen: Sequence[int]) -> tuple[int, ...]:
    """Which of all lanes, the base among them, keep the base's patterns."""
    held = tuple(lane + 1 for lane in dict.fromkeys(frozen))
    if held and not all(0 < lane < len(whole) and whole[lane].prompting is None for lane in held):
        hint = "Name lanes of edits alone, from 0."
        raise BadLane(f"Lanes {', '.join(str(lane - 1) for lane in held)} of {len(whole) - 1} are to keep the base's attention.", hint)
    return held


def _streamed(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    lanes: Lanes,
    how: Sampling,
    forced: Sequence[Sequence[int]],
    frozen: Sequence[int],
    tell: Progress,
) -> tuple[tuple[Generated, ...], ...]:
    """Generate, telling the texts so far a few times a second (putting them together costs as much as a token)."""
    labels, steps, told = [lane.label for lane in lane_labels(lanes)], list[TokenStep](), 0.0
    stacks, said = [edits_of(lane) for lane in lanes], [lane.prompting for lane in lanes]
    try:
        for step in decode(model, prompts, stacks, how, said=said, forced=forced, frozen=frozen, progress=silent()):
            steps.append(step)
            live: dict[str, object] = {}
            if time.monotonic() - told > _TELL_EVERY_S:
                so_far = collected(model, prompts, len(stacks), steps, how)
                live = {"texts": {"lanes": labels, "texts": list(zip(*([one.text for one in lane] for lane in so_far)))}}
                told = time.monotonic()
            tell(len(steps) / how.max_new_tokens, "Generating", **live)
    except Cancelled:
        raise Cancelled(_stopped(model, prompts, lanes, collected(model, prompts, len(stacks), steps, how), how, forced)) from None
    return collected(model, prompts, len(stacks), steps, how)


def _stopped(
    model: LanguageModel, prompts: Sequence[Prompt], lanes: Lanes, so_far: Sequence[Sequence[Generated]], how: Sampling,
    forced: Sequence[Sequence[int]],
) -> Comparison | None:  # fmt: skip
    """What had been said when somebody stopped it; no forward runs any more, so nothing is compared."""
    if not any(one.ids for lane in so_far for one in lane):
        return None
    texts = tuple(tuple(LaneText(one.text, STOPPED, (), one.said.thinking, one.said.answer) for one in row) for row in zip(*so_far))
    return Comparison(model.info.name, lane_labels(lanes), tuple(prompts), how, texts, tuple(map(tuple, forced)))


def annotated(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    lanes: Sequence[LaneLike],
    generated: Sequence[Sequence[Generated]],
    sampling: Sampling,
    *,
    frozen: Sequence[int] = (),
    top_k: int = 10,
    progress: Progress | None = None,
) -> Comparison:
    """Compare texts that are generated already, one tuple a lane as `decode.generate` gives; lane 0 has no edits. `frozen`: as `decode`.

    Raises: as `engine.lanes`.
    """
    tell, whole = progress or silent(), [lane_of(lane) for lane in lanes]
    columns: list[list[LaneText]] = []
    for at, (lane, texts) in enumerate(zip(whole, generated)):
        tell(at / len(whole), "Comparing token by token")
        said = lane.prompting
        ids, is_held = [one.ids for one in texts], at in frozen
        tokens = compared_tokens(model, prompts, ids, edits_of(lane), said=said, frozen=is_held, top_k=top_k)
        columns.append([LaneText(one.text, one.ended, mine, one.said.thinking, one.said.answer) for one, mine in zip(texts, tokens)])
    tell(1.0, "Done")
    texts = tuple(zip(*columns))
    labels = tuple(replace(one, label=f"{one.label}{FROZEN}") if i in frozen else one for i, one in enumerate(lane_labels(whole)))
    return Comparison(model.info.name, labels, tuple(prompts), sampling, texts)


def compared_tokens(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    continuations: Sequence[Sequence[int]],
    stack: Sequence[Edit],
    *,
    said: Prompting | None = None,
    frozen: bool = False,
    top_k: int = 10,
) -> tuple[tuple[ComparedToken, ...], ...]:
    """Score given continuations (token ids) under the base and under one stack, teacher-forced.

    Args:
        said: what the lane says before each prompt; the base reads the prompt alone. frozen: the lane keeps the base's patterns.

    Raises: as `engine.lanes`.
    """
    if not any(continuations):
        return tuple(() for _ in continuations)
    asked = model.tokens([*prompts, *([said.on(prompt) for prompt in prompts] if said else prompts)])
    heads = [ids[mask].tolist() for ids, mask in zip(asked.ids, asked.mask)]
    rows = [[*head, *tail] for head, tail in zip(heads, [*continuations, *continuations])]
    batch = TokenBatch.of(rows, [len(head) for head in heads], model.device)
    with torch.no_grad(), lanes(model, [(), stack], {1: 0} if frozen else {}):
        logits = model.logits(batch)
    longest = max(len(tail) for tail in continuations)
    log_p = (logits if logits.dtype == torch.float64 else logits.float())[:, -longest - 1 : -1].log_softmax(-1)
    base, lane = log_p.view(2, len(prompts), *log_p.shape[1:])
    return tuple(
        _compared(model, list(tail), base[row, longest - len(tail) :], lane[row, longest - len(tail) :], top_k)
        for row, tail in enumerate(continuations)
    )


def _compared(
    model: LanguageModel,
    ids: list[int],
    base: Float[Tensor, "token d_vocab"],
    lane: Float[Tensor, "token d_vocab"],
    top_k: int,
) -> tuple[ComparedToken, ...]:
    kl = (base.exp() * (base - lane)).sum(-1).clamp_min(0).tolist()
    at = torch.arange(len(ids))
    ours, theirs = lane[at, ids].tolist(), base[at, ids].tolist()
    (tops, top_ids), (base_tops, base_ids) = _tops(model, lane, top_k), _tops(model, base, top_k)
    texts = token_texts(model.tokenizer, ids)
    return tuple(ComparedToken(*row) for row in zip(texts, ids, ours, theirs, kl, tops, base_tops, top_ids, base_ids))


def _tops(model: LanguageModel, log_p: Float[Tensor, "token d_vocab"], k: int) -> tuple[list[Top], list[tuple[int, ...]]]:
    found = log_p.topk(min(k, log_p.shape[-1]), -1)
    shares = zip(found.indices, found.values.exp().tolist())
    return [tuple(zip(token_texts(model.tokenizer, ids), values)) for ids, values in shares], [tuple(ids) for ids in found.indices.tolist()]
