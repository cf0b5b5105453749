"""Neutral text: what an edit should leave alone. It comes with the demonstrations, or from the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench import memo
from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations, neutral_texts
from workbench.decode import Generated, Sampling, generate
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_ids
from workbench.shapes import Bool, Tensor

N_SAMPLES = 64
MIN_TEXTS = 8
# A sample that holds this many tokens of a prompt's end in a row is like the demonstrations, and so not neutral.
LIKE_A_PROMPT = 3


@dataclass(frozen=True)
class Neutral:
    """Texts to fit on and others to check on, and where they come from."""

    fit: tuple[str, ...]
    held: tuple[str, ...]
    source: str


def neutral_of(model: LanguageModel, demonstrations: Demonstrations, seed: int) -> Neutral:
    """The set's neutral texts of splits fit and validation (column `neutral`, rows tagged `role:general`), else the model's own samples.

    Samples that hold the end of a demonstration's prompt are left out: protecting them would protect what the edit should change.
    """
    rows = demonstrations.split("fit", "validation")
    texts = list(neutral_texts(rows))
    if len(texts) >= MIN_TEXTS:
        return _halves(texts, "the demonstrations")
    drawn = _samples(model, seed, str(demonstrations[0].prompt).split()[0] if len(demonstrations) else "")
    ends = {_end(model, row.prompt) for row in rows}
    kept = [item.text for item in drawn if len(item.ids) > 3 and item.text.strip() and not _holds(item.ids, ends)]
    if len(kept) < MIN_TEXTS:
        kept = [item.text for item in drawn if len(item.ids) > 3 and item.text.strip()]
    return _halves(list(dict.fromkeys(kept)), "the model's own samples")


def own_texts(model: LanguageModel, seed: int) -> tuple[str, ...]:
    """Texts that the model writes itself at temperature 1 behind its first token; of those alike one. Raises: BadPrompt: it has none."""
    drawn = _samples(model, seed, "")
    return tuple(dict.fromkeys(item.text for item in drawn))


def _samples(model: LanguageModel, seed: int, else_behind: str) -> Sequence[Generated]:
    """`N_SAMPLES` of the model's own texts behind its first token, or behind a word where the tokenizer has none."""
    start = model.tokenizer.bos_token or model.tokenizer.eos_token or else_behind
    sampling = Sampling(max_new_tokens=min(40, model.info.n_ctx - 8), temperature=1.0, seed=seed)
    return memo.once(("samples", id(model), start, sampling), lambda: generate(model, [start] * N_SAMPLES, sampling=sampling)[0])


def sampled_positions(mask: Bool[Tensor, "batch pos"], n: int, seed: int) -> Bool[Tensor, "batch pos"]:
    """At most `n` of the positions of a mask, drawn with the seed."""
    flat = mask.reshape(-1).nonzero()[:, 0]
    if len(flat) <= n:
        return mask
    picked = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))[:n].to(flat.device)]
    chosen = torch.zeros_like(mask.reshape(-1))
    chosen[picked] = True
    return chosen.view_as(mask)


def _halves(texts: list[str], source: str) -> Neutral:
    # Every other text, so that both halves see all kinds of an ordered set; one text alone serves both.
    return Neutral(tuple(texts[::2]), tuple(texts[1::2]) or tuple(texts), source)


def _end(model: LanguageModel, prompt: Prompt) -> tuple[int, ...]:
    """How what is asked ends; the marks of a template behind it are in no text."""
    return tuple(token_ids(model, prompt if isinstance(prompt, str) else prompt.asked)[-LIKE_A_PROMPT:])


def _holds(ids: tuple[int, ...], ends: set[tuple[int, ...]]) -> bool:
    return any(tuple(ids[i : i + LIKE_A_PROMPT]) in ends for i in range(len(ids)))
