"""Inspect's reader and table of nodes: what will stand there, what stands there, a cell's numbers in its name, the way to the scope."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, settled, texts
from tests.conftest import contrast_rows

Run = Callable[..., AppTest]


def on(app: Run, tab: str) -> AppTest:
    test = app("inspect")
    test.text_area(key="inspect-prompt").set_value("w1 w2 w3 w2 w5")
    test.text_input(key="inspect-target").set_value("w1")
    test.text_input(key="inspect-distractor").set_value("w2")
    return fine(test.segmented_control(key="inspect-lens").set_value(tab).run())


def press(test: AppTest, key: str) -> AppTest:
    fine(test.button(key=key).click().run())
    return settled(test)


def test_a_site_is_read_on_the_prompt_and_one_of_its_numbers_on_a_set(app: Run, fresh_backend: Any) -> None:
    test = on(app, "Reader")
    assert "Every token will stand here" in texts(test)
    fine(test.selectbox(key="reader-kind").set_value("head_z").run())
    fine(test.selectbox(key="reader-head").set_value(2).run())
    test = press(test, "reader-run")
    found = test.session_state["retouch"].kept["reader"].value
    assert found.site == "head_z@1.2" and found.unit is None and len(found.tokens) == 5
    assert "None of the 5 tokens is massive" in texts(test) and "1 text, 5 tokens" in texts(test)
    fine(test.selectbox(key="reader-strip-0-twin").set_value(3).run())
    assert "norm" in texts(test) and test.button(key="reader-scope-add")
    fine(test.button(key="reader-scope-add").click().run())
    assert "In scope" in [button.label for button in test.button]
    own = own_set(fresh_backend)
    fine(test.segmented_control(key="reader-on").set_value("set").run())
    fine(test.selectbox(key="reader-set").set_value(own).run())
    fine(test.number_input(key="reader-unit").set_value(3).run())
    assert "From earlier settings" in texts(test)
    test = press(test, "reader-run")
    found = test.session_state["retouch"].kept["reader"].value
    assert found.unit == 3 and len(found.prompts) > 10 and "From earlier settings" not in texts(test)
    assert len(test.dataframe) >= 1 and "number 3" in texts(test)


@pytest.mark.parametrize("ending", ["safetensors", "parquet"])
def test_all_numbers_of_a_site_are_written_to_a_file_that_goes_with_its_result(app: Run, fresh_backend: Any, ending: str) -> None:
    test = on(app, "Reader")
    own = own_set(fresh_backend)
    fine(test.segmented_control(key="reader-on").set_value("set").run())
    fine(test.selectbox(key="reader-set").set_value(own).run())
    fine(test.segmented_control(key="reader-file-format").set_value(ending).run())
    test = press(test, "reader-file-run")
    made = test.session_state["retouch"].kept["reader-file"].value
    file = Path(made.told.file)
    assert made.told.n_texts == 24 and file.stat().st_size == made.told.n_bytes and "24 texts" in texts(test)
    assert [button.label for button in test.get("download_button")] == [f"{file.name}, 0.0 MB"]
    assert "From earlier settings" not in texts(test)
    fine(test.segmented_control(key="reader-on").set_value("prompt").run())
    assert "From earlier settings" in texts(test)
    test = press(test, "reader-file-run")
    assert test.session_state["retouch"].kept["reader-file"].value.told.n_texts == 1
    del made
    gc.collect()
    assert not file.parent.exists()


def test_nodes_are_estimated_then_measured_and_one_is_traced_and_put_into_scope(app: Run) -> None:
    test = press(on(app, "Nodes"), "nodes-estimate")
    assert "measured node" not in texts(test) and "From earlier settings" not in texts(test)
    test = press(test, "nodes-run")
    said = texts(test)
    assert "Of 10 measured nodes" in said or "Of 15 measured nodes" in said
    fine(test.selectbox(key="nodes-grid-row").set_value(2).run())
    fine(test.selectbox(key="nodes-grid-column").set_value(1).run())
    assert "**Head 2.1**: lost without it" in texts(test)
    test = press(test, "nodes-trace")
    assert "reads for the target, by who wrote it" in texts(test)
    fine(test.button(key="nodes-upstream-scope").click().run())
    assert "Add these" in " ".join(button.label for button in test.button) and test.button(key="scope-fit")
    fine(test.selectbox(key="nodes-grid-row").set_value(1).run())
    assert "by who wrote it" not in texts(test), "another node has other writers"


def test_the_flow_is_traced_and_its_threshold_moves_without_another_run(app: Run) -> None:
    test = press(on(app, "Flow"), "flow-run")
    assert "Heads that carry most" in texts(test) and test.get("plotly_chart")
    found = test.session_state["retouch"].kept["flow"].value
    fine(test.selectbox(key="flow-grid-row").set_value(0).run())
    fine(test.selectbox(key="flow-grid-column").set_value(4).run())
    assert "Into layer 2, token 4" in "\n".join(item.value for item in test.text)
    fine(test.slider(key="flow-threshold").set_value(0.2).run())
    assert "From earlier settings" not in texts(test) and test.session_state["retouch"].kept["flow"].value is found
    if found.heads(0.2):
        fine(test.button(key="flow-scope").click().run())
        assert test.button(key="scope-fit")


def test_a_direction_is_described_compared_and_steered_by(app: Run, fresh_backend: Any) -> None:
    test = on(app, "Directions")
    own = own_set(fresh_backend, 40)
    fine(test.run())
    fine(test.selectbox(key="direction-along").set_value(own).run())
    beside = next(item for item in test.multiselect if item.label == "Compare it with")
    assert beside.value == ["the refusal direction"]
    fine(beside.set_value(["token w2"]).run())
    test = press(test, "direction-run")
    found = test.session_state["retouch"].kept["direction"].value
    assert [name for name, _ in found.cosines] == ["token w2"] and "19 of 20 cases" in texts(test)
    assert found.name == "token w1" and found.tokens.promoted[0][0] == "w1" and found.auc is not None
    assert "Texts that the direction was not made of" in texts(test) and "From earlier settings" not in texts(test)
    test = press(test, "direction-steer")
    now = test.session_state["retouch"]
    draft = now.kept["direction-steer"].value
    assert now.is_on(draft.edit.id) and draft.edit.header.facts["size"] == 0.5
    fine(test.button(key="cell-off").click().run())
    assert not test.session_state["retouch"].is_on(draft.edit.id), "who takes it off does not get it back"
    fine(test.selectbox(key="direction-kind").set_value("edit").run())
    fine(next(item for item in test.multiselect if item.label == "Compare it with").set_value([]).run())
    test = press(test, "direction-run")
    assert test.session_state["retouch"].kept["direction"].value.name.startswith("steering")
    fine(test.selectbox(key="direction-kind").set_value("prompts").run())
    assert test.button(key="direction-run").disabled, "another prompt is lacking"
    fine(test.text_input(key="direction-other").set_value("w7 w8").run())
    assert press(test, "direction-run").session_state["retouch"].kept["direction"].value.name.endswith("less w7 w8")


@pytest.mark.parametrize(("tab", "key", "what"), [("Logit lens", "logit_lens", "layers"), ("Nodes", "node_table", "head")])
def test_the_prompts_of_a_set_are_read_together_with_mean_and_spread(app: Run, fresh_backend: Any, tab: str, key: str, what: str) -> None:
    test = on(app, tab)
    own = own_set(fresh_backend)
    fine(test.run())
    fine(test.selectbox(key=f"several-set-{key}").set_value(own).run())
    fine(test.select_slider(key=f"several-n-{key}").set_value(8).run())
    test = press(test, f"several-run-{key}")
    found = test.session_state["retouch"].kept["several"].value
    assert found.what == what and found.n == 8 and "From earlier settings" not in texts(test)
    if what == "head":
        fine(test.selectbox(key="several-grid-row").set_value(1).run())
        fine(test.selectbox(key="several-grid-column").set_value(2).run())
        assert "**Head 1.2**: mean" in texts(test) and "spread" in texts(test)


@pytest.mark.parametrize("what", ["looks", "head", "lost"])
def test_what_name_movers_are_told_by_is_read_over_a_set(app: Run, fresh_backend: Any, what: str) -> None:
    test = on(app, "Heads")
    rows = contrast_rows(8)
    named = rows.with_rows([replace(row, positive=" " + str(row.prompt).split()[0]) for row in rows])
    own = fresh_backend.sessions["embedded"].demos.save(named).id
    fine(test.segmented_control(key="heads-view").set_value("Name movers").run())
    fine(test.selectbox(key="several-set-name_movers").set_value(own).run())
    fine(test.segmented_control(key="several-what-name_movers").set_value(what).run())
    assert ("runs a prompt" in texts(test)) == (what == "lost")
    test = press(test, "several-run-name_movers")
    found = test.session_state["retouch"].kept["several"].value
    assert found.what == what and found.n == 8 and "From earlier settings" not in texts(test)
    fine(test.selectbox(key="several-grid-row").set_value(1).run())
    fine(test.selectbox(key="several-grid-column").set_value(2).run())
    assert "**Head 1.2**: mean" in texts(test) and "spread" in texts(test)


def test_without_a_target_there_is_nothing_to_measure(app: Run) -> None:
    test = on(app, "Nodes")
    test.text_input(key="inspect-distractor").set_value("")
    fine(test.text_input(key="inspect-target").set_value("").run())
    assert "Write a target above" in texts(test) and "nodes-run" not in {button.key for button in test.button}


@pytest.mark.parametrize("tab", ["Circuit", "Nodes", "Attention"])
def test_what_a_model_cannot_do_is_said_before_the_click_in_the_words_of_the_command_line(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, tab: str
) -> None:
    from workbench.lenses import registry
    from workbench.methods.shared.needs import Obstacle

    why = Obstacle("It reads what nobody shows.", "Load another model.")
    monkeypatch.setattr(registry, "obstacles_of", lambda name, model: (why,))
    test = on(app, tab)
    assert "It reads what nobody shows" in texts(test) and "Load another model" in texts(test)
    assert not {button.key for button in test.button} & {"circuit-run", "nodes-run", "nodes-estimate", "attention-run"}
    told = {row["what"]: row["why"] for row in fresh_backend.sessions["embedded"].capabilities() if row["kind"] == "lens"}
    assert set(told.values()) == {"It reads what nobody shows. Load another model."}
