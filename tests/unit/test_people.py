"""What is not saved belongs to one person: fits at hand, runs, and a share of the machine in a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import contrast_rows
from tests.unit.test_jobs import LONG_S, Gate, endless, until
from workbench.errors import Busy, UnknownName
from workbench.session import Session
from workbench.workspace import edit_shelf
from workbench.workspace.jobs import Jobs
from workbench.workspace.people import acting, acting_as
from workbench.workspace.share import CLASS, Share, share


def test_a_fit_is_at_hand_for_its_person_alone_and_a_saved_one_for_everybody(tiny_gpt2: Any, tmp_path: Path) -> None:
    session, rows = Session(tiny_gpt2, tmp_path), contrast_rows()
    with acting_as("ann"):
        edit = session.fit("mean_difference", rows).edit.id
        assert session.load_edit(edit).id == edit and session.report(edit) is not None
    with acting_as("bob"):
        assert session.shelf.fitted() == ()
        with pytest.raises(UnknownName) as refused:
            session.load_edit(edit)
        assert edit not in refused.value.hint and edit not in str(refused.value).partition("Known")[2]
        assert session.fit("mean_difference", rows).edit.id == edit, "the same settings give the same edit"
    with acting_as("ann"):
        session.save_edit(edit, "shared")
    with acting_as("cyd"):
        assert session.shelf.fitted() == () and session.load_edit("shared").id == edit


def test_runs_of_others_are_not_listed_and_those_of_the_command_line_are(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path)
    session.fit("mean_difference", contrast_rows(), seed=1)
    for name in ("ann", "bob"):
        with acting_as(name):
            session.fit("mean_difference", contrast_rows(), seed=2)
    runs = session.workspace.runs
    with acting_as("ann"):
        assert [run.inputs.get("person") for run in runs.list()] == ["ann", None]
    assert len(runs.list()) == 3 and len(runs.list("fit", 2)) == 2


def test_a_job_works_for_whoever_asked_and_for_nobody_who_runs_beside_it() -> None:
    jobs = Jobs()
    with acting_as("page"):
        found = [jobs.submit(lambda _: acting(), title="who", owner=owner).result(LONG_S) for owner in ("ann", "bob", "")]
    assert found == ["ann", "bob", ""] and acting() == ""


def test_fits_at_hand_are_bounded_for_each_person_and_for_nobody_by_another(
    tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(tiny_gpt2, tmp_path, records=False)

    def fit(n: int) -> list[str]:
        return [session.fit("mean_difference", contrast_rows(), {"strength": 1.0 + i}).edit.id for i in range(n)]

    with acting_as("ann"):
        anns = fit(2)
    one = sum(tensor.nbytes for tensor in session.shelf.load.__self__._fitted["ann", anns[0]].edit.tensors().values())  # type: ignore[attr-defined]
    monkeypatch.setattr(edit_shelf, "share", lambda: Share(n_bytes=int(2.5 * one)))
    with acting_as("bob"):
        bobs = fit(4)
        assert [item.edit.id for item in session.shelf.fitted()] == [bobs[3], bobs[2]]
    monkeypatch.setattr(edit_shelf, "share", lambda: Share(n_bytes=1))
    with acting_as("bob"):
        newest = session.fit("mean_difference", contrast_rows(), {"strength": 9.0}).edit.id
        assert [item.edit.id for item in session.shelf.fitted()] == [newest], "what was just fitted is always at hand"
    with acting_as("ann"):
        assert {item.edit.id for item in session.shelf.fitted()} == set(anns)


def test_in_a_class_one_person_runs_one_job_lets_three_wait_and_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share() == Share()
    monkeypatch.setenv(CLASS, "1")
    jobs, gate = Jobs(n_heavy=4, share=share()), Gate()
    running = jobs.submit(gate, title="a", owner="ann", model="m1")
    waiting = [jobs.submit(endless, title="a", owner="ann", model=f"m{i}") for i in (2, 3, 4)]
    with pytest.raises(Busy, match="3 of your fits"):
        jobs.submit(endless, title="a", owner="ann", model="m5")
    assert {job.state for job in waiting} == {"queued"} and gate.started.wait(LONG_S)
    with pytest.raises(Busy, match="3 of your fits"):
        jobs.submit(endless, title="a", owner="ann", model="m5", instead=running)
    assert not running.snapshot().is_cancelling, "what is refused costs nothing"
    waiting[0] = jobs.submit(endless, title="a", owner="ann", model="m5", instead=(first := waiting[0]))
    assert first.state == "cancelled" and waiting[0].state == "queued", "one that waits makes room for what stands in its place"
    other = jobs.submit(lambda _: "bob's", title="b", owner="bob", model="m2")
    assert other.result(LONG_S) == "bob's"
    gate.may_end.set()
    running.result(LONG_S)
    until(lambda: [job.state for job in waiting].count("running") == 1)
    lights = [jobs.submit(endless, title="light", owner="ann") for _ in range(3)]
    until(lambda: [job.state for job in lights].count("running") == 2)
    assert jobs.submit(lambda _: "prompt", title="light", owner="bob").result(LONG_S) == "prompt"
    assert jobs.cancel_all(LONG_S)


def test_where_ones_share_is_full_a_job_waits_for_ones_own_and_says_so() -> None:
    jobs, gate, other = Jobs(n_heavy=8, share=Share(n_running=1)), Gate(), Gate()
    jobs.submit(other, title="b", owner="bob", model="m9")
    jobs.submit(gate, title="a", owner="ann", model="m1")
    queued = [jobs.submit(endless, title="a", owner="ann", model=model) for model in ("m2", "m3", "m9")]
    assert [job.snapshot().before.n for job in queued] == [1, 2, 4], "bob's is before the one on his model alone"
    lights = [jobs.submit(endless, title="light", owner="ann") for _ in range(3)]
    until(lambda: [job.state for job in lights].count("running") == 2)
    jobs.submit(endless, title="light", owner="bob")
    assert lights[2].snapshot().before.n == 2
    assert jobs.cancel_all(LONG_S)
