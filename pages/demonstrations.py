"""What should the model do more of, and what less?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages._ui.demonstrations import geometry, sets
from pages._ui.kit import calls, frame, words
from pages._ui.kit.backend import ready
from pages._ui.kit.components import token_strip
from pages._ui.kit.rows import as_jsonl, counts, editor, merged
from pages._ui.kit.state import state


def main(session: Any) -> None:
    """Picker, table and its foot; beside them the checks and the chosen row's tokens; below, both sides inside the model."""
    chosen = sets.picker(session, key="demonstrations-set")
    if chosen is None:
        with frame.empty("Your demonstrations will stand here, one row each.", "Import a file to begin.", key="no-set"):
            st.button("Import", key="set-import-first", on_click=lambda: sets.import_dialog(session))
        return
    table, side = st.columns([2, 1], gap="large")
    with table:
        base, key = sets.base(session, chosen)
        editor(base, key, lambda: sets.save_changes(session, chosen, merged(base, st.session_state[key])))
        sets.failure()
        demonstrations = session.demos(chosen)
        st.caption(f"{len(demonstrations)} rows: {counts(demonstrations)}. Every change is a version on disk.")
        _foot(session, chosen, demonstrations)
    with side:
        troubled = _checks(session, demonstrations)
        index = _row(session, demonstrations, geometry.picked_rows(demonstrations) or troubled)
    geometry.panel(session, chosen, demonstrations, index)


def _foot(session: Any, chosen: str, demonstrations: Any) -> None:
    saved = session.demos.info(chosen).saved
    with st.container(horizontal=True):
        st.button("Undo", disabled=saved is None or not saved.can_undo, on_click=sets.move, args=(session, chosen, True), key="set-undo")
        st.button("Redo", disabled=saved is None or not saved.can_redo, on_click=sets.move, args=(session, chosen, False), key="set-redo")
        if st.button("Import", key="set-import"):
            sets.import_dialog(session)
        st.download_button(
            "Download",
            lambda: as_jsonl(demonstrations),
            f"{demonstrations.name}.jsonl",
            "application/jsonl",
            key="set-download",
            on_click="ignore",
        )
        if st.button("Fit an edit with these", type="primary", key="set-fit"):
            st.switch_page("pages/edit.py")


def _checks(session: Any, demonstrations: Any) -> tuple[int, ...]:
    """Chips of all checks; a choice among those that found something shows its rows."""
    st.subheader("Checks", anchor=False)
    found = calls.checks(session, demonstrations)
    st.html("".join(frame.check_chip(check.title, check.count) for check in found))
    troubled = {check.title: check for check in found if check.count}
    if not troubled:
        st.caption("Nothing that an edit would learn by accident.")
        return ()
    title = st.pills("Show the rows of", list(troubled), key="set-check")
    if title is None:
        return ()
    st.markdown(troubled[title].advice)
    return troubled[title].rows


def _row(session: Any, demonstrations: Any, picked: tuple[int, ...]) -> int | None:
    st.subheader("A row as the model reads it", anchor=False)
    if not len(demonstrations):
        st.caption("Add a row to see its tokens.")
        return None
    options = [i for i in picked if i < len(demonstrations)] or list(range(len(demonstrations)))
    index = st.selectbox(
        "Row", options, format_func=lambda i: f"{i + 1}  {demonstrations[i].prompt[:60]}", label_visibility="collapsed",
        key=f"set-row-{state().set_name}",  # the browser keeps the words of a box that it knows
    )  # fmt: skip
    row = demonstrations[index or 0]
    sides = {side: text for side, text in (("positive", row.positive), ("negative", row.negative)) if text}
    for side, text in sides.items():
        tokens, n_prompt = calls.tokens(session, row.prompt, text)
        st.caption(f"{side}: {len(tokens)} tokens, {len(tokens) - n_prompt} of them the answer")
        marks = [""] * n_prompt + ["write"] * (len(tokens) - n_prompt - 1) + ["read write"]
        token_strip(tokens, key=f"set-strip-{side}", marks=marks, twin=False)
    if sides:
        st.caption("Dashed: the answer. Double: its last token, where most methods read.")
    else:
        tokens, _ = calls.tokens(session, row.prompt)
        st.caption(f"{words.plain(row.label or row.split)}: {len(tokens)} tokens")
        token_strip(tokens, key="set-strip-prompt", marks=[""] * (len(tokens) - 1) + ["read"], twin=False)
        st.caption("The row has no answer. Double: the prompt's last token, where a method that reads prompts reads.")
    return index


frame.page("Demonstrations", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
