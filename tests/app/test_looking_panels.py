"""Spectra's movable cut and angles, the geometry of demonstrations, templates: each in its states."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, settled, texts
from workbench.errors import NotEnoughMemory
from workbench.workspace.people import acting_as

Run = Callable[..., AppTest]


def keys(test: AppTest) -> set[str]:
    return {button.key for button in test.button if button.key}


def fit(backend: Any, test: AppTest, method: str, **config: Any) -> str:
    """Fit an edit in the session behind the pages for whoever sits at the tab; return its id."""
    with acting_as(test.session_state["retouch"].owner):
        return backend.sessions["embedded"].fit(method, own_set(backend), config).edit.id


def spectra(test: AppTest, *edits: str) -> AppTest:
    fine(test.run())
    fine(test.multiselect(key="spectra-edits").set_value(list(edits)).run())
    return test


# Spectra.
def test_the_cut_can_be_moved_and_says_what_it_takes(app: Run, fresh_backend: Any) -> None:
    test = app("spectra")
    edit = fit(fresh_backend, test, "sea", layers=[1, 2], keep=0.9)
    test = spectra(test, edit)
    slider = test.slider(key=f"cut-{edit}-plus-1")
    assert "As fitted" not in texts(test) and test.button(key=f"cut-{edit}-refit").disabled
    wanted = slider.value + 1 if slider.value < slider.max else slider.value - 1
    fine(slider.set_value(wanted).run())
    assert f"keeps {wanted} direction" in texts(test) and "As fitted" in texts(test)
    fine(test.button(key=f"cut-{edit}-refit").click().run())
    fine(test.switch_page("pages/edit.py").run())
    assert test.session_state["retouch"].method == "sea"
    assert test.number_input(key="knob-sea-k_plus").value == wanted
    assert test.multiselect(key="knob-sea-layers").value == [1, 2]
    assert f"From Spectra: k plus = {wanted}" in texts(test)


def test_the_cut_of_an_older_edit_fills_the_form_with_what_it_did_as_released(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages._ui.kit import scope

    test = app("spectra")
    edit, honest = fit(fresh_backend, test, "sea", layers=[1], keep=0.9), scope.hand_knobs
    older = {"layers": [1], "keep": 0.9, "norm": "feature", "se_inverse": "squared", "phi_mode": "intended", "restore_sign": True}
    monkeypatch.setattr(scope, "hand_knobs", lambda method, values, source, said="": honest(method, older, source, said=said))
    test = spectra(test, edit)
    slider = test.slider(key=f"cut-{edit}-plus-1")
    fine(slider.set_value(slider.value + 1 if slider.value < slider.max else slider.value - 1).run())
    fine(test.button(key=f"cut-{edit}-refit").click().run())
    fine(test.switch_page("pages/edit.py").run())
    assert test.toggle(key="knob-sea-as-released").value
    assert "As released: norm = feature, se_inverse = squared." in texts(test)
    fine(test.button(key="handed-forget").click().run())
    assert "As released:" not in texts(test)


def test_what_an_edit_moves_is_drawn_when_asked_and_a_set_that_was_changed_is_refused(app: Run, fresh_backend: Any) -> None:
    test = app("spectra")
    edit = fit(fresh_backend, test, "mean_difference", layers=[1])
    test = spectra(test, edit)
    assert "each beside a random edit of equal size" in texts(test)
    fine(test.button(key="moves-run").click().run())
    told = texts(settled(test))
    assert "is moved most: by" in told and "first direction holds" in told and "Farthest along it" in told
    assert [tab.label for tab in test.tabs][-3:] == ["Layers", "Directions", "Answers"], "it changes no weight"
    session = fresh_backend.sessions["embedded"]
    chosen = next(offer.id for offer in session.demos.list() if not offer.is_shipped)
    session.demos.save(session.demos(chosen).with_rows(session.demos(chosen).rows[1:]), key=chosen)
    fine(test.button(key="moves-run").click().run())
    assert "was changed since" in texts(settled(test))


def test_an_edit_without_spectra_has_no_cut(app: Run, fresh_backend: Any) -> None:
    test = app("spectra")
    edit = fit(fresh_backend, test, "mean_difference", layers=[1])
    test = spectra(test, edit)
    assert not [slider for slider in test.slider if (slider.key or "").startswith("cut-")]


def test_two_edits_show_their_common_directions_beside_random_ones(app: Run, fresh_backend: Any) -> None:
    test = app("spectra")
    one, other = fit(fresh_backend, test, "mean_difference", layers=[1]), fit(fresh_backend, test, "mean_difference", layers=[2])
    test = spectra(test, one)
    assert "angles-run" not in keys(test), "one edit has nothing to be compared with"
    fine(test.multiselect(key="spectra-edits").set_value([one, other]).run())
    assert "will stand here" in texts(test)
    fine(test.button(key="angles-run").click().run())
    said = texts(settled(test))
    assert "the nearest directions have a cosine of" in said and "random ones of equal number" in said and "n=" in said


def test_edits_that_share_no_layer_are_told_so(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from workbench.lenses import edit_angles

    test = app("spectra")
    one, other = fit(fresh_backend, test, "mean_difference", layers=[1]), fit(fresh_backend, test, "mean_difference", layers=[2])
    none = (np.zeros(0),) * 3
    found = edit_angles.EditAngles("tiny", ("a", "b"), (0, 1, 2), none, none, ((0, 0),) * 3, np.zeros((2, 3)), 0.9, 10)
    monkeypatch.setattr(edit_angles, "edit_angles", lambda *_, **__: found)
    test = spectra(test, one, other)
    fine(test.button(key="angles-run").click().run())
    assert "There is no layer that both edits move" in texts(settled(test))


# Geometry of demonstrations.
def geometry(app: Run, backend: Any) -> AppTest:
    test = app("demonstrations")
    test.session_state["retouch"].set_name = own_set(backend)
    return fine(test.run())


def picked(test: AppTest, *rows: int) -> AppTest:
    """As a lasso round these rows' points."""
    test.session_state["geometry-points-0-plot"] = {"selection": {"points": [{"customdata": [row]} for row in rows]}}
    return fine(test.run())


def test_both_sides_are_drawn_with_a_score_its_interval_and_random_directions(app: Run, fresh_backend: Any) -> None:
    test = geometry(app, fresh_backend)
    assert "A point for each answer will stand here" in texts(test)
    fine(test.button(key="geometry-run").click().run())
    said = texts(settled(test))
    assert "AUC" in said and "n=" in said and "random directions" in said and "p =" in said
    assert "A point for each answer will stand here" not in said
    fine(test.select_slider(key="geometry-layer").set_value(2).run())
    assert "Layer 2\\: AUC" in texts(test)
    from pages._ui.kit.state import as_url

    assert as_url(test.session_state["retouch"])["layer"] == "2"


def test_the_layer_of_the_url_is_where_the_picture_begins(app: Run, fresh_backend: Any) -> None:
    test = geometry(app, fresh_backend)
    test.session_state["retouch"].layer = 1
    fine(test.button(key="geometry-run").click().run())
    assert settled(test).select_slider(key="geometry-layer").value == 1


def test_too_few_rows_withhold_the_score_with_the_reason(app: Run, fresh_backend: Any) -> None:
    from tests.conftest import contrast_rows

    test = app("demonstrations")
    few = contrast_rows(24).split("fit").first(4)
    test.session_state["retouch"].set_name = fresh_backend.sessions["embedded"].demos.save(few).id
    fine(test.run())
    fine(test.button(key="geometry-run").click().run())
    said = texts(settled(test))
    assert "Withheld: 4 rows a side to fit and 0 held out" in said and "AUC" not in said


def test_a_lasso_shows_its_rows_and_can_move_and_drop_them(app: Run, fresh_backend: Any) -> None:
    session, test = fresh_backend.sessions.get("embedded"), geometry(app, fresh_backend)
    session = fresh_backend.sessions["embedded"]
    chosen = test.session_state["retouch"].set_name
    assert "geometry-move" not in keys(test), "nothing is picked"
    fine(test.button(key="geometry-run").click().run())
    test = picked(settled(test), 3, 5)
    assert "2 rows picked" in texts(test)
    assert test.selectbox(key=f"set-row-{test.session_state['retouch'].set_name}").value == 3, "the row below is one of those picked"
    before = session.demos(chosen)
    fine(test.button(key="geometry-move").click().run())
    assert [session.demos(chosen)[i].split for i in (3, 5)] == ["test", "test"] and "picked**" not in texts(test)
    fine(test.button(key="set-undo").click().run())
    assert session.demos(chosen).fingerprint == before.fingerprint


def test_rows_picked_in_another_set_are_not_this_sets(app: Run, fresh_backend: Any) -> None:
    test = geometry(app, fresh_backend)
    fine(test.button(key="geometry-run").click().run())
    test = picked(settled(test), 3, 5)
    test.session_state["retouch"].set_name = own_set(fresh_backend, 30)
    fine(test.run())
    assert "picked**" not in texts(test) and "From earlier settings" in texts(test)


def test_geometry_running_and_failed(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    test = geometry(app, fresh_backend)

    def slow(*_: Any, progress: Any, **__: Any) -> Any:
        while True:
            progress(0.3, "Turning the handle")
            time.sleep(0.02)

    def refused(*_: Any, **__: Any) -> Any:
        raise NotEnoughMemory("The activations do not fit.", "Use fewer rows.")

    monkeypatch.setattr(fresh_backend.sessions["embedded"], "look", slow)
    fine(test.button(key="geometry-run").click().run())
    assert "Turning the handle" in texts(test)
    test.button(key="geometry-cancel").click().run()
    assert "Cancelled" in texts(settled(test))
    monkeypatch.setattr(fresh_backend.sessions["embedded"], "look", refused)
    fine(test.button(key="geometry-run").click().run())
    assert "Use fewer rows" in texts(settled(test))


# Templates.
def test_every_template_is_read_back_whole_from_both_files(app: Run, fresh_backend: Any) -> None:
    from pages._ui.demonstrations.templates import TEMPLATES, as_csv
    from pages._ui.kit.rows import as_jsonl
    from workbench.data.demonstrations import Demonstrations

    app()
    session = fresh_backend.sessions["embedded"]
    for title, (_, _, rows) in TEMPLATES.items():
        for content, name in ((as_jsonl(Demonstrations(rows)), "t.jsonl"), (as_csv(Demonstrations(rows)), "t.csv")):
            read, _ = session.demos.import_file(content.encode(), name)
            assert not read.problems, (title, name, read.problems)
            assert [(row.prompt, row.positive, row.negative, row.label, row.loss, row.split) for row in read.demonstrations] == [
                (row.prompt, row.positive, row.negative, row.label, row.loss, row.split) for row in rows
            ], (title, name)


def _template_script() -> None:
    from pages._ui.demonstrations import templates
    from pages._ui.kit.backend import backend

    templates.panel(backend().sessions["embedded"])


def test_a_template_begins_a_set(app: Run, fresh_backend: Any) -> None:
    """The panel alone: AppTest cannot draw a dialog a second time."""
    app()
    test = fine(AppTest.from_function(_template_script).run())
    fine(test.segmented_control(key="template-kind").set_value("Labels").run())
    assert "TaRot" in texts(test)
    fine(test.button(key="template-begin").click().run())
    session = fresh_backend.sessions["embedded"]
    assert session.demos(test.session_state["retouch"].set_name).name == "my labels"
