"""Inspect: what kind of head is it? Kinds on repeated text; name movers on the prompt, with ablation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.inspect.blocked import blocked
from pages._ui.inspect.head_card import one_head
from pages._ui.inspect.head_cells import head_grid
from pages._ui.inspect.induction import induction
from pages._ui.inspect.lane import lane_choice, lane_or_change
from pages._ui.inspect.profile import profile
from pages._ui.inspect.several import several
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.lanes import Lanes, lanes_on, with_base
from pages._ui.kit.state import state
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.ablation import HeadAblation
    from workbench.lenses.heads import HeadScores, NameMovers
    from workbench.progress import Progress
    from workbench.session import Session

_ABOUT = {
    "previous token": "Looks at the token before: the first half of copying.",
    "duplicate token": "Looks at earlier places of the same token.",
    "induction": "Looks at what came after the earlier place of the same token: the second half of copying.",
}
N_TEXTS = 8
HEADS: jobs.Slot[Scored, HeadScores] = jobs.Slot("heads")
MOVERS: jobs.Slot[Named, tuple[NameMovers, HeadAblation]] = jobs.Slot("movers")


@dataclass(frozen=True)
class Scored:
    """Heads scored in each lane on random sequences from a seed."""

    seed: int
    lanes: Lanes


@dataclass(frozen=True)
class Named:
    """A prompt in which the target is a name that the heads carry to the answer, rather than the distractor."""

    prompt: Prompt
    targets: tuple[str, ...]
    lanes: Lanes


def heads(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """What each head does on repeated text, whether the model repeats by the induction heads, which heads carry a name to the answer."""
    views = {
        "Kinds": (_kinds, "head_scores"), "Every score": (profile, "head_profile"), "One head": (one_head, "head_card"),
        "Induction": (_proof, "induction_proof"), "Name movers": (_movers, "name_movers"),
    }  # fmt: skip
    st.session_state.setdefault("heads-view", "Kinds")  # a link and a button choose it too
    view = st.segmented_control("View", list(views), key="heads-view", required=True, label_visibility="collapsed")
    draw, lens = views[view or "Kinds"]
    if not blocked(session, lens):
        draw(session, prompt, targets)


def follow_link() -> None:
    """Open the head that the tab's link named, once."""
    if "head-followed" not in st.session_state:
        st.session_state["head-followed"] = True
        if state().head:
            st.session_state["inspect-lens"], st.session_state["heads-view"] = "Heads", "One head"


def _proof(_: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    induction(prompt, targets)


def _kinds(_: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="heads-seed", persist_state="session", width=140, help="Of the random sequences.")
    settings = Scored(int(seed), lanes_on())
    frame.act("Score the heads", _score, settings, type="primary", key="heads-run")
    jobs.panel(
        HEADS, _scored, settings=settings,
        nothing=lambda: frame.empty(
            "A score for every head will stand here: previous token, duplicate token, induction, read on random text said twice.",
            "Press *Score the heads*.", key="heads",
        ),
    )  # fmt: skip


def _score(settings: Scored) -> None:
    stacks = with_base(settings.lanes)

    def work(session: Session, progress: Progress) -> HeadScores:
        return session.look("head_scores", stacks=stacks, n=N_TEXTS, seed=settings.seed, progress=progress)

    jobs.start(HEADS, "Scoring heads", work, settings)


def _scored(found: HeadScores) -> None:
    from workbench.figures.heads import top_heads

    shown = lane_or_change(found.lanes, "heads-lane")
    lane = shown.lane
    kind = st.segmented_control("Kind", list(found.kinds), default=found.kinds[-1], key="heads-kind", required=True) or found.kinds[-1]
    st.caption(_ABOUT.get(kind, ""))
    at = found.kinds.index(kind)
    own, drawn = ([[float(x) for x in line] for line in one.scores[lane, at]] for one in (found, shown.of(found, "scores")))
    left, right = st.columns(2, gap="large")
    with left:
        scale = max(max(map(abs, line)) for line in drawn) or 1.0 if shown.is_change else 1.0
        picked = head_grid(drawn, key="heads-grid", scale=scale, signed=shown.is_change)
    layer, head, score = found.top(kind, 1, lane)[0]
    if picked is not None:
        layer, head = picked
        score = own[layer][head]
    with left, st.container(border=True, key="drawer-heads"):
        more = f", {drawn[layer][head]:+.2f} to the base" if shown.is_change else ""
        st.markdown(f"**Head {layer}.{head}**: {score:.2f} of its attention goes where a head of this kind looks{more}.")
        scope.verbs(layer, head, key="heads-scope")
    best, chance = found.top(kind, 1, lane)[0], float(found.chance[found.kinds.index(kind)])
    says = f"Head {best[0]}.{best[1]} leads with {best[2]:.2f}; a head that attends evenly has {chance:.2f}."
    where = words.provenance(model=found.model, lane=found.lanes[lane].label, seed=found.seed, n=f"{found.n} texts")
    with right:
        figure_panel(
            top_heads(found, kind, lane=lane), found.rows(), where, key="heads-top", says=says,
            look_for="A few bars near 1 and the rest near the dotted line: these heads do this job. Whiskers: standard error.",
        )  # fmt: skip


def _movers(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    if len(targets) < 2:
        what = "The heads that carry a name from the prompt to the answer will stand here."
        frame.empty(what, "Write a target that stands in the prompt, and a distractor.", key="movers-need")
    else:
        _one_prompt(session, Named(prompt, targets, lanes_on()))
    several(session, "name_movers", "looks", "head", "lost")


def _one_prompt(session: Session, settings: Named) -> None:
    frame.act("Find name movers", _find, settings, type="primary", key="movers-run")
    n = session.model.info.n_layers * session.model.info.n_heads * len(with_base(settings.lanes))
    st.caption(f"It silences each head in turn: {n:,} runs, each from its layer on.")
    jobs.panel(
        MOVERS, _moved, settings=settings,
        nothing=lambda: frame.empty(
            "A mark for every head will stand here: how much it looks at the target, how much it pushes it, and what is lost without it.",
            "Press *Find name movers*. The target has to stand in the prompt.", key="movers",
        ),
    )  # fmt: skip


def _find(settings: Named) -> None:
    stacks = with_base(settings.lanes)

    def work(session: Session, progress: Progress) -> tuple[NameMovers, HeadAblation]:
        asked = (settings.prompt, *settings.targets)
        movers = session.look("name_movers", *asked, stacks=stacks, progress=progress.part(0.0, 0.3))
        return movers, session.look("head_ablation", *asked, stacks=stacks, progress=progress.part(0.3, 1.0))

    jobs.start(MOVERS, "Finding name movers", work, settings)


def _moved(both: tuple[NameMovers, HeadAblation]) -> None:
    from workbench.figures.heads import name_mover_map, pushed_and_ablated

    found, measured = both
    lane = lane_choice(found.lanes, "movers-lane")
    where = words.provenance(model=found.model, lane=found.lanes[lane].label, n="1 prompt", where="last token")
    rows = mover_rows(found, measured, lane)
    left, right = st.columns(2, gap="large")
    with left:
        figure_panel(
            name_mover_map(found, lane), rows, where, key="movers-map",
            look_for="Upper right: looks at the name and pushes it, a name mover. Lower right: looks at it and pushes it away.",
        )  # fmt: skip
    with right:
        figure_panel(
            pushed_and_ablated(found, measured, lane), rows, where, key="movers-ablated",
            says=f"Without any ablation the logit difference is {words.number(float(measured.difference[lane]))}.",
            look_for="Push is what the head writes itself. Much lost and little push: the head works through others. "
            "Push and little lost: others stand in for it.",
        )  # fmt: skip
    table_panel(rows[:20], where, key="movers-rows")
    names = [str(row["head"]) for row in rows]
    name = st.selectbox("Head", names, key="movers-head", width=200)
    layer, head = map(int, (name or names[0]).split("."))
    scope.verbs(layer, head, key="movers-scope")


def mover_rows(found: NameMovers, measured: HeadAblation, lane: int) -> list[dict[str, Any]]:
    """A row a head, the largest effects first; push is an estimate, the ablation measured, and where they differ in sign it says so."""
    looks, push, change = found.attention[lane], found.push[lane], measured.change[lane]
    rows = [
        {
            "head": f"{i}.{j}", "attention to target": float(looks[i, j]), "push (direct)": float(push[i, j]),
            "lost without it (measured)": -float(change[i, j]), "": "signs differ" if push[i, j] * -change[i, j] < -0.01 else "",
        }
        for i in range(push.shape[0])
        for j in range(push.shape[1])
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -max(abs(row["push (direct)"]), abs(row["lost without it (measured)"])))
