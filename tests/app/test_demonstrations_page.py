"""The page Demonstrations: versions, undo, odd texts, malformed files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, texts
from tests.conftest import contrast_rows, words
from workbench.errors import BadDemonstrations

Run = Callable[..., AppTest]


def test_a_change_of_the_table_is_a_version_on_disk_and_can_be_undone(app: Run, fresh_backend: Any) -> None:
    test = app("demonstrations")
    chosen = own_set(fresh_backend)
    test.session_state["retouch"].set_name = chosen
    fine(test.run())
    key = f"editor-{test.session_state['retouch'].tab.parts['Editor'].turn}"
    from pages._ui.kit.rows import counts, merged

    session = fresh_backend.sessions["embedded"]
    base = session.demos(chosen)
    changed = merged(base, {"edited_rows": {0: {"positive": " w9"}}, "added_rows": [{"prompt": "w7 w8"}], "deleted_rows": [1]})
    session.demos.save(changed, key=chosen)
    assert key and counts(changed)
    assert session.demos(chosen)[0].positive == " w9" and len(session.demos(chosen)) == len(base)
    fine(test.run())
    fine(test.button(key="set-undo").click().run())
    assert session.demos(chosen).fingerprint == base.fingerprint


@pytest.mark.parametrize("n", [0, 1])
def test_no_or_one_demonstration_is_told_and_not_a_crash(app: Run, fresh_backend: Any, n: int) -> None:
    test = app("demonstrations")
    session = fresh_backend.sessions["embedded"]
    test.session_state["retouch"].set_name = session.demos.save(contrast_rows(24).first(n)).id
    fine(test.run())
    chips = [item.body for item in test.get("html") if "chip" in item.body]
    assert ("There is nothing to check yet" in texts(test)) == (n == 0) == (not any("✓" in chip for chip in chips))
    assert ("4 checks in grey need more" in texts(test)) == (n == 1)
    fine(test.switch_page("pages/edit.py").run())
    assert test.button(key="choose-mean_difference").disabled
    assert "are needed" in texts(test)


def test_emoji_right_to_left_and_markup_in_demonstrations_stay_text(app: Run, fresh_backend: Any) -> None:
    from workbench.data.demonstrations import Demonstration, Demonstrations

    odd = Demonstrations((Demonstration("<b>:red[x]</b> 🙂 שלום $x$", " **w1**", " w2", id="a"),), "odd :red[name] <i>")
    test = app("demonstrations")
    test.session_state["retouch"].set_name = fresh_backend.sessions["embedded"].demos.save(odd).id
    fine(test.run())
    assert not [item for item in test.markdown if "<b>" in item.value and item.allow_html]


def test_a_row_without_answers_shows_its_prompts_tokens(app: Run, fresh_backend: Any) -> None:
    from workbench.data.demonstrations import Demonstration, Demonstrations

    bare = Demonstrations((Demonstration(words(3, 4, 5), label="target", id="a"),), "bare")
    test = app("demonstrations")
    test.session_state["retouch"].set_name = fresh_backend.sessions["embedded"].demos.save(bare).id
    said = texts(fine(test.run()))
    assert "The row has no answer" in said and "target: 3 tokens" in said
    test.session_state["retouch"].set_name = own_set(fresh_backend)
    assert "The row has no answer" not in texts(fine(test.run()))


def test_a_malformed_upload_is_told_line_by_line_and_good_rows_are_kept(app: Run, fresh_backend: Any) -> None:
    app("demonstrations")
    session = fresh_backend.sessions["embedded"]
    read, saved = session.demos.import_file(b'{"prompt": "w1", "positive": " w2", "negative": " w3"}\n{broken\n', "mine.jsonl")
    assert saved is not None and len(read.demonstrations) == 1 and read.problems[0].line == 2
    with pytest.raises(BadDemonstrations):
        session.demos.import_file(b"\x00\x01\x02", "x.bin")


def test_the_strip_shows_what_the_chosen_method_reads_and_writes_under_its_knobs(app: Run, fresh_backend: Any) -> None:
    test = app("demonstrations")
    test.session_state["retouch"].set_name = own_set(fresh_backend)
    test.session_state["retouch"].method = "mean_difference"
    assert "writes every token. Solid: read" in texts(fine(test.run()))
    fine(test.switch_page("pages/edit.py").run())
    fine(test.segmented_control(key="knob-mean_difference-where").set_value("prompt").run())
    said = texts(fine(test.switch_page("pages/demonstrations.py").run()))
    assert "writes the prompt's tokens. Solid: read" in said and "writes every token" not in said
    said = texts(fine(test.selectbox(key="set-method").set_value("lora").run()))
    assert "this method settles while it fits" in said and test.session_state["retouch"].method == "lora"
