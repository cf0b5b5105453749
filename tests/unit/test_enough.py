"""More pairs tell held-out rows apart better where there is something to tell, and no better than chance where there is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conftest import words
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import NotEnoughData
from workbench.figures.geometry import enough_curve
from workbench.lenses.enough import enough_pairs


def rows_of(n_fit: int, n_held: int, shuffled: bool = False) -> Demonstrations:
    """Pairs whose positive ends in one of two words and whose negative in one of two others; shuffled, each side has either."""
    rng = np.random.default_rng(0)
    rows: list[Demonstration] = []
    for i in range(n_fit + n_held):
        good, bad = f" w{rng.integers(3, 5)}", f" w{rng.integers(7, 9)}"
        if shuffled and rng.random() < 0.5:
            good, bad = bad, good
        rows.append(Demonstration(words(*rng.integers(10, 90, 4)), good, bad, split="fit" if i < n_fit else "test", id=f"{i}"))
    return Demonstrations(tuple(rows), "rows")


def test_sizes_grow_to_all_rows_and_sides_that_differ_are_told_apart(tiny_gpt2: Any) -> None:
    found = enough_pairs(tiny_gpt2, rows_of(30, 20))
    assert found.sizes == (5, 10, 20, 30) and found.n_held == 20
    assert found.auc[-1].low > 0.5 and found.margin[-1].low > 0
    assert all(a.low <= a.estimate <= a.high <= 1 for a in found.auc)
    assert [row["pairs"] for row in found.rows()] == [5, 10, 20, 30]
    assert enough_pairs(tiny_gpt2, rows_of(30, 20)) == found != enough_pairs(tiny_gpt2, rows_of(30, 20), seed=1)


def test_sides_that_were_shuffled_are_at_chance_whatever_the_number(tiny_gpt2: Any) -> None:
    found = enough_pairs(tiny_gpt2, rows_of(40, 40, shuffled=True))
    assert found.auc[-1].low < 0.5 < found.auc[-1].high and found.margin[-1].low < 0 < found.margin[-1].high


def test_too_few_rows_are_refused_with_both_numbers(tiny_gpt2: Any) -> None:
    with pytest.raises(NotEnoughData, match="4 rows a side to fit on and 20 held out"):
        enough_pairs(tiny_gpt2, rows_of(4, 20))
    with pytest.raises(NotEnoughData, match="20 rows a side to fit on and 9 held out"):
        enough_pairs(tiny_gpt2, rows_of(20, 9))
    with pytest.raises(NotEnoughData):
        enough_pairs(tiny_gpt2, Demonstrations((Demonstration("w1"),), "bare"))


def test_the_curve_shows_each_size_with_its_interval(tiny_gpt2: Any) -> None:
    found = enough_pairs(tiny_gpt2, rows_of(30, 20))
    (line,) = enough_curve(found).data
    assert list(line.x) == list(found.sizes) and list(line.y) == [value.estimate for value in found.auc]
    assert [y + up for y, up in zip(line.y, line.error_y.array)] == pytest.approx([value.high for value in found.auc])
