"""A small class follows one link on one server: everybody is answered, nothing crosses, the teacher's table is right."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.classroom import Pupil, measured, wrong_rows
from workbench.workspace.home import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_small_class_follows_a_link(tmp_path: Path) -> None:
    # A thread of its own: a browser test in the same process keeps an event loop running in this one.
    with ThreadPoolExecutor(1) as thread:
        found, wrong = thread.submit(measured, 4, tmp_path).result()
    assert found.failed == () and found.crossed == 0 and wrong == []
    assert found.actions > 4 * 4


def test_a_table_that_is_wrong_would_be_seen(tmp_path: Path) -> None:
    learning = Workspace(tmp_path).learning
    link = learning.new_class("teacher", "lens", "embedded")
    tab: Any = None
    pupils = [Pupil(0, tab, ""), Pupil(1, tab, "")]
    learning.join("a", link.id)
    learning.call("a", "Pupil 0")
    learning.note(learning.begin("a", "lens", 0), hints=0)
    told = wrong_rows(learning, link, pupils)
    assert len(told) == 2 and "passed False" in told[0] and told[1] == "Pupil 1 is missing"
