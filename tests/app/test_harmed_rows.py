"""Who was helped, who was harmed, beside a verdict: the table, its filters by way, tag, template and length, and what Edit foretells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, settled, texts
from tests.app.test_pages import fitted
from tests.conftest import contrast_rows, taught_rows

Run = Callable[..., AppTest]


def tagged(n: int, *seed: int) -> Any:
    rows = contrast_rows(n, *seed)
    return rows.with_rows(replace(row, tags=(f"kind:{len(str(row.prompt).split()) % 2}",)) for row in rows)


def table(test: AppTest) -> Any:
    return next(item for item in test.dataframe if "template" in item.value.columns).value


def test_the_rows_of_a_verdict_are_a_table_that_filters_by_way_tag_template_and_length(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend, 120, tagged)
    whole = table(test)
    assert {"moved", "turned", "before", "after", "gain", "tags", "template", "words"} <= set(whole.columns)
    assert list(whole["gain"]) == sorted(whole["gain"]), "the most harmed first"
    for move, kept in (("Moved the wrong way", whole["moved"] == "wrong way"), ("Moved the right way", whole["moved"] == "right way")):
        fine(test.selectbox(key="fit-rows-move").set_value(move).run())
        assert len(table(test)) == kept.sum() > 0 and set(table(test)["moved"]) == {move.removeprefix("Moved the ")}
    fine(test.selectbox(key="fit-rows-move").set_value(None).run())
    fine(test.multiselect(key="fit-rows-tags").set_value(["kind:1"]).run())
    assert 0 < len(table(test)) == (whole["tags"] == "kind:1").sum() < len(whole)
    fine(test.multiselect(key="fit-rows-tags").set_value([]).run())
    shape = whole["template"].iloc[0]
    fine(test.multiselect(key="fit-rows-templates").set_value([shape]).run())
    assert len(table(test)) == (whole["template"] == shape).sum()
    fine(test.multiselect(key="fit-rows-templates").set_value([]).run())
    fine(test.slider(key="fit-rows-length").set_value((4, 4)).run())
    assert 0 < len(table(test)) == (whole["words"] == 4).sum() < len(whole)


def test_a_few_right_and_wrong_answers_stand_side_by_side_at_once(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend, 120, tagged)
    whole = table(test)
    turned = whole[whole["turned"] != ""]
    glimpse = [item.value for item in test.dataframe if "untouched" in item.value.columns]
    assert len(glimpse) == (len(turned) > 0) == ("Right and wrong, side by side" in texts(test))
    for shown in glimpse:
        for _, row in shown.iterrows():
            (of,) = [one for _, one in turned.iterrows() if one["prompt"] == row["prompt"]][:1]
            signs = "✗✓" if of["turned"] == "wrong → right" else "✓✗"
            assert [row.iloc[1], row.iloc[2]] == [f"{signs[0]} {of['answer before']}", f"{signs[1]} {of['answer after']}"]


def picks(monkeypatch: pytest.MonkeyPatch, key: str, row: int) -> None:
    """AppTest cannot choose rows of a table: in the one of this key a row is chosen from now on."""
    import streamlit

    real = streamlit.dataframe

    def dataframe(*args: Any, **how: Any) -> Any:
        drawn = real(*args, **how)
        return type("Picked", (), {"selection": {"rows": [row]}}) if how.get("key") == key else drawn

    monkeypatch.setattr(streamlit, "dataframe", dataframe)


def behind(test: AppTest) -> Any:
    """Which did it, run: the rows of the table of demonstrations behind the chosen row, None where no row is chosen."""
    fine(test.switch_page("pages/evaluate.py").run())  # a click that leads on does not take AppTest along
    fine(test.button(key="influence-run").click().run())
    settled(test)
    return next((item.value for item in test.dataframe if "influence" in item.value.columns and "low" not in item.value.columns), None)


def test_from_a_harmed_row_it_is_one_click_to_the_demonstrations_behind_it_which_can_be_dropped(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = fitted(app, fresh_backend, 120, tagged)
    edit, worst = test.session_state["retouch"].edit, table(test).iloc[0]
    picks(monkeypatch, "fit-rows-table", 0)
    fine(test.run())
    fine(test.button(key="fit-rows-blame").click().run())
    assert test.selectbox(key="influence-edit").value == edit and worst["prompt"] in texts(test)
    told = behind(test)
    (found,) = [kept.value for name, kept in test.session_state["retouch"].kept.items() if name == "influence"]
    chosen = test.selectbox(key=f"influence-row-{edit}-{found.split}").value
    assert found.rows[chosen].prompt == worst["prompt"] and "under the edit" in texts(test)
    assert list(told["id"]) == [found.demonstrations[i].id for i in found.behind(chosen, 8)] and (told["influence"] < 0).all()
    assert [*told["influence"]] == sorted(told["influence"]), "what takes most stands first"
    fine(test.button(key="influence-tick").click().run())
    assert test.multiselect(key=f"influence-drop-{edit}").value == list(told["id"])
    fine(test.button(key="influence-refit").click().run())
    assert f"Without {len(told)} demonstration" in texts(settled(test))


def test_without_a_chosen_row_no_row_is_opened_and_a_row_of_elsewhere_is_named(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend, 120, tagged)
    fine(test.button(key="fit-rows-blame").click().run())
    assert behind(test) is None
    test.session_state["influence-asked"] = "No such prompt"
    assert "“No such prompt” is not among these" in texts(fine(test.run()))


def test_the_page_of_an_edit_leads_from_its_harmed_rows_to_what_is_behind_them(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = fitted(app, fresh_backend, 120, tagged)
    fine(test.switch_page("pages/story.py").run())
    listed = next(item.value for item in test.dataframe if "prompt" in item.value.columns)
    picks(monkeypatch, "story-harmed", 1)
    fine(test.button(key="story-blame").click().run())
    assert test.title[0].value == "Evaluate" and str(listed["prompt"].iloc[1]) in texts(test)


def test_before_a_fit_it_is_foretold_in_words_for_the_layers_of_the_form(app: Run, fresh_backend: Any) -> None:
    test = app("edit")
    test.session_state["retouch"].set_name = own_set(fresh_backend, 60, taught_rows)
    test.session_state["retouch"].method = "mean_difference"
    fine(test.run())
    fine(test.button(key="where-run").click().run())
    said = texts(settled(test))
    layer = fresh_backend.sessions["embedded"].model.info.n_layers // 2 + 1
    assert f"Mean difference is fitted at layer {layer}: there" in said and "point the same way" in said and "held-out rows: AUC" in said
    helps = " ".join(item.proto.help for item in (*test.markdown, *test.caption))
    assert all(f"**{word}**: " in helps for word in ("AUC", "cosine", "layer", "held-out"))
    test.session_state["knob-mean_difference-layers"] = [0]
    assert "Mean difference is fitted at layer 0: there" in texts(fine(test.run()))
