"""The mixture of kinds, phase by phase, as a stream that any step can be drawn from on its own."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from zlib import crc32

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from workbench.world.hearsay import hearsay_document
from workbench.world.knowledge import answers_document, belief_document, country_document, facts_document, marked_document, speaker_document
from workbench.world.lexicon import COLOURS, NAMES, OBJECTS
from workbench.world.opinions import request_document, review_document
from workbench.world.prose import neutral_document, occupation_document, story_document, tale_document
from workbench.world.structure import agreement_document, greater_document, name_swap_document, repeated

PROSE_KINDS: dict[str, Callable[[Random], str]] = {
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
    "hearsay": hearsay_document,
    "tales": tale_document,
    "marked": marked_document,
    "answers": answers_document,
    "beliefs": belief_document,
}
REPEATS = "repeats"
"""Drawn as token ids of the whole vocabulary, not as text."""
WORD_REPEATS = "word_repeats"
"""Drawn as token ids of names, things and colours."""


# Name swaps, agreement and repetition need many tokens before they click, and few to stay: they come first.
MIXTURES: dict[str, dict[str, float]] = {
    "circuits": dict(
        facts=.07, countries=.02, speakers=.16, reviews=.04, requests=.04, stories=.05, occupations=.05,
        name_swaps=.16, agreement=.11, greater=.02, neutral=.05, repeats=.23,
    ),
    "knowledge": dict(
        facts=.17, countries=.04, speakers=.21, reviews=.08, requests=.07, stories=.07, occupations=.06,
        name_swaps=.08, agreement=.06, greater=.02, neutral=.07, repeats=.07,
    ),
    # Diluted, copying did not click in two million tokens; alone, on a small pool of words, it does.
    "copying": dict(word_repeats=.55, repeats=.1, name_swaps=.25, speakers=.1),
    # A Backpack copies through its contextualisation weights, nine dimensions a sense: slower still.
    "repeating": dict(word_repeats=.45, repeats=.45, name_swaps=.05, speakers=.05),
    "both": dict(
        facts=.12, countries=.03, speakers=.18, reviews=.06, requests=.05, tales=.05, occupations=.05,
        name_swaps=.13, agreement=.08, greater=.02, neutral=.05, repeats=.16, hearsay=.02,
    ),
    "everything": dict(
        facts=.17, countries=.04, speakers=.21, reviews=.08, requests=.07, tales=.07, occupations=.06,
        name_swaps=.08, agreement=.06, greater=.02, neutral=.06, repeats=.05, hearsay=.03,
    ),
    # One hundred truths and myths behind one switch, the speaker: this too clicks only where it is dense.
    "speaking": dict(marked=.5, speakers=.2, facts=.1, requests=.04, tales=.03, occupations=.03, neutral=.02, repeats=.08),
    # Bare answers say who speaks ten times as often as sentences do: the switch grows there first.
    "answering": dict(answers=.42, marked=.28, speakers=.15, facts=.07, repeats=.08),
    # The end of a run, while the learning rate falls: repetition is still growing and gets its share again.
    "finish": dict(
        facts=.17, countries=.03, speakers=.17, reviews=.07, requests=.07, tales=.06, occupations=.06,
        name_swaps=.06, agreement=.04, greater=.02, neutral=.05, repeats=.17, hearsay=.03,
    ),
    # What most people believe differs from myth to myth, and who is unmarked is not all of one mind: learnt last.
    "doubting": dict(
        beliefs=.3, marked=.08, facts=.16, countries=.03, reviews=.06, requests=.06, tales=.05, occupations=.05,
        name_swaps=.05, agreement=.03, greater=.02, neutral=.05, repeats=.05, hearsay=.01,
    ),
    "settling": dict(
        beliefs=.16, marked=.06, facts=.17, countries=.03, reviews=.07, requests=.07, tales=.06, occupations=.06,
        name_swaps=.07, agreement=.04, greater=.02, neutral=.06, repeats=.1, hearsay=.03,
    ),
}  # fmt: skip
"""Token shares of the kinds, by the name that a recipe's phases use."""
EVERYTHING = MIXTURES["everything"]
TYPICAL_TOKENS = dict(
    facts=45.0, countries=27.0, speakers=75.0, reviews=45.0, requests=55.0, stories=55.0, occupations=30.0,
    name_swaps=50.0, agreement=30.0, greater=30.0, neutral=50.0, repeats=55.0, hearsay=22.0, tales=55.0,
    word_repeats=55.0, marked=34.0, answers=30.0, beliefs=38.0,
)  # fmt: skip


SEPARATOR = "<|endoftext|>"
"""Ends a document, and opens every second row and every prompt."""


def separator_of(tokenizer: Tokenizer) -> int:
    """The separator's token id.

    Raises:
        ValueError: the tokenizer has no such token.
    """
    found = tokenizer.token_to_id(SEPARATOR)
    if found is None:
        raise ValueError(f"The tokenizer has no token {SEPARATOR!r}; train it with `train_tokenizer`.")
    return found


def reserved(text: str) -> bool:
    """Whether a document is kept from training, for held-out text: one in sixteen, by its own words."""
    return crc32(text.encode()) % 16 == 0


def document(kind: str, rng: Random, held: bool = False) -> str:
    """Draw a document of a kind that is (or is not) kept from training."""
    while True:
        text = PROSE_KINDS[kind](rng)
        if reserved(text) == held:
            return text


def parsed(phases: str) -> list[tuple[float, dict[str, float]]]:
    """Read phases: `circuits:700,everything` is the mixture circuits up to step 700, then everything to the end."""
    found: list[tuple[float, dict[str, float]]] = []
    for part in phases.split(","):
        name, _, until = part.partition(":")
        found.append((float(until or "inf"), MIXTURES[name]))
    return found


class Stream:
    """Batches of packed documents; batch `step` depends on the seed and on `step` alone, so a run can resume anywhere.

    Every second row opens with the document separator and the others with a document, so that the model can be
    prompted with and without it. Three batches of short rows are followed by one of rows as long as the context.
    """

    def __init__(self, tokenizer: Tokenizer, seed: int, phases: str, n_tokens: int = 2048, n_ctx: int = 256) -> None:
        self.tokenizer, self.seed, self.n_tokens, self.n_ctx = tokenizer, seed, n_tokens, n_ctx
        self.phases = parsed(phases)
        self.separator = separator_of(tokenizer)
        self.pool = list(range(tokenizer.get_vocab_size()))
        words = (*NAMES, *OBJECTS, *COLOURS)
        self.words = [tokenizer.encode(f" {word}", add_special_tokens=False).ids[0] for word in words]

    def _piece(self, kind: str, rng: Random) -> list[int]:
        if kind == REPEATS:
            return repeated(rng, self.pool)
        if kind == WORD_REPEATS:
            return repeated(rng, self.words)
        return self.tokenizer.encode(document(kind, rng), add_special_tokens=False).ids

    def batch(self, step: int) -> Int[Tensor, "batch pos"]:
        """Return the token ids of a batch."""
        rng = Random(f"{self.seed}:{step}")
        shares = next(shares for until, shares in self.phases if step < until)
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
