"""Demonstrations: which rows of a set the table shows, by text, split, tag, check and star."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import streamlit as st

from pages._ui.kit.state import part
from workbench.data.demonstrations import SPLITS, Demonstrations

if TYPE_CHECKING:
    from workbench.data.checks import Check
    from workbench.session import Session

CHECK = "set-filter-check"
_MANY_TAGS = 60


@dataclass(frozen=True)
class Wanted:
    """What is asked for; empty is everything."""

    text: str = ""
    split: str | None = None
    tags: tuple[str, ...] = ()
    check: str | None = None
    starred: bool = False

    @property
    def n_more(self) -> int:
        """How much is asked for beside the text."""
        return sum(map(bool, (self.split, self.tags, self.check, self.starred)))


@dataclass
class Filtered:
    """The set that the filter was made for: on another one it would hide rows that nobody has seen."""

    of: str = ""
    of_tab: ClassVar[bool] = True


def filters(chosen: str, demonstrations: Demonstrations, found: Sequence[Check]) -> Wanted:
    """Draw the filter's controls, which begin anew on another set; return what they say."""
    mine = part(Filtered)
    if mine.of not in ("", chosen):
        clear()
    mine.of = chosen
    troubled = [check.title for check in found if check.count]
    if st.session_state.get(CHECK) not in (None, *troubled):
        st.session_state[CHECK] = None  # mended, or of another set
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Filter", key="set-filter", placeholder="A word of a text, a tag, a split, an id", label_visibility="collapsed"
        )
        n = Wanted(
            "", st.session_state.get("set-filter-split"), tuple(st.session_state.get("set-filter-tags", ())), st.session_state.get(CHECK),
            bool(st.session_state.get("set-filter-starred")),
        ).n_more  # fmt: skip
        with st.popover(f"Filters ({n})" if n else "Filters", icon=":material/filter_list:", key="set-filters"):
            split = st.selectbox("Split", SPLITS, index=None, placeholder="Any", key="set-filter-split")
            tags = st.multiselect("Tags", tags_of_set(demonstrations), key="set-filter-tags", placeholder="Any")
            check = st.selectbox("Check", troubled, index=None, placeholder="Any", key=CHECK)
            starred = st.toggle("Starred only", key="set-filter-starred")
            if n:
                st.button("Show all rows", key="set-filter-clear", on_click=clear)
    return Wanted(text, split, tuple(tags), check, starred)


def clear() -> None:
    """Ask for everything again."""
    told: dict[str, object] = {"set-filter": "", "set-filter-split": None, "set-filter-tags": [], CHECK: None, "set-filter-starred": False}
    for key, value in told.items():
        st.session_state[key] = value


def show_rows(title: str) -> None:
    """Show the rows that a check found, and no others."""
    clear()
    st.session_state[CHECK] = title


def tags_of_set(demonstrations: Demonstrations) -> list[str]:
    """The tags that some rows share and others lack, in order; the references of a question are none."""
    counts: Mapping[str, int] = _counted(demonstrations)
    told = [tag for tag, n in counts.items() if 1 < n < len(demonstrations) and not tag.startswith(("true:", "false:"))]
    return sorted(sorted(told, key=lambda tag: -counts[tag])[:_MANY_TAGS])


def _counted(demonstrations: Demonstrations) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in demonstrations:
        for tag in row.tags:
            counts[tag] = counts.get(tag, 0) + 1
    return counts


def allowed(session: Session, demonstrations: Demonstrations, wanted: Wanted, found: Sequence[Check]) -> set[int] | None:
    """The places that everything but the text allows; None is all."""
    if not wanted.n_more:
        return None
    of_check = next((set(check.rows) for check in found if check.title == wanted.check), None) if wanted.check else None
    stars = session.workspace.starred() if wanted.starred else frozenset[str]()
    return {
        i
        for i, row in enumerate(demonstrations)
        if (of_check is None or i in of_check)
        and (wanted.split is None or row.split == wanted.split)
        and all(tag in row.tags for tag in wanted.tags)
        and (not wanted.starred or row.marks[1] in stars)
    }
