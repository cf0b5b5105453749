"""The bench of demonstrations: checks mend, filters choose, the pair stays in view, splits are drawn, versions are a click away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from tests.conftest import contrast_rows, words
from workbench.data.demonstrations import Demonstration, Demonstrations

Run = Callable[..., AppTest]


def on_page(app: Run, backend: Any, rows: Demonstrations) -> tuple[AppTest, str]:
    test = app("demonstrations")
    chosen = backend.sessions["embedded"].demos.save(rows).id
    test.session_state["retouch"].set_name = chosen
    return fine(test.run()), chosen


def copied() -> Demonstrations:
    rows = contrast_rows(24)
    return rows.with_rows([*rows, replace(rows[0], id="copy-a"), replace(rows[1], id="copy-b")])


def shown(test: AppTest) -> tuple[int, ...]:
    return test.session_state["retouch"].tab.parts["Editor"].places


def test_a_check_shows_its_rows_and_mends_them_and_an_undo_takes_it_back(app: Run, fresh_backend: Any) -> None:
    test, chosen = on_page(app, fresh_backend, copied())
    demos = fresh_backend.sessions["embedded"].demos
    fine(test.button_group(key="set-check").set_value("Duplicates").run())
    fine(test.button(key="check-show").click().run())
    assert shown(test) == (24, 25) and "2 rows of 26, as filtered" in texts(test)
    fine(test.button(key="check-mend").click().run())
    assert len(demos(chosen)) == 24 and len(shown(test)) == 24, "nothing is left to filter by"
    fine(test.button(key="set-undo").click().run())
    assert len(demos(chosen)) == 26


def test_rows_are_filtered_by_text_split_tag_and_star(app: Run, fresh_backend: Any) -> None:
    rows = contrast_rows(24)
    tagged = rows.with_rows(replace(row, tags=("topic:owl",) if i < 3 else ("topic:bee",)) for i, row in enumerate(rows))
    test, _ = on_page(app, fresh_backend, tagged)
    n = Counter(row.split for row in tagged)
    fine(test.selectbox(key="set-filter-split").set_value("test").run())
    assert len(shown(test)) == n["test"]
    fine(test.button(key="set-filter-clear").click().run())
    fine(test.multiselect(key="set-filter-tags").set_value(["topic:owl"]).run())
    assert shown(test) == (0, 1, 2)
    fine(test.button(key="set-row1").click().run())
    fine(test.button(key="set-star").click().run())
    assert fresh_backend.sessions["embedded"].workspace.starred() == {tagged[1].marks[1]}
    fine(test.button(key="set-filter-clear").click().run())
    assert len(shown(test)) == 24
    fine(test.toggle(key="set-filter-starred").set_value(True).run())
    assert shown(test) == (1,)
    fine(test.text_input(key="set-filter").set_value("nowhere to be found").run())
    assert shown(test) == () and "The filter finds no row." in texts(test)
    other = fresh_backend.sessions["embedded"].demos.save(contrast_rows(10)).id
    test.session_state["retouch"].set_name = other
    assert len(shown(fine(test.run()))) == 10 and test.text_input(key="set-filter").value == "", "another set begins unfiltered"
    fine(test.text_input(key="set-filter").set_value("nowhere to be found").run())
    assert shown(fine(test.run())) == (), "a rerun keeps the filter"


def test_the_pair_stands_side_by_side_with_what_differs(app: Run, fresh_backend: Any) -> None:
    rows = Demonstrations((Demonstration(words(1, 2), " w3 w4 w5", " w3 w6 w5 w7", id="a"), Demonstration("w1", label="x", id="b")), "pair")
    test, _ = on_page(app, fresh_backend, rows)
    said = texts(test)
    assert "positive · 3 tokens, 1 not in the other" in said and "negative · 4 tokens, 2 not in the other" in said
    fine(test.button(key="set-row1").click().run())
    assert "No answer; label x." in texts(test)


def test_splits_are_drawn_by_group_as_a_version_and_any_version_is_a_click_away(app: Run, fresh_backend: Any) -> None:
    test, chosen = on_page(app, fresh_backend, contrast_rows(24))
    demos = fresh_backend.sessions["embedded"].demos
    before = demos(chosen)
    fine(test.slider(key="set-split-shares").set_value((50, 75)).run())
    fine(test.button(key="set-split-draw").click().run())
    after = demos(chosen)
    assert after != before and Counter(row.split for row in after) == {"fit": 12, "validation": 6, "test": 6}
    fine(test.button(key="set-version-go").click().run())
    assert demos(chosen) == before


def test_a_test_split_that_was_scored_is_marked_as_opened(app: Run, fresh_backend: Any) -> None:
    test, chosen = on_page(app, fresh_backend, contrast_rows(24))
    assert "Test is opened" not in texts(test)
    session = fresh_backend.sessions["embedded"]
    edit = session.fit("mean_difference", session.demos(chosen)).edit
    session.evaluate([edit], chosen, split="test", n_placebos=1, n_generations=1)
    assert "Test is opened: 1 run scored edits on it." in texts(fine(test.run()))


def test_whether_there_are_enough_pairs_is_drawn_or_said_why_not(app: Run, fresh_backend: Any) -> None:
    from tests.unit.test_enough import rows_of

    test, _ = on_page(app, fresh_backend, rows_of(30, 12))
    fine(test.button(key="enough-run").click().run())
    assert "With all 30 pairs the AUC is" in texts(settled(test))
    test, _ = on_page(app, fresh_backend, rows_of(30, 3))
    fine(test.button(key="enough-run").click().run())
    assert "3 held out" in texts(settled(test))
