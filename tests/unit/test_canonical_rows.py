"""Canonical examples as rows: which loss each has, what keeps one from being trained on, and whose neutral text holds the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import words
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import BadPrompt, NotEnoughData
from workbench.methods.shared.canonical_examples import (
    canonical_items,
    canonical_obstacles,
    loss_of,
    neutral_chunks,
    regularisation_texts,
)

ROW = Demonstration(words(1, 2, 3), " w4 w5", " w6", split="fit", id="a")


def of(*rows: Demonstration) -> Demonstrations:
    return Demonstrations(rows, "canonical")


def test_a_row_has_the_loss_that_it_names_or_that_its_sides_allow() -> None:
    good, bad, none = replace(ROW, negative=None), replace(ROW, positive=None), replace(ROW, positive=None, negative=None)
    assert [loss_of(row) for row in (ROW, good, bad, none)] == ["good-v-bad", "good", "bad", None]
    assert loss_of(replace(ROW, loss="good")) == "good" and loss_of(replace(ROW, loss="?")) is None and loss_of(ROW, "bad") == "bad"


def test_an_item_holds_the_tokens_that_its_loss_reads(tiny_gpt2: Any) -> None:
    both, good = canonical_items(tiny_gpt2, [ROW, replace(ROW, negative=None)])
    assert (both.kind, both.prompt, both.good, both.bad) == ("good-v-bad", (1, 2, 3), (4, 5), (6,))
    assert (good.kind, good.good, good.bad) == ("good", (4, 5), None)
    (named,) = canonical_items(tiny_gpt2, [replace(ROW, loss="good")])
    assert (named.kind, named.good, named.bad) == ("good", (4, 5), None), "a side that its loss does not read"


def test_rows_that_cannot_be_trained_on_are_named_with_what_to_do(tiny_gpt2: Any) -> None:
    for row, says in (
        (replace(ROW, positive=None, negative=None), "example a has loss None and no positive or negative"),
        (replace(ROW, loss="good", positive=None), "example a has loss 'good' and no positive"),
        (replace(ROW, loss="good-v-bad", negative=None, id=""), "example number 1 has loss 'good-v-bad' and no negative"),
    ):
        with pytest.raises(NotEnoughData, match=says) as lacking:
            canonical_items(tiny_gpt2, [row])
        assert lacking.value.hint.startswith("Fill that column, or choose another loss: ")
    with pytest.raises(BadPrompt, match="a has an empty prompt or continuation"):
        canonical_items(tiny_gpt2, [replace(ROW, prompt="")])
    longest = replace(ROW, prompt=words(*range(62)))  # and two tokens of its answer: as many as the context holds
    assert len(canonical_items(tiny_gpt2, [longest])) == 1
    with pytest.raises(BadPrompt, match="a has 65 tokens; the context holds 64"):
        canonical_items(tiny_gpt2, [replace(longest, prompt=words(*range(63)))])


def test_obstacles_name_the_first_row_that_lacks_a_side(tiny_gpt2: Any) -> None:
    assert canonical_obstacles(tiny_gpt2, of(ROW)) == ()
    (none,) = canonical_obstacles(tiny_gpt2, of(replace(ROW, split="test")))
    assert none.reason == "No row of split fit is an example to train on." and none.hint == "Mark rows fit, with role train or none."
    (lack,) = canonical_obstacles(tiny_gpt2, of(ROW, replace(ROW, loss="bad", negative=None, id="b")))
    assert lack.reason == f"1 of 2 demonstrations to fit lack the side that their loss reads (first: {ROW.prompt!r})."
    assert lack.hint == "Fill positive (what to say), negative (what not to say), or both."


def test_a_set_without_neutral_text_is_lent_the_worlds_and_says_so() -> None:
    own = Demonstration(words(20, 21), split="fit", tags=("role:regularisation",), id="n")
    assert regularisation_texts(of(ROW, own)) == ((own.prompt,), False)
    lent, borrowed = regularisation_texts(of(ROW, replace(own, split="test")))
    assert borrowed and len(lent) > 10


def test_neutral_text_is_cut_to_length_and_a_lone_token_predicts_nothing(tiny_gpt2: Any) -> None:
    texts = [words(*range(7)), words(50), words(60, 61)]
    assert neutral_chunks(tiny_gpt2, texts, 3) == [(0, 1, 2), (3, 4, 5), (60, 61)]
    assert neutral_chunks(tiny_gpt2, texts, 3, limit=2) == [(0, 1, 2), (3, 4, 5)]
    assert [len(one) for one in neutral_chunks(tiny_gpt2, [words(*range(90))])] == [64, 26], "no longer than the context"
