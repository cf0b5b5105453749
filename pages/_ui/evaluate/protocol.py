"""The canonical-examples protocol on a page: success of several methods at equal degradation, beside a random direction of equal size."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages._ui.kit import calls, frame, jobs, words
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.forms import knob_form, released_form
from workbench.errors import RetouchError
from workbench.figures.senses import balls
from workbench.progress import Cancelled


def compare(session: Any) -> None:
    """Set, methods, and how much to try beside one line a method over the degradation balls."""
    sets = {offer.id: offer.title for offer in session.demos.list() if _asks(session, offer)}
    if not sets:
        frame.empty("No set has rows of role train and role evaluation in its splits validation and test.", key="protocol-sets")
        return
    controls, picture = st.columns([1, 2], gap="large")
    with controls:
        settings = _settings(session, sets)
        frame.act(
            "Compare methods", _begin, settings, type="primary", key="protocol-run", disabled=not settings["methods"], width="stretch"
        )
    with picture:
        jobs.panel("protocol", _draw, settings=settings, nothing=_nothing)


def _settings(session: Any, sets: dict[str, str]) -> dict[str, Any]:
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
    # How β is chosen is a matter of lending edits, which the command line does.
    rules = knob_form([knob for knob in knobs(Rules) if knob.name != "beta_data"], key="protocol-rules")
    rules |= released_form(Rules, key="protocol-rules")
    return {
        "model": session.model.info.name,
        "weights": session.model.fingerprint.weights,
        "set": chosen,
        "methods": tuple(methods),
        "draws": int(draws),
        "seeds": int(seeds),
        "rules": tuple(sorted((name, value) for name, value in rules.items() if value is not None)),
    }


def _methods(session: Any, chosen: str) -> tuple[dict[str, str], dict[str, str]]:
    """Titles of the methods that can be fitted to a pair's examples, and why the others cannot."""
    from workbench.evaluate.protocol.runs import as_fit_rows
    from workbench.methods.shared.canonical_examples import training_rows

    found = calls.obstacles(session, as_fit_rows(training_rows(session.demos(chosen), "validation")))
    # The methods that are made for such examples come first.
    known = sorted((calls.method(name) for name in found), key=lambda item: item.needs.task != "canonical")
    free = {item.name: item.title for item in known if not found[item.name]}
    blocked = {item.title: found[item.name][0] for item in known if found[item.name]}
    return free, {title: f"{obstacle.reason} {obstacle.hint}" for title, obstacle in blocked.items()}


def _asks(session: Any, offer: Any) -> bool:
    """Whether a set asks about the same in other words, after examples that methods can be fitted to."""
    if offer.is_shipped and "role:evaluation" not in offer.roles:
        return False
    from workbench.methods.shared.canonical_examples import training_rows

    rows = session.demos(offer.id)
    return bool(rows.tagged("role:evaluation").rows) and any(len(training_rows(rows, pair)) for pair in ("validation", "test"))


def _begin(settings: dict[str, Any]) -> None:
    def work(session: Any, progress: Any) -> Any:
        options = {"draws": settings["draws"], "seeds": tuple(range(settings["seeds"])), "rules": dict(settings["rules"])}
        n, found, refused = len(settings["methods"]), list[Any](), dict[str, RetouchError]()
        for i, method in enumerate(settings["methods"]):
            try:
                found += session.protocol(settings["set"], method, progress=progress.part(i / n, (i + 1) / n), **options)
            except RetouchError as error:  # told beside the table; minutes of work on the other methods are not lost
                refused[method] = error
            except Cancelled:  # a search's best so far is no row of the table, but the methods before it are
                raise Cancelled((found, refused, settings) if found else None) from None
        if not found:
            raise next(iter(refused.values()))
        return found, refused, settings

    jobs.start("protocol", "Comparing methods", work, settings, heavy=True)


def _draw(result: Any) -> None:
    found, refused, settings = result
    rows = [summary.row() for summary in found]
    first, rules = rows[0], _told(settings["rules"])
    where = words.provenance(model=settings["model"], seed=f"0 to {first['seeds'] - 1}", n=first["n"], split="test")
    step = "the best step" if "best" in dict(settings["rules"]).values() else "the last step"
    figure_panel(
        balls(rows), rows, f"{where} · {rules}", key="protocol-balls",
        says=f"Success gained on questions in other words, at {step} in which the loss on neutral text is in the ball of ε; bars are the "
        "standard error over seeds, 0 for a method that draws nothing at random. The table has the 95 % interval over questions.",
        look_for="A method above its random direction of equal size. A wider ball need not give more. The ball does not protect texts that "
        "must stay: look at *hard negatives rise* in the table.",
    )  # fmt: skip
    for method, error in refused.items():
        frame.problem(error, key=f"protocol-{method}")
    table_panel(rows, f"{where} · {rules}", key="protocol-table")
    for method, text in dict.fromkeys((summary.method, text) for summary in found for text in summary.not_fitted):
        st.caption(f":orange[{words.plain(method)} could not be fitted with {words.plain(text)}]")
    st.caption(f"Neutral text: {first['general tokens']} predicted tokens. Configurations were chosen on the validation pair.")


def _told(rules: Any) -> str:
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
