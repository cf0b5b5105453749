"""Jobs on a page: start one in a slot, and draw the slot: running, failed, cancelled, done, or empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from pages._ui.kit.backend import backend
from pages._ui.kit.frame import problem
from pages._ui.kit.state import Kept, state
from pages._ui.kit.words import seconds
from workbench.errors import RetouchError, UnknownName
from workbench.progress import Cancelled, Progress

POLL_S = 0.4
Work = Callable[[Any, Progress], Any]


def start(slot: str, title: str, work: Work, settings: Mapping[str, Any] | None = None, *, heavy: bool = False) -> None:
    """Run `work(session, progress)` as a job whose progress and result `panel(slot, …)` draws. Use it as a callback of a button.

    It may be called before the model is open: the job waits for it. A job that runs in the slot already is cancelled.

    Args:
        settings: what the result will come from; `panel` compares it with the settings of the controls now.
        heavy: a fit or another long use of the model: one at a time on each model.
    """
    one, now = backend(), state()
    cancel(slot)
    model = now.model
    job = one.submit(lambda progress: work(one.wait(model, progress), progress), title, settings or {}, busy=model if heavy else None)
    now.slots[slot] = job.id
    now.failed.pop(slot, None)


def cancel(slot: str) -> None:
    """Ask the slot's job to stop, if there is one."""
    job = _job(slot)
    if job is not None:
        job.cancel()


def is_running(slot: str) -> bool:
    """Whether a job runs or waits in the slot."""
    job = _job(slot)
    return job is not None and not job.snapshot().is_over


def wait(slot: str) -> None:
    """Stand still until the slot's job is over: for what takes a moment, where nothing else can be done meanwhile."""
    job = _job(slot)
    if job is not None:
        job.wait()


def result(slot: str) -> Any | None:
    """The slot's last result."""
    collect(slot)
    kept = state().kept.get(slot)
    return None if kept is None else kept.value


def settings_of(slot: str) -> Mapping[str, Any]:
    """The settings that the slot's last result came from."""
    kept = state().kept.get(slot)
    return {} if kept is None else kept.settings


def panel(
    slot: str,
    draw: Callable[[Any], None],
    *,
    settings: Mapping[str, Any] | None = None,
    nothing: Callable[[], None] | None = None,
    live: Callable[[Any], None] | None = None,
) -> None:
    """Draw a slot.

    Args:
        draw: draws a result. nothing: draws the empty state.
        live: draws a running job's `Snapshot` under its progress: the moving picture, streamed text.
        settings: of the controls now; a result from others stays, marked.
    """
    collect(slot)
    if is_running(slot):
        _watch(slot, live)
        return
    now = state()
    if slot in now.failed:
        error = now.failed[slot]
        if error is None:
            kept_best = slot in now.kept and now.kept[slot].is_partial
            st.caption("Cancelled. The best so far was kept." if kept_best else "Cancelled. Nothing was changed.")
        else:
            problem(error, slot)
    kept = now.kept.get(slot)
    if kept is None:
        if nothing is not None and now.failed.get(slot) is None:
            nothing()
        return
    if settings is not None and dict(settings) != dict(kept.settings):
        with st.container(key=f"stale-{slot}"):
            st.caption("From earlier settings. Run again to bring it up to date.")
            draw(kept.value)
    else:
        draw(kept.value)


@st.fragment(run_every=POLL_S)
def _watch(slot: str, live: Callable[[Any], None] | None) -> None:
    job = _job(slot)
    shot = None if job is None else job.snapshot()
    if job is None or shot is None or shot.is_over:
        st.rerun()
    with st.container(key=f"running-{slot}"):
        doing = f"{shot.title}: waits for {shot.n_ahead} before it" if shot.state == "queued" else f"{shot.title}: {shot.doing}"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(doing, width="stretch")
            st.text(seconds(shot.elapsed_s), width="content")
            st.button(
                "Stopping…" if shot.is_cancelling else "Cancel", key=f"{slot}-cancel", on_click=job.cancel, disabled=shot.is_cancelling
            )
        st.progress(shot.share)
        if live is not None:
            live(shot)


def collect(slot: str) -> None:
    """Move the result or the error of a job that is over into this tab's state."""
    job, now = _job(slot), state()
    if job is None or not job.snapshot().is_over:
        return
    del now.slots[slot]
    try:
        value = job.result(0)
    except Cancelled as cancelled:
        now.failed[slot] = None
        if cancelled.best is not None:
            now.kept[slot] = Kept(cancelled.best, _told(cancelled.best, job.id), is_partial=True)
    except RetouchError as error:
        now.failed[slot] = error
    else:
        now.failed.pop(slot, None)
        now.kept[slot] = Kept(value, _told(value, job.id))


def _told(value: Any, job_id: str) -> Mapping[str, Any]:
    """A job that could not know its settings when it was asked for tells them with its result."""
    return getattr(value, "settings", None) or backend().asked.get(job_id, {})


def _job(slot: str) -> Any | None:
    job_id = state().slots.get(slot)
    if job_id is None:
        return None
    try:
        return backend().jobs.get(job_id)
    except UnknownName:  # the process was restarted, or the URL is old
        state().slots.pop(slot, None)
        return None
