"""The command line as a program: how its options are read, what it prints, and what it does not wait for."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from workbench.cli.options import named, numbers
from workbench.cli.printing import cell, table
from workbench.errors import BadKnob

ROOT = Path(__file__).parents[2]


def test_settings_and_numbers_are_refused_when_unclear() -> None:
    assert named(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(BadKnob, match="twice"):
        named(["a=1", "a=2"])
    assert numbers("0.5, 1", "--doses") == (0.5, 1.0)
    with pytest.raises(BadKnob, match="empty"):
        numbers(",", "--doses")


def test_model_output_cannot_move_the_cursor_of_a_terminal() -> None:
    assert cell("a\x1b[2Jb\nc") == "a\\x1b[2Jb⏎c"
    assert "\x1b" not in "".join(table([{"text": "\x1b[31m"}]))


def run(*arguments: str, **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys\nfrom workbench.cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(7 if 'torch' in sys.modules else 0)"
    )
    found = run("-c", code)
    assert found.returncode == 0, found.stderr
    assert "evaluate" in found.stdout


def test_sets_and_files_are_shown_without_torch(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    code = (
        "import sys\nfrom workbench.cli.main import app\n"
        f"for command in (['demos'], ['demos', {str(tmp_path / 'pairs.jsonl')!r}, '--save']):\n"
        "    try:\n        app(command)\n    except SystemExit as end:\n        assert not end.code\n"
        "sys.exit(7 if 'torch' in sys.modules else 0)"
    )
    found = run("-c", code, RETOUCH_HOME=str(tmp_path / "home"))
    assert found.returncode == 0, found.stderr
    assert "Saved as pairs" in found.stdout


def test_the_module_runs_from_a_shell_and_fails_in_one_sentence(tmp_path: Path) -> None:
    found = run("-m", "workbench", "demos", str(tmp_path / "no.jsonl"), RETOUCH_HOME=str(tmp_path))
    assert found.returncode == 2 and found.stdout == ""
    assert len(found.stderr.strip().splitlines()) == 2 and "There is no file" in found.stderr


@pytest.mark.parametrize("command", [["generate", "--prompt", "caf\udce9"], ["caf\udce9"], ["demos", "caf\udce9.csv"]])
def test_bytes_that_are_no_text_are_named_before_anything_is_loaded(command: list[str]) -> None:
    found = run("-m", "workbench", *command)
    assert found.returncode == 2 and "no UTF-8 text" in found.stderr and "\\udce9" in found.stderr and "Traceback" not in found.stderr


@pytest.mark.parametrize("seed", ["-1", str(2**32), "9" * 40, "one"])
def test_a_seed_that_not_every_part_can_take_is_refused_before_a_fit(seed: str) -> None:
    found = run("-m", "workbench", "fit", "sea", "--data", "truthfulness", "--seed", seed)
    assert found.returncode == 2 and "--seed" in found.stderr and "Traceback" not in found.stderr


@pytest.mark.parametrize(("address", "is_open"), [("localhost", False), ("127.0.0.1", False), ("0.0.0.0", True), ("192.168.0.7", True)])
def test_an_app_that_others_can_reach_says_so(
    address: str, is_open: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from workbench.cli import showing

    started: list[list[str]] = []
    monkeypatch.setattr(showing.os, "execve", lambda program, command, environment: started.append(command))
    showing.app(port=8501, address=address)
    assert ("no password" in capsys.readouterr().out) is is_open and started[0][-1] == address


@pytest.mark.parametrize("is_class", [False, True])
def test_a_class_is_told_to_the_app(is_class: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from workbench.cli import showing
    from workbench.workspace.share import CLASS

    monkeypatch.delenv(CLASS, raising=False)
    started: list[dict[str, str]] = []
    monkeypatch.setattr(showing.os, "execve", lambda program, command, environment: started.append(environment))
    showing.app(is_class=is_class)
    assert (CLASS in started[0]) is is_class and capsys.readouterr().out
    # A class's server gives freed tensors back; a person's own is as the system has it.
    assert ("MALLOC_MMAP_THRESHOLD_" in started[0]) is is_class


def test_streamlit_alone_answers_this_machine_only() -> None:
    assert tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["server"]["address"] == "localhost"
