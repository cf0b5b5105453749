"""How many rows have all that a method needs: pairs, or prompts of two sets where these do as well."""

from __future__ import annotations

from dataclasses import replace

from tests.conftest import contrast_rows
from workbench.methods import get
from workbench.methods.shared.needs import n_complete


def test_two_sets_of_prompts_without_answers_are_complete_for_methods_that_take_them_alone() -> None:
    pairs = contrast_rows(6)
    sets = pairs.with_rows(
        [replace(row, positive=None, negative=None, label=("target", "anti_target", "")[i % 3]) for i, row in enumerate(pairs)]
    )
    takes, others = get("mean_difference").needs, get("hpr").needs
    assert takes.sets and not others.sets
    assert n_complete(takes, pairs) == n_complete(others, pairs) == 6
    assert n_complete(takes, sets) == 4 and n_complete(others, sets) == 0, "two of six are of neither side"
