"""Every head's scores in one record: where it looks on texts, and what it does with a word that it looks at.

Read on texts, as shares of attention: previous token, duplicate token, induction (`heads.head_scores`), and apart from these the first
token, on which heads rest that have nothing to do. With a target and a distractor on one prompt: name mover, the attention from the last
token to the target where the head pushes it over the distractor; negative mover where it pushes it away.
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
from workbench.errors import BadKnob, BadPrompt
from workbench.lenses.alone import values_alone
from workbench.lenses.bridged import bridged, edited_bridge, shown_to
from workbench.lenses.heads import HEAD_KINDS, attended, name_movers, places_of, repeated_texts
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

    `chance`: of an even head, or of a random direction. `n` texts were read, `n_probes` words, `n_followers` pairs that follow one another.
    """

    model: str
    kinds: tuple[str, ...]
    scores: Float[np.ndarray, "kind layer head"]
    chance: Float[np.ndarray, " kind"]
    n: int
    n_probes: int
    n_followers: int
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
            for i in range(self.scores.shape[1])
            for j in range(self.scores.shape[2])
        ]


def head_profile(
    model: LanguageModel,
    prompt: Prompt | None = None,
    *,
    texts: Sequence[Prompt] | None = None,
    target: str = "",
    distractor: str = "",
    orders: Sequence[Sequence[str]] = ORDERS,
    n: int = 8,
    length: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> HeadProfile:
    """Score every head of the untouched model, on a prompt, on several texts, or on `n` random sequences of `length` tokens said twice.

    Args:
        target, distractor: of the prompt; the target stands in it. orders: words that follow one another.

    Raises:
        Obstructed: the model lacks what the lens reads (`registry.obstacles_of`). BadKnob: names without one prompt. BadPrompt: the target
        does not stand in the prompt, or a word is not one token; the prompt is empty, or there is no text.
    """
    owner, tell = bridged(model, "head_profile"), progress or silent()
    given = list(texts or ()) if prompt is None else [prompt]
    if prompt is None and texts is not None and not given:
        raise BadPrompt("There is no text to score heads on.", "Give texts, or leave them out for random ones.")
    if isinstance(prompt, str) and not prompt.strip():
        raise BadPrompt("The prompt is empty.", "Write a prompt, or leave it out for random texts.")
    is_named = bool(target and distractor)
    if is_named and len(given) != 1:
        raise BadKnob(f"Name movers carry a name of one prompt, and there are {len(given)}.", "Give one prompt, or no target.")
    batches = [owner.tokens(text) for text in given] or repeated_texts(owner, n, length, seed)
    found, chance = _looked(owner, [batch.ids for batch in batches], tell.part(0.0, 0.4))
    probes, followers = _probes(owner, [batch.ids for batch in batches], orders, seed)
    tell(0.4, "Reading what heads write")
    found |= _written(owner, probes, followers, seed)
    chance |= dict.fromkeys(("copying", "copy suppression", "successor"), _SHARE)
    if is_named:
        movers = name_movers(owner, given[0], target, distractor, progress=tell.part(0.7, 1.0))
        looks, push = movers.attention[0], movers.push[0]
        found |= {"name mover": looks * (push > 0), "negative mover": looks * (push < 0)}
        chance |= dict.fromkeys(("name mover", "negative mover"), 1 / batches[0].ids.shape[1])
    tell(1.0, "Done")
    kinds = tuple(kind for kind in SCORE_WORDS if kind in found)
    counts = (len(batches), len(probes), len(followers))
    return HeadProfile(
        owner.info.name, kinds, np.stack([found[kind] for kind in kinds]), np.array([chance[kind] for kind in kinds]), *counts, seed
    )


def _looked(model: BridgeModel, texts: Sequence[Tensor], tell: Progress) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Shares of attention, mean over the texts that offer such a place."""
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
    told, line = _mean(np.stack(every)), _mean(np.stack(even))
    return dict(zip(kinds, told)), dict(zip(kinds, line.tolist()))


def _mean(x: np.ndarray) -> np.ndarray:
    """The mean over texts, leaving out those that have no such place; NaN where none has."""
    there = ~np.isnan(x)
    counts = there.sum(0)
    return np.where(counts > 0, np.where(there, x, 0).sum(0) / np.maximum(1, counts), np.nan)


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
