"""The canonical-examples protocol on a page: success of several methods at equal degradation, beside a random direction of equal size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.forms import knob_form, released_form, use_values
from pages._ui.kit.methods import method, obstacles
from workbench.errors import BadDemonstrations, RetouchError
from workbench.figures.senses import balls
from workbench.progress import Cancelled, Progress

if TYPE_CHECKING:
    from workbench.evaluate.protocol.scores import CanonicalSummary
    from workbench.session import Session
    from workbench.workspace.shipped import Offer


@dataclass(frozen=True)
class Contest:
    """Methods to compare on a set, on a model with these weights: how many draws and seeds, and rules by name."""

    model: str
    weights: str
    set: str
    methods: tuple[str, ...]
    draws: int
    seeds: int
    rules: tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Compared:
    """What each method came to, and why the others were refused."""

    settings: Contest
    found: tuple[CanonicalSummary, ...]
    refused: Mapping[str, RetouchError]


_RULES = "protocol-rules"
# How β is chosen is a matter of lending edits, which the command line does.
_LENDING = "beta_data"
PROTOCOL: jobs.Slot[Contest, Compared] = jobs.Slot("protocol")


def compare(session: Session) -> None:
    """Set, methods, and how much to try beside one line a method over the degradation balls."""
    sets = {offer.id: offer.title for offer in session.demos.list() if _asks(session, offer)}
    if not sets:
        frame.empty("No set has rows of role train and role evaluation in its splits validation and test.", key="protocol-sets")
        return
    controls, picture = st.columns([1, 2], gap="large")
    with controls:
        settings = _settings(session, sets)
        frame.act("Compare methods", _begin, settings, type="primary", key="protocol-run", disabled=not settings.methods, width="stretch")
    with picture:
        jobs.panel(PROTOCOL, _draw, settings=settings, nothing=_nothing)


def _settings(session: Session, sets: dict[str, str]) -> Contest:
    from workbench.evaluate.protocol.rules import Rules
    from workbench.knobs import knobs

    chosen = st.selectbox("Set", list(sets), format_func=sets.__getitem__, key="protocol-set", persist_state="session")
    free, blocked = _methods(session, chosen)
    # Each set and model has its own choice, so that an emptied one stays empty and a new one starts with a method that can run.
    key = f"protocol-methods-{chosen}-{session.model.info.name}"
    st.session_state[key] = [name for name in st.session_state.get(key, list(free)[:1]) if name in free]
    methods = st.multiselect(
        "Methods", list(free), format_func=free.__getitem__, key=key, persist_state="session",
        help="Senses take seconds; what is trained through the network, or measured dose by dose, takes minutes a method.",
    )  # fmt: skip
    if blocked:
        with st.expander(f"Not on this set ({len(blocked)})"):
            for title, reason in blocked.items():
                st.caption(f"**{words.plain(title)}.** {words.plain(reason)}")
    draws = st.number_input(
        "Configurations", 1, 25, 5, key="protocol-draws", persist_state="session", help="Tried on the validation pair; the default first."
    )
    seeds = st.number_input(
        "Seeds", 1, 10, 5, key="protocol-seeds", persist_state="session",
        help="Fits on the test pair with the winner. A method that draws nothing at random gives the same edit for each.",
    )  # fmt: skip
    rules = knob_form([knob for knob in knobs(Rules) if knob.name != _LENDING], key=_RULES)
    rules |= released_form(Rules, key=_RULES)
    told = tuple(sorted((name, value) for name, value in rules.items() if value is not None))
    return Contest(session.model.info.name, session.model.fingerprint.weights, chosen, tuple(methods), int(draws), int(seeds), told)


def put_rules(told: Mapping[str, Any]) -> tuple[tuple[str, object], ...]:
    """Set the form to the rules of a recorded run; return them as a contest holds them."""
    from workbench.evaluate.protocol.rules import Rules
    from workbench.knobs import knobs

    use_values([knob for knob in knobs(Rules) if knob.name != _LENDING], told, key=_RULES)
    return tuple(sorted((name, value) for name, value in told.items() if name != _LENDING and value is not None))


def _methods(session: Session, chosen: str) -> tuple[dict[str, str], dict[str, str]]:
    """Titles of the methods that can be fitted to a pair's examples, and why the others cannot."""
    from workbench.evaluate.protocol.runs import as_fit_rows
    from workbench.methods.shared.canonical_examples import training_rows

    found = obstacles(session, as_fit_rows(training_rows(session.demos(chosen), "validation")))
    # The methods that are made for such examples come first.
    known = sorted((method(name) for name in found), key=lambda item: item.needs.task != "canonical")
    free = {item.name: item.title for item in known if not found[item.name]}
    blocked = {item.title: found[item.name][0] for item in known if found[item.name]}
    return free, {title: f"{obstacle.reason} {obstacle.hint}" for title, obstacle in blocked.items()}


def _asks(session: Session, offer: Offer) -> bool:
    """Whether a set asks about the same in other words, after examples that methods can be fitted to."""
    if "role:evaluation" not in offer.roles:
        return False
    from workbench.methods.shared.canonical_examples import training_rows

    try:
        rows = session.demos(offer.id)
    except BadDemonstrations:  # a damaged set is none to compare on; Demonstrations says what is wrong with it
        return False
    return bool(rows.tagged("role:evaluation").rows) and any(len(training_rows(rows, pair)) for pair in ("validation", "test"))


def _begin(settings: Contest) -> None:
    def work(session: Session, progress: Progress) -> Compared:
        seeds, rules = tuple(range(settings.seeds)), dict(settings.rules)
        n, found, refused = len(settings.methods), list["CanonicalSummary"](), dict[str, RetouchError]()
        for i, name in enumerate(settings.methods):
            part = progress.part(i / n, (i + 1) / n)
            try:
                found += session.protocol(settings.set, name, draws=settings.draws, seeds=seeds, rules=rules, progress=part)
            except RetouchError as error:  # told beside the table; minutes of work on the other methods are not lost
                refused[name] = error
            except Cancelled:  # a search's best so far is no row of the table, but the methods before it are
                raise Cancelled(Compared(settings, tuple(found), refused) if found else None) from None
        if not found:
            raise next(iter(refused.values()))
        return Compared(settings, tuple(found), refused)

    jobs.start(PROTOCOL, "Comparing methods", work, settings, heavy=True)


def _draw(result: Compared) -> None:
    settings, rows = result.settings, [summary.row() for summary in result.found]
    first, rules = rows[0], _told(settings.rules)
    where = words.provenance(model=settings.model, seed=f"0 to {first['seeds'] - 1}", n=first["n"], split="test")
    step = "the best step" if "best" in dict(settings.rules).values() else "the last step"
    figure_panel(
        balls(rows), rows, f"{where} · {rules}", key="protocol-balls",
        says=f"Success gained on questions in other words, at {step} in which the loss on neutral text is in the ball of ε; bars are the "
        "standard error over seeds, 0 for a method that draws nothing at random. The table has the 95 % interval over questions.",
        look_for="A method above its random direction of equal size. A wider ball need not give more. The ball does not protect texts that "
        "must stay: look at *hard negatives rise* in the table.",
    )  # fmt: skip
    for name, error in result.refused.items():
        frame.problem(error, key=f"protocol-{name}")
    table_panel(rows, f"{where} · {rules}", key="protocol-table")
    for name, text in dict.fromkeys((summary.method, text) for summary in result.found for text in summary.not_fitted):
        st.caption(f":orange[{words.plain(name)} could not be fitted with {words.plain(text)}]")
    st.caption(f"Neutral text: {first['general tokens']} predicted tokens. Configurations were chosen on the validation pair.")


def _told(rules: tuple[tuple[str, object], ...]) -> str:
    from workbench.evaluate.protocol.rules import Rules

    changed = [f"{name} = {value}" for name, value in rules if value != getattr(Rules(), name)]
    return "our rules" if not changed else ", ".join(changed)


def _nothing() -> None:
    frame.empty(
        "Success at equal degradation will stand here, for each method at three balls, with the standard error over seeds and a random "
        "direction of equal size.",
        "Choose a set and methods, then press *Compare methods*.",
        key="protocol",
    )
