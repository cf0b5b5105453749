"""Compare: a lane's edit acts while a probe fires, and the map of its places takes the one that it recommends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from tests.app.test_compare_page import said, with_edit
from workbench.workspace.people import acting_as

Run = Callable[..., AppTest]


def test_the_map_of_places_takes_the_place_that_it_recommends_or_none(app: Run, fresh_backend: Any) -> None:
    test, edit = with_edit(app, fresh_backend)
    offers = fresh_backend.sessions["embedded"].demos.list()
    test.session_state["retouch"].set_name = next(offer.id for offer in offers if not offer.is_shipped)
    fine(test.run())
    fine(test.button(key="places-run").click().run())
    test = settled(test)
    found = test.session_state["retouch"].kept["places"].value
    assert [one.label for one in found.places][:3] == ["As it was fitted", "Everywhere", "On the prompt"] and len(found.places) == 7
    assert all(one.random is not None for one in found.places) and found.places[0].gain == found.places[1].gain
    assert found.places[1].damage != found.places[2].damage and found.places[0].damage == found.places[1].damage
    if found.best is None:
        assert "At no place it gains beyond chance" in texts(test)
        return
    fine(test.button(key="places-use").click().run())
    rule = found.places[found.best].rule
    assert rule == "" or test.selectbox(key=f"acts-{edit}-where").value == rule


def test_a_lane_acts_while_a_probe_fires_and_gives_its_edit_back(app: Run, fresh_backend: Any) -> None:
    test, edit = with_edit(app, fresh_backend)
    fine(test.button(key=f"acts-{edit}-gate").click().run())
    test = settled(test)
    fine(test.button(key=f"acts-{edit}-gated").click().run())
    test = settled(test)
    gated = said(test).lanes[1]
    assert gated.edit_ids != (edit,) and gated.label.endswith("gated × 1")
    with acting_as(test.session_state["retouch"].owner):
        loaded = fresh_backend.sessions["embedded"].load_edit(gated.edit_ids[0])
    assert loaded.gates
    fine(test.button(key=f"acts-{gated.edit_ids[0]}-ungate").click().run())
    assert said(settled(test)).lanes[1].edit_ids == (edit,)
