"""Neutral text: the set's own in two halves, or samples of the model that are not like the demonstrations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tests.conftest import contrast_rows, words
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.methods.shared.neutral import LIKE_A_PROMPT, MIN_TEXTS, neutral_of, sampled_positions

PLAIN = contrast_rows(24)
BARE = PLAIN.with_rows(replace(row, neutral=None) for row in PLAIN)


def test_the_sets_own_texts_are_parted_one_by_one_and_those_of_test_rows_are_not_read(tiny_gpt2: Any) -> None:
    def told(n: int, split: Any = "fit") -> list[Demonstration]:
        return [Demonstration("w1", " w2", " w3", neutral=words(20 + i, 30 + i), split=split, id=f"{split}{i}") for i in range(n)]

    general = Demonstration(words(70, 71), tags=("role:general",), split="validation", id="general")
    rows = Demonstrations((*told(MIN_TEXTS - 1), general, *told(30, "test")), "own")
    found = neutral_of(tiny_gpt2, rows, 0)
    texts = [words(20 + i, 30 + i) for i in range(MIN_TEXTS - 1)] + [words(70, 71)]
    assert (found.fit, found.held, found.source) == (tuple(texts[::2]), tuple(texts[1::2]), "the demonstrations")
    few = neutral_of(tiny_gpt2, Demonstrations((*told(MIN_TEXTS - 1), *told(30, "test")), "few"), 0)
    assert few.source == "the model's own samples", "one text less, and the test rows do not help"


def test_samples_are_drawn_with_the_seed_and_both_halves_are_told_apart(tiny_gpt2: Any) -> None:
    found = neutral_of(tiny_gpt2, BARE, 0)
    assert found == neutral_of(tiny_gpt2, BARE, 0) != neutral_of(tiny_gpt2, BARE, 1)
    assert len(found.fit) + len(found.held) == 64 and not set(found.fit) & set(found.held)
    assert found.source == "the model's own samples"


def test_samples_that_hold_the_end_of_a_prompt_are_left_out(tiny_gpt2: Any) -> None:
    first, *others = neutral_of(tiny_gpt2, BARE, 0).fit
    middle = first.split()[4 : 4 + LIKE_A_PROMPT]
    like = BARE.with_rows(replace(row, prompt=f"w1 w2 {' '.join(middle)}") for row in BARE)
    found = neutral_of(tiny_gpt2, like, 0)
    assert first not in (*found.fit, *found.held) and others[0] in (*found.fit, *found.held)
    shorter = BARE.with_rows(replace(row, prompt=f"w1 w2 {' '.join(middle[1:])} w9") for row in BARE)
    kept = neutral_of(tiny_gpt2, shorter, 0)
    assert first in (*kept.fit, *kept.held), "control: it holds two tokens of that end, not three"


def test_at_most_so_many_positions_are_drawn_all_within_the_mask_and_with_the_seed() -> None:
    mask = torch.rand(9, 11, generator=torch.Generator().manual_seed(0)) < 0.6
    drawn = sampled_positions(mask, 20, 0)
    assert drawn.shape == mask.shape and int(drawn.sum()) == 20 and not bool((drawn & ~mask).any())
    assert torch.equal(drawn, sampled_positions(mask, 20, 0)) and not torch.equal(drawn, sampled_positions(mask, 20, 1))
    assert torch.equal(sampled_positions(mask, int(mask.sum()), 0), mask)
