"""Rows that an edit was fitted on are never scored as held out, whatever happened to the set since."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import contrast_rows, words
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sources import write
from workbench.edits.store import load_edit, save
from workbench.errors import CorruptEdit, FittedRows
from workbench.progress import Progress, Report
from workbench.session import Session

ROWS = contrast_rows(40)
FITTED = {row.id for row in ROWS.split("fit")}


@pytest.fixture
def session(tiny_gpt2: Any, tmp_path: Path) -> Session:
    return Session(tiny_gpt2, tmp_path / "home")


def scored(session: Session, edit: Any, source: Any, **more: Any) -> Any:
    return session.evaluate(edit, source, neutral=ROWS, n_placebos=1, n_generations=0, **more).benefit


def turned(rows: Demonstrations) -> Demonstrations:
    """The same rows, those for fitting and those for testing exchanged."""
    other = {"fit": "test", "test": "fit", "validation": "validation"}
    return rows.with_rows(replace(row, split=other[row.split]) for row in rows)


def test_a_fit_carries_its_rows_in_its_header_and_on_disk(session: Session, tmp_path: Path) -> None:
    edit = session.fit("mean_difference", ROWS).edit
    assert edit.header.rows == ROWS.fitted_marks and len(edit.header.rows) == 2 * len(FITTED)
    folder = save(edit, tmp_path / "kept")
    again = load_edit(folder)
    assert again.header.rows == edit.header.rows and again.id == edit.id
    told = json.loads((folder / "edit.json").read_text())
    told["header"]["rows"] = [1]
    (folder / "edit.json").write_text(json.dumps(told))
    with pytest.raises(CorruptEdit, match="needed are texts"):
        load_edit(folder)


def test_splits_that_change_after_the_fit_bring_no_fitted_row_to_the_score(session: Session) -> None:
    edit = session.fit("mean_difference", ROWS).edit
    honest = scored(session, edit, ROWS)
    assert honest.left_out == () and honest.n == len(ROWS.split("test")) and honest.why == ""
    # a third of the rows for fitting moved over to the test rows
    moved = ROWS.with_rows(replace(row, split="test") if row.id in sorted(FITTED)[::3] else row for row in ROWS)
    found = scored(session, edit, moved)
    assert set(found.left_out) == set(sorted(FITTED)[::3]) and found.n == honest.n
    assert {item["id"] for item in found.items}.isdisjoint(FITTED) and "left out" in found.why
    assert found.metrics[0].values[1] == honest.metrics[0].values[1], "the score is that of the rows that were always held out"
    with pytest.raises(FittedRows, match=f"All {len(FITTED)} rows of split test"):
        scored(session, edit, turned(ROWS))
    assert scored(session, edit, turned(ROWS), split=None).n == len(ROWS) - len(FITTED)


def test_rows_that_are_retyped_renamed_or_retagged_stay_fitted(session: Session) -> None:
    edit = session.fit("mean_difference", ROWS).edit
    retyped = [
        replace(row, split="test", id=f"new-{i}", tags=("other:tag",), prompt=f" {row.prompt}  ", positive=f" w{1 + i % 9}")
        for i, row in enumerate(ROWS.split("fit"))
    ]
    new = Demonstration(words(48, 49, 48, 47), " w3", " w51", split="test", id="fresh")
    found = scored(session, edit, Demonstrations((*retyped, new), "retyped"))
    assert found.n == 1 and {item["id"] for item in found.items} == {"fresh"} and len(found.left_out) == len(FITTED)


def test_a_set_edited_while_its_fit_runs_is_scored_on_rows_that_the_fit_had_not(session: Session) -> None:
    session.demos.save(Demonstrations(ROWS.rows, "mine"))

    def edit_the_set(report: Report) -> None:
        if session.demos("mine").fingerprint == ROWS.fingerprint:
            session.demos.save(turned(ROWS), key="mine")

    edit = session.fit("mean_difference", "mine", progress=Progress(edit_the_set)).edit
    assert session.demos("mine").fingerprint == turned(ROWS).fingerprint != edit.header.data
    with pytest.raises(FittedRows):
        scored(session, edit, "mine")
    with pytest.raises(FittedRows):
        session.sweep(edit, "mine", [1.0], neutral=ROWS)


def test_a_file_that_is_replaced_by_its_own_rows_is_not_held_out(session: Session, tmp_path: Path) -> None:
    path = write(ROWS, tmp_path / "pairs.jsonl")
    edit = session.fit("mean_difference", str(path)).edit
    write(ROWS.split("fit").with_rows(replace(row, split="test", id="") for row in ROWS.split("fit")), path)
    with pytest.raises(FittedRows):
        scored(session, edit, str(path))
    # A file without splits counts as test whole: the rows that were fitted are left out all the same.
    bare = [{"prompt": row.prompt, "positive": row.positive, "negative": row.negative} for row in ROWS]
    path.write_text("".join(json.dumps(row) + "\n" for row in bare))
    assert scored(session, edit, str(path)).n == len(ROWS) - len(FITTED)


def test_every_lane_is_scored_on_rows_that_no_lane_was_fitted_on(session: Session) -> None:
    one = session.fit("mean_difference", ROWS).edit
    other = session.fit("mean_difference", turned(ROWS)).edit
    with pytest.raises(FittedRows):
        scored(session, [one, other], ROWS)
    assert scored(session, [one], ROWS, split="fit").why.startswith("These rows are for fitting")
    assert session.evaluate(one, ROWS, split="fit", neutral=ROWS, n_placebos=1, n_generations=0).verdict.kind == "not told"


def test_the_same_question_may_be_asked_in_another_split_with_other_answers() -> None:
    fit = Demonstration("w1 w2", " w3", " w4", split="fit")
    held, twin = Demonstration("w1 w2", " w5", " w6", split="test"), Demonstration("w1 w2", " w3", " w4", split="test")
    marks = Demonstrations((fit, held)).fitted_marks
    assert Demonstrations((held, twin)).not_among(marks).rows == (held,)
    assert Demonstrations((held, twin)).not_among(Demonstrations((fit,)).fitted_marks).rows == ()
    chat = Demonstrations((fit.put_as_chat("Be brief."),))
    assert Demonstrations((twin,)).not_among(chat.fitted_marks).rows == (), "a question put as a chat is the same question"
    alone = Demonstrations((Demonstration("w1", split="fit"), Demonstration("w1", split="test")))
    assert len(alone.split("test").not_among(alone.fitted_marks)) == 0, "a row that is there twice is not held out"


def test_an_edit_of_an_older_version_is_told_by_its_set_and_else_said_not_to_be_known(session: Session) -> None:
    edit = session.fit("mean_difference", ROWS).edit
    older = replace(edit, header=replace(edit.header, rows=()))
    assert "rows" not in older.header.as_json()
    assert scored(session, older, ROWS, split=None).n == len(ROWS) - len(FITTED)
    assert "older version" in scored(session, older, turned(ROWS)).why


def test_a_row_that_stands_there_twice_is_no_second_evidence(session: Session) -> None:
    edit = session.fit("mean_difference", ROWS).edit
    copies = [replace(row, id=f"{row.id}-{i}", tags=("other",)) for row in ROWS.split("test") for i in range(9)]
    found, plain = scored(session, edit, ROWS.with_rows((*ROWS, *copies))), scored(session, edit, ROWS)
    assert found.n == plain.n == len(ROWS.split("test")) and found.metrics[0].values == plain.metrics[0].values
    assert found.why == f"{9 * plain.n} rows are copies of others and not counted." and found.left_out == ()
    assert "1 row is a copy" in scored(session, edit, ROWS.with_rows((*ROWS, copies[0]))).why


def test_rows_that_share_a_question_and_rows_that_chose_are_named(session: Session) -> None:
    whole = contrast_rows(80)
    edit, test = session.fit("mean_difference", whole).edit, whole.split("test")
    others = [replace(row, negative=" w47", id=f"{row.id}-b") for row in test]
    told = f"The {2 * len(test)} rows ask {len(test)} different questions: as evidence they are nearer to {len(test)}"
    assert scored(session, edit, whole.with_rows((*whole, *others))).why.startswith(told)
    assert scored(session, edit, whole.with_rows((*whole, others[0]))).why == "", "a few are no matter"
    n = len(whole.split("validation"))
    chose = f"{n} of these rows are of split validation: where they chose the edit's settings, the score flatters."
    for split in ("validation", None):
        found = session.evaluate(edit, whole, split=split, neutral=ROWS, n_placebos=1, n_generations=0)
        assert chose in found.benefit.why and chose in found.verdict.detail
    assert session.evaluate((), whole, split="validation", neutral=ROWS, n_placebos=0, n_generations=0).benefit.why == ""


def test_rows_that_ask_nothing_are_no_rows_of_a_score(session: Session) -> None:
    edit = session.fit("mean_difference", ROWS).edit
    general = [Demonstration("", neutral=f"w{i} w{i + 1}", split="test", tags=("role:general",)) for i in range(30)]
    found = scored(session, edit, ROWS.with_rows((*ROWS, *general)))
    assert found.n == len(ROWS.split("test")) and found.why == ""
