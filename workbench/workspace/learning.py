"""Who has got how far in which lesson, kept over restarts; and classes: a lesson, a model and pages that a teacher's link pins."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from workbench.errors import UnknownName
from workbench.workspace.database import Database
from workbench.workspace.plain import plain

STUCK_S, STUCK_WRONG = 300.0, 2
"""A learner is stuck who is at a step for so many seconds, or gave so many wrong answers there."""
HERE_S = 90.0
"""Seconds after which somebody who does nothing is said to be away."""


@dataclass(frozen=True)
class StepRecord:
    """One person at one step. Times are seconds since 1970; `facts` are what the step was passed with, `answer` the last one given."""

    person: str
    lesson: str
    step: int
    began: float
    done: float | None = None
    hints: int = 0
    wrong: int = 0
    answer: str = ""
    saw: str = ""
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ClassLink:
    """What a teacher's link pins: a lesson, a model, and the pages that are offered (all, if none are named)."""

    id: str
    teacher: str
    lesson: str
    model: str
    pages: tuple[str, ...]
    created: float


class Learning:
    """Progress and classes of one workspace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ── one learner ────────────────────────────────────────────────────────────────────────────────────────────
    def steps(self, person: str, lesson: str) -> tuple[StepRecord, ...]:
        """The steps of a lesson that a person has begun, in their order."""
        with self._database.read() as db:
            found = db.execute("SELECT * FROM progress WHERE person = ? AND lesson = ? ORDER BY step", (person, lesson))
            return tuple(map(_record, found))

    def begin(self, person: str, lesson: str, step: int) -> StepRecord:
        """The person's record of a step; its time begins now if they have not been there. Raises: StorageFailed."""
        with self._database.write() as db:
            _seen(db, person)
            db.execute(
                "INSERT OR IGNORE INTO progress (person, lesson, step, began) VALUES (?, ?, ?, ?)", (person, lesson, step, time.time())
            )
            row = db.execute("SELECT * FROM progress WHERE person = ? AND lesson = ? AND step = ?", (person, lesson, step)).fetchone()
            return _record(row)

    def note(
        self, record: StepRecord, *, hints: int | None = None, wrong: int | None = None, answer: str | None = None, saw: str | None = None,
        done: bool = False, facts: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Write down what has happened at a step. What is None stays; a step that is done stays done. Raises: StorageFailed."""
        told: dict[str, Any] = {"hints": hints, "wrong": wrong, "answer": answer, "saw": saw, "done": time.time() if done else None}
        told |= {"facts": None if facts is None else json.dumps(plain(facts), ensure_ascii=False)}
        columns = {name: value for name, value in told.items() if value is not None}
        names = ", ".join(f"{name} = COALESCE(done, ?)" if name == "done" else f"{name} = ?" for name in columns)
        with self._database.write() as db:
            _seen(db, record.person)
            where = (record.person, record.lesson, record.step)
            db.execute(f"UPDATE progress SET {names} WHERE person = ? AND lesson = ? AND step = ?", (*columns.values(), *where))

    def forget(self, person: str, lesson: str) -> None:
        """Begin a lesson anew: what was done in it is forgotten. Raises: StorageFailed."""
        with self._database.write() as db:
            db.execute("DELETE FROM progress WHERE person = ? AND lesson = ?", (person, lesson))

    def n_done(self, person: str) -> dict[str, int]:
        """How many steps of each lesson a person has done."""
        with self._database.read() as db:
            found = db.execute("SELECT lesson, COUNT(done) AS n FROM progress WHERE person = ? GROUP BY lesson", (person,))
            return {row["lesson"]: int(row["n"]) for row in found}

    def name(self, person: str) -> str:
        """What a person calls themselves; empty if they have not said."""
        with self._database.read() as db:
            row = db.execute("SELECT name FROM learners WHERE person = ?", (person,)).fetchone()
        return "" if row is None else str(row["name"])

    def is_new(self, person: str) -> bool:
        """Whether a person has begun, joined and said nothing yet."""
        with self._database.read() as db:
            return db.execute("SELECT 1 FROM learners WHERE person = ?", (person,)).fetchone() is None

    def call(self, person: str, name: str) -> None:
        """Note what a person calls themselves. Raises: StorageFailed."""
        with self._database.write() as db:
            _seen(db, person)
            db.execute("UPDATE learners SET name = ? WHERE person = ?", (name.strip()[:60], person))

    # ── classes ────────────────────────────────────────────────────────────────────────────────────────────────
    def new_class(self, teacher: str, lesson: str, model: str, pages: Sequence[str] = ()) -> ClassLink:
        """A class of a teacher. Raises: StorageFailed."""
        made = ClassLink(token_hex(4), teacher, lesson, model, tuple(pages), time.time())
        with self._database.write() as db:
            values = (made.id, teacher, lesson, model, json.dumps(list(pages)), made.created)
            db.execute("INSERT INTO classes VALUES (?, ?, ?, ?, ?, ?)", values)
        return made

    def class_of(self, key: str) -> ClassLink:
        """A class by its id. Raises: UnknownName."""
        with self._database.read() as db:
            row = db.execute("SELECT * FROM classes WHERE id = ?", (key,)).fetchone()
        if row is None:
            raise UnknownName("class", key, ())  # those of others are nobody's business
        return _class(row)

    def classes(self, teacher: str) -> tuple[ClassLink, ...]:
        """The classes of a teacher, the newest first."""
        with self._database.read() as db:
            found = db.execute("SELECT * FROM classes WHERE teacher = ? ORDER BY created DESC", (teacher,))
            return tuple(map(_class, found))

    def join(self, person: str, key: str) -> ClassLink:
        """Take a person into a class. Raises: UnknownName: there is none. StorageFailed."""
        found = self.class_of(key)
        with self._database.write() as db:
            _seen(db, person)
            db.execute("UPDATE learners SET class = ? WHERE person = ?", (key, person))
        return found

    def table(self, of: ClassLink, now: float | None = None) -> tuple[dict[str, Any], ...]:
        """Who of a class is where in its lesson: a row a learner, those who are stuck first. What was begun before the class was made
        is none of its work; how many of those steps are done is told apart.

        now: seconds since 1970, the clock's where none are given.
        """
        at = time.time() if now is None else now
        with self._database.read() as db:
            people = db.execute("SELECT * FROM learners WHERE class = ? AND person != ? ORDER BY rowid", (of.id, of.teacher)).fetchall()
            asked = "SELECT * FROM progress WHERE lesson = ? AND person IN (SELECT person FROM learners WHERE class = ?) ORDER BY step"
            every = [_record(row) for row in db.execute(asked, (of.lesson, of.id))]
        rows = []
        for person in people:
            mine = [one for one in every if one.person == person["person"]]
            earlier = sum(one.began < of.created and one.done is not None for one in mine)
            rows.append({**_row(person, [one for one in mine if one.began >= of.created], at), "begun before": earlier})
        return tuple(sorted(rows, key=lambda row: not row["stuck"]))

    def answers(self, of: ClassLink) -> tuple[dict[str, Any], ...]:
        """What a class answered and saw since it was made: a row a learner and step."""
        with self._database.read() as db:
            asked = """SELECT progress.*, learners.name FROM progress JOIN learners ON learners.person = progress.person
                WHERE class = ? AND lesson = ? AND learners.person != ? AND began >= ? ORDER BY step, learners.rowid"""
            found = db.execute(asked, (of.id, of.lesson, of.teacher, of.created)).fetchall()
        return tuple({"learner": _called(row), **_told(_record(row))} for row in found)

    def reset(self, of: ClassLink) -> int:
        """Let a whole class begin the lesson anew; return how many learners that were. What they did before it was made stays.

        Raises: StorageFailed.
        """
        with self._database.write() as db:
            mine = "SELECT person FROM learners WHERE class = ? AND person != ?"
            (n,) = db.execute(f"SELECT COUNT(*) FROM ({mine})", (of.id, of.teacher)).fetchone()
            gone = f"DELETE FROM progress WHERE lesson = ? AND began >= ? AND person IN ({mine})"
            db.execute(gone, (of.lesson, of.created, of.id, of.teacher))
        return int(n)

    def own_rows(self, person: str) -> tuple[dict[str, Any], ...]:
        """What a person did, in every lesson: a row a step."""
        with self._database.read() as db:
            found = db.execute("SELECT * FROM progress WHERE person = ? ORDER BY lesson, step", (person,)).fetchall()
        return tuple(_told(_record(row)) for row in found)


def progress_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a header. A cell that a spreadsheet would read as a formula is quoted with an apostrophe."""
    if not rows:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))  # which quotes line ends of either kind
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _seen(db: sqlite3.Connection, person: str) -> None:
    asked = "INSERT INTO learners (person, seen) VALUES (?, ?) ON CONFLICT (person) DO UPDATE SET seen = excluded.seen"
    db.execute(asked, (person, time.time()))


def _called(row: sqlite3.Row) -> str:
    """The name that somebody gave, else the start of what the workspace calls them."""
    return str(row["name"]) or f"learner {row['person'][:4]}"


def _row(person: sqlite3.Row, steps: Sequence[StepRecord], now: float) -> dict[str, Any]:
    at = next((one for one in steps if one.done is None), None)
    for_s = 0.0 if at is None else now - at.began
    stuck = at is not None and (for_s >= STUCK_S or at.wrong >= STUCK_WRONG)
    return {
        "person": person["person"],
        "learner": _called(person),
        "step": None if at is None else at.step + 1,
        "done": sum(one.done is not None for one in steps),
        "minutes at this step": round(for_s / 60, 1),
        "hints": sum(one.hints for one in steps),
        "wrong answers": sum(one.wrong for one in steps),
        "stuck": stuck,
        "here": now - person["seen"] < HERE_S,
    }


def _told(one: StepRecord) -> dict[str, Any]:
    return {
        "lesson": one.lesson,
        "step": one.step + 1,
        "began": _time(one.began),
        "done": "" if one.done is None else _time(one.done),
        "minutes": "" if one.done is None else round((one.done - one.began) / 60, 1),
        "hints": one.hints,
        "wrong answers": one.wrong,
        "answer": one.answer,
        "saw": one.saw,
    }


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _record(row: sqlite3.Row) -> StepRecord:
    told = {name: row[name] for name in ("person", "lesson", "step", "began", "done", "hints", "wrong", "answer", "saw")}
    return StepRecord(**told, facts=json.loads(row["facts"]))


def _class(row: sqlite3.Row) -> ClassLink:
    return ClassLink(row["id"], row["teacher"], row["lesson"], row["model"], tuple(json.loads(row["pages"])), row["created"])
