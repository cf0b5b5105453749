"""Answers in several phrasings of one prompt are one group: no split that is drawn parts them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.concepts import concept_rows
from tests.conftest import taught_rows, words
from workbench.conversations import Conversation, Turn
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.splits import assigned, held_apart
from workbench.errors import NotEnoughData
from workbench.methods.hpr.rows import split_by_question
from workbench.methods.shared.concept import concept_of
from workbench.methods.shared.places import apart_sides, sides_held_apart

PHRASINGS = 4


def phrased(n: int = 20) -> Demonstrations:
    """Each prompt with four phrasings of its answers, one after the other, all to fit."""
    rows = [Demonstration(words(10 + i, 30 + i), f" w{1 + j}", f" w{50 + j}", id=f"{i}-{j}") for i in range(n) for j in range(PHRASINGS)]
    return Demonstrations(tuple(rows), "phrased")


def leaks(fit: Any, held: Any) -> set[str]:
    """What is asked on both sides."""
    return {str(one) for one in fit} & {str(one) for one in held}


def test_a_drawn_split_keeps_all_phrasings_of_a_prompt_together_and_one_by_row_would_not() -> None:
    rows = assigned(phrased().rows)
    by_split = {name: [row.prompt for row in rows if row.split == name] for name in ("fit", "validation", "test")}
    assert all(by_split.values())
    assert leaks(by_split["fit"], by_split["test"] + by_split["validation"]) == set()
    # The negative control: a draw by rows asks the same in both parts, which is what this test has to be able to see.
    by_row = [replace(row, split="test" if i % 4 == 3 else "fit") for i, row in enumerate(phrased())]
    assert leaks([row.prompt for row in by_row if row.split == "fit"], [row.prompt for row in by_row if row.split == "test"])


def test_a_chat_is_grouped_by_what_is_asked_whatever_its_system_turn() -> None:
    def asked(i: int, system: str) -> Conversation:
        return Conversation((Turn("system", system), Turn("user", words(10 + i, 30 + i))))

    rows = assigned([Demonstration(asked(i, words(j)), "w1", "w2", id=f"{i}-{j}") for i in range(20) for j in range(PHRASINGS)])
    splits = [{row.split for row in rows if row.id.startswith(f"{i}-")} for i in range(20)]
    assert all(len(one) == 1 for one in splits) and len(set.union(*splits)) == 3


@pytest.mark.parametrize("rows", [concept_rows(80).split("fit"), taught_rows(80).split("fit")], ids=["sets", "pairs"])
def test_every_nth_prompt_is_held_apart_of_two_sets_of_each(rows: Any) -> None:
    for nth in (2, 3, 4):
        fit, held = sides_held_apart(rows, nth)
        assert len(fit) + len(held) == len(rows) and len(held) == pytest.approx(len(rows) / nth, abs=2)
        for side in {row.label for row in rows if row.label in ("target", "anti_target")}:
            mine = [sum(row.label == side for row in part) for part in (held, rows)]
            assert mine[0] == pytest.approx(mine[1] / nth, abs=1)


def test_what_a_fit_holds_out_of_itself_asks_nothing_that_it_was_fitted_on(tiny_gpt2: Any) -> None:
    rows = phrased()
    for fit, held in (held_apart(rows), split_by_question(rows, 0)):
        assert len(fit) and len(held) and leaks(fit.prompts(), held.prompts()) == set()
        assert len(fit) + len(held) == len(rows)
    concept = concept_of(tiny_gpt2, rows)
    assert leaks(concept.train.texts, concept.validation.texts) == set() and len(concept.validation) >= 16
    (good, _), (held_good, _) = apart_sides(rows)
    assert leaks([prompt for prompt, _ in good], [prompt for prompt, _ in held_good]) == set()


def test_one_prompt_alone_cannot_be_held_apart_and_nothing_is_judged_by_what_it_was_fitted_on(tiny_gpt2: Any) -> None:
    one = Demonstrations(tuple(replace(row, prompt="w1 w2") for row in phrased()), "one")
    for ask in (held_apart, apart_sides):
        with pytest.raises(NotEnoughData, match="'one' asks 1 prompt in its 80 rows; 2 are needed") as caught:
            ask(one)
        assert "other prompts" in caught.value.hint


def test_a_pair_that_is_not_filled_in_yet_is_left_out_and_the_others_are_held_apart() -> None:
    rows = phrased(8)
    gap = rows.with_rows(replace(row, negative=None) if i == 5 else row for i, row in enumerate(rows))
    (good, bad), (held_good, held_bad) = apart_sides(gap)
    assert len(good) == len(bad) and len(held_good) == len(held_bad) and len(good) + len(held_good) == len(rows) - 1


def test_the_rows_to_fit_say_which_concept_is_the_target_whatever_comes_first_in_validation() -> None:
    def of(concept: str, i: int, split: Any) -> Demonstration:
        return Demonstration(f"{concept} {i}", tags=(f"concept:{concept}",), split=split, id=f"{concept}-{split}-{i}")

    fit = [of(name, i, "fit") for name in ("calm", "angry") for i in range(10)]
    validation = [of(name, i, "validation") for name in ("angry", "calm") for i in range(10)]
    rows = Demonstrations(tuple(fit + validation), "turned")
    found = apart_sides(rows)
    assert [{str(text).split()[0] for text, _ in side} for part in found for side in part] == [{"calm"}, {"angry"}] * 2
    alone = rows.where(lambda row: row.split == "fit" or row.tagged("concept") == "angry")
    with pytest.raises(NotEnoughData, match="has 0 texts"):
        apart_sides(alone)


@pytest.mark.parametrize("n", [2, 3, 9])
def test_few_prompts_leave_one_to_judge_by(n: int) -> None:
    fit, held = held_apart(phrased(n))
    assert len({row.prompt for row in held}) == max(1, n // 4) and len(fit) + len(held) == n * PHRASINGS
