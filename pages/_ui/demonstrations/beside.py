"""Demonstrations: what the checks found, each finding with its rows and, where it can be put right, a button that does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.demonstrations import sets
from pages._ui.demonstrations.filtering import show_rows
from pages._ui.kit import frame, jobs
from pages._ui.kit.rows import MANY, Editor
from pages._ui.kit.state import part
from pages._ui.kit.words import count
from workbench.data.demonstrations import Demonstrations
from workbench.data.mending import MENDS, mended

if TYPE_CHECKING:
    from workbench.data.checks import Check
    from workbench.progress import Progress
    from workbench.session import Session


CHECKS: jobs.Slot[str, tuple[Check, ...]] = jobs.Slot("checks")


@dataclass
class Checked:
    """What was found last, and in which set and model: every row is read for it."""

    key: tuple[str, str] = ("", "")
    found: tuple[Check, ...] = ()


def checks(session: Session, chosen: str, demonstrations: Demonstrations, version: int | None) -> None:
    """Chips of all checks; for one of those that found something its rows, and where it can be put right, a button that does it."""
    st.header("Checks", anchor=False)
    if not len(demonstrations):
        st.caption("There is nothing to check yet: the set has no row.")
        return
    found = _found(session, demonstrations)
    if found is None:
        return
    troubled = {check.title: check for check in found if check.count}
    if not troubled:
        st.caption(f"Nothing that an edit would learn by accident{_unjudged(found)}.")
        return
    title = st.pills("What was found", list(troubled), key="set-check", label_visibility="collapsed")
    if title is None:
        st.caption("Choose one to see its rows, or to mend it.")
        return
    check = troubled[title]
    st.markdown(check.advice)
    with st.container(horizontal=True):
        st.button(f"Show {count(check.count, 'row')}", key="check-show", on_click=show_rows, args=(title,))
        if check.name in MENDS:
            frame.act(MENDS[check.name].verb, _mend, session, chosen, demonstrations, version, check, key="check-mend")


def _unjudged(found: tuple[Check, ...]) -> str:
    n = sum(check.severity == "unjudged" for check in found)
    return f", as far as so few rows tell: {count(n, 'check')} in grey {'needs' if n == 1 else 'need'} more" if n else ""


def _mend(session: Session, chosen: str, demonstrations: Demonstrations, version: int | None, check: Check) -> None:
    """A version with the finding put right, which an undo takes back; of a set that ships, in a copy."""
    after = mended(demonstrations, check)
    sets.save_changes(session, chosen, after, version)
    part(Editor).restart()
    n = len(demonstrations) - len(after)
    st.toast(f"{count(n, 'row')} taken out. Undo brings them back." if n else f"{count(check.count, 'row')} mended. Undo takes it back.")


def found_now(session: Session, demonstrations: Demonstrations) -> tuple[Check, ...]:
    """What the checks found in these very rows; nothing as long as that has not been asked of a large set."""
    if len(demonstrations) > MANY:
        return (jobs.result(CHECKS) or ()) if jobs.settings_of(CHECKS) == demonstrations.fingerprint else ()
    last, key = part(Checked), (session.model.fingerprint.weights, demonstrations.fingerprint)
    if last.key != key:
        last.key, last.found = key, session.checks(demonstrations)
    return last.found


def _found(session: Session, demonstrations: Demonstrations) -> tuple[Check, ...] | None:
    """What the checks found, at once or, where there are many rows to read, when asked for; None as long as that has not been done."""
    if len(demonstrations) > MANY:
        frame.act("Check all rows", _check, demonstrations, key="checks-run")
        jobs.panel(CHECKS, _chips, settings=demonstrations.fingerprint)
        return jobs.result(CHECKS) if jobs.settings_of(CHECKS) == demonstrations.fingerprint else None
    found = found_now(session, demonstrations)
    _chips(found)
    return found


def _chips(found: tuple[Check, ...]) -> None:
    st.html("".join(frame.check_chip(check.title, check.count, is_judged=check.severity != "unjudged") for check in found))


def _check(demonstrations: Demonstrations) -> None:
    def work(session: Session, progress: Progress) -> tuple[Check, ...]:
        progress(0.0, "Reading all rows")
        return session.checks(demonstrations)

    jobs.start(CHECKS, "Checking", work, demonstrations.fingerprint)
