"""Jobs on a page: start one in a slot, and draw the slot: running, failed, cancelled, done, or empty."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import streamlit as st

from pages._ui.kit.asked_model import shown
from pages._ui.kit.backend import backend
from pages._ui.kit.frame import problem
from pages._ui.kit.person import tab
from pages._ui.kit.state import Bench, Kept, state, turn_to
from pages._ui.kit.words import count, plain, seconds
from workbench.errors import Busy, RetouchError, UnknownName
from workbench.progress import Cancelled, Progress
from workbench.workspace.job import Job, Snapshot
from workbench.workspace.jobs import GONE_S

if TYPE_CHECKING:
    from workbench.session import Session

POLL_S, POLL_LATER_S, POLL_WAITING_S = 0.4, 1.0, 2.0
"""Seconds between two looks at a job: while it is young, later, and while it waits. A look runs the script; a class has thirty tabs."""
_YOUNG_S = 10.0
Settings = TypeVar("Settings")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Slot(Generic[Settings, Result]):
    """A place for one job and its last result, by a name that the URL holds. Settings are a frozen record: equal ones give equal results.

    `told` reads the settings from a result whose job could not know them when it was asked for. A result belongs to the model that it came
    from, and is shown on that model alone; `of_tab`: it comes from no model (a download, an import).
    """

    name: str
    told: Callable[[Result], Settings | None] | None = None
    of_tab: bool = False


def start(
    slot: Slot[Settings, Result],
    title: str,
    work: Callable[[Session, Progress], Result],
    settings: Settings | None = None,
    *,
    heavy: bool = False,
) -> None:
    """Run `work(session, progress)` as a job whose progress and result `panel(slot, …)` draws. Use it as a callback of a button.

    It may be called before the model is open: the job waits for it. A job that runs in the slot already is cancelled, unless this one is
    refused: then that is said where the result would be.

    Args:
        settings: what the result will come from; `panel` compares it with the settings of the controls now.
        heavy: a fit or another long use of the model: one at a time on each model.
    """
    one, model = backend(), state().model
    begin(slot, title, lambda progress: work(one.wait(model, progress), progress), settings, busy=model if heavy else None)


def begin(
    slot: Slot[Settings, Result],
    title: str,
    work: Callable[[Progress], Result],
    settings: Settings | None = None,
    *,
    busy: str | None = None,
) -> None:
    """Run work that needs no model of the tab in a slot; else as `start`. `busy` is the model that it keeps for itself."""
    at = _bench(slot)
    try:
        at.slots[slot.name] = backend().submit(work, title, settings, slot=slot.name, busy=busy, instead=_job(slot)).id
    except Busy as error:
        at.failed[slot.name] = error
    else:
        at.failed.pop(slot.name, None)


def put(slot: Slot[Settings, Result], value: Result, settings: Settings, *, is_on_record: bool = False) -> None:
    """Show a result that another slot's job made along with its own, or that is on record; a job that runs there is cancelled.

    What is on record was asked for before anything that goes on now: `since` never has it.
    """
    cancel(slot)
    _bench(slot).slots.pop(slot.name, None)
    drop(slot)
    _bench(slot).kept[slot.name] = Kept(value, settings, asked=0.0 if is_on_record else time.time())


def fail(slot: Slot[Any, Any], error: RetouchError) -> None:
    """Say where the result would be why there is none."""
    drop(slot)
    _bench(slot).failed[slot.name] = error


def drop(slot: Slot[Any, Any]) -> None:
    """Forget the slot's last result and error."""
    _bench(slot).kept.pop(slot.name, None)
    _bench(slot).failed.pop(slot.name, None)


def _bench(slot: Slot[Any, Any]) -> Bench:
    return state().tab if slot.of_tab else state().bench


def cancel(slot: Slot[Any, Any]) -> None:
    """Ask the slot's job to stop, if there is one."""
    job = _job(slot)
    if job is not None:
        job.cancel()


def is_running(slot: Slot[Any, Any]) -> bool:
    """Whether a job runs or waits in the slot."""
    job = _job(slot)
    return job is not None and not job.snapshot().is_over


def wait(slot: Slot[Any, Any], limit_s: float | None = None) -> None:
    """Stand still until the slot's job is over, `limit_s` at most: for what takes a moment, and is then drawn without another poll."""
    job = _job(slot)
    if job is not None:
        job.wait(limit_s)


def result(slot: Slot[Any, Result]) -> Result | None:
    """The slot's last result."""
    collect(slot)
    kept = _kept(slot)
    return None if kept is None else kept.value


def settings_of(slot: Slot[Settings, Any]) -> Settings | None:
    """The settings that the slot's last result came from, also where the job that made it ended just now."""
    collect(slot)
    kept = _kept(slot)
    return None if kept is None else kept.settings


def since(began: float) -> dict[str, Kept[Any, Any]]:
    """Whole results that this tab asked for since a time (seconds since 1970), by slot, also those that no page has drawn yet."""
    bench = state().bench
    found = {name: kept for name, kept in bench.kept.items() if kept.asked >= began and not kept.is_partial}
    for name in list(bench.slots):
        job = _job_of(Slot(name), bench)
        if job is not None and job.asked >= began and job.snapshot().is_over:
            try:
                found[name] = Kept(job.result(0), backend().asked.get(job.id), asked=job.asked)
            except (Cancelled, RetouchError):  # its own place says so
                continue
    return found


def _kept(slot: Slot[Settings, Result]) -> Kept[Settings, Result] | None:
    return _bench(slot).kept.get(slot.name)


def panel(
    slot: Slot[Settings, Result],
    draw: Callable[[Result], object],
    *,
    settings: Settings | None = None,
    nothing: Callable[[], object] | None = None,
    live: Callable[[Snapshot], None] | None = None,
) -> None:
    """Draw a slot.

    Args:
        draw: draws a result. nothing: draws the empty state.
        live: draws a running job's `Snapshot` under its progress: the moving picture, streamed text.
        settings: of the controls now; a result from others stays, marked.
    """
    # Asked before it is collected: a job that ends in between is then watched, and its end seen, rather than missed.
    failed = _bench(slot).failed
    if is_running(slot):
        if (refused := failed.get(slot.name)) is not None:  # another one, that was asked for meanwhile
            problem(refused, slot.name)
        _watched(slot, live)
        return
    collect(slot)
    kept = _kept(slot)
    if slot.name in failed:
        error = failed[slot.name]
        if error is None:
            kept_best = kept is not None and kept.is_partial
            st.caption("Cancelled. The best so far was kept." if kept_best else "Cancelled. Nothing was changed.")
        else:
            problem(error, slot.name)
    if kept is None:
        if nothing is not None and failed.get(slot.name) is None:
            _elsewhere(slot)
            nothing()
        return
    if settings is not None and not _equal(settings, kept.settings):
        with st.container(key=f"stale-{slot.name}"):
            st.caption("From earlier settings. Run again to bring it up to date.")
            draw(kept.value)
    else:
        draw(kept.value)


def _elsewhere(slot: Slot[Any, Any]) -> None:
    """Say that another model of this tab has a result here, and offer to go back to it."""
    now = state()
    for bench in now.benches.values():
        _collect(slot, bench)
    found = {model: bench.kept[slot.name].at for model, bench in now.benches.items() if slot.name in bench.kept}
    if slot.of_tab or not found:
        return
    other = max(found, key=found.__getitem__)
    with st.container(key=f"elsewhere-{slot.name}", horizontal=True, vertical_alignment="center"):
        st.markdown(f"The results that were here are from **{plain(shown(other))}**; this tab is on {plain(shown(now.model))} now.")
        st.button(f"Go back to {shown(other)}", key=f"back-{slot.name}", on_click=turn_to, args=(other,))


def _equal(one: object, other: object) -> bool:
    """Whether two settings say the same. A page runs anew at every rerun, so a record that it defines is of another class then."""
    if is_dataclass(one) and is_dataclass(other) and type(one) is not type(other):
        return type(one).__qualname__ == type(other).__qualname__ and vars(one) == vars(other)
    return one == other


def looks_every_s(shots: Iterable[Snapshot]) -> float:
    """How often a tab looks at jobs: as the one that wants it most."""
    every = [POLL_WAITING_S if shot.state == "queued" else POLL_S if shot.elapsed_s < _YOUNG_S else POLL_LATER_S for shot in shots]
    return min(every, default=POLL_S)


def _watched(slot: Slot[Any, Any], live: Callable[[Snapshot], None] | None) -> None:
    job = _job(slot)
    shots = () if job is None else (job.snapshot(),)
    waits = any(shot.state == "queued" for shot in shots)
    st.fragment(_watch, run_every=looks_every_s(shots))(slot, live, waits)


def _watch(slot: Slot[Any, Any], live: Callable[[Snapshot], None] | None, waits: bool) -> None:
    job = _job(slot)
    shot = None if job is None else job.snapshot()
    if job is None or shot is None or shot.is_over or (waits and shot.state != "queued"):
        st.rerun()
    with st.container(key=f"running-{slot.name}"):
        doing = f"{shot.title}: {waiting(shot) if shot.state == 'queued' else shot.doing}"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(doing, width="stretch")
            st.text(seconds(shot.elapsed_s), width="content")
            label = "Stopping…" if shot.is_cancelling else "Cancel"
            st.button(label, key=f"{slot.name}-cancel", on_click=job.cancel, disabled=shot.is_cancelling)
            if job.model is not None:
                _keeping(slot, job, shot)
        st.progress(shot.share)
        if live is not None:
            live(shot)


def _keeping(slot: Slot[Any, Any], job: Job, shot: Snapshot) -> None:
    """Whether long work goes on without its tab: a class's machine is not for those who have left."""
    left = f"Without this it stops {seconds(GONE_S)} after its last tab was closed. What it fits is found again under *not saved*."
    label, icon = ("Goes on without me", ":material/check:") if shot.is_kept else ("Go on without me", ":material/door_open:")
    st.button(label, key=f"{slot.name}-keep", on_click=job.keep, disabled=shot.is_kept, type="tertiary", icon=icon, help=left)


def waiting(shot: Snapshot) -> str:
    """How many jobs are before a waiting one, and about how long they take."""
    n, left = shot.before.n, shot.before.s
    told = "" if left is None else f", about {seconds(left)}"
    return f"waits for {count(n, 'job')} before it{told}" if n else "starts"


def collect(slot: Slot[Any, Any]) -> None:
    """Move the result or the error of a job that is over into this tab's state."""
    _collect(slot, _bench(slot))


def _collect(slot: Slot[Any, Any], bench: Bench) -> None:
    job = _job_of(slot, bench)
    if job is None or not job.snapshot().is_over:
        return
    # Kept before it is let go: Streamlit may break the run off anywhere, and the next one must find the result in one place or the other.
    try:
        value = job.result(0)
    except Cancelled as cancelled:
        bench.failed[slot.name] = None
        if cancelled.best is not None:
            bench.kept[slot.name] = Kept(cancelled.best, _told(slot, cancelled.best, job.id), is_partial=True, asked=job.asked)
    except RetouchError as error:
        bench.failed[slot.name] = error
    else:
        bench.failed.pop(slot.name, None)
        bench.kept[slot.name] = Kept(value, _told(slot, value, job.id), asked=job.asked)
    if bench.slots.get(slot.name) == job.id:
        del bench.slots[slot.name]
    backend().jobs.taken(job, tab() or "")


def _told(slot: Slot[Settings, Result], value: Result, job_id: str) -> Settings | None:
    told = None if slot.told is None else slot.told(value)
    return backend().asked.get(job_id) if told is None else told


def _job(slot: Slot[Any, Any]) -> Job | None:
    return _job_of(slot, _bench(slot))


def _job_of(slot: Slot[Any, Any], bench: Bench) -> Job | None:
    job_id = bench.slots.get(slot.name)
    if job_id is None:
        return None
    try:
        job = backend().jobs.get(job_id)
    except UnknownName:  # the process was restarted, or the URL is old
        job = None
    # A link may name any job: one of another place cannot be drawn here, and one of another person is nobody's business.
    if job is None or job.kind != slot.name or job.owner != state().owner:
        bench.slots.pop(slot.name, None)
        return None
    if (here := tab()) is not None:
        job.follow(here)
    return job
