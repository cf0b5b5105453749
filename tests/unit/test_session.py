"""The façade: the loop from demonstrations to a saved edit that is found again, on a tiny random model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import contrast_rows, taught_rows, words

from workbench.data.demonstrations import Demonstrations
from workbench.data.sources import write
from workbench.decode import Sampling
from workbench.errors import BadDemonstrations, BadKnob, BadPrompt, ModelUnavailable, Obstructed, StorageFailed, UnknownName
from workbench.opening import open_session
from workbench.progress import Cancelled, Progress, Report
from workbench.session import Session
from workbench.workspace.shelf import Shelf
from workbench.workspace.shipped import ShippedSets

SHORT = Sampling(max_new_tokens=4)


@pytest.fixture
def session(tiny_gpt2: Any, tmp_path: Path) -> Session:
    return Session(tiny_gpt2, tmp_path / "home")


def same_edit(one: Any, other: Any) -> bool:
    tensors = other.tensors()
    return one.id == other.id and all(torch.equal(tensor, tensors[name]) for name, tensor in one.tensors().items())


def test_the_loop_goes_round_and_the_edit_is_found_after_a_restart(session: Session) -> None:
    saved = session.demos.save(contrast_rows())
    fitted = session.fit("mean_difference", saved.name, {"strength": 3.0, "layers": "1"}, seed=1)
    assert session.compare(words(11, 12), [fitted.edit], SHORT).lanes[1].edit_ids == (fitted.edit.id,)
    session.save_edit(fitted.edit.id, "truth", verdict="good")

    again = Session(session.model, session.workspace.folder)
    assert same_edit(again.load_edit("truth"), fitted.edit)
    assert again.edit_name(fitted.edit.id) == "truth"
    report = again.report("truth")
    assert report is not None and report.scalars == fitted.report.scalars
    assert np.array_equal(report.arrays["edit_size"], fitted.report.arrays["edit_size"])
    assert report.curves == fitted.report.curves and report.notices == fitted.report.notices
    assert [run.kind for run in again.workspace.runs.list()] == ["compare", "fit"]
    assert again.workspace.runs.list("fit")[0].inputs["config"]["strength"] == 3.0


def test_a_fit_is_the_same_from_a_set_a_file_and_rows(session: Session, tmp_path: Path) -> None:
    rows = contrast_rows()
    session.demos.save(Demonstrations(rows.rows, "mine"))
    path = write(rows, tmp_path / "pairs.jsonl")
    fits = [session.fit("mean_difference", source).edit for source in (rows, "mine", path, str(path))]
    assert len({edit.id for edit in fits}) == 1
    other = session.fit("mean_difference", rows, {"strength": 1.0}).edit
    assert other.id != fits[0].id


def test_a_choice_by_validation_is_remembered_at_dose_1_and_recorded_as_a_run(session: Session) -> None:
    found = session.choose(
        "mean_difference", taught_rows(), {"strength": 2.0}, over={"layers": ((0,), (2,))}, doses=(0.5, 2.0), max_damage=100.0
    )
    assert found.edit.dose == found.best.dose in (0.5, 2.0) and found.edit.id == found.fitted.edit.id
    kept = session.load_edit(found.fitted.edit.id)
    assert kept.dose == 1.0 and kept.header.config["strength"] == 2.0 and tuple(kept.header.config["layers"]) == found.best.values["layers"]
    assert len(found.candidates) == 4 and len(session.workspace.runs.list()) == 1
    report = session.report(found.fitted.edit.id)
    assert report is not None and f"dose = {found.best.dose:g} were chosen among 4 settings" in report.notices[-1].text


SEARCH = {"optimizer": "es", "n_init": 4, "n_train": 6, "n_val": 4, "lanes": 1, "shots": "zero"}


def test_a_search_goes_on_from_its_trials_as_if_it_had_not_stopped(session: Session) -> None:
    rows = contrast_rows(40)
    short = session.fit("tarot", rows, {**SEARCH, "budget": 10}, seed=3)
    session.save_edit(short.edit.id, "short")
    whole = session.proceed(short.edit.id, rows, 16)
    at_once = session.fit("tarot", rows, {**SEARCH, "budget": 16}, seed=3)
    assert len(whole.report.tables["trials"]) == 16 and whole.edit.id == at_once.edit.id
    assert [row["value"] for row in whole.report.tables["trials"]][:10] == [row["value"] for row in short.report.tables["trials"]]
    again = Session(session.model, session.workspace.folder)  # after a restart the trials come from the workspace
    assert again.proceed(short.edit.id, rows, 16).edit.id == whole.edit.id
    with pytest.raises(BadKnob, match="10 calls were made already"):
        session.proceed(short.edit.id, rows, 10)
    with pytest.raises(Obstructed, match="ran on data"):
        session.proceed(short.edit.id, contrast_rows(30), 16)
    folder = Session(session.model, session.workspace.folder / "elsewhere", records=False)
    with pytest.raises(Obstructed, match="were not kept"):
        folder.proceed(str(session.shelf.write(short.edit, session.workspace.folder / "taken")), rows, 16)
    other = session.fit("mean_difference", rows).edit
    with pytest.raises(Obstructed, match="no search"):
        session.proceed(other.id, rows, 16)


def test_a_cancelled_search_keeps_its_best_at_hand(session: Session) -> None:
    told: list[str] = []

    def stop_in_the_search(report: Report) -> None:
        told.append(report.doing)
        if report.share > 0.4:
            progress.cancel()

    progress = Progress(stop_in_the_search)
    with pytest.raises(Cancelled) as caught:
        session.fit("tarot", contrast_rows(40), {**SEARCH, "budget": 60}, progress=progress)
    best: Any = caught.value.best
    assert 0 < len(best.report.tables["trials"]) < 60
    assert session.load_edit(best.edit.id).id == best.edit.id and len(session.workspace.runs.list()) == 1


def test_a_dose_goes_with_an_edit_and_names_are_resolved(session: Session) -> None:
    edit = session.fit("mean_difference", contrast_rows()).edit
    session.save_edit(edit, "named")
    assert session.stack(edit.scaled(0.5))[0].dose == session.stack(f"{edit.id}:0.5")[0].dose == 0.5
    assert [item.dose for item in session.stack((f"{edit.id}:2", "named"))] == [2.0, 1.0]
    folder = session.shelf.write(edit, session.workspace.folder / "elsewhere")
    assert same_edit(session.stack(folder)[0], edit)
    assert session.stack(()) == ()
    with pytest.raises(UnknownName, match="Did you mean|Known") as caught:
        session.load_edit("namd")
    assert "named" in caught.value.hint


def test_generation_at_dose_0_is_the_base_and_at_a_high_dose_it_is_not(session: Session) -> None:
    edit = session.fit("mean_difference", contrast_rows(), {"strength": 20.0}).edit
    base, nothing, strong = session.generate(words(11, 12, 13), [(), edit.scaled(0.0), edit.scaled(5.0)], SHORT)
    assert base[0].ids == nothing[0].ids != strong[0].ids


def test_next_tokens_are_probabilities_in_order_and_move_under_an_edit(session: Session) -> None:
    edit = session.fit("mean_difference", contrast_rows(), {"strength": 20.0}).edit
    found = session.next_tokens(words(11, 12), k=session.model.info.d_vocab)
    shares = [share for _, share in found]
    # Float32 softmax over a hundred tokens.
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-5)
    assert session.next_tokens(words(11, 12), 3, edit) != found[:3]


def test_an_evaluation_has_base_edit_and_placebo_with_intervals(session: Session) -> None:
    edit = session.fit("mean_difference", contrast_rows(), {"strength": 10.0}).edit
    found = session.evaluate(edit, contrast_rows(60), neutral=contrast_rows(), n_placebos=2, n_generations=2)
    labels = [lane.label for lane in found.lanes]
    assert labels[0] == "base" and labels[2] == f"placebo of {labels[1]}"
    assert found.placebo_of == (None, None, 1)
    rows = {(row["lane"], row["metric"]): row for row in found.rows()}
    p_truth = rows[(labels[1], "mc2")]
    assert p_truth["n"] == len(contrast_rows(60).split("test")) and p_truth["low"] <= p_truth["value"] <= p_truth["high"]
    assert p_truth["withheld"] == "" and p_truth["change_low"] <= p_truth["change"] <= p_truth["change_high"]
    ratio = rows[(labels[1], "perplexity_ratio")]
    assert ratio["change"] == pytest.approx(ratio["value"] - 1), "a difference, as the others"
    assert rows[("base", "kl_nats")]["value"] == 0.0 < rows[(labels[1], "kl_nats")]["value"]
    assert rows[("base", "mc2")]["change"] is None and p_truth["change"] is not None
    assert session.workspace.runs.list("evaluate")[0].metrics == json.loads(json.dumps(found.metrics()))
    few = session.evaluate(edit, contrast_rows(), n_placebos=0, n_generations=0).rows()[2]
    assert few["low"] is few["change_high"] is None and few["withheld"] == "4 items by weight, fewer than 8"


def test_a_placebo_is_the_mean_over_its_seeds_and_the_others_are_untouched(session: Session) -> None:
    edit = session.fit("mean_difference", contrast_rows(), {"strength": 10.0}).edit

    def scores(n: int) -> Any:
        found = session.evaluate(edit, contrast_rows(), neutral=contrast_rows(), n_placebos=n, n_generations=0)
        return found.benefit.metric("margin_nats")

    none, one, two = scores(0), scores(1), scores(2)
    assert len(none.values) == 2 and len(one.values) == len(two.values) == 3
    # The batch has another number of rows each time; float32 sums of a few log-probabilities.
    assert none.values[1].estimate == pytest.approx(two.values[1].estimate, abs=1e-4)
    assert one.values[2].estimate != pytest.approx(two.values[2].estimate, abs=1e-4)


def test_a_failed_load_leaves_the_running_model(session: Session, tmp_path: Path) -> None:
    before = session.model
    with pytest.raises(ModelUnavailable):
        session.load(str(tmp_path / "nothing"))
    assert session.model is before


def test_errors_come_through_with_their_hints(session: Session) -> None:
    with pytest.raises(BadKnob, match="strength"):
        session.fit("mean_difference", contrast_rows(), {"strength": 1e9})
    with pytest.raises(UnknownName, match="demonstration set"):
        session.fit("mean_difference", "truthfulnes")
    with pytest.raises(Obstructed, match="demonstrations"):
        session.fit("mean_difference", contrast_rows().split("test"))
    with pytest.raises(UnknownName, match="lens"):
        session.look("telescope", "x")


@pytest.mark.parametrize("side", ["prompt", "positive"])
def test_a_prompt_beyond_the_context_is_told_by_its_row(session: Session, side: str) -> None:
    rows = list(contrast_rows(24))
    at = next(i for i, row in enumerate(rows) if i > 4 and row.split == "fit")
    rows[at] = replace(rows[at], id="the-long-one", **{side: " " + words(*[3] * 80)})
    long = Demonstrations(tuple(rows), "mine")
    with pytest.raises(BadPrompt, match=rf"Row {at + 1} of mine \(the-long-one\): A prompt is \d+ tokens long; .* holds 64") as caught:
        session.fit("mean_difference", long)
    assert "take the row out" in caught.value.hint


def test_obstacles_are_those_of_these_demonstrations(session: Session) -> None:
    free = {offer.method.name: offer.obstacles for offer in session.methods(contrast_rows())}
    blocked = {offer.method.name: offer.obstacles for offer in session.methods(contrast_rows().first(1))}
    assert free["mean_difference"] == () != blocked["mean_difference"]
    rows = {row["what"]: row["works"] for row in session.capabilities()}
    assert rows["Mean difference"] == "yes" and "no" in rows.values()


def test_a_lens_looks_at_the_edited_model_too(session: Session) -> None:
    edit = session.fit("mean_difference", contrast_rows(), {"strength": 20.0, "layers": "0"}).edit
    found = session.look("attention", words(11, 12, 13), stacks=[(), edit])
    assert len(found.lanes) == 2 and found.distance(1).max() > 0


def test_a_workspace_that_refuses_costs_no_result(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path / "home")
    database = session.workspace._database
    database._timeout_s = 0.02
    import sqlite3

    lock = sqlite3.connect(database.path, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        fitted = session.fit("mean_difference", contrast_rows())
        compared = session.compare(words(11), [fitted.edit], SHORT)
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    assert any("not recorded" in notice.text for notice in fitted.report.notices)
    assert compared.texts and len(session.recorder.troubles) == 2
    assert session.edit_name(fitted.edit.id).startswith("mean_difference")
    with pytest.raises(StorageFailed), full(session):
        session.save_edit(fitted.edit, "kept")
    assert session.save_edit(fitted.edit, "kept").name == "kept"


class full:  # noqa: N801 - reads as a word in `with`
    """A workspace whose file may not be written."""

    def __init__(self, session: Session) -> None:
        self._database = session.workspace._database

    def __enter__(self) -> None:
        self._timeout, self._database._timeout_s = self._database._timeout_s, 0.0
        import sqlite3

        self._lock = sqlite3.connect(self._database.path, isolation_level=None)
        self._lock.execute("BEGIN EXCLUSIVE")

    def __exit__(self, *_: object) -> None:
        self._lock.execute("ROLLBACK")
        self._lock.close()
        self._database._timeout_s = self._timeout


def test_a_workspace_that_cannot_be_opened_costs_no_result(tiny_gpt2: Any) -> None:
    session = Session(tiny_gpt2, "/proc/retouch")
    fitted = session.fit("mean_difference", contrast_rows())
    assert session.compare(words(11), [fitted.edit], SHORT).texts and len(session.recorder.troubles) == 2
    with pytest.raises(StorageFailed, match="/proc/retouch"):
        session.save_edit(fitted.edit, "kept")


def test_a_session_that_records_nothing_needs_no_folder(tiny_gpt2: Any) -> None:
    session = Session(tiny_gpt2, "/proc/retouch", records=False)
    fitted = session.fit("mean_difference", contrast_rows())
    assert session.compare(words(11), [fitted.edit], SHORT).texts


def test_open_session_takes_a_folder_and_shares_a_workspace(tiny_folders: dict[str, Path], session: Session) -> None:
    other = open_session(str(tiny_folders["gpt2"]), session.workspace, dtype="float64")
    assert other.workspace is session.workspace and other.model.info.dtype == "float64"


# ── the shelf ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def shelf(session: Session, tmp_path: Path) -> Shelf:
    folder = tmp_path / "assets"
    write(Demonstrations(contrast_rows().rows, "pairs"), folder / "pairs.jsonl")
    item = {"id": "pairs", "title": "Pairs", "about": "Two sides.", "kind": "contrast", "file": "pairs.jsonl"}
    item |= {"metric": "mc1", "rows": {"fit": 16, "validation": 4, "test": 4}, "roles": {}}
    (folder / "index.json").write_text(json.dumps([item]))
    return Shelf(lambda: session.workspace, ShippedSets(folder, everyday=False))


def test_a_set_that_ships_is_copied_when_it_is_changed(shelf: Shelf) -> None:
    shipped = shelf.get("pairs")
    info = shelf.save(shipped.first(3), key="pairs", note="kept three")
    assert shelf.get("pairs") == shipped and len(shelf.get(info.id)) == 3
    assert [(offer.is_shipped, offer.n) for offer in shelf.list()] == [(False, 3), (True, 24)]
    assert shelf.save(shipped.first(2), key=info.id).version == 2
    assert len(shelf.get(shelf.undo(info.id).id)) == 3 and len(shelf.get(shelf.redo(info.id).id)) == 2
    assert [version.n for version in shelf.history(info.id)] == [3, 2] and shelf.history("pairs") == ()


def test_an_import_keeps_the_good_rows_and_tells_the_bad_lines(shelf: Shelf) -> None:
    content = b'{"prompt": "a", "positive": " x"}\nnonsense\n{"prompt": "b", "positive": " y"}\n'
    imported, info = shelf.import_file(content, "mine.jsonl")
    assert info is not None and (info.name, info.n, info.note) == ("mine", 2, "imported mine.jsonl")
    assert [problem.line for problem in imported.problems][0] == 2
    empty, nothing = shelf.import_file(b"nonsense\n", "bad.jsonl")
    assert nothing is None and empty.problems[0].line == 1


def test_several_files_become_one_set_with_ids_of_their_own(shelf: Shelf, tmp_path: Path) -> None:
    files = {"glad.json": '["a sunny day", "a gift"]', "sad.json": '["a lost dog"]'}
    imported, info = shelf.import_files([(text.encode(), name) for name, text in files.items()])
    assert info is not None and (info.name, info.n, info.note) == ("glad + sad", 3, "imported glad.json, sad.json")
    assert [row.tagged("concept") for row in imported.demonstrations] == ["glad", "glad", "sad"]
    assert len({row.id for row in imported.demonstrations}) == 3
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    named = "+".join(str(tmp_path / name) for name in files)
    assert [row.prompt for row in shelf.resolve(named)] == ["a sunny day", "a gift", "a lost dog"]
    assert len(shelf.resolve("pairs+pairs")) == 2 * len(shelf.get("pairs"))
    (tmp_path / "one+two.jsonl").write_text('{"prompt": "a", "positive": " x"}\n')
    assert len(shelf.resolve(tmp_path / "one+two.jsonl")) == 1
    broken, _ = shelf.import_files([(b'["fine"]', "fine.json"), (b"nonsense\n", "bad.jsonl")])
    assert any(problem.line == 1 and problem.what.startswith("bad: ") for problem in broken.problems)


def test_what_is_neither_a_set_nor_a_file_is_named(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="pairs"):
        shelf.resolve("pears")
    with pytest.raises(BadDemonstrations, match="no file"):
        shelf.resolve("missing/pairs.jsonl")
    (tmp_path / "bad.jsonl").write_text("nonsense\n")
    with pytest.raises(BadDemonstrations, match="Line 1"):
        shelf.resolve(tmp_path / "bad.jsonl")
