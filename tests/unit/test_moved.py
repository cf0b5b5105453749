"""Who was helped and who was harmed, and the shuffled control: planted answers, and what a shuffle must not leave."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import contrast_rows
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.labels import LaneLabel
from workbench.errors import Obstructed
from workbench.evaluate.benefit import Benefit, references
from workbench.evaluate.controls import shuffled
from workbench.evaluate.moved import moved_rows, shares_moved, templates, write_rows
from workbench.session import Session

ROWS = contrast_rows(60)


@pytest.fixture
def session(tiny_gpt2: Any, tmp_path: Path) -> Session:
    return Session(tiny_gpt2, tmp_path / "home")


def planted(*pairs: tuple[float, float]) -> Benefit:
    """Rows with these margins before and after; a row is right where its margin is above 0."""
    items = [
        {"id": str(i), "prompt": "w " * (i + 1), "lane": lane, "margin_nats": margin, "mc1": margin > 0, "tags": (f"template:{i % 2}",)}
        for i, pair in enumerate(pairs)
        for lane, margin in zip(("base", "e"), pair)
    ]
    return Benefit("m", (LaneLabel("base"), LaneLabel("e", ("1",))), "d", "test", len(pairs), (), tuple(items))


def test_rows_that_moved_the_wrong_way_and_turned_are_counted_apart() -> None:
    found = planted((1.0, -1.0), (2.0, 1.0), (-1.0, 1.0), (-2.0, -1.0), (0.5, 0.5 - 1e-6))
    told = shares_moved(found, 1)
    assert told is not None and told.n == 5
    assert (told.wrong_way.estimate, told.to_wrong.estimate, told.to_right.estimate) == (0.4, 0.2, 0.2)
    assert told.wrong_way.low < 0.4 < told.wrong_way.high
    rows = moved_rows(found, 1)
    assert {int(row["id"]): row["words"] for row in rows} == {i: i + 1 for i in range(5)}
    assert [round(row["gain"], 4) for row in rows] == [-2.0, -1.0, 0.0, 1.0, 2.0], "the most harmed first"
    assert [row["moved"] for row in rows] == ["wrong way"] * 2 + ["stays"] + ["right way"] * 2, "rounding moves nothing"
    assert [row["turned"] for row in rows] == ["right → wrong", "", "", "", "wrong → right"] and rows[0]["tags"] == "template:0"
    span = f"[{told.wrong_way.low:.0%}, {told.wrong_way.high:.0%}]"
    assert told.sentence == f"40% {span} of 5 rows move the wrong way; 1 turn from right to wrong, 1 from wrong to right."


def test_a_template_is_what_prompts_share() -> None:
    asked = [f"What is the capital of {name}?" for name in ("Peru", "Chad", "Cuba")] + [
        f"Who made {thing} first?" for thing in ("glass", "ink")
    ]
    assert templates(asked) == ["What is the capital of …"] * 3 + ["Who made … first?"] * 2
    assert templates(["one of a kind", "two"]) == ["…", "…"] and templates([]) == []
    rows = moved_rows(planted((1.0, -1.0), (2.0, 1.0)), 1)
    assert [row["template"] for row in rows] == ["w", "w"], "repeated words stand once"


def test_rows_that_are_neither_right_nor_wrong_do_not_turn() -> None:
    made = planted((1.0, -1.0), (2.0, 3.0))
    items = tuple({"log_ratio_nats" if key == "margin_nats" else key: value for key, value in item.items()} for item in made.items)
    told = shares_moved(replace(made, items=items), 1)
    # Less of a log-ratio is better, whatever its sign: -1 is as good as 1, and 3 is worse than 2.
    assert (
        told is not None and not told.turns and told.wrong_way.estimate == 0.5 and told.sentence.endswith("of 2 rows move the wrong way.")
    )
    one = shares_moved(planted((1.0, -1.0)), 1)
    assert one is not None and one.sentence.startswith("100% [3%, 100%] of 1 row moves the wrong way; 1 turn")
    lost = moved_rows(planted((1.0, float("nan"))), 1)
    assert (lost[0]["moved"], lost[0]["turned"]) == ("wrong way", "right → wrong"), "what is no number any more does not stay as it was"
    bare = tuple({key: value for key, value in item.items() if key != "margin_nats"} for item in made.items)
    assert shares_moved(replace(made, items=bare), 1) is None and moved_rows(replace(made, items=bare), 1) == []


def test_the_verdict_and_the_command_line_name_who_was_harmed(session: Session, tiny_folders: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from workbench.cli.main import app
    from workbench.data.sources import write

    edit = session.fit("mean_difference", ROWS, {"strength": 3.0}).edit
    found = session.evaluate(edit, ROWS, neutral=ROWS, n_placebos=1, n_generations=0, shuffled=True)
    assert "rows move the wrong way" in found.verdict.detail and "Fitted on shuffled sides it gives" in found.verdict.detail
    assert found.lanes[-1].label == "shuffled control of mean_difference × 1" and found.placebo_of == (None, None, 1, None)
    margin = found.benefit.metric("margin_nats").per_item
    assert margin[1].mean() > margin[3].mean() + 0.1, "unlinked sides teach less"
    with pytest.raises(Obstructed, match="not the set that it was fitted on"):
        session.evaluate(edit, contrast_rows(30, seed=4), neutral=ROWS, shuffled=True)
    folder, path, out = session.shelf.write(edit, tmp_path / "edit"), write(ROWS, tmp_path / "rows.jsonl"), tmp_path / "moved.csv"
    base = ["--model", str(tiny_folders["gpt2"]), "--workspace", str(tmp_path / "home"), "--json"]
    rest = ["--data", str(path), "--neutral", str(path), "--placebos", "1", "--generations", "0", "--controls", "placebo,shuffled"]
    ran = CliRunner().invoke(app, ["evaluate", "--edit", str(folder), *rest, "--rows", str(out), *base])
    assert ran.exit_code == 0 and "shuffled control of" in ran.output
    lines = list(csv.DictReader(out.open()))
    assert len(lines) == 2 * found.benefit.n and {line["moved"] for line in lines} <= {"right way", "wrong way", "stays"}


def test_a_shuffle_unlinks_sides_told_by_tags_alone_and_swaps_tagged_references() -> None:
    sided = [Demonstration(f"s{i}", tags=(f"concept:{'a' if i < 50 else 'b'}", "entity:x"), id=f"s{i}") for i in range(100)]
    pairs = [Demonstration(f"p{i}", " g", " b", tags=("true:also g", "false:also b"), id=f"p{i}") for i in range(100)]
    neutral = [Demonstration(f"n{i}", neutral="text", tags=("role:general",), id=f"n{i}") for i in range(50)]
    labelled = [Demonstration(f"l{i}", label="target" if i % 2 else "anti_target", id=f"l{i}") for i in range(50)]
    rows = Demonstrations((*sided, *pairs, *neutral, *labelled))
    found = {row.id: row for row in shuffled(rows, 0)}
    stays = sum(row.tags[0] in found[row.id].tags for row in sided)
    right = sum(references(found[row.id]) == references(row) for row in pairs)
    # A permutation over 150 rows puts one of 50 like ones in the place of each of 100: 33 of them, 6 standard deviations are 25.
    assert 8 <= stays <= 58
    assert right == 50, "half of the pairs are right, with their tagged references"
    assert all(references(found[row.id])[0] in ((" g", " also g"), (" b", " also b")) for row in pairs)
    assert all(found[row.id] == row for row in neutral), "no label reaches a neutral row"
    before, after = (Counter((row.label, *(tag for tag in row.tags if ":" in tag and tag.startswith("concept"))) for row in some)
                     for some in (rows, found.values()))  # fmt: skip
    assert before == after and shuffled(rows, 0) == shuffled(rows, 0) != shuffled(rows, 1)


def test_rows_are_written_as_a_table_or_as_json_as_the_files_name_says(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"lane": "a", "prompt": 'é, "x"', "gain": 0.5}, {"lane": "b", "prompt": "y", "why": "none"}]
    write_rows(rows, tmp_path / "deep" / "folder" / "rows.csv")
    text = (tmp_path / "deep" / "folder" / "rows.csv").read_text(encoding="utf-8")
    assert text.splitlines() == ["lane,prompt,gain,why", 'a,"é, ""x""",0.5,', "b,y,,none"]
    write_rows(rows, tmp_path / "rows.json")
    written = (tmp_path / "rows.json").read_text(encoding="utf-8")
    assert json.loads(written) == rows and "é" in written
