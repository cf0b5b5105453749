"""Compare: run a comparison when asked, and again when a dose or a sampling control moves; go on, or draw anew."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs
from pages._ui.kit.state import part
from workbench.settings import CompareSettings

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Comparison
    from workbench.progress import Progress
    from workbench.session import Session

COMPARE: jobs.Slot[CompareSettings, Comparison] = jobs.Slot("compare")
# Who moves a slider by keys makes a run a press; each is cancelled by the next within this time, before it has cost anything.
SETTLE_S = 0.1
# A small model has answered by then, and its text is drawn at once; others show their progress.
AT_ONCE_S = 0.28
MORE_TOKENS = 24
# How a text ended that could go on.
_OPEN = ("length", "stopping")


@dataclass
class Asked:
    """The comparison that was asked for last, by a button or by a moved control; `again` if a button moved one."""

    settings: CompareSettings | None = None
    again: bool = False


def begin(slot: jobs.Slot[CompareSettings, Comparison], settings: CompareSettings, *, settle: bool = False) -> None:
    """Start a comparison in a slot; its text streams into the job's own buffer."""

    def work(session: Session, progress: Progress) -> Comparison:
        until = time.monotonic() + (SETTLE_S if settle else 0.0)
        while time.monotonic() < until:
            progress(0.0, "waiting for the controls to rest")
            time.sleep(0.02)
        return session.run(settings, progress=progress)

    if slot is COMPARE:
        part(Asked).settings = settings
    jobs.start(slot, "Comparing", work, settings)


def restore(settings: CompareSettings, found: Comparison | None, shown: CompareSettings) -> None:
    """Show what a recorded comparison came to; where that is not on record, run it again. `shown` is what the controls can say of its
    settings: as long as they say that, nothing is run anew."""
    if found is None:
        begin(COMPARE, settings)
    else:
        jobs.put(COMPARE, found, settings, is_on_record=True)
    part(Asked).settings = shown


def controls(settings: CompareSettings, is_greedy: bool) -> None:
    """Draw the buttons that run it, and the switch that lets moved controls do so; start what they ask for."""
    asked = part(Asked)
    frame.act("Compare", begin, COMPARE, settings, type="primary", key="compare", disabled=not settings.prompts)
    found = jobs.result(COMPARE)
    has_run, is_open = found is not None, found is not None and any(text.ended in _OPEN for texts in found.texts for text in texts)
    told = "Greedy texts are the same each time: raise the temperature under *Sampling* first." if is_greedy else "Draws all texts anew."
    st.button("Regenerate", icon=":material/refresh:", key="compare-again", on_click=_anew, disabled=not has_run or is_greedy, help=told)
    st.button(
        "Continue", icon=":material/arrow_forward:", key="compare-more", on_click=_more, disabled=not is_open,
        help=f"Texts go on from where they broke off, up to {MORE_TOKENS} tokens further. Those that came to an end by themselves stay; "
        "*Stop before* under *Sampling* says where they end.",
    )  # fmt: skip
    is_live = st.toggle(
        "Follow the controls", True, key="compare-live", persist_state="session",
        help="Moving a dose or a sampling control runs what is on screen again. New prompts wait for *Compare*.",
    )  # fmt: skip
    again, asked.again = asked.again, False
    if (has_run or jobs.is_running(COMPARE)) and (again or (is_live and _moved(asked.settings or jobs.settings_of(COMPARE), settings))):
        begin(COMPARE, settings, settle=not again)
        jobs.wait(COMPARE, AT_ONCE_S)


def _moved(last: CompareSettings | None, now: CompareSettings) -> bool:
    """Whether controls ask for something else of the same prompts than was asked for last."""
    return last is not None and now != last and bool(now.prompts) and dict.fromkeys(now.prompts) == dict.fromkeys(last.prompts)


def _anew() -> None:
    st.session_state["sample-seed"] = int(st.session_state.get("sample-seed", 0)) + 1
    part(Asked).again = True


def _more() -> None:
    st.session_state["sample-n"] = min(4000, int(st.session_state.get("sample-n", 0)) + MORE_TOKENS)
    part(Asked).again = True
