"""Compare: force one token, let all lanes go on from there; the branches as a tree to walk, name, pin and cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import jobs, words
from pages._ui.kit.state import part

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Comparison
    from workbench.progress import Progress
    from workbench.session import Session
    from workbench.settings import CompareSettings
    from workbench.workspace.branches import Branches
    from workbench.workspace.job import Snapshot


@dataclass(frozen=True)
class Asked:
    """One branch that somebody asked for: of which tree, from which branch, at which token of which lane, and the comparison it takes."""

    tree: int
    parent: int
    lane: int
    at: int
    word: str
    settings: CompareSettings
    number: int


@dataclass
class Trees:
    """The trees of this tab, the one and the branch that are shown, and how many branches were asked for and are there."""

    trees: list[Branches] = field(default_factory=list["Branches"])
    shown: tuple[int, int] = (0, 0)
    n_asked: int = 0
    done: set[int] = field(default_factory=set[int])


BRANCH: jobs.Slot[Asked, Comparison] = jobs.Slot("branch")


def begin(of: CompareSettings, found: Comparison, where: tuple[int, int, int], token: int, word: str, key: str) -> None:
    """Ask for the branch that says another token at (prompt, lane, at); `key` says in which picture it was clicked."""
    from workbench.workspace.branches import forked

    mine, (p, lane, at) = part(Trees), where
    tree, parent = mine.shown if key.startswith("branch-") else _rooted(mine, of, found, p)
    settings = forked(of, found, p, lane, at, token)
    mine.n_asked += 1
    mine.shown = (tree, parent)
    asked = Asked(tree, parent, lane, at, word, settings, mine.n_asked)

    def work(session: Session, progress: Progress) -> Comparison:
        return session.run(settings, progress=progress)

    jobs.start(BRANCH, f"Branching at {words.token(word)}", work, asked)


def _rooted(mine: Trees, of: CompareSettings, found: Comparison, p: int) -> tuple[int, int]:
    """The tree whose root is what all lanes said to a prompt, made if there is none yet, and its root."""
    from workbench.workspace.branches import Branch, Branches

    settings = replace(of, prompts=(found.prompts[p],), forced=of.forced[p : p + 1])
    root = Branch(settings, replace(found, prompts=(found.prompts[p],), texts=(found.texts[p],), forced=found.forced[p : p + 1]))
    at = next((i for i, tree in enumerate(mine.trees) if tree.nodes and tree.nodes[0] == root), None)
    if at is None:
        mine.trees.append(Branches((root,)))
        at = len(mine.trees) - 1
    return at, 0


def _collect(found: Comparison) -> None:
    """Put the branch that has just been said into its tree, once."""
    from workbench.workspace.branches import Branch

    mine, asked = part(Trees), jobs.settings_of(BRANCH)
    if asked is None or asked.number in mine.done:
        return
    mine.done.add(asked.number)
    tree = mine.trees[asked.tree]
    mine.trees[asked.tree] = tree.with_branch(Branch(asked.settings, found, asked.parent, asked.lane, asked.at, asked.word))
    mine.shown = (asked.tree, len(mine.trees[asked.tree].nodes) - 1)


def panel(draw: Callable[[Comparison, CompareSettings, str], None], live: Callable[[Snapshot], None]) -> None:
    """The tree at the left, the branch that is shown at the right; nothing as long as nobody has branched."""
    mine = part(Trees)
    if not mine.trees and not jobs.is_running(BRANCH):
        return
    st.header("Branches", anchor=False)
    jobs.panel(BRANCH, _collect, live=live)
    if not mine.trees:
        return
    left, right = st.columns([1, 3], gap="large")
    with left:
        _walk(mine)
    with right:
        tree, number = mine.shown
        branch = mine.trees[tree].branch(number)
        _named(mine, tree, number)
        draw(branch.found, branch.settings, f"branch-{tree}-{number}")


def _walk(mine: Trees) -> None:
    """Every branch as a button, set in by its depth."""
    for t, tree in enumerate(mine.trees):
        st.caption(words.plain(str(tree.branch(0).found.prompts[0])))
        for depth, number in tree.walk():
            branch = tree.branch(number)
            sign = ":material/push_pin: " if branch.is_pinned else ""
            inset = "\u2003" * depth + "└ " * bool(depth)
            label = f"{inset}{sign}{words.plain(branch.name or _title(branch.word, branch.at, number))}"
            st.button(
                label, key=f"branch-go-{t}-{number}", type="tertiary", on_click=_show, args=((t, number),), width="stretch",
                disabled=mine.shown == (t, number),
            )  # fmt: skip


def _title(word: str, at: int, number: int) -> str:
    return f"{words.token(word)} at token {at}" if number else "as it was said"


def _show(where: tuple[int, int]) -> None:
    part(Trees).shown = where


def _named(mine: Trees, tree: int, number: int) -> None:
    """The name of the branch that is shown, its pin, and the way to be rid of it."""
    branch, key = mine.trees[tree].branch(number), f"branch-{tree}-{number}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Name of this branch", branch.name, key=f"{key}-name", placeholder=_title(branch.word, branch.at, number),
            on_change=_rename, args=(tree, number, f"{key}-name"),
        )  # fmt: skip
        label = "Unpin" if branch.is_pinned else "Pin"
        st.button(
            label, icon=":material/push_pin:", key=f"{key}-pin", on_click=_change, args=(tree, number, not branch.is_pinned),
            help="A pinned branch stands first, and stays when one that it grew from is taken away.",
        )  # fmt: skip
        st.button("Take it away", icon=":material/close:", key=f"{key}-cut", on_click=_cut, args=(tree, number), type="tertiary")
    if branch.parent is not None:
        whose = branch.found.lanes[branch.lane].label
        st.caption(words.plain(f"All lanes begin as {whose} did, say {words.token(branch.word)} at token {branch.at}, and go on freely."))


def _rename(tree: int, number: int, key: str) -> None:
    mine = part(Trees)
    mine.trees[tree] = mine.trees[tree].changed(number, name=str(st.session_state[key]).strip())


def _change(tree: int, number: int, is_pinned: bool) -> None:
    mine = part(Trees)
    mine.trees[tree] = mine.trees[tree].changed(number, is_pinned=is_pinned)


def _cut(tree: int, number: int) -> None:
    """Take a branch away with what grew from it; with its root goes the tree, unless something is pinned in it."""
    mine = part(Trees)
    parent, left = mine.trees[tree].branch(number).parent, mine.trees[tree].without(number)
    mine.trees[tree] = left
    if left.walk():
        mine.shown = (tree, parent or 0)
        return
    jobs.drop(BRANCH)
    del mine.trees[tree]
    mine.shown = (0, 0)
