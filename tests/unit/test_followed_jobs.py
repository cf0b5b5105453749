"""Jobs and the tabs that follow them: work stops for those who have left, and a result is let go once every open tab has it."""

from __future__ import annotations

import threading
import time

import pytest

from tests.unit.test_jobs import LONG_S, Gate, endless, until
from workbench.errors import UnknownName
from workbench.progress import Progress
from workbench.workspace.job import Work
from workbench.workspace.jobs import Jobs


def test_a_job_stops_once_its_tabs_have_been_closed_for_a_while_unless_it_is_kept() -> None:
    open_tabs = {"one", "two", "three"}
    jobs = Jobs(n_heavy=4, is_open=lambda tab: tab in open_tabs, gone_s=0.05)
    stays, left, kept = (jobs.submit(endless, title=tab, model=tab, tab=tab) for tab in ("one", "two", "three"))
    waits = jobs.submit(endless, title="waits", model="one", tab="two")
    alone = jobs.submit(endless, title="no tab", model="four")
    kept.keep()
    open_tabs -= {"two", "three"}
    assert left.wait(LONG_S) and left.state == "cancelled"
    until(lambda: waits.state == "cancelled" or jobs.submit(lambda _: None, title="anything").result(LONG_S) is not None)
    assert {job.state for job in (stays, kept, alone)} == {"running"} and kept.snapshot().is_kept
    assert jobs.cancel_all(LONG_S)


def test_a_reload_takes_a_job_over_before_it_counts_as_left() -> None:
    open_tabs = {"old"}
    jobs = Jobs(is_open=lambda tab: tab in open_tabs, gone_s=0.3)
    job = jobs.submit(endless, title="Fit", model="m", tab="old")
    open_tabs.clear()
    time.sleep(0.05)
    open_tabs.add("new")
    job.follow("new")
    time.sleep(0.5)
    assert job.state == "running"
    open_tabs.clear()
    assert job.wait(LONG_S) and job.state == "cancelled"


def test_a_result_is_let_go_once_every_open_tab_that_followed_has_it() -> None:
    jobs, gate = Jobs(is_open=lambda tab: tab != "closed"), Gate()
    job = jobs.submit(gate, title="Fit", tab="one")
    for tab in ("two", "closed"):
        job.follow(tab)
    jobs.taken(job, "nobody")
    gate.may_end.set()
    job.result(LONG_S)
    jobs.taken(job, "one")
    assert jobs.get(job.id) is job, "another tab has not drawn it yet"
    jobs.taken(job, "two")
    with pytest.raises(UnknownName):
        jobs.get(job.id)


def silent(until_then: threading.Event) -> Work:
    """Work that says nothing for a while; told to stop, it does so at the second word."""

    def work(progress: Progress) -> str:
        assert until_then.wait(LONG_S)
        progress(0.8, "almost")
        progress(0.9, "almost")
        return "said at last"

    return work


def test_whoever_watched_until_a_moment_ago_has_not_left() -> None:
    open_tabs, gate, quiet = {"tab"}, Gate(), threading.Event()
    jobs = Jobs(is_open=lambda tab: tab in open_tabs, gone_s=0.5)

    held = jobs.submit(gate, title="held", model="m")
    queued = jobs.submit(lambda _: "ran", title="next", model="m", tab="tab")
    running = jobs.submit(silent(quiet), title="silent", tab="tab")
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        assert not queued.snapshot().is_over and not running.snapshot().is_over
        time.sleep(0.01)
    open_tabs.clear()  # a reload, as its turn comes
    gate.may_end.set()
    quiet.set()
    assert [job.result(LONG_S) for job in (held, queued, running)] == ["through", "ran", "said at last"]


def test_a_tab_that_has_just_come_counts_as_having_looked() -> None:
    open_tabs, quiet = set[str](), threading.Event()
    jobs = Jobs(is_open=lambda tab: tab in open_tabs, gone_s=0.5)

    job = jobs.submit(silent(quiet), title="silent", tab="old")
    time.sleep(0.6)
    job.follow("new")
    quiet.set()
    assert job.result(LONG_S) == "said at last"


def test_a_tab_may_come_while_another_takes_the_result() -> None:
    later = list[str]()

    def is_open(tab: str) -> bool:
        for other in later:
            job.follow(other)
        return False

    jobs = Jobs(is_open=is_open)
    job = jobs.submit(lambda _: 1, title="Fit", tab="one")
    job.result(LONG_S)
    job.follow("two")
    later.append("three")
    jobs.taken(job, "one")
    with pytest.raises(UnknownName):
        jobs.get(job.id)
