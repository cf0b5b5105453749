"""A verdict within a time: the number of rows follows from the clock, the rows from a fixed order, and there is one look."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conftest import contrast_rows, taught_rows, words
from workbench.evaluate import evaluation as evaluated
from workbench.evaluate.benefit import benefit
from workbench.evaluate.budget import LEAST_ROWS, LEAST_TEXTS, Budget, budget, drawn
from workbench.evaluate.evaluation import evaluation
from workbench.methods import get
from workbench.numerics.intervals import mean_interval


class Clock:
    """Time that passes only by work."""

    def __init__(self, per_row: float, per_text: float) -> None:
        self.now, self.per_row, self.per_text, self.rows, self.texts = 0.0, per_row, per_text, 0, 0

    def measure_rows(self, n: int) -> None:
        self.rows, self.now = n, self.now + n * self.per_row

    def measure_texts(self, n: int) -> None:
        self.texts, self.now = n, self.now + n * self.per_text


@pytest.mark.parametrize(("per_row", "per_text"), [(0.05, 0.1), (0.2, 0.2), (0.001, 0.5)])
def test_what_is_taken_fits_into_the_time_and_uses_most_of_it(per_row: float, per_text: float) -> None:
    clock = Clock(per_row, per_text)
    found = budget(10.0, clock.measure_rows, [1.0] * 20_000, clock.measure_texts, [1.0] * 20_000, lambda: clock.now)
    assert found.rows is not None and found.texts is not None
    spent = clock.now + found.rows * per_row + found.texts * per_text
    assert 9.0 <= spent <= 10.0 + 1e-9


def test_a_slow_model_still_gets_the_least_that_says_something_and_without_texts_rows_get_all() -> None:
    slow = Clock(20.0, 20.0)
    assert budget(10.0, slow.measure_rows, [1.0] * 99, slow.measure_texts, [1.0] * 99, lambda: slow.now) == Budget(LEAST_ROWS, LEAST_TEXTS)
    alone = Clock(0.125, 0.0)
    assert budget(10.0, alone.measure_rows, [1.0] * 99, None, clock=lambda: alone.now) == Budget(76, None)


@pytest.mark.parametrize("sizes", [[1.0] * 4 + [4.0] * 400, [4.0] * 4 + [1.0] * 400])
def test_where_the_first_rows_are_shorter_or_longer_than_the_others_the_time_still_holds(sizes: list[float]) -> None:
    now, seconds_a_size = 0.0, 0.05

    def measure(n: int) -> None:
        nonlocal now
        now += seconds_a_size * sum(sizes[:n])

    found = budget(10.0, measure, sizes, None, clock=lambda: now)
    assert found.rows is not None and 9.0 <= now + seconds_a_size * sum(sizes[: found.rows]) <= 10.0 + 1e-9
    assert found.rows != budget(10.0, measure, [1.0] * 404, None, clock=lambda: now).rows  # rows taken for equals


def test_rows_are_drawn_in_one_order_that_is_not_the_sets_and_a_smaller_draw_is_part_of_a_larger() -> None:
    rows = contrast_rows(100)
    draws = [[row.id for row in drawn(rows, n)] for n in (8, 20, 50)]
    assert all(set(few) < set(many) for few, many in zip(draws, draws[1:]))
    assert draws[0] != [row.id for row in rows][:8] and draws == [[row.id for row in drawn(rows, n)] for n in (8, 20, 50)]
    assert drawn(rows, None) is rows and drawn(rows, 100) is rows
    # A set in the order of what is to be measured is not measured on one end of it.
    at = np.array([int(str(row.id).rsplit("-", 1)[1]) for row in drawn(rows, 30)])
    assert abs(at.mean() - 49.5) < 15


def test_fewer_rows_are_said_and_scored_as_they_are_alone(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = taught_rows(60)
    edit = get("mean_difference").fit(tiny_gpt2, rows).edit
    neutral = [str(row.neutral) for row in rows if row.neutral][:6]
    whole = evaluation(tiny_gpt2, rows, [(edit,)], neutral=neutral, n_generations=0, n_placebos=1, seconds=5.0)
    assert whole.benefit.n_of == 0 and "drawn from" not in whole.verdict.detail  # small models are measured whole
    monkeypatch.setattr(evaluated, "SMALL", 0)
    monkeypatch.setattr(evaluated, "budget", lambda *_: Budget(9, 4))
    few = evaluation(tiny_gpt2, rows, [(edit,)], neutral=neutral, n_generations=0, n_placebos=1, seconds=5.0)
    assert few.benefit.n == 9 and few.benefit.n_of == len(rows.split("test")) and few.side_effects and few.side_effects.n_texts == 4
    assert f"9 rows of split test (drawn from {few.benefit.n_of})" in few.verdict.detail
    alone = benefit(tiny_gpt2, drawn(rows.split("test"), 9), [(edit,)])
    assert few.benefit.metrics[0].values[1].estimate == pytest.approx(alone.metrics[0].values[1].estimate, abs=1e-5)


def test_own_answers_are_made_together_before_the_look_and_their_time_is_taken_off(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, told = taught_rows(60), dict[str, Any]()
    edit = get("mean_difference").fit(tiny_gpt2, rows).edit
    neutral = [str(row.neutral) for row in rows if row.neutral][:20]
    own = [f"{words(3, 4)} {words(i)}" for i in range(20)]
    now = [0.0]

    def answers(model: Any, prompts: Any, **_: Any) -> None:
        told["answered"] = len(prompts)
        now[0] += 3.0

    def look(seconds: float, measure_rows: Any, row_sizes: Any, measure_texts: Any, text_sizes: Any) -> Budget:
        told.update(seconds=seconds, n_texts=len(text_sizes))
        return Budget(9, 4)

    monkeypatch.setattr(evaluated, "SMALL", 0)
    monkeypatch.setattr(evaluated, "own_answers", answers)
    monkeypatch.setattr(evaluated, "budget", look)
    monkeypatch.setattr("workbench.evaluate.evaluation.time.perf_counter", lambda: now[0])
    evaluation(tiny_gpt2, rows, [(edit,)], neutral=neutral, own=own, n_generations=0, n_placebos=1, seconds=10.0)
    assert told == {"answered": 12, "seconds": 7.0, "n_texts": 12}, "no more texts than have answers"


def test_one_look_keeps_its_promise_and_looks_on_the_way_do_not() -> None:
    """Why the verdict is told once: the same test after every batch finds an effect in noise far more often."""
    draw, once, many = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        gain = draw.normal(size=100)
        signs = [mean_interval(gain[:n]).sign > 0 for n in range(10, 101, 10)]
        once, many = once + signs[-1], many + any(signs)
    assert once <= 40 < 60 <= many  # of 1,000: 2.5 % are claimed, and 4 % is its bound at 200 draws a percent


def test_a_score_of_at_most_so_many_rows_is_that_of_those_drawn(tiny_gpt2: Any) -> None:
    rows = taught_rows(60).split("test")
    few, drawn_ones = benefit(tiny_gpt2, rows, [()], most_rows=5), drawn(rows, 5)
    assert few.n == 5 and few.n_of == len(rows) and few.metrics[0].n == 5
    assert {item["id"] for item in few.items} == {row.id for row in drawn_ones} != {row.id for row in rows}
