"""Two tabs on one set, large sets, damaged sets, tags in cells, and the report of what nobody foresaw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from pages._ui.kit.rows import MANY, as_records, merged, places_of
from tests.app.conftest import fine, own_set, settled, texts
from tests.conftest import contrast_rows
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import StorageFailed

Run = Callable[..., AppTest]


def tab(app: Run, chosen: str) -> AppTest:
    test = app("demonstrations")
    test.session_state["retouch"].set_name = chosen
    return fine(test.run())


def change(session: Any, test: AppTest, index: int, **cells: str) -> None:
    """What the table's callback does: AppTest cannot type into a cell."""
    from pages._ui.demonstrations import sets

    mine = test.session_state["retouch"].tab.parts["Editor"]
    changed = merged(mine.base, {"edited_rows": {index: cells}}, mine.places)
    with_state(test, lambda: sets.save_changes(session, mine.chosen, changed, mine.version))


def with_state(test: AppTest, call: Callable[[], None]) -> None:
    import pytest

    from pages._ui.demonstrations import sets
    from pages._ui.kit import state

    with pytest.MonkeyPatch.context() as patch:
        now = test.session_state["retouch"]
        patch.setattr(state, "state", lambda: now)
        patch.setattr(sets, "state", lambda: now)
        call()


def test_the_later_of_two_tabs_keeps_its_rows_beside_the_earlier(app: Run, fresh_backend: Any) -> None:
    one, session = app("demonstrations"), fresh_backend.sessions["embedded"]
    chosen = own_set(fresh_backend)
    one, other = tab(app, chosen), tab(app, chosen)
    change(session, one, 0, positive=" w9")
    change(session, one, 1, positive=" w8")  # its own changes are no conflict
    change(session, other, 0, positive=" w5")
    assert session.demos(chosen)[0].positive != " w5" and session.demos(chosen)[1].positive == " w8"
    now = other.session_state["retouch"].set_name
    assert now != chosen and session.demos(now)[0].positive == " w5"
    said = texts(fine(other.run()))
    assert "Both are kept" in said and session.demos.info(now).title in said
    change(session, other, 2, positive=" w4")
    assert session.demos(now)[2].positive == " w4" and "Both are kept" not in texts(fine(other.run()))


def test_a_tab_says_that_another_has_changed_its_set(app: Run, fresh_backend: Any) -> None:
    app("demonstrations")
    chosen, session = own_set(fresh_backend), fresh_backend.sessions["embedded"]
    test = tab(app, chosen)
    assert "Another tab" not in texts(test)
    rows = session.demos(chosen)
    session.demos.save(rows.with_rows(rows.rows[1:]), key=chosen)
    assert "Another tab has changed this set since." in texts(fine(test.run()))
    fine(test.button(key="set-renew").click().run())
    assert "Another tab" not in texts(test) and len(test.session_state["retouch"].tab.parts["Editor"].base) == len(rows) - 1


def test_why_a_change_was_not_kept_is_said_of_its_set_alone(app: Run, fresh_backend: Any) -> None:
    import pytest

    app("demonstrations")
    session = fresh_backend.sessions["embedded"]
    chosen, other = own_set(fresh_backend), own_set(fresh_backend, 12)
    test = tab(app, chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(session.workspace.sets), "save", full)
        change(session, test, 0, positive=" w9")
    assert "The disk is full." in texts(fine(test.run()))
    test.session_state["retouch"].set_name = other
    assert "The disk is full." not in texts(fine(test.run()))


def full(*_: Any, **__: Any) -> None:
    raise StorageFailed("The disk is full.", "Free some space.")


def test_tags_in_a_cell_are_read_as_a_file_has_them() -> None:
    rows = Demonstrations((Demonstration("p", tags=("true:Yes, it is.", "question:a; b")), Demonstration("q", tags=("a", "b, c"))))
    cells = {i: {"tags": record["tags"]} for i, record in enumerate(as_records(rows))}
    assert merged(rows, {"edited_rows": cells}) == rows
    assert merged(rows, {"edited_rows": {0: {"tags": "x, y; z"}, 1: {"tags": '["x'}}}).rows == (
        replace(rows[0], tags=("x, y", "z")), replace(rows[1], tags=('["x',)),
    )  # fmt: skip


def large(n: int) -> Demonstrations:
    return Demonstrations(tuple(replace(row, id=f"row {i}") for i, row in enumerate(contrast_rows(24).rows * (n // 24 + 1)))[:n], "large")


def test_a_large_set_is_shown_in_part_filtered_and_changed_in_its_place(app: Run, fresh_backend: Any) -> None:
    app("demonstrations")
    session, whole = fresh_backend.sessions["embedded"], large(3 * MANY)
    test = tab(app, session.demos.save(whole).id)
    mine = test.session_state["retouch"].tab.parts["Editor"]
    assert mine.places == tuple(range(MANY)) and f"The first {MANY:,} rows of {3 * MANY:,}." in texts(test)
    test.text_input(key="set-filter").set_value("ROW 2500").run()
    mine = fine(test).session_state["retouch"].tab.parts["Editor"]
    assert mine.places == (2500,) and places_of(whole, "no such word") == ()
    change(session, test, 0, positive=" w1")
    saved = session.demos(mine.chosen)
    assert saved[2500].positive == " w1" and [row for i, row in enumerate(saved) if i != 2500] == [
        row for i, row in enumerate(whole) if i != 2500
    ]
    fine(test.run())
    assert "Duplicates" not in "".join(str(item.proto) for item in test.get("html"))
    fine(test.button(key="checks-run").click().run())
    settled(test)
    assert "Duplicates" in "".join(str(item.proto) for item in test.get("html"))


def test_a_damaged_set_breaks_no_page_that_has_a_picker(app: Run, fresh_backend: Any) -> None:
    app("demonstrations")
    session, chosen = fresh_backend.sessions["embedded"], own_set(fresh_backend)
    rows = session.demos(chosen)
    session.demos.save(rows.with_rows(replace(row, tags=("role:evaluation",)) for row in rows.rows[1:]), key=chosen)
    good = session.demos.save(Demonstrations(rows.rows, "good")).id
    with session.workspace.sets._database.write() as db:
        db.execute("UPDATE set_versions SET pieces = '[\"gone\"]' WHERE set_id = ? AND version = 2", (chosen,))
    for page in ("demonstrations", "edit", "evaluate", "compare", "spectra", "inspect", "library"):
        test = app(page)
        test.session_state["retouch"].set_name = chosen
        fine(test.run())
        assert not [item for item in test.container if "problem-page" in str(item.proto)], page
        test.session_state["retouch"].set_name = good
        fine(test.run())
    test = tab(app, chosen)
    assert "are damaged" in texts(test)
    fine(test.button(key="set-undo").click().run())
    assert session.demos(chosen) == rows and "are damaged" not in texts(test)


def test_the_report_that_a_page_names_is_written(app: Run, fresh_backend: Any, tmp_path: Path) -> None:
    def fail(progress: Any) -> None:
        raise ZeroDivisionError

    app()
    job = fresh_backend.jobs.submit(fail, title="Something")
    assert job.wait(20)
    error = job.snapshot().error
    assert "ZeroDivisionError" in (fresh_backend.sessions["embedded"].workspace.reports / f"{error.report_id}.txt").read_text()
