"""Every head's scores in one record: where it looks on texts, and what it does with a word that it looks at.

Read on texts, as shares of attention: previous token, duplicate token, induction (`heads.head_scores`), and apart from these the first
token, on which heads rest that have nothing to do. With a target and a distractor, of one prompt or of each row of a set: name mover, the
attention from the last token to the target where the head pushes it over the distractor; negative mover where it pushes it away. Over
several texts a score is the mean of those that offer such a place, and its spread their standard deviation.
Read off the weights, on probe tokens: copying, copy suppression, successor.
Law: a head writes v(t) W_O for a token t, v(t) its value of t alone (`alone.values_alone`). Copying is the share of probe tokens t whose
logit in that is among the highest hundredth of all candidates; suppression among the lowest; successor the same of the token that follows
t in an order (days, months, numbers). Negating W_O swaps the first two. `chance` is a hundredth.
Ref: copying and negative heads arXiv 2211.00593; copy suppression arXiv 2310.04625; successor heads arXiv 2312.09230.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.errors import BadKnob, BadPrompt
from workbench.lenses.alone import values_alone
from workbench.lenses.bridged import bridged, edited_bridge, shown_to
from workbench.lenses.heads import HEAD_KINDS, attended, name_movers, places_of, repeated_texts
from workbench.lenses.over_rows import rows_of_a_token
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.token_texts import token_ids
from workbench.progress import Progress, silent
from workbench.shapes import Float, Tensor

SCORE_WORDS = {
    "previous token": "Share of its attention that goes to the token before.",
    "duplicate token": "Share of its attention that goes to earlier places of the same token.",
    "induction": "Share of its attention that goes to what came after the earlier place of the same token.",
    "first token": "Share of its attention that rests on the first token: a head with nothing to do here.",
    "copying": "Share of probe words that it raises above 99 of 100 others when it looks at them.",
    "copy suppression": "Share of probe words that it lowers below 99 of 100 others when it looks at them.",
    "successor": "Share of days, months and numbers whose follower it raises above 99 of 100 others.",
    "name mover": "Attention from the last token to the target, where it pushes the target over the distractor.",
    "negative mover": "Attention from the last token to the target, where it pushes the distractor over the target.",
}
ORDERS: tuple[tuple[str, ...], ...] = (
    ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"),
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    tuple(map(str, range(1, 13))),
)
_SHARE, _PROBES, _CANDIDATES = 0.01, 60, 600


@dataclass(frozen=True)
class HeadProfile:
    """Scores in [0, 1] of every head for every kind in `kinds`; NaN where nothing could be read, as without a repetition or an order.

    `spread`: the standard deviation over texts, NaN where a kind was read on fewer than two, or off the weights. `chance`: of an even head,
    or of a random direction. `n` texts were read; `counts`: of each kind, how many of these, or words, or pairs of words, it was read on.
    """

    model: str
    kinds: tuple[str, ...]
    scores: Float[np.ndarray, "kind layer head"]
    spread: Float[np.ndarray, "kind layer head"]
    chance: Float[np.ndarray, " kind"]
    n: int
    counts: tuple[int, ...]
    seed: int

    def top(self, kind: str, k: int = 5) -> list[tuple[int, int, float]]:
        """The k heads with the highest score of a kind: (layer, head, score); none where nothing could be read."""
        scores = self.scores[self.kinds.index(kind)]
        if np.isnan(scores).all():
            return []
        order = np.argsort(-np.nan_to_num(scores, nan=-1.0), axis=None)[:k]
        return [(int(i // scores.shape[1]), int(i % scores.shape[1]), float(scores.flat[i])) for i in order]

    def rows(self) -> list[dict[str, Any]]:
        """One record a head, None where a score could not be read: as JSON holds it."""
        return [
            {"head": f"{i}.{j}", "layer": i, "index": j}
            | {kind: None if np.isnan(x := self.scores[k, i, j]) else float(x) for k, kind in enumerate(self.kinds)}
            | {f"{kind}, spread": float(x) for k, kind in enumerate(self.kinds) if not np.isnan(x := self.spread[k, i, j])}
            for i in range(self.scores.shape[1])
            for j in range(self.scores.shape[2])
        ]


def head_profile(
    model: LanguageModel,
    prompt: Prompt | None = None,
    *,
    texts: Sequence[Prompt] | None = None,
    demonstrations: Demonstrations | None = None,
    target: str = "",
    distractor: str = "",
    orders: Sequence[Sequence[str]] = ORDERS,
    n: int = 8,
    length: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> HeadProfile:
    """Score every head of the untouched model, on a prompt, on several, on a set, or on `n` random sequences of `length` tokens said twice.

    Args:
        target, distractor: of the prompt; the target stands in it. demonstrations: the prompts of its rows; where a row's two answers are
        one token each and its prompt names the good one, they are its target and distractor. orders: words that follow one another.

    Raises:
        Obstructed: the model lacks what the lens reads (`registry.obstacles_of`). BadKnob: names without one prompt, or several kinds of
        texts. BadPrompt: the target does not stand in the prompt, or a word is not one token; the prompt is empty, or there is no text.
    """
    owner, tell = bridged(model, "head_profile"), progress or silent()
    given, named = _given(owner, prompt, texts, demonstrations, (target, distractor))
    batches = [owner.tokens(text) for text in given] or repeated_texts(owner, n, length, seed)
    found, chance = _looked(owner, [batch.ids for batch in batches], tell.part(0.0, 0.4))
    probes, followers = _probes(owner, [batch.ids for batch in batches], orders, seed)
    tell(0.4, "Reading what heads write")
    written = _written(owner, probes, followers, seed)
    chance |= dict.fromkeys(written, _SHARE)
    if named:
        found |= _moved(owner, named, tell.part(0.6, 1.0))
        even = float(np.mean([1 / owner.tokens(text).ids.shape[1] for text, _, _ in named]))
        chance |= dict.fromkeys(("name mover", "negative mover"), even)
    tell(1.0, "Done")
    kinds = tuple(kind for kind in SCORE_WORDS if kind in found or kind in written)
    counts = {kind: int((~np.isnan(x)).any((1, 2)).sum()) for kind, x in found.items()}
    counts |= {kind: len(followers if kind == "successor" else probes) for kind in written}
    means, nothing = {kind: _mean(x) for kind, x in found.items()} | written, np.full((owner.info.n_layers, owner.info.n_heads), np.nan)
    return HeadProfile(
        owner.info.name, kinds, np.stack([means[kind] for kind in kinds]),
        np.stack([_spread(found[kind]) if kind in found else nothing for kind in kinds]), np.array([chance[kind] for kind in kinds]),
        len(batches), tuple(counts[kind] for kind in kinds), seed,
    )  # fmt: skip


_Named = list[tuple[Prompt, str, str]]


def _given(
    model: BridgeModel, prompt: Prompt | None, texts: Sequence[Prompt] | None, rows: Demonstrations | None, names: tuple[str, str]
) -> tuple[list[Prompt], _Named]:
    """The texts, none for random ones; and prompts with their target and distractor."""
    if sum(one is not None for one in (prompt, texts, rows)) > 1:
        raise BadKnob("A prompt, texts and a set are given together.", "Give one of them.")
    if isinstance(prompt, str) and not prompt.strip():
        raise BadPrompt("The prompt is empty.", "Write a prompt, or leave it out for random texts.")
    given = (
        [prompt] if prompt is not None else list(texts or ()) if rows is None else [row.prompt for row in rows if str(row.prompt).strip()]
    )
    if not given and (texts is not None or rows is not None):
        raise BadPrompt("There is no text to score heads on.", "Give texts, or leave them out for random ones.")
    if rows is not None and not any(names):
        return given, [(row.prompt, str(row.positive), str(row.negative)) for row in rows_of_a_token(model, rows, named=True)]
    if not all(names):
        return given, []
    if rows is not None or len(given) != 1:
        own = "a set has names of its own" if rows is not None else f"there are {len(given)}"
        raise BadKnob(f"A target and a distractor are those of one prompt, and {own}.", "Give one prompt, or no target.")
    return given, [(given[0], *names)]


def _moved(model: BridgeModel, named: _Named, tell: Progress) -> dict[str, Float[np.ndarray, "text layer head"]]:
    """How far each head moves the target of each prompt, and how far it holds it down."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for i, (prompt, target, distractor) in enumerate(named):
        movers = name_movers(model, prompt, target, distractor, progress=tell.part(i / len(named), (i + 1) / len(named)))
        found.append((movers.attention[0], movers.push[0]))
    looks, push = (np.stack(each) for each in zip(*found))
    return {"name mover": looks * (push > 0), "negative mover": looks * (push < 0)}


def _looked(
    model: BridgeModel, texts: Sequence[Tensor], tell: Progress
) -> tuple[dict[str, Float[np.ndarray, "text layer head"]], dict[str, float]]:
    """Shares of attention, NaN in a text that offers no such place; and those of an even head, mean over the texts that do."""
    from workbench.models.tokens import TokenBatch

    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.info.n_layers)]
    every: list[np.ndarray] = []
    even: list[np.ndarray] = []
    for i, ids in enumerate(texts):
        tell(i / len(texts), "Reading heads")
        wanted, chance = places_of(ids)
        n = ids.shape[-1]

        def read(x: Tensor, wanted: Sequence[Tensor] = wanted) -> np.ndarray:
            first = x[0, :, 1:, 0].float().mean(-1).cpu().numpy() if x.shape[-1] > 1 else np.full(x.shape[1], np.nan)
            return np.concatenate([attended(x, wanted), first[None]])

        scored = shown_to(model, TokenBatch.of(ids.tolist(), None, model.device), (), dict.fromkeys(names, read))
        every.append(np.stack([scored[name] for name in names], 1))
        even.append(np.append(chance, np.mean(1 / np.arange(2, n + 1)) if n > 1 else np.nan))
    kinds = (*HEAD_KINDS, "first token")
    return dict(zip(kinds, np.stack(every, 1))), dict(zip(kinds, _mean(np.stack(even)).tolist()))


def _mean(x: np.ndarray) -> np.ndarray:
    """The mean over texts, leaving out those that have no such place; NaN where none has."""
    there = ~np.isnan(x)
    counts = there.sum(0)
    return np.where(counts > 0, np.where(there, x, 0).sum(0) / np.maximum(1, counts), np.nan)


def _spread(x: Float[np.ndarray, "text layer head"]) -> Float[np.ndarray, "layer head"]:
    """The standard deviation over the texts that have such a place; NaN where fewer than two do."""
    there = x[(~np.isnan(x)).any((1, 2))]
    return there.std(0, ddof=1) if len(there) > 1 else np.full(x.shape[1:], np.nan)


def _probes(
    model: BridgeModel, texts: Sequence[Tensor], orders: Sequence[Sequence[str]], seed: int
) -> tuple[list[int], list[tuple[int, int]]]:
    """Words to look at, of the texts and of the vocabulary (whole words where it marks them), and pairs of which one follows the other."""
    special = set(model.tokenizer.all_special_ids)
    draw = random.Random(seed)
    own = sorted({int(token) for ids in texts for token in ids.flatten().tolist()} - special)
    vocabulary = sorted(set(range(min(len(model.tokenizer), model.info.d_vocab))) - special)
    drawn = draw.sample(vocabulary, min(len(vocabulary), 10 * _PROBES))
    words = [token for token in drawn if str(model.tokenizer.decode([token]))[:1].isspace() and len(model.tokenizer.decode([token])) > 3]
    probes = list(dict.fromkeys([*draw.sample(own, min(len(own), _PROBES // 2)), *(words or drawn)]))[:_PROBES]
    pairs: list[tuple[int, int]] = []
    for order in orders:
        for one, other in zip(order, order[1:]):
            for lead in (" ", ""):
                ids = [token_ids(model, lead + word) for word in (one, other)]
                if all(len(each) == 1 and each[0] not in special for each in ids):
                    pairs.append((ids[0][0], ids[1][0]))
                    break
    return probes, list(dict.fromkeys(pairs))


def _written(model: BridgeModel, probes: list[int], pairs: list[tuple[int, int]], seed: int) -> dict[str, np.ndarray]:
    """Shares of probe words, and of pairs, among the candidates that a head's writing raises or lowers most."""
    layers = list(range(model.info.n_layers))
    told = list(dict.fromkeys([*probes, *(token for pair in pairs for token in pair)]))
    vocabulary = range(min(len(model.tokenizer), model.info.d_vocab))
    more = random.Random(seed + 1).sample(vocabulary, min(len(vocabulary), _CANDIDATES))
    candidates = list(dict.fromkeys([*told, *more]))
    at = {token: i for i, token in enumerate(candidates)}
    heard = list(dict.fromkeys([*probes, *(one for one, _ in pairs)]))
    values = values_alone(model, heard, layers).float()
    with torch.no_grad(), edited_bridge(model) as bridge:
        writes, reading = bridge.W_O.float(), _reading(bridge, candidates)
        most = max(1, round(_SHARE * len(candidates)))
        ranks: list[Tensor] = []
        for layer in layers:  # logits of one layer at a time: token × head × candidate
            logits = torch.einsum("thd,hdm,mc->thc", values[:, layer], writes[layer], reading)
            ranks.append(logits.argsort(-1, descending=True).argsort(-1).cpu())
    rank = torch.stack(ranks, 1)  # token, layer, head, candidate
    last = len(candidates) - most
    place = {token: i for i, token in enumerate(heard)}

    def share(of: Sequence[tuple[int, int]], high: bool) -> np.ndarray:
        if not of:
            return np.full(tuple(rank.shape[1:3]), np.nan)
        own = torch.stack([rank[place[one], ..., at[other]] for one, other in of])
        return ((own < most) if high else (own >= last)).double().mean(0).numpy()

    selves = [(token, token) for token in probes]
    return {"copying": share(selves, True), "copy suppression": share(selves, False), "successor": share(pairs, True)}


def _reading(bridge: Any, candidates: Sequence[int]) -> Float[Tensor, "d_model candidate"]:
    """Candidates' logits of a part of the stream, up to the final norm's scale, and less what its bias adds to all."""
    norm = bridge.ln_final
    own = getattr(norm.original_component, "weight", None)
    weight = 1.0 if own is None else own.float() + (1.0 if norm.uses_weight_offset else 0.0)
    reading = bridge.W_U[:, list(candidates)].float()
    reading = reading * weight[:, None] if isinstance(weight, Tensor) else reading
    return reading if norm.uses_rms_norm else reading - reading.mean(0)
