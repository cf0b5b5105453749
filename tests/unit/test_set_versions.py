"""Versions of a set: two who change one at once, pieces that versions share, damage, and sets of older versions."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kept import rows
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import BadDemonstrations, ChangedMeanwhile
from workbench.workspace.database import Database
from workbench.workspace.home import Workspace
from workbench.workspace.sets import DemonstrationSets
from workbench.workspace.shelf import Shelf
from workbench.workspace.sweeping import BIN_DAYS, clean

DAY_S = 86_400.0


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def database(workspace: Workspace) -> Database:
    return workspace.sets._database  # pyright: ignore[reportPrivateUsage] - as a disk would


def pieces(workspace: Workspace) -> dict[str, str]:
    with database(workspace).read() as db:
        return dict(db.execute("SELECT name, rows FROM pieces").fetchall())


def many(n: int) -> Demonstrations:
    return Demonstrations(tuple(Demonstration(f"prompt {i}", " yes", " no", tags=(f"k:{i % 7}",), id=str(i)) for i in range(n)), "many")


def test_the_later_of_two_saves_of_one_version_is_kept_beside_the_earlier(workspace: Workspace) -> None:
    sets = workspace.sets
    first = sets.save(rows("a", "b"))
    mine, others = rows("a", "mine"), rows("a", "theirs")
    sets.save(others, key=first.id, onto=first.version)
    with pytest.raises(ChangedMeanwhile, match="'pairs' is at version 2 by now.*made from version 1.*as 'pairs 2'") as caught:
        sets.save(mine, key=first.id, onto=first.version)
    assert "delete the one you do not want" in caught.value.hint
    assert sets.get(first.id).rows == others.rows and sets.get(caught.value.kept).rows == mine.rows
    # The control: onto the current version, or the same rows as the other saved, is no conflict.
    assert sets.save(rows("a", "c"), key=first.id, onto=2).version == 3
    assert sets.save(rows("a", "c"), key=first.id, onto=2).version == 3


def test_of_many_who_save_onto_one_version_all_are_kept(workspace: Workspace) -> None:
    first, kept = workspace.sets.save(rows("start")), list[str]()

    def work(number: int) -> None:
        try:
            kept.append(workspace.sets.save(rows(f"of {number}"), key=first.id, onto=first.version).id)
        except ChangedMeanwhile as error:
            kept.append(error.kept)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert {workspace.sets.get(key)[0].prompt for key in kept} == {f"of {number}" for number in range(8)}
    assert kept.count(first.id) == 1


def test_what_is_made_of_the_current_rows_loses_nobodys(workspace: Workspace) -> None:
    key = workspace.sets.save(rows("start")).id
    add = lambda number: lambda old: old.with_rows((*old, Demonstration(f"of {number}")))  # noqa: E731
    threads = [threading.Thread(target=workspace.sets.change, args=(key, add(number))) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert {row.prompt for row in workspace.sets.get(key)} == {"start", *(f"of {number}" for number in range(8))}


def test_one_changed_row_of_many_writes_one_piece(workspace: Workspace) -> None:
    whole = many(5000)
    info = workspace.sets.save(whole)
    before = pieces(workspace)
    assert 8 < len(before) < 60
    changed = list(whole.rows)
    changed[2500] = replace(changed[2500], positive=" perhaps")
    workspace.sets.save(whole.with_rows(changed), key=info.id)
    new = {name: text for name, text in pieces(workspace).items() if name not in before}
    assert 1 <= len(new) <= 2 and sum(map(len, new.values())) < sum(map(len, before.values())) / 4
    workspace.sets.save(whole.with_rows(changed[1:]), key=info.id)
    assert len(pieces(workspace)) <= len(before) + len(new) + 2
    fresh = DemonstrationSets(database(workspace))
    assert fresh.get(info.id, 1) == whole and fresh.get(info.id, 3).rows == tuple(changed[1:])
    assert fresh.get(info.id).fingerprint == whole.with_rows(changed[1:]).fingerprint


def test_the_pieces_of_a_set_go_with_it_and_no_others(workspace: Workspace) -> None:
    key = workspace.sets.save(many(2000)).id
    other = workspace.sets.save(many(1000)).id
    n = len(pieces(workspace))
    workspace.sets.delete(key)
    clean(database(workspace))
    assert len(pieces(workspace)) == n
    clean(database(workspace), time.time() + (BIN_DAYS + 1) * DAY_S)
    assert len(pieces(workspace)) < n and DemonstrationSets(database(workspace)).get(other).rows == many(1000).rows


@pytest.mark.parametrize("damage", ["UPDATE pieces SET rows = '{}'", "UPDATE pieces SET rows = rows || 'x'", "DELETE FROM pieces"])
def test_damaged_pieces_are_named_and_hide_no_list(workspace: Workspace, damage: str) -> None:
    info = workspace.sets.save(rows("a", "b"))
    with database(workspace).write() as db:
        db.execute(damage)
    shelf = Shelf(lambda: Workspace(workspace.folder))
    assert info.id in {offer.id for offer in shelf.list()}
    with pytest.raises(BadDemonstrations, match="'pairs', version 1, are damaged: the rows from 1 on are (altered|missing)"):
        shelf.get(info.id)
    again = workspace.sets.save(rows("a", "b"))  # as the message says: import the set again
    assert DemonstrationSets(database(workspace)).get(again.id).rows == rows("a", "b").rows
    assert DemonstrationSets(database(workspace)).get(info.id).rows == rows("a", "b").rows


def test_lists_know_the_roles_of_a_set_without_reading_it(workspace: Workspace) -> None:
    tagged = Demonstrations((Demonstration("a", tags=("role:evaluation",)), Demonstration("b", tags=("role:train", "x"))), "tagged")
    info = workspace.sets.save(tagged)
    with database(workspace).write() as db:
        db.execute("DELETE FROM pieces")
    (offer,) = (offer for offer in Shelf(lambda: workspace).list() if offer.id == info.id)
    assert offer.roles == {"role:evaluation": 1, "role:train": 1}


def test_sets_of_older_versions_are_read_and_saved_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    told: list[dict[str, Any]] = [row.values() for row in rows("a", "b")] + [Demonstration("c", tags=("role:train",)).values()]
    info = workspace.sets.save(rows("a"))
    with database(workspace).write() as db:  # as schema 3 had it
        db.execute("UPDATE set_versions SET rows = ?", (json.dumps(told),))
        db.execute("DROP TABLE pieces")
        db.execute("ALTER TABLE set_versions DROP COLUMN pieces")
        db.execute("ALTER TABLE set_versions DROP COLUMN roles")
        db.execute("PRAGMA user_version = 3")
    again = Workspace(tmp_path)
    assert [row.prompt for row in again.sets.get(info.id)] == ["a", "b", "c"]
    assert again.sets.info(info.id).roles == {"role:train": 1}
    assert again.sets.save(rows("d"), key=info.id).version == 2 and again.sets.get(info.id, 1)[2].tags == ("role:train",)
