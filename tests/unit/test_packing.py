"""Results on record: what a run came to is read back as it was; what is damaged or no record is refused by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import contrast_rows, words
from workbench.conversations import Conversation, Turn
from workbench.decode import Sampling
from workbench.errors import StorageFailed
from workbench.session import Session
from workbench.settings import EvaluateSettings
from workbench.workspace.history import evaluate_settings, result_of
from workbench.workspace.packing import TEXT, packed, unpacked


@dataclass(frozen=True)
class _Old:
    name: str


@dataclass(frozen=True)
class _New:
    name: str
    more: int = 3


def same(one: Any, other: Any) -> bool:
    """Whether two records draw the same: packed, they are the same text and the same arrays."""
    mine, theirs = packed(one), packed(other)
    return mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name], equal_nan=True) for name in mine)


def test_every_kind_of_result_is_read_back_as_it_was(tiny_gpt2: Any, tmp_path: Path) -> None:
    session, rows = Session(tiny_gpt2, tmp_path), contrast_rows()
    edit = session.fit("mean_difference", rows).edit
    talk = Conversation((Turn("user", "w1"), Turn("assistant", "w2")))
    lanes = session.shelf.lanes([f"{edit.id}:2", 'prompt:"w3"'])
    found = {
        "compare": session.compare([words(12)], list(lanes), Sampling(3)),
        "evaluate": session.evaluate(list(lanes), rows, n_placebos=1, n_generations=2),
        "sweep": session.sweep(edit, rows, (1.0, 2.0)),
        "watch": session.watch(words(12), edit, 12),
        "off target": session.off_target([edit], [rows]),
        "equal damage": session.equal_damage(rows, lanes=[edit], n_placebos=1),
        "dose plane": session.dose_plane(rows, 1, [edit], n_rows=4),
        "influence": session.influence(edit, rows, n_refits=2),
        "refit": session.refit_without(edit, rows, [rows.split("fit")[0].id or str(rows.split("fit")[0].prompt)]).benefit,
    }
    for kind, value in found.items():
        runs = session.workspace.runs
        run = runs.list(kind)[0]
        again = result_of(run, runs)
        assert type(again) is type(value) and same(again, value), kind
    talked = replace(found["compare"], prompts=(talk,))
    assert unpacked(type(talked), packed(talked)).prompts == (talk,)
    again = result_of(session.workspace.runs.list("evaluate")[0], session.workspace.runs)
    assert again.verdict == found["evaluate"].verdict and again.rows() == found["evaluate"].rows()
    assert result_of(session.workspace.runs.list("fit")[0], session.workspace.runs) is None
    assert not same(found["evaluate"], session.evaluate(list(lanes), rows, n_placebos=2, n_generations=2))


def test_the_settings_of_an_evaluation_are_restored(tiny_gpt2: Any, tmp_path: Path) -> None:
    session, rows = Session(tiny_gpt2, tmp_path), contrast_rows()
    edit = session.fit("mean_difference", rows).edit
    session.evaluate(f"{edit.id}:2", rows, n_placebos=1, n_generations=2)
    run = session.workspace.runs.list("evaluate")[0]
    wanted = EvaluateSettings(session.shelf.lanes(f"{edit.id}:2"), "here", "test", n_placebos=1, n_generations=2)
    told = evaluate_settings(run, "here")
    assert [str(lane) for lane in told.lanes] == [f"{edit.id}:2"]
    assert (told.source, told.split, told.n_placebos, told.n_generations) == ("here", "test", 1, 2) and told.seconds == wanted.seconds


def test_a_damaged_result_is_refused_and_a_newer_field_has_its_default(tiny_gpt2: Any, tmp_path: Path) -> None:
    assert unpacked(_New, {TEXT: np.frombuffer(packed(_Old("w1"))[TEXT].tobytes().replace(b"_Old", b"_New"), np.uint8)}) == _New("w1")
    assert math.isnan(unpacked(tuple[float, ...], packed((math.nan, 1.0)))[0])
    with pytest.raises(TypeError, match="no part of a record"):
        packed({"edit": object()})
    with pytest.raises(TypeError, match="stands where"):
        unpacked(_New, packed(_Old("w1")))
    session = Session(tiny_gpt2, tmp_path)
    session.compare(words(12), [], Sampling(2))
    run = session.workspace.runs.list("compare")[0]
    path = tmp_path / "runs" / f"{run.id}.npz"
    np.savez_compressed(path, **{TEXT: np.frombuffer(b'{"of": "Popen", "fields": {}}', np.uint8)})
    with pytest.raises(StorageFailed, match="cannot be read"):
        result_of(run, session.workspace.runs)
