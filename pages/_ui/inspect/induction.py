"""Inspect: the heads that look back to what came after the last time, and whether the model repeats by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.inspect.head_cells import head_grid
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.figures import figure_panel
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.heads import HeadScores
    from workbench.lenses.induction import InductionProof
    from workbench.progress import Progress
    from workbench.session import Session

PROOF: jobs.Slot[Tried, tuple[HeadScores, InductionProof]] = jobs.Slot("induction")


@dataclass(frozen=True)
class Tried:
    """Heads found and silenced on random sequences from a seed, in the untouched model."""

    seed: int


def induction(prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Find the induction heads, and prove it by what is lost without them."""
    settings = Tried(int(st.session_state.get("heads-seed", 0)))
    frame.act("Find and prove", prove, settings, type="primary", key="induction-run")
    jobs.panel(
        PROOF, _proven, settings=settings,
        nothing=lambda: frame.empty(
            "The heads that look back to what came after the last time will stand here, and what the model forgets without them.",
            "Press *Find and prove*. It reads random text said twice, so the prompt above does not matter.", key="induction",
        ),
    )  # fmt: skip


def prove(settings: Tried) -> None:
    """Start the job; a page that leads here may start it too."""

    def work(session: Session, progress: Progress) -> tuple[HeadScores, InductionProof]:
        scores = session.look("head_scores", seed=settings.seed, progress=progress.part(0.0, 0.2))
        return scores, session.look("induction_proof", seed=settings.seed, progress=progress.part(0.2, 1.0))

    jobs.start(PROOF, "Finding induction heads", work, settings)


def _proven(both: tuple[HeadScores, InductionProof]) -> None:
    from workbench.figures.heads import proof_bars

    scores, found = both
    where = words.provenance(model=found.model, lane="the untouched model", seed=found.seed, n=f"{found.n} texts")
    left, right = st.columns(2, gap="large")
    with right:
        figure_panel(
            proof_bars(found), found.rows(), where, key="induction-proof", says=words.plain(found.says),
            look_for="A short second bar and a long third one: by these heads the model repeats. Whisker: from the worst draw to the best.",
        )  # fmt: skip
    with left:
        values = [[float(x) for x in line] for line in scores.scores[0, scores.kinds.index("induction")]]
        st.caption("Share of attention that goes to what came after the last time, on random text said twice.")
        picked = head_grid(values, key="induction-grid", scale=1.0, signed=False)
        layer, head = picked or found.heads[0]
        with st.container(border=True, key="drawer-induction"):
            kind = "an induction head" if (layer, head) in found.heads else "no induction head"
            st.markdown(f"**Head {layer}.{head}** is {kind}: {values[layer][head]:.2f}.")
            scope.verbs(layer, head, key="induction-scope")
        names = [f"{layer}.{head}" for layer, head in found.heads]
        st.button(
            f"Add all {words.count(len(names), 'head')} to scope",
            key="induction-all",
            icon=":material/add:",
            on_click=scope.add,
            args=names,
        )
