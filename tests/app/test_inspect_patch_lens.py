"""The Patch Lens on Inspect: a cell of the source and a cell of the target are picked, and the patch stands as a third grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts

Run = Callable[..., AppTest]


def both_read(app: Run) -> AppTest:
    test = app("inspect")
    test.text_area(key="inspect-prompt").set_value("w1 w2 w3 w4")
    test.text_input(key="inspect-target").set_value("w1")
    test.text_input(key="inspect-distractor").set_value("w2")
    fine(test.segmented_control(key="inspect-lens").set_value("Patching").run())
    fine(test.segmented_control(key="patching-view").set_value("Cell by cell").run())
    assert "Write a corrupted prompt" in texts(test)
    fine(test.text_area(key="inspect-corrupt").set_value("w9 w8 w3 w4 w5").run())  # of another length
    fine(test.button(key="patch-read").click().run())
    return settled(test)


def pick(test: AppTest, which: str, row: int, column: int) -> AppTest:
    test.selectbox(key=f"patch-{which}-row").set_value(row).run()
    return fine(test.selectbox(key=f"patch-{which}-column").set_value(column).run())


def test_two_picks_run_a_patch_and_its_edit_can_be_turned_on(app: Run) -> None:
    test = both_read(app)
    pick(test, "source", 0, 1)
    assert "the patch then runs at once" in texts(test)
    test = settled(pick(test, "target", 1, 2))
    now = test.session_state["retouch"]
    found, kept = now.kept["patch-lens"].value, now.kept["patch-lens"].settings
    assert found.source_cell == (2, 1) and found.target_cell == (1, 2), "rows begin with the last layer"
    assert kept.pair.source == "w1 w2 w3 w4" and found.differences is not None
    said = texts(test)
    assert "of the source's logit difference over" in said and "From earlier settings" not in said
    fine(test.button(key="cell-on").click().run())
    assert test.session_state["retouch"].is_on(found.draft.edit.id)
    assert "In scope" not in said and test.button(key="patch-scope-add")
    fine(test.switch_page("pages/compare.py").run())
    assert "Follow the controls" in [item.label for item in test.toggle]


@pytest.mark.parametrize(("place", "head"), [("attn_out", None), ("mlp_out", None), ("head", 2)])
def test_parts_of_a_block_are_patched_and_the_other_way_round(app: Run, place: str, head: int | None) -> None:
    test = both_read(app)
    fine(test.selectbox(key="patch-place").set_value(place).run())
    if head is not None:
        fine(test.selectbox(key="patch-head").set_value(head).run())
    fine(test.segmented_control(key="patch-way").set_value("noise").run())
    assert "From earlier settings" in texts(test)
    fine(test.button(key="patch-read").click().run())
    test = settled(pick(settled(test), "source", 0, 4))
    test = settled(pick(test, "target", 2, 3))
    found = test.session_state["retouch"].kept["patch-lens"]
    assert found.value.place == place and found.value.head == head and found.value.target_cell == (0, 3)
    assert found.settings.pair.target == "w1 w2 w3 w4"


def test_a_patch_that_fails_is_said_once_and_not_begun_again(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.errors import NotEnoughMemory

    test, asked = both_read(app), list[str]()

    def refused(lens: str, *_: Any, **__: Any) -> Any:
        asked.append(lens)
        raise NotEnoughMemory("The lens ran out of memory.", "Use a shorter prompt.")

    monkeypatch.setattr(fresh_backend.sessions["embedded"], "look", refused)
    test = settled(pick(pick(test, "source", 0, 1), "target", 1, 2))
    fine(test.run())
    assert "ran out of memory" in texts(test) and asked == ["patch_lens"]
