"""A recorded run can be gone back to: the same settings give the same texts, and two runs differ in what differed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import contrast_rows, words
from workbench.conversations import Conversation, Turn
from workbench.decode import Sampling
from workbench.errors import Obstructed
from workbench.session import Session
from workbench.settings import CompareSettings
from workbench.workspace.history import compare_settings, differences, found_in

DRAWN = Sampling(7, temperature=1.2, top_k=40, seed=3, stop=(".", "\n"))


def test_a_restored_comparison_gives_the_same_texts_and_another_seed_does_not(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path)
    edit = session.fit("mean_difference", contrast_rows()).edit
    lanes = session.shelf.lanes([f"{edit.id}:2", f'{edit.id}+prompt:"w3"'])
    prompts = (words(12, 13), words(12, 13), words(20, 14))
    settings = CompareSettings(prompts, lanes, DRAWN, ((30,), (), (7, 9)), (0,), ("generated", ""))
    found = session.run(settings)
    (run,) = session.workspace.runs.list("compare")
    again = Session(tiny_gpt2, tmp_path)
    again.save_edit(edit, "kept")
    restored = compare_settings(run)
    assert (restored.prompts, restored.sampling, restored.forced, restored.frozen, restored.where) == (
        settings.prompts, DRAWN, settings.forced, (0,), ("generated", ""),
    )  # fmt: skip
    repeated = again.run(restored)
    assert repeated.texts == found.texts and [one.lane for one in repeated.lanes] == [one.lane for one in found.lanes]
    from dataclasses import replace

    other = again.run(replace(restored, sampling=replace(DRAWN, seed=4)))
    assert other.texts != found.texts
    last, _, first = again.workspace.runs.list("compare")
    told = {row["what"]: (row[first.id], row[last.id]) for row in differences(first, last)}
    assert told["sampling.seed"] == (3, 4) and any("→" in what for what in told) and "sampling.top_k" not in told
    assert differences(first, first) == []


def test_a_conversation_is_restored_turn_by_turn_and_other_runs_are_refused(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path)
    talk = Conversation((Turn("user", "w1"), Turn("assistant", "w2"), Turn("user", "w3")))
    run = session.workspace.runs.record("compare", "talk", inputs={"prompts": [talk], "lanes": [], "sampling": Sampling(3)})
    assert compare_settings(run) == CompareSettings((talk,), (), Sampling(3))
    session.fit("mean_difference", contrast_rows())
    (fit,) = session.workspace.runs.list("fit")
    for broken in (fit, session.workspace.runs.record("compare", "old", inputs={"prompts": ["w1"]})):
        with pytest.raises(Obstructed, match="no comparison that could be run again"):
            compare_settings(broken)


def test_runs_are_found_by_what_they_hold(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path)
    for title, prompt in (("first", "w1 w2"), ("second", "w3 w4")):
        session.workspace.runs.record("compare", title, inputs={"prompts": [prompt]})
    runs = session.workspace.runs.list()
    session.workspace.note("run", runs[0].id, "The good one")
    runs = session.workspace.runs.list()
    assert [run.title for run in found_in(runs, "W1 w2")] == ["first"] and [run.title for run in found_in(runs, "good ONE")] == ["second"]
    assert found_in(runs, " ") == runs and found_in(runs, "w9") == ()
