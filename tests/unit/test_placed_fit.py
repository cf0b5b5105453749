"""A fit whose edit is to act at a place: the place is a part of the edit, however it is fitted, and what has none is refused before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import contrast_rows, taught_rows
from workbench.errors import BadLane, BadPlace, UnknownName
from workbench.evaluate.places import COMPARED_PLACES, compared_places
from workbench.methods import get
from workbench.session import Session
from workbench.settings import FitSettings
from workbench.workspace.asked_fit import AskedFit
from workbench.workspace.recut import recut


@pytest.fixture
def session(tiny_gpt2: Any, tmp_path: Path) -> Session:
    return Session(tiny_gpt2, tmp_path / "home")


def test_the_place_is_a_part_of_the_edit_and_of_what_is_fitted_from_it(session: Session) -> None:
    rows = session.demos.save(contrast_rows(40)).id
    plain, placed = session.fit("sea", rows).edit, session.fit("sea", rows, place='after  "w1"').edit
    assert (plain.place, placed.place) == ("", 'after "w1"') and placed.id != plain.id
    assert placed.placed("").id == plain.id, "the fit itself is the same"
    assert session.run(AskedFit.of(FitSettings("sea", rows, place='after "w1"'), "embedded").settings).edit.id == placed.id
    held = session.demos(rows)
    assert session.refit_without(placed, rows, (held[0].id,)).edit.place == placed.place
    assert recut(session.model, placed, held, {"k_plus": 1}, n_prompts=1, max_new_tokens=1).edit.place == placed.place


def test_validation_chooses_at_the_place(session: Session) -> None:
    how: dict[str, Any] = {"over": {"layers": ((0,), (2,)), "strength": (1.0, 4.0)}, "doses": (0.5, 1.0), "max_damage": 100.0}
    found, free = (session.choose("mean_difference", taught_rows(30), place=place, **how) for place in ("generated", ""))
    assert found.fitted.edit.place == found.best.edit.place == "generated" and free.fitted.edit.place == ""
    measured = [{(one.dose, str(one.values)): one.measured.margin for one in choice.candidates} for choice in (found, free)]
    assert measured[0] != measured[1], "candidates were scored where they act"


def test_what_cannot_act_there_is_refused_before_anything_is_fitted(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr("workbench.methods.registry.Method.fit", lambda known, *_, **__: begun.append(known.name))
    rows = session.demos.save(contrast_rows(24)).id
    for method, place, error in (
        ("lora", "prompt", BadLane), ("sea", "elsewhere", UnknownName), ("sea", "user", BadPlace), ("sea", "after", BadPlace),
    ):  # fmt: skip
        with pytest.raises(error):
            session.fit(method, rows, place=place)
    assert begun == []
    assert not get("finetuning").needs.has_place and get("sea").needs.has_place


def test_the_map_has_the_turns_of_each_side_for_a_chat_alone(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compared_places(session.model, is_chat=True) == COMPARED_PLACES, "there is no template"
    marks = {"assistant": frozenset("b"), "user": frozenset("a")}
    monkeypatch.setattr("workbench.evaluate.places.turn_marks", lambda _: marks)
    assert compared_places(session.model, is_chat=False) == COMPARED_PLACES
    assert compared_places(session.model, is_chat=True) == (*COMPARED_PLACES, "user", "assistant")
