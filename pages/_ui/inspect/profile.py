"""Inspect: every head's scores side by side, for one prompt, for a set, or for random text; the way to one head's card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.inspect import head_card
from pages._ui.inspect.head_cells import head_grid
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.figures import table_panel
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.head_profile import HeadProfile
    from workbench.progress import Progress
    from workbench.session import Session

_ON = {"random": "Random text said twice", "prompt": "The prompt above", "set": "A set"}
# What a kind is read on that is not read on the texts themselves.
_READ = {"copying": "probe word", "copy suppression": "probe word", "successor": "pair of words"}
PROFILE: jobs.Slot[Profiled, HeadProfile] = jobs.Slot("head-profile")


@dataclass(frozen=True)
class Profiled:
    """What heads are scored on: random text from a seed, one prompt with its target and distractor, or the first prompts of a set."""

    on: str
    prompt: Prompt = ""
    targets: tuple[str, ...] = ()
    set_id: str = ""
    title: str = ""
    most: int = 0
    seed: int = 0

    @property
    def words(self) -> str:
        """What was read, in a few words."""
        return {"random": "random text said twice", "prompt": f"the prompt “{self.prompt}”", "set": f"the first prompts of {self.title}"}[
            self.on
        ]


def profile(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Score every head in every way, in the untouched model."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        on = st.segmented_control("Read on", list(_ON), format_func=_ON.__getitem__, default="random", key="profile-on", required=True)
        settings = _settings(session, on or "random", prompt, targets)
        frame.act("Score every head", _score, settings, type="primary", key="profile-run")
    if settings.on == "prompt" and len(targets) < 2:
        st.caption("With a target and a distractor above, name movers are scored too.")
    if settings.on == "set":
        st.caption("Rows whose answers are one token each, the good one a word of the prompt, score name movers too: two more reads a row.")
    jobs.panel(
        PROFILE, lambda found: _draw(found, prompt, targets), settings=settings,
        nothing=lambda: frame.empty(
            "A cell for every head will stand here, coloured by where it looks or by what it does with a word: "
            "copies it, holds it down, or says the one that follows.",
            "Press *Score every head*.", key="profile",
        ),
    )  # fmt: skip


def _settings(session: Session, on: str, prompt: Prompt, targets: tuple[str, ...]) -> Profiled:
    if on == "prompt":
        return Profiled("prompt", prompt, targets if len(targets) == 2 else ())
    if on == "random":
        return Profiled("random", seed=int(st.session_state.get("heads-seed", 0)))
    offers = {offer.id: offer.title for offer in session.demos.list()}
    chosen = st.selectbox("Set", list(offers), format_func=offers.__getitem__, key="profile-set", width=260)
    most = st.select_slider("Prompts", [4, 8, 16, 32, 64], 16, key="profile-n", width=200)
    return Profiled("set", set_id=chosen, title=offers[chosen], most=most)


def _score(settings: Profiled) -> None:
    def work(session: Session, progress: Progress) -> HeadProfile:
        options: dict[str, Any] = {"seed": settings.seed, "progress": progress}
        if settings.on == "set":
            options["demonstrations"] = session.demos(settings.set_id).first(settings.most)
        if settings.on == "prompt":
            options["prompt"] = settings.prompt
        options |= dict(zip(("target", "distractor"), settings.targets))
        return session.look("head_profile", **options)

    jobs.start(PROFILE, "Scoring every head", work, settings)


def _draw(found: HeadProfile, prompt: Prompt, targets: tuple[str, ...]) -> None:
    from workbench.lenses.head_profile import SCORE_WORDS

    known = [kind for kind in found.kinds if found.top(kind, 1)]
    kind = st.pills("Colour the heads by", known, default=known[0], key="profile-kind", required=True) or known[0]
    if kind not in known:
        kind = known[0]
    at = found.kinds.index(kind)
    st.caption(SCORE_WORDS[kind])
    values = [[float(x) for x in line] for line in found.scores[at]]
    layer, head, score = found.top(kind, 1)[0]
    left, right = st.columns(2, gap="large")
    with left:
        picked = head_grid(values, key="profile-grid", scale=max(score, 1e-9), signed=False)
        best = ", ".join(f"{i}.{j} ({x:.2f})" for i, j, x in found.top(kind, 3))
        on = words.count(found.counts[at], _READ.get(kind, "text"))
        mean = f"the mean of {on}" if found.counts[at] > 1 and kind not in _READ else on
        st.markdown(f"Most: {best}. Chance: {words.number(float(found.chance[at]))}. Read on {mean}.")
    if picked is not None:
        layer, head = picked
    with right, st.container(border=True, key="drawer-profile"):
        st.markdown(f"**Head {layer}.{head}**")
        own = found.scores[:, layer, head]
        st.dataframe(
            [{"kind": name, "score": float(x), "chance": float(line), "rank among heads": _rank(found.scores[i], layer, head)}
             | _apart(found, i, layer, head) for i, (name, x, line) in enumerate(zip(found.kinds, own, found.chance)) if x == x],
            hide_index=True, width="stretch", key="profile-scores",
        )  # fmt: skip
        scope.verbs(layer, head, key="profile-scope")
        st.button("Open its card", key="profile-card", icon=":material/id_card:", on_click=head_card.show,
                  args=(head_card.Shown(prompt, layer, head, targets),))  # fmt: skip
    with st.expander("All heads as a table, and as JSON"):
        settings = jobs.settings_of(PROFILE)
        read_on = "" if settings is None else settings.words
        where = words.provenance(model=found.model, lane="the untouched model", on=read_on, seed=found.seed, n=words.count(found.n, "text"))
        table_panel(found.rows(), where, key="profile-rows")
        st.download_button(
            "Records as JSON", json.dumps(records(found, read_on), indent=1), "retouch-heads.json", "application/json", key="profile-json",
            on_click="ignore",
        )  # fmt: skip


def records(found: HeadProfile, read_on: str) -> dict[str, Any]:
    """A profile as JSON holds it, with what it was read on."""
    counts = {"n": found.n, "counts": dict(zip(found.kinds, found.counts)), "seed": found.seed}
    chance = dict(zip(found.kinds, (None if x != x else float(x) for x in found.chance)))
    return {"model": found.model, "read_on": read_on, **counts, "chance": chance, "heads": found.rows()}


def _apart(found: HeadProfile, at: int, layer: int, head: int) -> dict[str, float]:
    """How far apart a head's scores on several texts lie, where there are several."""
    return {"spread": x} if (x := float(found.spread[at, layer, head])) == x else {}


def _rank(scores: Any, layer: int, head: int) -> int:
    return 1 + int((scores > scores[layer, head]).sum())
