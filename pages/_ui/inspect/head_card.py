"""Inspect: one head's card on the prompt: where it looks, what it writes and looks for, what is lost without it, whom it listens to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.inspect import looks
from pages._ui.kit import frame, jobs, scope, words
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.state import state
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.head_card import HeadCard
    from workbench.progress import Progress
    from workbench.session import Session

CARD: jobs.Slot[Shown, HeadCard] = jobs.Slot("head-card")


@dataclass(frozen=True)
class Shown:
    """A head of the untouched model on a prompt, perhaps with a target and a distractor in mind."""

    prompt: Prompt
    layer: int
    head: int
    targets: tuple[str, ...]


def show(settings: Shown) -> None:
    """Go to a head's card and read it; other views and links lead here."""
    st.session_state["heads-view"] = "One head"
    st.session_state["card-layer"], st.session_state["card-head"] = settings.layer, settings.head
    _read(settings)


def one_head(session: Session, prompt: Prompt, targets: tuple[str, ...]) -> None:
    """Choose a head and read its card. A link with `head=3.5` opens it."""
    info, at = session.model.info, _linked()
    for key, value, n in zip(("card-layer", "card-head"), at, (info.n_layers, info.n_heads)):
        if key not in st.session_state or not 0 <= int(st.session_state[key]) < n:
            st.session_state[key] = value if value < n else 0
    with st.container(horizontal=True, vertical_alignment="bottom"):
        layer = int(st.number_input("Layer", 0, info.n_layers - 1, key="card-layer", persist_state="session", width=140))
        head = int(st.number_input("Head", 0, info.n_heads - 1, key="card-head", persist_state="session", width=140))
        settings = Shown(prompt, layer, head, targets)
        frame.act("Read this head", _read, settings, type="primary", key="card-run")
    state().head = f"{layer}.{head}"
    jobs.panel(
        CARD, _draw, settings=settings,
        nothing=lambda: frame.empty(
            "The head's card will stand here: where it looks, what it writes for each token, and what is lost without it.",
            "Press *Read this head*.", key="card",
        ),
    )  # fmt: skip


def _linked() -> tuple[int, int]:
    layer, _, head = state().head.partition(".")
    return int(layer or 0), int(head or 0)


def _read(settings: Shown) -> None:
    def work(session: Session, progress: Progress) -> HeadCard:
        named = dict(zip(("target", "distractor"), settings.targets))
        return session.look("head_card", settings.prompt, settings.layer, settings.head, **named, progress=progress)

    jobs.start(CARD, "Reading one head", work, settings)


def _draw(found: HeadCard) -> None:
    name = f"{found.layer}.{found.head}"
    where = words.provenance(model=found.model, lane="the untouched model", n="1 prompt", where=f"head {name}")
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"**Head {name}**: {words.plain(found.says)}")
        at = looks.looks(found.tokens, found.pattern, key="card")
        st.caption(f"Colour: how much token {at} looks there. Pick another to look from it. "
                   f"{found.rest:.0%} of its attention rests on the first token.")  # fmt: skip
        looks.whole(found.tokens, found.pattern, key="card-pattern")
        scope.verbs(found.layer, found.head, key="card-scope")
    with right:
        _without(found, where)
    st.markdown("**What it writes for each token**, were it to look at that one alone")
    rows = [{**row, "text": words.token(row["text"])} for row in found.rows()]
    formats = {name: st.column_config.NumberColumn(format="%.3f") for name in ("attention from the last", "strength")}
    table_panel(rows, where, key="card-writes", columns=formats)
    _reads(found, where)


def _without(found: HeadCard, where: str) -> None:
    from workbench.figures.basic import next_token_bars

    both = (("base", found.without.before), ("without it", found.without.after))
    bars = [(name, [(words.token(token), share) for token, share in tops]) for name, tops in both]
    rows = [{"run": name, "token": token, "probability": share} for name, tops in both for token, share in tops]
    change = found.without.change
    says = f"KL {words.number(found.without.kl)} nats"
    says += "." if change is None else f"; the target's logit difference changes by {words.number(change)} (measured)."
    figure_panel(next_token_bars("What the model says next without it", bars), rows, where, key="card-without", says=says)


def _reads(found: HeadCard, where: str) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**What it looks for** from the last token, by words alone")
        rows: list[dict[str, Any]] = [{"word": words.token(text), "above the mean word": value} for text, value in found.looks_for]
        table_panel(rows, where, key="card-looks")
        st.caption("Logits of attention before positions: a head that looks by place has no words here.")
    with right:
        st.markdown("**Whom it listens to**: earlier heads that its queries, keys or values read most")
        heard = [{"head": head, "by": port, "composition": x, "of a mean head": found.even[port]} for port, head, x in found.composition]
        if heard:
            table_panel(heard, where, key="card-hears")
        else:
            st.caption("No head stands before it.")
    with st.expander("Planes that TaRot turns"):
        st.caption(
            "Pairs of its coordinates, by their share of what it puts out here, and the words that each coordinate raises and lowers."
        )
        planes = [
            {"plane": f"{plane.pair[0]}, {plane.pair[1]}", "share": plane.share}
            | {f"{side} {what}": ", ".join(map(words.token, tokens[key]))
               for side, tokens in (("first", plane.one.texts()), ("second", plane.other.texts()))
               for what, key in (("raises", "promoted"), ("lowers", "suppressed"))}
            for plane in found.planes
        ]  # fmt: skip
        table_panel(planes, where, key="card-planes")
