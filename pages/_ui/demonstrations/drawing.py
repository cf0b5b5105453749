"""Demonstrations: splits drawn anew by group, and the versions of a set, each a click away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.demonstrations import sets
from pages._ui.kit import frame, words
from pages._ui.kit.rows import Editor, counts
from pages._ui.kit.state import part
from workbench.data.demonstrations import Demonstrations
from workbench.data.splits import reassigned
from workbench.errors import RetouchError

if TYPE_CHECKING:
    from workbench.session import Session

# Tags that say something else than what a row is about.
_NO_TOPICS = ("true", "false", "unknown", "biased", "unrelated", "delta", "role")
_ASKED = "what is asked"


def splits(session: Session, chosen: str, demonstrations: Demonstrations, version: int | None) -> None:
    """Draw splits anew: whole groups, by a seed, each stratum with the same shares."""
    with st.popover("Splits", key="set-splits", disabled=not len(demonstrations)):
        keys = sorted({tag.split(":", 1)[0] for row in demonstrations for tag in row.tags if ":" in tag} - set(_NO_TOPICS))
        fit, validation = st.slider("Shares: fit, validation, the rest test", 5, 100, (40, 50), 5, format="%d %%", key="set-split-shares")
        by = st.selectbox("Never on two sides", [_ASKED, *keys], key="set-split-by")
        strata = ["label"] * any(row.label for row in demonstrations) + keys
        stratify = st.selectbox("Equal shares of each", strata, index=None, placeholder="nothing", key="set-split-strata")
        seed = st.number_input("Seed", 0, 2**31, 0, key="set-split-seed")
        shares = fit / 100, (validation - fit) / 100
        try:
            drawn = reassigned(demonstrations, seed, shares, by=None if by == _ASKED else by, stratify=stratify)
        except RetouchError as error:
            frame.problem(error, "splits")
            return
        st.caption(f"This gives {counts(drawn)}.")
        if opened := session.demos.n_opened(chosen):
            st.caption(f":orange[{words.count(opened, 'run')} scored edits on these test rows: drawn anew, some are no longer unseen.]")
        frame.act("Draw these splits", _draw, session, chosen, drawn, version, key="set-split-draw", type="primary")


def _draw(session: Session, chosen: str, drawn: Demonstrations, version: int | None) -> None:
    sets.save_changes(session, chosen, drawn, version)
    part(Editor).restart()


def versions(session: Session, chosen: str) -> None:
    """What made each version of a set, and a way to it."""
    history = session.demos.history(chosen)
    with st.popover("Versions", key="set-versions", disabled=len(history) < 2):
        st.dataframe(
            [
                {"version": item.version, "from": item.parent, "rows": item.n, "what made it": item.note, "when": words.ago(item.created)}
                for item in reversed(history)
            ],
            hide_index=True, height=min(300, 38 + 35 * len(history)),
        )  # fmt: skip
        now = next((item.version for item in history if item.is_current), None)
        others = [item.version for item in reversed(history) if item.version != now]
        to = st.selectbox("Version", others, key=f"set-version-{chosen}-{now}", format_func=lambda version: f"Version {version}")
        frame.act("Go to it", _go, session, chosen, to, key="set-version-go", disabled=not others)


def _go(session: Session, chosen: str, version: int) -> None:
    session.demos.go_to(chosen, version)
    part(Editor).restart()
