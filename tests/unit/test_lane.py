"""One way to write a lane: what lists, tuples and texts mean, what is refused by name, and the dose that goes with what is saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows, words
from workbench.edits import store
from workbench.edits.labels import lane_labels, stack_of
from workbench.edits.lane import HIGHEST_DOSE, Lane, Named, lane_of, lanes_of, read_lanes, write_lanes
from workbench.errors import BadDose, BadLane, BadPlace, UnknownName
from workbench.sampling import Sampling
from workbench.session import Session
from workbench.workspace.history import recorded_lanes
from workbench.workspace.home import Workspace

SHORT = Sampling(max_new_tokens=2)


@pytest.fixture
def session(tiny_gpt2: Any, tmp_path: Path) -> Session:
    return Session(tiny_gpt2, tmp_path)


def two(session: Session) -> tuple[Any, Any]:
    return tuple(session.fit("mean_difference", contrast_rows(), {"strength": s}).edit for s in (2.0, 3.0))  # type: ignore[return-value]


def test_a_tuple_is_a_stack_and_a_list_is_lanes(session: Session) -> None:
    a, b = two(session)
    stacked, apart = (
        session.evaluate(lanes, contrast_rows(), neutral=contrast_rows(), n_placebos=0, n_generations=0) for lanes in ((a, b), [a, b])
    )
    assert [lane.edit_ids for lane in stacked.lanes] == [(), (a.id, b.id)]
    assert [lane.edit_ids for lane in apart.lanes] == [(), (a.id,), (b.id,)]
    both = session.compare(words(11, 12), [a, (a, f"{b.id}:2"), ()], SHORT)
    assert [lane.doses for lane in both.lanes] == [(), (1.0,), (1.0, 2.0), ()]
    assert [len(lane) for lane in session.compare(words(11, 12), [], SHORT).texts] == [1], "an empty list is the untouched model alone"


@pytest.mark.parametrize(
    ("wrong", "told", "hint"),
    [
        (lambda a: [a, 2.0], "2.0 is no edit", "edit.scaled(2.0)"),
        (lambda a: (a, 2.0), "2.0 is no edit", '"ID:2"'),
        (lambda a: [a, [a, a]], "a list is several lanes", "as a tuple, (a, b)"),
        (lambda a: ((a,), (a,)), "a stack holds no other", "[a, (a, b)]"),
        (lambda a: {"edit": a}, "is no edit", "several lanes are a list"),
        (lambda a: None, "None is no edit", "A lane is an edit"),
        (lambda a: a.id + "@2", "behind an @", f":{2}"),
        (lambda a: "", "empty text", "ID:2"),
        (lambda a: a.id + "+", "empty text", "a+b"),
        (lambda a: '"open', "does not close", "double quotes"),
        (lambda a: '"a"b', "no dose", "double quotes"),
    ],
)
def test_what_is_no_lane_is_refused_with_what_to_write_instead(session: Session, wrong: Any, told: str, hint: str) -> None:
    edit = session.fit("mean_difference", contrast_rows()).edit
    for call in (lambda lanes: session.compare(words(11), lanes, SHORT), lambda lanes: session.evaluate(lanes, contrast_rows())):
        with pytest.raises(BadLane) as caught:
            call(wrong(edit))
        assert told in str(caught.value) and hint in caught.value.hint
    assert session.compare(words(11), [edit], SHORT).texts, "what the hint says to write is taken"


@pytest.mark.parametrize("dose", ["nan", "inf", "-inf", "5.01", "-1e3"])
def test_a_dose_out_of_range_has_one_error_wherever_it_stands(session: Session, dose: str) -> None:
    edit = session.fit("mean_difference", contrast_rows()).edit
    for call in (
        lambda: Named(edit.id, float(dose)),
        lambda: Lane.parse(f"a+b:{dose}"),
        lambda: read_lanes(f"a,b:{dose}"),
        lambda: session.compare(words(11), f"{edit.id}:{dose}", SHORT),
        lambda: session.compare(words(11), edit.scaled(float(dose)), SHORT),
        lambda: session.sweep(edit, contrast_rows(), [1.0, float(dose)]),
    ):
        with pytest.raises(BadDose):
            call()
    assert Named(edit.id, HIGHEST_DOSE).dose == HIGHEST_DOSE
    session.compare(words(11), edit.scaled(HIGHEST_DOSE), SHORT)


def test_texts_name_edits_doses_and_stacks() -> None:
    assert Lane.parse("a+b:2") == Lane((Named("a"), Named("b", 2.0)))
    assert Lane.parse(" runs/sea:-1.5 ") == Lane((Named("runs/sea", -1.5),))
    assert Lane.parse("base") == lane_of(()) == Lane()
    assert Lane.parse('"good + bad":2') == Lane((Named("good + bad", 2.0),))
    assert Lane.parse("good + bad", {"good + bad"}.__contains__) == Lane((Named("good + bad"),)), "a name that is known needs no quotes"
    assert Lane.parse("a:b").keys == ("a:b",), "only a number is a dose"
    assert Lane.parse("a+b:2").dosed(0.5) == Lane((Named("a", 0.5), Named("b", 2.0)))
    assert lanes_of(["a", ("a", "b:2"), Path("x+y")]) == (Lane.parse("a"), Lane.parse("a+b:2"), Lane((Named("x+y"),)))
    assert write_lanes(read_lanes("a:2,b+c:0.5")) == "a:2,b+c:0.5" and read_lanes("") == ()


def test_a_place_stands_behind_an_at_and_is_kept_if_asked(session: Session, tmp_path: Path) -> None:
    edit = session.fit("mean_difference", contrast_rows()).edit
    for text in ("a:2@user", 'a@after "x, y+z: @"+b', "me@home:0.5@first 3", "me@home", '"a@user"@prompt', 'a@after regex "w[57]"'):
        assert write_lanes(read_lanes(text)) == text and read_lanes(write_lanes((Lane.parse(text),))) == (Lane.parse(text),)
    assert Lane.parse("a@user") == Lane((Named("a", None, "user"),)) and Lane.parse("me@home").keys == ("me@home",)
    for wrong in ("a@after", 'a@after ""', "a@first 0", 'a@after regex "("'):
        with pytest.raises(BadPlace):
            read_lanes(wrong)
    found = session.compare(words(11, 12), [f"{edit.id}:2@generated"], SHORT)
    assert (found.lanes[1].places, found.lanes[1].edit_ids) == (("generated",), (edit.id,))
    assert session.lane(found.lanes[1].lane).edits[0].written_place == "generated"
    recorded = session.workspace.runs.list()[0]
    assert recorded_lanes(recorded) == (Lane((Named(edit.id, 2.0, "generated"),)),)
    kept = store.load_edit(session.shelf.write(f"{edit.id}:2@generated", tmp_path / "kept"))
    assert (kept.dose, kept.place) == (2.0, "generated") and kept.id != edit.id
    again = session.compare(words(11, 12), [kept], SHORT)
    assert [text.text for text in again.texts[0]] == [text.text for text in found.texts[0]] and again.lanes[1].places == ()


def test_folders_and_saved_names_win_over_the_marks_of_the_grammar(session: Session, tmp_path: Path) -> None:
    edit = session.fit("mean_difference", contrast_rows()).edit
    session.save_edit(edit, "good + bad:2")
    folder = session.shelf.write(edit, tmp_path / "a+b:3")
    for text in ("good + bad:2", str(folder)):
        assert [(item.id, item.dose) for item in session.stack(text)] == [(edit.id, 1.0)]
    assert [item.dose for item in session.stack('"good + bad:2":2')] == [2.0]
    with pytest.raises(UnknownName):
        session.stack("good + worse")


def test_a_named_edit_is_refused_where_nothing_can_load_it() -> None:
    with pytest.raises(BadLane, match="not loaded"):
        stack_of("a:2")


def test_an_edit_saved_at_a_dose_is_loaded_compared_evaluated_and_exported_at_it(session: Session, tmp_path: Path) -> None:
    edit = session.fit("mean_difference", contrast_rows(), {"strength": 3.0}).edit
    info = session.save_edit(f"{edit.id}:2", "twice")
    again = Session(session.model, tmp_path)
    assert (info.dose, info.fit) == (2.0, edit.id) and again.load_edit("twice").dose == again.load_edit(info.id).dose == 2.0
    batch = session.model.tokens(words(11, 12))

    def logits(lane: Any) -> torch.Tensor:
        from workbench.edits.engine import applied

        with torch.no_grad(), applied(session.model, *again.stack(lane)):
            return session.model.logits(batch)

    assert torch.equal(logits("twice"), logits(edit.scaled(2.0))) and not torch.equal(logits("twice"), logits(edit))
    assert torch.equal(logits("twice:1"), logits(edit)), "a dose counts from the fit, not from what was saved"
    assert again.compare(words(11), "twice", SHORT).lanes[1].label.endswith("× 2")
    found = again.evaluate("twice", contrast_rows(), neutral=contrast_rows(), n_placebos=0, n_generations=0)
    assert found.lanes[1].doses == (2.0,)
    again.export("twice", "script", tmp_path / "out", fresh_process=False)
    assert "at dose 2" in (tmp_path / "out" / "edit.py").read_text()
    assert "Dose 2." in (again.workspace.edits.folder("twice") / "README.md").read_text()


def test_two_doses_of_one_fit_are_two_saved_edits(session: Session) -> None:
    edit = session.fit("mean_difference", contrast_rows()).edit
    once, twice = session.save_edit(edit, "once"), session.save_edit(edit.scaled(2.0), "twice")
    assert once.id == edit.id != twice.id and {(item.name, item.dose) for item in session.edits()} == {("once", 1.0), ("twice", 2.0)}
    assert [session.workspace.edits.load(name).dose for name in ("once", "twice")] == [1.0, 2.0]
    assert session.report(once.id) is not None and session.report(twice.id) is not None
    renamed = session.save_edit(edit.scaled(2.0), "doubled")
    assert renamed.id == twice.id and len(session.edits()) == 2, "the same edit at the same dose is renamed"


def test_edits_of_older_versions_keep_id_and_dose(session: Session, tmp_path: Path) -> None:
    edit = session.fit("mean_difference", contrast_rows()).edit
    old = tmp_path / "old"
    workspace = Workspace(old)
    for at, name in ((1.0, "plain"), (2.0, "doubled")):  # as schema 1 wrote them: at any dose the id of the fit
        folder = old / "edits" / f"{edit.id}-{name}"
        store.save(edit.scaled(at), folder)
        with workspace._database.write() as db:  # noqa: SLF001
            values = (folder.name, name, "m", 0.0, "", json.dumps(edit.header.as_json()["model"]), "d", 0)
            db.execute("INSERT INTO edits (id, name, method, created, verdict, model, data, seed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    with workspace._database.write() as db:  # noqa: SLF001
        db.execute("ALTER TABLE edits DROP COLUMN fit")
        db.execute("ALTER TABLE edits DROP COLUMN dose")
        for table in ("edits", "sets"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN deleted")
        db.execute("DROP TABLE pieces")
        for column in ("pieces", "roles"):
            db.execute(f"ALTER TABLE set_versions DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
    edits = Workspace(old).edits
    assert {(info.name, info.dose, info.fit == info.id) for info in edits.list()} == {("plain", 1.0, True), ("doubled", 2.0, True)}
    assert [edits.load(name).dose for name in ("plain", "doubled")] == [1.0, 2.0]
    assert {edits.load(name).id for name in ("plain", "doubled")} == {edit.id}


def test_a_fit_saved_by_an_older_version_at_dose_2_is_not_overwritten(session: Session) -> None:
    edit = session.fit("mean_difference", contrast_rows()).edit
    edits = session.workspace.edits
    edits.save(edit, "old")
    store.save(edit.scaled(2.0), edits.folder("old"), overwrite=True)
    with session.workspace._database.write() as db:  # noqa: SLF001
        db.execute("UPDATE edits SET dose = 2.0")
    assert edits.save(edit.scaled(2.0), "renamed").id == edit.id
    fresh = edits.save(edit, "at one")
    assert fresh.id != edit.id and [edits.load(name).dose for name in ("renamed", "at one")] == [2.0, 1.0]


def test_a_folder_without_a_dose_is_dose_1_and_one_with_nonsense_is_refused(session: Session, tmp_path: Path) -> None:
    edit = session.fit("mean_difference", contrast_rows()).edit
    folder = store.save(edit.scaled(2.0), tmp_path / "edit")
    told = json.loads((folder / "edit.json").read_text())
    del told["dose"]
    (folder / "edit.json").write_text(json.dumps(told))
    assert (store.load_edit(folder).id, store.load_edit(folder).dose) == (edit.id, 1.0)
    for dose in (float("nan"), "2", None):
        (folder / "edit.json").write_text(json.dumps(told | {"dose": dose}))
        with pytest.raises(store.CorruptEdit, match="a finite number"):
            store.load_edit(folder)


def test_a_label_leads_back_to_its_lane(session: Session) -> None:
    a, b = two(session)
    (label,) = lane_labels([(a, b.scaled(0.5))])
    assert label.lane == Lane((Named(a.id, 1.0), Named(b.id, 0.5)))
    assert [(item.id, item.dose) for item in session.stack(label.lane)] == [(a.id, 1.0), (b.id, 0.5)]
