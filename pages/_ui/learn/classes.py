"""Teach: a link that pins lesson, model and pages for a class; who is where and who is stuck; answers side by side; begin anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import streamlit as st

from pages._ui.kit import frame
from pages._ui.kit.state import part, state
from pages._ui.kit.words import count, plain
from pages._ui.learn import following
from workbench.errors import RetouchError
from workbench.lessons.lesson import PAGES
from workbench.resources import LOOPBACK
from workbench.workspace.learning import progress_csv

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

    from workbench.session import Session
    from workbench.workspace.learning import ClassLink, Learning

LOOK_S = 3.0
"""How often the table of who is where is drawn anew."""


def teach(session: Session) -> None:
    """Make a class, or look after one."""
    learning, owner = session.workspace.learning, state().owner
    mine = learning.classes(owner)
    with st.expander("Begin a class", expanded=not mine, key="class-new"):
        _new(learning)
    if not mine:
        frame.empty("Who of your class is where, and who is stuck, will stand here.", "Begin a class and hand out its link.", key="classes")
        return
    titles = {one.id: lesson.title if (lesson := following.lessons().lessons.get(one.lesson)) else one.lesson for one in mine}
    chosen = st.selectbox("Class", [one.id for one in mine], format_func=lambda key: f"{titles[key]} · {key}", key="class-chosen")
    one = next(item for item in mine if item.id == chosen)
    _link(one)
    st.fragment(_table, run_every=LOOK_S)(learning, one)
    st.subheader("Answers side by side", anchor=False)
    st.fragment(_answers, run_every=LOOK_S)(learning, one)
    _reset(learning, one)


def _new(learning: Learning) -> None:
    found = following.lessons().lessons
    lesson = st.selectbox("Lesson", list(found), format_func=lambda key: found[key].title, key="class-lesson")
    models = [found[lesson].model, *found[lesson].real]
    model = st.selectbox("Model", models, key="class-model")
    need = [step.start.page for step in found[lesson].steps]
    pages = st.multiselect(
        "Pages", PAGES, list(dict.fromkeys([*need, "Learn"])), key=f"class-pages-{lesson}", help="Others are not offered."
    )
    lacking = [page for page in dict.fromkeys(need) if page not in pages]
    if lacking:
        st.caption(f":orange[The lesson is done on {', '.join(lacking)} too.]")
    frame.act("Make the link", _make, learning, lesson, model, pages, key="class-make", type="primary", disabled=bool(lacking))


def _make(learning: Learning, lesson: str, model: str, pages: Sequence[str]) -> None:
    learning.new_class(state().owner, lesson, model, pages)


def _link(one: ClassLink) -> None:
    """The link as a learner opens it: the address under which the teacher sees this page."""
    address = str(st.context.url or "").split("?")[0].rstrip("/")
    st.code(f"{address.removesuffix('/learn')}/learn?class={one.id}", language=None)
    what = f"It opens the lesson on {plain(one.model)}, with {count(len(one.pages), 'page')}. "
    st.caption(what + _reached(address))


def _reached(address: str) -> str:
    """What a teacher has to know before others follow a link to an address."""
    host = urlsplit(address).hostname
    if host not in LOOPBACK:
        return "Use the address under which learners reach this machine."
    start = "retouch app --address 0.0.0.0 --class"
    return f":orange[{host} is this machine alone.] For a class start `{start}`, come here by this machine's name, and copy the link."


def _table(learning: Learning, one: ClassLink) -> None:
    rows = learning.table(one)
    if not rows:
        st.caption("Nobody has followed the link yet.")
        return
    stuck = sum(bool(row["stuck"]) for row in rows)
    lesson = following.lessons().lessons.get(one.lesson)
    n = len(lesson.steps) if lesson is not None else 0
    finished = sum(row["done"] == n for row in rows)
    before = sum(row["done"] < n <= row["done"] + row["begun before"] for row in rows)
    earlier = f" {count(before, 'learner')} had begun before the class was made, and got through." if before else ""
    frame.meaning(f"{count(len(rows), 'learner')}: {finished} through, {stuck} stuck.{earlier}", "class")
    shown = [
        {
            "learner": row["learner"],
            "where": _where(row, n),
            **{name: row[name] for name in ("done", "minutes at this step", "hints", "wrong answers")},
            "": "stuck" if row["stuck"] else "" if row["here"] else "away",
        }
        for row in rows
    ]
    st.dataframe(shown, hide_index=True, width="stretch", key="class-table")


def _where(row: Mapping[str, Any], n: int) -> str:
    """At which of n steps a learner is; who is through, but not by work of this class alone, is told apart."""
    if row["done"] == n:
        return "through"
    if row["step"] is None and row["done"] + row["begun before"] >= n:
        return "through, begun before"
    return f"step {row['step'] or row['done'] + row['begun before'] + 1}"


def _answers(learning: Learning, one: ClassLink) -> None:
    rows = learning.answers(one)
    if not rows:
        st.caption("What they answer and see stands here, a row a learner and step.")
        return
    kept = ("step", "learner", "answer", "wrong answers", "hints", "minutes", "saw")
    st.dataframe([{name: row[name] for name in kept} for row in rows], hide_index=True, width="stretch", key="class-answers")
    st.download_button("CSV", progress_csv(rows), f"retouch-class-{one.id}.csv", "text/csv", key="class-csv", on_click="ignore")


def _reset(learning: Learning, one: ClassLink) -> None:
    with st.popover("Let all begin anew", key="class-reset"):
        st.caption("What this class has done in this lesson is forgotten. Download the answers first if you want to keep them.")
        st.button("Forget it", key="class-reset-now", on_click=_forget, args=(learning, one))


def _forget(learning: Learning, one: ClassLink) -> None:
    learning.reset(one)


def joined() -> ClassLink | None:
    """The class whose link this tab followed; the lesson, and on the first run its model, are the class's.

    A class that is not there (any more) is told once where the page tells what is wrong with a link.
    """
    now, learning = state(), following.store()
    if not now.classroom or learning is None:
        return None
    mine = part(following.Following)
    if mine.joined is not None and mine.joined.id == now.classroom:
        return mine.joined
    try:
        found = learning.join(now.owner, now.classroom)
    except RetouchError as error:
        now.classroom, now.bad_link = "", error
        return None
    mine.joined = found
    lesson = following.lessons().lessons.get(found.lesson)
    if lesson is not None and found.teacher != now.owner and not now.lesson:
        now.lesson = lesson.id
        following.turn_to_model(found.model)
    return found


def is_offered(title: str, one: ClassLink | None) -> bool:
    """Whether the menu has a page: in a class, for who is not its teacher, those that its link names, and Learn."""
    return one is None or not one.pages or one.teacher == state().owner or title in (*one.pages, "Learn")


def elsewhere(title: str, offered: Sequence[StreamlitPage]) -> None:
    """In place of a page that the class does not have, however one came there: that it is not part of it, and the way to those that are."""
    frame.page(title, "This page is not offered in this class.")
    box = frame.empty("Your teacher chose the pages of this class.", "These are part of it:", key="not-offered")
    for item in offered:
        box.page_link(item, label=item.title, icon=item.icon)


def name_of(learning: Learning) -> None:
    """Ask a learner of a class what they are called, for the teacher's table."""
    key, owner = "lesson-name", state().owner
    if key not in st.session_state:
        st.session_state[key] = learning.name(owner)
    st.text_input(
        "Your name, for your teacher",
        key=key,
        max_chars=60,
        on_change=_call,
        args=(learning, owner),
        placeholder="as your teacher knows you",
    )


def _call(learning: Learning, owner: str) -> None:
    learning.call(owner, str(st.session_state.get("lesson-name", "")))
