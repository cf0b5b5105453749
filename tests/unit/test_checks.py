"""Checks: each finds what it is for in a set that has it, and nothing in the same set without it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workbench.data.checks import Check, checks, first_difference
from workbench.data.demonstrations import Demonstration, Demonstrations

ADJECTIVES = ("red", "old", "wet", "dry", "big", "shy", "raw", "fat", "odd", "new", "sad", "icy")


def clean(n: int = 12) -> Demonstrations:
    """Pairs that differ in nothing but what they say."""
    rows = [Demonstration(f"Q: What is thing {i}?\nA:", f" It is {ADJECTIVES[i]}.", f" It is {ADJECTIVES[-1 - i]}.") for i in range(n)]
    return Demonstrations(tuple(rows))


def found(demonstrations: Demonstrations) -> dict[str, Check]:
    return {check.name: check for check in checks(demonstrations) if check.count}


def with_row(index: int, **changes: object) -> Demonstrations:
    rows = list(clean().rows)
    rows[index] = replace(rows[index], **changes)  # type: ignore[arg-type]
    return Demonstrations(tuple(rows))


def everywhere(**changes: object) -> Demonstrations:
    return Demonstrations(tuple(replace(row, **changes) for row in clean()))  # type: ignore[arg-type]


def test_a_clean_set_has_every_check_and_no_finding() -> None:
    answers = checks(clean())
    assert len({check.name for check in answers}) == len(answers) == 12
    assert all(check.severity == "fine" and check.count == 0 for check in answers)


def test_what_too_few_rows_cannot_tell_is_not_called_fine() -> None:
    few = {check.name for check in checks(clean().first(4)) if check.severity == "unjudged"}
    assert few == {"length", "final_period", "first_token", "words"}
    assert not [check for check in checks(clean()) if check.severity == "unjudged"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("empty", {"positive": "  "}),
        ("missing_side", {"negative": None}),
        ("same_text", {"negative": " IT IS  big."}),
        ("leading_space", {"positive": "glued."}),
    ],
)
def test_one_bad_row_is_found_where_it_is(name: str, changes: dict[str, object]) -> None:
    check = found(with_row(4, **changes))[name]
    assert check.rows == (4,) and check.severity != "fine" and check.advice


def test_a_prompt_that_ends_in_a_space_is_found_and_one_that_ends_in_a_line_is_not() -> None:
    assert found(with_row(2, prompt="Thing 2 is "))["leading_space"].rows == (2,)
    assert not found(with_row(2, prompt="Thing 2:\n", positive="It is wet.", negative="It is big."))


def test_copies_are_found_beyond_case_and_spaces() -> None:
    rows = clean().rows
    copy = replace(rows[1], prompt=rows[1].prompt.upper().replace(" ", "  "))
    assert found(Demonstrations((*rows, copy)))["duplicates"].rows == (12,)


def test_a_question_on_both_sides_of_a_split_is_a_leak_and_within_one_is_not() -> None:
    rows = [replace(row, tags=(f"entity:thing {i // 2}",)) for i, row in enumerate(clean())]
    assert "leak" not in found(Demonstrations(tuple(rows)))
    rows[5] = replace(rows[5], split="test")
    assert found(Demonstrations(tuple(rows)))["leak"].rows == (4, 5)


def test_length_that_tells_the_sides_apart_is_found_with_its_auc() -> None:
    check = found(everywhere(negative=" It is a long and winding tale of no end."))["length"]
    assert check.value == 0.0 and check.count == 12
    assert "0.00" in check.advice


def test_a_period_on_one_side_is_found() -> None:
    rows = [replace(row, positive=(row.positive or "").rstrip(".")) for row in clean()]
    check = found(Demonstrations(tuple(rows)))["final_period"]
    assert check.value == -1.0 and check.count == 12


def test_one_fixed_pair_of_words_is_noticed() -> None:
    rows = [replace(row, positive=f" Yes to {i}.", negative=f" Nay to {i}.") for i, row in enumerate(clean())]
    check = found(Demonstrations(tuple(rows)))["first_token"]
    assert check.value == 1.0 and check.severity == "notice"


def test_classes_are_unbalanced_above_three_to_one() -> None:
    def labelled(n_rare: int) -> Demonstrations:
        return Demonstrations(tuple(Demonstration(f"p{i}", label=" no" if i < n_rare else " yes") for i in range(n_rare + 12)))

    assert "classes" not in found(labelled(4))
    check = found(labelled(3))["classes"]
    assert check.rows == (0, 1, 2) and check.value == 4.0


def test_too_few_pairs_are_not_judged() -> None:
    few = Demonstrations(everywhere(negative=" It is a long and winding tale of no end.").rows[:9])
    assert "length" not in found(few)


def test_the_first_difference_is_counted_in_the_tokens_that_are_given() -> None:
    row = Demonstration("p", " a b c", " a b d e")
    assert first_difference(row) == 2
    assert first_difference(row, list) == 5
    assert first_difference(Demonstration("p", " a", " a b")) == 1
    assert first_difference(Demonstration("p", " a", " a")) is None
    assert first_difference(Demonstration("p", " a")) is None
