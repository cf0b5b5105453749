"""`retouch demos`: sets are made, copied, merged, deleted and put back; files, folders and pastes are read through a mapping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from workbench.cli.main import app


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETOUCH_HOME", str(tmp_path / "home"))
    return tmp_path


def run(*arguments: str, given: str = "") -> Any:
    result = CliRunner().invoke(app, ["demos", *arguments, "--json"], input=given)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["demos", *arguments])
    assert result.exit_code == 2 and "Traceback" not in result.output
    return result.stderr


def test_a_set_is_made_copied_merged_deleted_and_put_back(home: Path) -> None:
    run("-", "--save", "--name", "one", given="a\tx\ty\nb\tx\ty\n")
    assert run("duplicate", "one")["set"]["name"] == "one copy"
    assert run("rename", "one copy", "two")["set"]["name"] == "two"
    assert run("merge", "one", "two", "--name", "both")["set"]["n"] == 2
    gone = run("delete", "two")["set"]["id"]
    assert [item["id"] for item in run("bin")["bin"]] == [gone]
    assert run("restore", gone)["set"]["name"] == "two" and run("bin")["bin"] == []
    assert run("new", "three")["set"]["n"] == 0
    titles = {item["title"] for item in run()["sets"]}
    assert {"one", "two", "both", "three"} <= titles


def test_an_unknown_file_and_a_folder_are_read_through_a_mapping(home: Path) -> None:
    (home / "q.csv").write_text("Frage,Gut\nWas ist Eis?,Wasser\nWas ist Gold?,Metall\n")
    assert "no known layout" in refused(str(home / "q.csv"))
    told = run(str(home / "q.csv"), "--map", "prompt=Frage", "--map", "positive=Gut", "--save", "--name", "quiz")
    assert told["rows"][0]["positive"] == " Wasser" and told["saved"]["name"] == "quiz"
    (home / "data").mkdir()
    (home / "data" / "train.jsonl").write_text("".join(json.dumps({"prompt": f"p{i}", "kind": "ab"[i % 2]}) + "\n" for i in range(8)))
    told = run(f"hf:{home / 'data'}", "--where", "kind=b", "--limit", "3")
    assert [row["prompt"] for row in told["rows"]] == ["p1", "p3", "p5"] and run()["sets"][0]["title"] == "quiz"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["rename", "one"], "takes 2 words"), (["delete", "truthfulness"], "ships with Retouch"),
        (["delete", "nobody"], "No demonstration set"), (["one", "two"], "Got demos one two"),
        (["merge", "truthfulness"], "Got 1 set"), (["x.csv", "--where", "a=b"], "--where"),
        (["x.csv", "--map", "prompt"], "not name=value"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_a_sentence(home: Path, arguments: list[str], word: str) -> None:
    assert word in refused(*arguments)
