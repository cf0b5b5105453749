"""What would you like to do first?"""

from __future__ import annotations

import streamlit as st

from pages._ui import frame

frame.page("Start", __doc__ or "")
with st.container(horizontal=True, key="cards"):
    for i, (title, text, verb) in enumerate(
        (
            (
                "Make a model truthful",
                "The embedded model has read careful and careless speakers. Fit an edit on 40 pairs, and see it answer differently.",
                "Fit edit",
            ),
            (
                "Find the induction heads",
                "A prompt that repeats itself; the heads that look back to what came after last time.",
                "Look inside",
            ),
            (
                "Bring my own model",
                "A local Hugging Face folder or a hub id. You see what it needs before anything is loaded.",
                "Choose a model",
            ),
        )
    ):
        with st.container(border=True, key=f"card-{i}", width="stretch"):
            st.subheader(title, anchor=False)
            st.markdown(text)
            st.button(verb, type="primary" if i == 0 else "secondary", key=f"b{i}")
