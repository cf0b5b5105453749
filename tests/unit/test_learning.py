"""Progress is a person's own, outlives a restart, and a class sees its own learners alone."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from workbench.errors import UnknownName
from workbench.workspace.home import Workspace
from workbench.workspace.learning import STUCK_S, progress_csv


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_progress_is_there_after_a_restart_and_for_its_person_alone(workspace: Workspace) -> None:
    learning = workspace.learning
    one = learning.begin("anna", "lens", 0)
    learning.note(one, hints=2, wrong=1, answer="right", saw="a cat", done=True, facts={"lens.tokens": 3})
    again = Workspace(workspace.folder).learning
    (kept,) = again.steps("anna", "lens")
    assert (kept.hints, kept.wrong, kept.saw, kept.facts) == (2, 1, "a cat", {"lens.tokens": 3}) and kept.done is not None
    assert again.n_done("anna") == {"lens": 1} and again.n_done("ben") == {} and again.steps("ben", "lens") == ()


def test_a_step_that_is_begun_again_keeps_its_time_and_one_that_is_done_stays_done(workspace: Workspace) -> None:
    learning = workspace.learning
    one = learning.begin("anna", "lens", 0)
    assert learning.begin("anna", "lens", 0).began == one.began
    learning.note(one, done=True)
    (first,) = learning.steps("anna", "lens")
    learning.note(one, done=True)
    assert learning.steps("anna", "lens")[0].done == first.done
    learning.forget("anna", "lens")
    assert learning.steps("anna", "lens") == ()


def test_a_class_tells_who_is_where_and_who_is_stuck_and_nobody_else(workspace: Workspace) -> None:
    learning = workspace.learning
    link = learning.new_class("teacher", "lens", "embedded", ["Inspect"])
    other = learning.new_class("teacher", "stream", "embedded")
    for name in ("anna", "ben", "eva"):
        learning.join(name, link.id)
        learning.call(name, name.title())
    learning.join("stranger", other.id)
    learning.note(learning.begin("anna", "lens", 0), done=True)
    learning.begin("anna", "lens", 1)
    learning.note(learning.begin("ben", "lens", 0), wrong=2, answer="no")
    learning.begin("stranger", "lens", 0)
    rows = {row["learner"]: row for row in learning.table(link)}
    assert set(rows) == {"Anna", "Ben", "Eva"}
    assert (rows["Anna"]["done"], rows["Anna"]["step"], rows["Anna"]["stuck"]) == (1, 2, False)
    assert rows["Ben"]["stuck"] and not rows["Eva"]["stuck"] and rows["Eva"]["step"] is None
    later = {row["learner"]: row["stuck"] for row in learning.table(link, now=learning.steps("anna", "lens")[1].began + STUCK_S + 1)}
    assert later["Anna"] and [row["answer"] for row in learning.answers(link) if row["learner"] == "Ben"] == ["no"]
    assert learning.reset(link) == 3
    assert learning.steps("anna", "lens") == () and len(learning.steps("stranger", "lens")) == 1
    assert learning.classes("teacher")[0].id in (link.id, other.id) and learning.classes("anna") == ()


def test_a_class_that_is_not_there_is_told_and_no_other_is_named(workspace: Workspace) -> None:
    link = workspace.learning.new_class("teacher", "lens", "embedded")
    with pytest.raises(UnknownName) as caught:
        workspace.learning.join("anna", "nowhere")
    assert link.id not in str(caught.value)


def test_what_was_begun_before_the_class_is_none_of_its_work_and_stays(workspace: Workspace) -> None:
    learning = workspace.learning
    learning.note(learning.begin("anna", "lens", 0), done=True, answer="of old")
    link = learning.new_class("teacher", "lens", "embedded")
    learning.join("anna", link.id)
    (row,) = learning.table(link)
    assert (row["done"], row["step"], row["begun before"]) == (0, None, 1) and learning.answers(link) == ()
    learning.note(learning.begin("anna", "lens", 1), answer="new")
    (row,) = learning.table(link)
    assert (row["done"], row["step"]) == (0, 2) and [row["answer"] for row in learning.answers(link)] == ["new"]
    learning.reset(link)
    assert [one.answer for one in learning.steps("anna", "lens")] == ["of old"]


@pytest.mark.parametrize(
    ("step", "done", "before", "where"),
    [(None, 0, 0, "step 1"), (None, 0, 1, "step 2"), (None, 0, 2, "through, begun before"), (None, 1, 1, "through, begun before"),
     (2, 1, 0, "step 2"), (None, 2, 0, "through")],
)  # fmt: skip
def test_a_teacher_reads_where_a_learner_is_and_who_was_through_before(step: int | None, done: int, before: int, where: str) -> None:
    from pages._ui.learn.classes import _where

    assert _where({"step": step, "done": done, "begun before": before}, 2) == where


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_begins_a_formula_is_quoted_and_another_is_not(sign: str) -> None:
    (row,) = csv.DictReader(io.StringIO(progress_csv([{"saw": f"{sign}1"}]), newline=""))
    (kept,) = csv.DictReader(io.StringIO(progress_csv([{"saw": f"1{sign}"}]), newline=""))
    assert row["saw"] == f"'{sign}1" and kept["saw"] == f"1{sign}"


def test_a_csv_runs_no_formula_of_a_learner(workspace: Workspace) -> None:
    learning = workspace.learning
    learning.note(learning.begin("anna", "lens", 0), saw='=HYPERLINK("x")')
    (row,) = csv.DictReader(io.StringIO(progress_csv(learning.own_rows("anna"))))
    assert row["saw"] == '\'=HYPERLINK("x")' and row["step"] == "1"
    assert progress_csv(()) == ""
