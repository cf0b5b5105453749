"""Jobs: watched, cancelled, bounded, and never a traceback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import BadKnob, NotEnoughMemory, Unexpected, UnknownName
from workbench.progress import Cancelled, Progress
from workbench.workspace.job import Before, Job
from workbench.workspace.jobs import Jobs

# Far above what any of these takes, so that only a hang fails by time.
LONG_S = 20.0


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def endless(progress: Progress) -> None:
    while True:
        progress(0.5, "going on")
        time.sleep(0.005)


class Gate:
    """Work that says when it has started and ends when it may."""

    def __init__(self) -> None:
        self.started, self.may_end = threading.Event(), threading.Event()

    def __call__(self, progress: Progress) -> str:
        self.started.set()
        while not self.may_end.wait(0.005):
            progress(0.1, "waiting for the gate")
        return "through"


def test_a_result_comes_back_with_its_progress_and_history() -> None:
    def work(progress: Progress) -> int:
        progress(0.25, "first", loss=2.0, best="one")
        progress(0.75, "second", loss=1.0)
        return 42

    job = Jobs().submit(work, title="Count", owner="me")
    assert job.result(LONG_S) == 42
    shot = job.snapshot()
    assert (shot.state, shot.share, shot.doing, shot.is_over) == ("done", 1.0, "Done", True)
    assert shot.live == {"loss": 1.0, "best": "one"} and shot.best == "one"
    assert [(report.share, report.live.get("loss")) for report in shot.history] == [(0.25, 2.0), (0.75, 1.0)]
    assert shot.elapsed_s == job.snapshot().elapsed_s


def test_cancel_stops_running_work_within_a_second() -> None:
    job = Jobs().submit(endless, title="Endless")
    until(lambda: job.snapshot().share > 0)
    began = time.monotonic()
    job.cancel()
    assert job.wait(LONG_S)
    assert time.monotonic() - began < 1.0  # the promise itself; the work reports every 5 ms
    assert job.snapshot().state == "cancelled"
    with pytest.raises(Cancelled):
        job.result()


def test_a_cancelled_search_hands_over_the_best_it_had() -> None:
    def search(progress: Progress) -> None:
        try:
            endless(progress)
        except Cancelled:
            raise Cancelled(best={"angle": 0.3}) from None

    job = Jobs().submit(search, title="Search")
    until(lambda: job.snapshot().share > 0)
    job.cancel()
    with pytest.raises(Cancelled) as caught:
        job.result(LONG_S)
    assert caught.value.best == {"angle": 0.3} == job.snapshot().best


def test_a_waiting_job_is_cancelled_without_ever_running() -> None:
    jobs, gate, ran = Jobs(), Gate(), threading.Event()
    first = jobs.submit(gate, title="First", model="m")
    second = jobs.submit(lambda _: ran.set(), title="Second", model="m")
    assert second.snapshot().state == "queued" and second.snapshot().before.n == 1
    second.cancel()
    assert second.wait(LONG_S) and second.snapshot().state == "cancelled"
    gate.may_end.set()
    assert first.result(LONG_S) == "through"
    until(lambda: jobs.active() == ())
    assert not ran.is_set()


def test_heavy_jobs_of_one_model_wait_in_order_and_those_of_another_do_not() -> None:
    jobs, order = Jobs(n_heavy=2), list[str]()
    gate = Gate()
    first = jobs.submit(gate, title="A1", model="a")
    later = [jobs.submit(lambda _, n=n: order.append(n), title=n, model="a") for n in ("A2", "A3")]
    assert gate.started.wait(LONG_S)
    assert jobs.submit(lambda _: "b", title="B1", model="b").result(LONG_S) == "b"
    assert [job.state for job in later] == ["queued", "queued"]
    gate.may_end.set()
    for job in (first, *later):
        job.result(LONG_S)
    assert order == ["A2", "A3"]


def test_no_more_heavy_jobs_run_at_once_than_the_cores_bear_and_light_ones_pass_them() -> None:
    allowed = [1]
    jobs = Jobs(n_heavy=lambda: allowed[0])
    one, two = Gate(), Gate()
    first, second = jobs.submit(one, title="1", model="a"), jobs.submit(two, title="2", model="b")
    assert one.started.wait(LONG_S) and not two.started.wait(0.05)
    assert jobs.submit(lambda _: "prompt", title="light").result(LONG_S) == "prompt"
    allowed[0] = 2
    jobs.submit(lambda _: None, title="next").result(LONG_S)
    assert two.started.wait(LONG_S)
    one.may_end.set()
    two.may_end.set()
    assert [job.result(LONG_S) for job in (first, second)] == ["through", "through"]


def test_light_jobs_are_bounded_too() -> None:
    jobs, gates = Jobs(n_light=2), [Gate() for _ in range(3)]
    all_jobs = [jobs.submit(gate, title="light") for gate in gates]
    assert gates[0].started.wait(LONG_S) and gates[1].started.wait(LONG_S) and not gates[2].started.wait(0.05)
    for gate in gates:
        gate.may_end.set()
    assert [job.result(LONG_S) for job in all_jobs] == ["through"] * 3


def test_an_error_with_a_hint_arrives_as_it_was() -> None:
    error = BadKnob("keep = 7 is outside 0.5 to 1.", "Give a number from 0.5 to 1.")

    def fail(_: Progress) -> None:
        raise error

    job = Jobs().submit(fail, title="Fit")
    with pytest.raises(BadKnob) as caught:
        job.result(LONG_S)
    assert caught.value is error is job.snapshot().error


def test_an_unexpected_failure_becomes_a_report_and_never_a_traceback(tmp_path: Path) -> None:
    def fail(_: Progress) -> None:
        raise ZeroDivisionError("secret detail")

    job = Jobs(reports=tmp_path / "reports").submit(fail, title="Fit SEA")
    with pytest.raises(Unexpected) as caught:
        job.result(LONG_S)
    shown = f"{caught.value} {caught.value.hint}"
    assert "Fit SEA" in shown and caught.value.report_id in shown
    assert "secret" not in shown and "Traceback" not in shown
    text = (tmp_path / "reports" / f"{caught.value.report_id}.txt").read_text()
    assert "Traceback" in text and "secret detail" in text


def test_even_a_base_exception_ends_the_job_and_frees_its_place() -> None:
    def leave(_: Progress) -> None:
        raise KeyboardInterrupt

    jobs = Jobs()
    with pytest.raises(Unexpected):
        jobs.submit(leave, title="Leave", model="m").result(LONG_S)
    assert jobs.submit(lambda _: "next", title="Next", model="m").result(LONG_S) == "next"


def test_out_of_memory_is_named_so() -> None:
    def fail(_: Progress) -> None:
        raise MemoryError

    with pytest.raises(NotEnoughMemory, match="Fit ran out of memory"):
        Jobs().submit(fail, title="Fit").result(LONG_S)


def test_a_job_sees_no_context_of_the_thread_that_submitted_it() -> None:
    plan: ContextVar[str] = ContextVar("plan", default="untouched")
    token = plan.set("edited")
    try:
        assert Jobs().submit(lambda _: plan.get(), title="Look").result(LONG_S) == "untouched"
    finally:
        plan.reset(token)


def test_snapshots_from_many_threads_never_go_backwards() -> None:
    def work(progress: Progress) -> None:
        for i in range(3000):
            progress(i / 3000, f"step {i}", i=i)

    job = Jobs().submit(work, title="Steps")
    wrong: list[Any] = []

    def watch(job: Job) -> None:
        last = 0.0
        while True:
            shot = job.snapshot()
            if shot.share < last or (shot.live and f"step {shot.live['i']}" != shot.doing and not shot.is_over):
                wrong.append(shot)
            last = shot.share
            if shot.is_over:
                return
            time.sleep(0.001)

    watchers = [threading.Thread(target=watch, args=(job,)) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join(LONG_S)
    assert wrong == [] and job.state == "done"
    assert len(job.snapshot().history) <= 2000


def test_jobs_are_found_by_id_and_owner_until_they_are_forgotten() -> None:
    jobs = Jobs(n_kept=2)
    done = [jobs.submit(lambda _, i=i: i, title=str(i), owner="me" if i % 2 else "you") for i in range(2)]
    assert [job.result(LONG_S) for job in done] == [0, 1]
    assert jobs.of("me") == (done[1],) and jobs.get(done[0].id) is done[0]
    for i in range(3):
        jobs.submit(lambda _: None, title=f"more {i}").result(LONG_S)
    with pytest.raises(UnknownName):
        jobs.get(done[0].id)


def test_cancel_all_ends_everything() -> None:
    jobs = Jobs(n_light=2)
    all_jobs = [jobs.submit(endless, title="Endless") for _ in range(4)]
    assert jobs.cancel_all(LONG_S)
    assert {job.state for job in all_jobs} == {"cancelled"}


# ── turns ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_people_take_turns_and_nobodys_second_job_starts_before_anybodys_first() -> None:
    jobs, gate, order = Jobs(n_heavy=4), Gate(), list[str]()
    first = jobs.submit(gate, title="a0", owner="a", model="m")
    asked = [("a", "a1"), ("a", "a2"), ("b", "b0"), ("b", "b1"), ("c", "c0")]
    later = [jobs.submit(lambda _, n=n: order.append(n), title=n, owner=who, model="m") for who, n in asked]
    assert [job.snapshot().before.n for job in later] == [3, 5, 1, 4, 2]
    gate.may_end.set()
    for job in (first, *later):
        job.result(LONG_S)
    assert order == ["b0", "c0", "a1", "b1", "a2"]


def test_who_had_a_turn_longest_ago_comes_first_and_first_come_is_only_a_tie() -> None:
    jobs, gate, order = Jobs(), Gate(), list[str]()
    for who in ("a", "b"):
        jobs.submit(lambda _: None, title="before", owner=who, model="m").result(LONG_S)
    held = jobs.submit(gate, title="held", owner="c", model="m")
    later = [jobs.submit(lambda _, who=who: order.append(who), title=who, owner=who, model="m") for who in ("b", "d", "a")]
    gate.may_end.set()
    for job in (held, *later):
        job.result(LONG_S)
    assert order == ["d", "a", "b"]


def test_a_job_of_one_model_waits_for_no_other_models_and_says_so() -> None:
    jobs, gate = Jobs(n_heavy=2), Gate()
    held = jobs.submit(gate, title="held", owner="a", model="big")
    queued = jobs.submit(lambda _: 1, title="next", owner="b", model="big")
    assert jobs.submit(lambda _: "small", title="small", owner="b", model="small").result(LONG_S) == "small"
    assert queued.snapshot().before.n == 1 and held.snapshot().before.n == 0
    gate.may_end.set()
    assert queued.result(LONG_S) == 1


def test_about_how_long_follows_from_what_runs_and_what_such_jobs_took() -> None:
    jobs, may_end = Jobs(), threading.Event()

    def half(progress: Progress) -> None:
        time.sleep(0.2)
        while not may_end.wait(0.005):
            progress(0.5, "half")

    held = jobs.submit(half, title="Fitting x", owner="a", model="m")
    until(lambda: held.snapshot().share == 0.5)
    one, two = (jobs.submit(lambda _: time.sleep(0.05), title=title, owner="b", model="m") for title in ("Fitting y", "Fitting y"))
    told = one.snapshot().before
    assert told.n == 1 and told.s is not None and 0.1 < told.s < LONG_S
    assert two.snapshot().before.s is None, "nobody knows yet how long a fit of y takes"
    may_end.set()
    two.result(LONG_S)
    again, third = jobs.submit(Gate(), title="Fitting z", owner="a", model="m"), Gate()
    for title in ("Fitting y", "Fitting z"):
        last = jobs.submit(third, title=title, owner="c", model="m")
    assert last.snapshot().before == Before(2, None), "a fit of z has said nothing of its share yet"
    assert again.state == "running" and jobs.cancel_all(LONG_S)
