"""A workspace that is killed, or whose disk is full, at any point of its work has lost nothing that it acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import forced as harness
from tests.forced import forced


@pytest.mark.parametrize("event", ["kill", "full"])
def test_nothing_acknowledged_is_lost_and_nothing_is_left_over_wherever_it_happens(tmp_path: Path, event: harness.Event) -> None:
    met = 0
    for n in range(0, 400, 9 if event == "kill" else 13):
        if forced(tmp_path / str(n), n, event):
            break
        met += 1
    else:
        pytest.fail("the work never came to its end")
    assert met >= 8


def test_what_is_lost_would_be_seen(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    assert forced(folder, 10_000, "kill")
    harness._look(folder, [("set", "typed")], 0, "kill")
    with pytest.raises(AssertionError):
        harness._look(folder, [("run", "another")], 0, "kill")
    with pytest.raises(AssertionError, match="a refused edit is there"):
        harness._look(folder, [("set", "typed")], 0, "full")
    (folder / "edits" / ".rest").mkdir()
    with pytest.raises(AssertionError, match="left over"):
        harness._look(folder, [], 0, "kill")
