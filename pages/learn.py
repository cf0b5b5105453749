"""What can I learn here by doing it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.inspect import pair
from pages._ui.kit import frame
from pages._ui.kit.backend import ready
from pages._ui.kit.state import state
from pages._ui.learn import lessons

if TYPE_CHECKING:
    from workbench.session import Session


def main(session: Session) -> None:
    """Pick a lesson; its steps, each with its check and its ladder of hints."""
    units = {unit["id"]: unit for unit in lessons.lessons()}
    chosen = st.segmented_control(
        "Lesson", list(units), format_func=lambda key: units[key]["title"], default=next(iter(units)), key="lesson", required=True,
        label_visibility="collapsed", persist_state="session",
    )  # fmt: skip
    unit = units[chosen or next(iter(units))]
    st.caption(f"About {unit['minutes']} minutes")
    frame.meaning(unit["concept"], "lesson")
    for i, step in enumerate(unit["steps"]):
        _step(session, unit["id"], i, step)
    st.text_area("What did you see? (stays in this tab)", key=f"saw-{unit['id']}", persist_state="session")


def _step(session: Session, unit: str, i: int, step: lessons.Step) -> None:
    done = lessons.passed(step["check"])
    with st.container(border=True, key=f"step-{unit}-{i}"):
        st.markdown(f"{':material/check_circle:' if done else ':material/radio_button_unchecked:'} **{i + 1}.** {step['task']}")
        rung = st.session_state.get(f"rung-{unit}-{i}", 0)
        with st.container(horizontal=True):
            if st.button("Go there", key=f"go-{unit}-{i}"):
                _prepare(session, step)
                st.switch_page(f"pages/{step['page']}.py")
            if not done:
                st.button(
                    "Hint",
                    key=f"hint-{unit}-{i}",
                    on_click=_climb,
                    args=(f"rung-{unit}-{i}", len(step["hints"])),
                    disabled=rung >= len(step["hints"]),
                )
        for hint in step["hints"][:rung]:
            st.caption(hint)
        if done:
            st.caption("Checked against what you ran in this tab.")


def _climb(key: str, top: int) -> None:
    st.session_state[key] = min(top, st.session_state.get(key, 0) + 1)


def _prepare(session: Session, step: lessons.Step) -> None:
    """Set what the step names; nothing is run."""
    now = state()
    now.set_name, now.method = step.get("set", now.set_name), step.get("method", now.method)
    if "prompt" in step:
        st.session_state["inspect-prompt"] = step["prompt"]
    if "example" in step:
        pair.example(session)
    if "lens" in step:
        st.session_state["inspect-lens"] = step["lens"]


frame.page("Learn", __doc__ or "")
if (opened := ready()) is not None:
    main(opened)
