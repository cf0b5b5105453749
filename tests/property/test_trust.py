"""A few of what `python -m benchmarks.trust` does many of: inputs that nobody would write, and many at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import crowd, fuzz


def test_any_file_gives_rows_that_survive_writing_or_a_named_error() -> None:
    tally = fuzz.imports(500, seed=1)
    assert tally.taken > 100 and tally.refused > 20


def test_any_edit_folder_gives_an_edit_that_survives_saving_or_a_named_error(tmp_path: Path) -> None:
    tally = fuzz.edit_folders(150, tmp_path, seed=1)
    assert tally.taken > 10 and tally.refused > 75


def test_any_knob_gives_a_config_that_survives_its_text_or_a_named_error() -> None:
    tally = fuzz.knobs(300, seed=1)
    assert tally.taken > 20 and tally.refused > 100


def test_any_command_line_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETOUCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tally = fuzz.command_lines(150, seed=1)
    assert tally.taken > 0 and tally.refused > 100
    assert not (tmp_path / "home" / "reports").exists()


def test_any_link_is_read_as_far_as_it_says_something() -> None:
    tally = fuzz.links(300, seed=1)
    assert tally.taken == 300


def test_threads_with_different_edits_say_what_each_says_alone(tiny_gpt2: Any) -> None:
    assert crowd.interleaved(tiny_gpt2, 80) == 0


def test_a_difference_would_be_seen(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]
    real = crowd._ids

    def sometimes(*given: Any) -> tuple[int, ...]:
        calls[0] += 1
        return () if calls[0] == 45 else real(*given)  # behind the forty that stand alone

    monkeypatch.setattr(crowd, "_ids", sometimes)
    assert crowd.interleaved(tiny_gpt2, 10, 2) == 1
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        fuzz._guarded(fuzz.Tally(), "x", lambda: 1 // 0)
