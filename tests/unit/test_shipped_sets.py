"""The sets that ship: those of the embedded world, and those in everyday English, which come first on a model that does not ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.battery import TASKS, task
from workbench.data.demonstrations import SPLITS
from workbench.data.everyday import EVERYDAY
from workbench.errors import UnknownName
from workbench.opening import open_session
from workbench.session import Session
from workbench.workspace.shipped import ShippedSets


def test_sets_in_everyday_english_come_first_on_a_model_that_may_read_it(tiny_gpt2: Any, tmp_path: Path) -> None:
    there, here = (session.demo_sets() for session in (Session(tiny_gpt2, tmp_path), open_session("embedded", tmp_path)))
    assert [offer.id for offer in there[: len(EVERYDAY)]] == [f"everyday-{name}" for name in EVERYDAY]
    assert here[0].id == "truthfulness" and {offer.id for offer in here} == {offer.id for offer in there}
    assert len({offer.id for offer in here}) == len(here) and len({offer.title for offer in here}) == len(here)
    assert all(offer.is_shipped and offer.about and offer.n for offer in here)


@pytest.mark.parametrize("name", TASKS)
def test_they_are_the_rows_that_the_tables_of_real_models_are_about(name: str, tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path)
    rows, told = session.demos(f"everyday-{name}"), task(name, tiny_gpt2)
    assert rows.rows == told.rows.rows and rows.name == f"everyday-{name}"
    assert session.demos.info(rows.name).n == len(rows) and all(rows.split(split) for split in SPLITS)
    copy = session.demos.save(rows.first(3), key=rows.name)
    assert copy.name != rows.name and len(session.demos(rows.name)) == len(told.rows)


def test_a_folder_of_sets_by_itself_offers_nothing_else(tmp_path: Path) -> None:
    assert ShippedSets(tmp_path, everyday=False).offers() == () and len(ShippedSets(tmp_path).offers()) == len(EVERYDAY)


def test_the_name_of_a_task_alone_is_the_worlds_set(tiny_gpt2: Any, tmp_path: Path) -> None:
    demos = Session(tiny_gpt2, tmp_path).demos
    assert demos("mood").rows != demos("everyday-mood").rows
    with pytest.raises(UnknownName, match="everyday-politeness"):
        demos("politeness")


def test_the_set_with_sides_exchanged_is_the_other_way_round(tiny_gpt2: Any, tmp_path: Path) -> None:
    demos = Session(tiny_gpt2, tmp_path).demos
    rows, other = demos("everyday-gloom"), demos("everyday-mood")
    assert [(row.prompt, row.positive, row.negative, row.split) for row in rows] == [
        (row.prompt, row.negative, row.positive, row.split) for row in other
    ]
    assert rows.fingerprint != other.fingerprint and set(EVERYDAY) - set(TASKS) == {"gloom"}
