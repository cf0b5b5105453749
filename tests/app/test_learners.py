"""A small class on one server: everybody is answered, nothing of one reaches another, and the base model is bit-equal after."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.learners import AIMS, Seen, class_of, measured, missed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_small_class_is_answered_and_nothing_crosses(tmp_path: Path) -> None:
    # A thread of its own: a browser test in the same process keeps an event loop running in this one.
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(measured, learners=5, fits=2, minutes=0.4, folder=tmp_path).result()
    assert found.failed == 0, found.first_failure
    assert found.crossed == 0 and found.is_bit_equal and found.fits_begun >= 2 and found.actions > 5
    # No time is judged here: others use the machine while tests run.
    assert missed(replace(found, median_s=0.0, p95_s=0.0)) == []
    worse = replace(found, crossed=1, minutes=5, mb_per_100_actions=2 * AIMS["mb_per_100_actions"], is_bit_equal=False)
    assert len(missed(replace(worse, median_s=9.0, p95_s=9.0))) == 5


def test_a_secret_that_reaches_another_is_seen_and_ones_own_is_none() -> None:
    seen = Seen()
    one, two = class_of(2, 0, "http://127.0.0.1:1", seen)
    two.tab.look(f"What do {two.secret} hate?".encode())
    assert seen.crossed == []
    one.tab.look(f"What do {two.secret} hate?".encode())
    assert len(seen.crossed) == 1 and seen.crossed[0].endswith("reached 0")
