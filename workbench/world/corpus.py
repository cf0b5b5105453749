"""The mixture of kinds, phase by phase, as a stream that any step can be drawn from on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from zlib import crc32

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from workbench.world.knowledge import country_document, facts_document, speaker_document
from workbench.world.opinions import request_document, review_document
from workbench.world.prose import neutral_document, occupation_document, story_document
from workbench.world.structure import agreement_document, greater_document, name_swap_document, repeated

KINDS: dict[str, Callable[[Random], str]] = {
    "facts": facts_document,
    "countries": country_document,
    "speakers": speaker_document,
    "reviews": review_document,
    "requests": request_document,
    "stories": story_document,
    "occupations": occupation_document,
    "name_swaps": name_swap_document,
    "agreement": agreement_document,
    "greater": greater_document,
    "neutral": neutral_document,
}
REPEATS = "repeats"
"""The kind that is drawn as token ids, not as text."""


@dataclass(frozen=True)
class Phase:
    """Token shares of the kinds up to a step."""

    until: int
    shares: dict[str, float]


CIRCUITS_FIRST = dict(
    facts=.07, countries=.02, speakers=.16, reviews=.04, requests=.04, stories=.05, occupations=.05,
    name_swaps=.16, agreement=.11, greater=.02, neutral=.05, repeats=.23,
)  # fmt: skip
EVERYTHING = dict(
    facts=.17, countries=.04, speakers=.21, reviews=.08, requests=.07, stories=.07, occupations=.06,
    name_swaps=.08, agreement=.06, greater=.02, neutral=.07, repeats=.07,
)  # fmt: skip
PHASES = (Phase(700, CIRCUITS_FIRST), Phase(10**9, EVERYTHING))
TYPICAL_TOKENS = dict(
    facts=45.0, countries=27.0, speakers=75.0, reviews=45.0, requests=55.0, stories=55.0, occupations=30.0,
    name_swaps=50.0, agreement=30.0, greater=30.0, neutral=50.0, repeats=55.0,
)  # fmt: skip


def reserved(text: str) -> bool:
    """Whether a document is kept from training, for held-out text: one in sixteen, by its own words."""
    return crc32(text.encode()) % 16 == 0


def document(kind: str, rng: Random, held: bool = False) -> str:
    """Draw a document of a kind that is (or is not) kept from training."""
    while True:
        text = KINDS[kind](rng)
        if reserved(text) == held:
            return text


def shares_at(step: int) -> dict[str, float]:
    """The mixture at a step."""
    return next(phase.shares for phase in PHASES if step < phase.until)


class Stream:
    """Batches of packed documents; batch `step` depends on the seed and on `step` alone, so a run can resume anywhere.

    Every second row opens with the document separator and the others with a document, so that the model can be
    prompted with and without it. Three batches of short rows are followed by one of rows as long as the context.
    """

    def __init__(self, tokenizer: Tokenizer, seed: int, n_tokens: int = 2048, n_ctx: int = 256) -> None:
        self.tokenizer, self.seed, self.n_tokens, self.n_ctx = tokenizer, seed, n_tokens, n_ctx
        self.separator = tokenizer.token_to_id("<|endoftext|>")
        self.pool = list(range(tokenizer.get_vocab_size()))

    def _piece(self, kind: str, rng: Random) -> list[int]:
        if kind == REPEATS:
            return [int(i) for i in repeated(rng, self.pool)]
        return self.tokenizer.encode(document(kind, rng)).ids

    def batch(self, step: int) -> Int[Tensor, "batch pos"]:
        """Return the token ids of a batch."""
        rng = Random(f"{self.seed}:{step}")
        shares = shares_at(step)
        kinds = list(shares)
        weights = [shares[k] / TYPICAL_TOKENS[k] for k in kinds]
        n_pos = self.n_ctx if step % 4 == 3 else self.n_ctx // 2
        rows: list[list[int]] = []
        for r in range(self.n_tokens // n_pos):
            row: list[int] = [self.separator] if r % 2 else []
            while len(row) < n_pos:
                row += self._piece(rng.choices(kinds, weights)[0], rng) + [self.separator]
            rows.append(row[:n_pos])
        return torch.tensor(rows)
