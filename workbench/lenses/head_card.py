"""One head on one prompt: where it looks, what it writes for each token, what it looks for, and what is lost without it.

Law: the head writes Σ_j A[i, j] v_j W_O at token i; `writes` reads v_j W_O for each j as tokens raised and lowered, `output` the sum at
the last token. What it looks for: q · k / √d_head before positions, q of the last token here, k of words alone (`alone.words_alone`) as if
each stood where this layer reads, less the mean over the words; a head that looks by place alone has none. Without it: z ← 0 at every
position. Composition with an earlier head: ‖M W_OV‖ / (‖M‖ ‖W_OV‖) for its M = W_QK, W_QK^T or W_OV, by TransformerLens's
`composition_scores`. Planes: the pairs of adjacent coordinates of z that the TaRot edit of variant rotary turns; `share` of Σ‖z‖² over the
prompt. Ref: arXiv 2211.00593; composition as in "A Mathematical Framework for Transformer Circuits" (2021).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformer_lens.utilities.matrix import composition_scores

from workbench.conversations import Prompt
from workbench.errors import BadKnob, UnknownName
from workbench.lenses.alone import read_alone, words_alone
from workbench.lenses.bridged import bridged, edited_bridge, run
from workbench.lenses.cell_edits import likeliest
from workbench.lenses.logit_difference import LogitDifference, logit_difference
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.direction_tokens import DirectionTokens, direction_tokens
from workbench.models.token_texts import token_texts
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.shapes import Activations, Float, Tensor
from workbench.sites import Site

_PORTS = {"q": "its queries", "k": "its keys", "v": "its values"}
# Words whose keys are asked about, beside those of the prompt.
_WORDS = 500


@dataclass(frozen=True)
class HeadPlane:
    """A pair of coordinates of the head's output: its share of the squared norm, and what each coordinate's direction says."""

    pair: tuple[int, int]
    share: float
    one: DirectionTokens
    other: DirectionTokens


@dataclass(frozen=True)
class Without:
    """What silencing the head does to the next token: the likeliest before and after, nats of KL, and the change of the difference."""

    before: tuple[tuple[str, float], ...]
    after: tuple[tuple[str, float], ...]
    kl: float
    change: float | None


@dataclass(frozen=True)
class HeadCard:
    """One head. `strength` is ‖v_j W_O‖ a token; `composition` is (port, earlier head, score), those furthest above the mean of their port,
    `even`, first.
    """

    model: str
    layer: int
    head: int
    tokens: tuple[str, ...]
    pattern: Float[np.ndarray, "query key"]
    writes: tuple[DirectionTokens, ...]
    strength: Float[np.ndarray, " key"]
    output: DirectionTokens
    looks_for: tuple[tuple[str, float], ...]
    without: Without
    composition: tuple[tuple[str, str, float], ...]
    even: dict[str, float]
    planes: tuple[HeadPlane, ...]

    @property
    def rest(self) -> float:
        """Share of its attention that rests on the first token: a head with nothing to do there."""
        return float(self.pattern[1:, 0].mean()) if len(self.pattern) > 1 else 1.0

    @property
    def says(self) -> str:
        """What the head does here, in a sentence or two."""
        last = self.pattern[-1]
        at = int(last.argmax())
        told = f"From the last token it looks most at “{self.tokens[at].strip()}” (token {at}, {last[at]:.0%}) "
        raised, lowered = (tokens[0][0].strip() for tokens in (self.output.promoted, self.output.suppressed))
        told += f"and writes what raises “{raised}” and lowers “{lowered}”."
        (old, _), (new, _) = self.without.before[0], self.without.after[0]
        lost = "the answer stays the same" if old == new else f"the model says “{new.strip()}” instead of “{old.strip()}”"
        return f"{told} Without it {lost} (KL {self.without.kl:.2g} nats)."

    def rows(self) -> list[dict[str, Any]]:
        """One table row a token of the prompt: how far the last token looks there, and what the head writes for it."""
        told = [{side: " · ".join(text.strip() for text in texts) for side, texts in one.texts().items()} for one in self.writes]
        return [
            {"token": i, "text": text, "attention from the last": float(self.pattern[-1, i]), "strength": float(self.strength[i]),
             "raises": told[i]["promoted"], "lowers": told[i]["suppressed"]}
            for i, text in enumerate(self.tokens)
        ]  # fmt: skip


def head_card(
    model: LanguageModel,
    prompt: Prompt,
    layer: int,
    head: int,
    *,
    target: str = "",
    distractor: str = "",
    k: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> HeadCard:
    """Read one head of the untouched model on one prompt; with a target (against a distractor) also what its silence costs these.

    Raises:
        Obstructed: the model lacks what the lens reads (`registry.obstacles_of`). UnknownName: no such head. BadPrompt: a word is not one
        token. BadKnob: a distractor without a target.
    """
    owner, tell = bridged(model, "head_card"), progress or silent()
    info = owner.info
    if not (0 <= layer < info.n_layers and 0 <= head < info.n_heads):
        raise UnknownName("head", f"{layer}.{head}", (f"{info.n_layers - 1}.{j}" for j in range(info.n_heads)))
    if distractor and not target:
        raise BadKnob("A distractor alone is no target.", "Give a target too.")
    asked = logit_difference(owner, target, distractor or None) if target else None
    batch = owner.tokens(prompt)
    names = [f"blocks.{layer}.{name}" for name in ("hook_resid_pre", "attn.hook_pattern", "attn.hook_z")]
    tell(0.1, "Reading the head")
    told, cache = run(owner, batch, (), names)
    stream, pattern, z = (cache[name][0] for name in names)
    pattern, z = pattern[head].float(), z.reshape(len(stream), info.n_heads, info.d_head)[:, head]
    parts = read_alone(owner, stream, layer, ["hook_z", "hook_q"])
    values = parts["hook_z"].reshape(len(stream), info.n_heads, info.d_head)[:, head]
    tell(0.4, "Reading what it writes")
    with edited_bridge(owner) as bridge:
        matrix = bridge.W_O[layer, head].detach()
        composition, even = _composed(bridge, layer, head)
    written = values.to(matrix) @ matrix
    tell(0.6, "Silencing it")
    without = _without(owner, batch, layer, head, told[0, -1], asked)
    tell(0.7, "Reading what it looks for")
    looks_for = _looks_for(owner, batch, layer, head, parts["hook_q"].reshape(len(stream), info.n_heads, -1)[-1, head], k, seed)
    tell(1.0, "Done")
    return HeadCard(
        info.name,
        layer,
        head,
        token_texts(owner.tokenizer, batch.ids[0]),
        pattern.cpu().numpy(),
        tuple(direction_tokens(owner, row, k) for row in written),
        written.float().norm(dim=-1).cpu().numpy(),
        direction_tokens(owner, z[-1].to(matrix) @ matrix, k),
        looks_for,
        without,
        composition,
        even,
        _planes(owner, z.float(), matrix, k),
    )


def _composed(bridge: Any, layer: int, head: int, most: int = 6) -> tuple[tuple[tuple[str, str, float], ...], dict[str, float]]:
    """The earlier heads whose writing this one reads most, by port, and the mean over all earlier heads."""
    if layer == 0:
        return (), {}
    with torch.no_grad():
        earlier, own, reading = bridge.OV[:layer], bridge.OV[layer, head], bridge.QK[layer, head]
        found: list[tuple[str, str, float]] = []
        even: dict[str, float] = {}
        for port, right in (("q", reading), ("k", reading.T), ("v", own)):
            scores = composition_scores(earlier, right).reshape(layer, -1).float()
            even[_PORTS[port]] = float(scores.mean())
            best = scores.flatten().topk(min(most, scores.numel()))
            n = scores.shape[1]
            found += [(_PORTS[port], f"{i // n}.{i % n}", value) for value, i in zip(best.values.tolist(), best.indices.tolist())]
    return tuple(sorted(found, key=lambda one: -one[2] / even[one[0]])[:most]), even


def _without(model: BridgeModel, batch: TokenBatch, layer: int, head: int, told: Tensor, asked: LogitDifference | None) -> Without:
    columns = slice(head * model.info.d_head, (head + 1) * model.info.d_head)

    def silent_head(z: Activations) -> Activations:
        x = z.clone()
        x[..., columns] = 0
        return x

    with torch.no_grad(), model.intercept(Site("head_z", layer), silent_head):
        left = model.logits(batch)[0, -1]
    one, other = told.double().log_softmax(-1), left.double().log_softmax(-1)
    change = None if asked is None else float((asked(left[None, None]) - asked(told[None, None]))[0])
    return Without(likeliest(model, told), likeliest(model, left), float((one.exp() * (one - other)).sum()), change)


def _looks_for(
    model: BridgeModel, batch: TokenBatch, layer: int, head: int, query: Float[Tensor, " d_head"], k: int, seed: int
) -> tuple[tuple[str, float], ...]:
    """The words whose keys the last token's query meets best: of the prompt and of the vocabulary, in units of the logit of attention."""
    special = set(model.tokenizer.all_special_ids)
    usable = [i for i in range(min(len(model.tokenizer), model.info.d_vocab)) if i not in special]
    drawn = random.Random(seed).sample(usable, min(len(usable), _WORDS))
    ids = list(dict.fromkeys([*(token for token in batch.ids[0].tolist() if token not in special), *drawn]))
    keys = read_alone(model, words_alone(model, ids), layer, ["hook_k"])["hook_k"]
    keys = keys.reshape(len(ids), -1, model.info.d_head)
    own = keys[:, head * keys.shape[1] // model.info.n_heads]  # several heads share one key under grouped queries
    scores = (own.float() @ query.float()) / model.info.d_head**0.5
    best = (scores - scores.mean()).topk(min(k, len(ids)))
    return tuple(zip(token_texts(model.tokenizer, [ids[i] for i in best.indices.tolist()]), best.values.tolist()))


def _planes(
    model: BridgeModel, z: Float[Tensor, "pos d_head"], matrix: Float[Tensor, "d_head d_model"], k: int, most: int = 4
) -> tuple[HeadPlane, ...]:
    if z.shape[1] % 2:
        return ()
    energy = z.square().sum(0).view(-1, 2).sum(-1)
    share = energy / energy.sum().clamp_min(1e-12)
    return tuple(
        HeadPlane((2 * i, 2 * i + 1), float(share[i]), *(direction_tokens(model, matrix[2 * i + side], k) for side in (0, 1)))
        for i in share.topk(min(most, len(share))).indices.tolist()
    )
