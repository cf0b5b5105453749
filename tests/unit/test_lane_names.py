"""What a picture calls lanes: its letter and label; of several placebos each has the letter of its lane; and edits go by their own name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages._ui.evaluate.evaluations import _names
from tests.conftest import contrast_rows, words
from workbench.decode import Sampling
from workbench.edits.labels import Control, LaneLabel
from workbench.session import Session


def test_each_lane_of_a_picture_has_a_name_of_its_own() -> None:
    long = "“A careful speaker answers. Here speaks a careless person.”"

    def lane(label: str) -> LaneLabel:
        kinds: dict[str, Control] = {"placebo": "placebo", "shuffled": "shuffled"}
        return LaneLabel(label, control=kinds.get(label.split()[0], ""))

    one = [lane(label) for label in ("base", "sea × 2", long, "placebo of sea × 2")]
    assert list(_names(one).values()) == ["· base", "A sea × 2", "B “A careful speaker answers.…", "placebo"]
    controls = ("placebo of sea × 2", "placebo of hpr × 1", "shuffled control of sea × 2")
    two = [lane(label) for label in ("base", "sea × 2", "hpr × 1", *controls)]
    assert list(_names(two).values())[3:] == ["placebo A", "placebo B", "shuffled control"]
    assert len(set(_names(two).values())) == len(two)


def test_a_named_edit_is_called_by_its_name_in_every_record_and_an_unnamed_one_by_its_method(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path)
    edit, plain = session.fit("mean_difference", contrast_rows()).edit, session.fit("mean_difference", contrast_rows(), seed=1).edit
    session.save_edit(edit, "kind")

    def labels(lanes: Any) -> list[str]:
        return [lane.label for lane in session.compare(words(12), lanes, Sampling(2)).lanes]

    assert labels([edit, plain]) == ["base", "kind × 1", "mean_difference × 1"]
    assert labels([f"{edit.id}:2", "kind:-1"]) == ["base", "kind × 2", "kind × -1"]
    found = session.evaluate(edit, contrast_rows(), n_placebos=1, n_generations=0)
    assert [lane.label for lane in found.lanes] == ["base", "kind × 1", "placebo of kind × 1"]
    assert {row["lane"] for row in session.sweep(edit, contrast_rows(), (1.0,)).rows()} == {"base", "kind", "placebo of kind"}
    (run,) = session.workspace.runs.list("evaluate")
    assert run.title.startswith("kind × 1 on ")
    session.workspace.edits.rename("kind", "kinder")
    assert labels([edit, "kinder:2"]) == ["base", "kinder × 1", "kinder × 2"] and session.load_edit(edit.id).called == "kinder"
    assert session.load_edit(edit.id).id == edit.id  # a name is no part of an edit


def test_two_doses_of_a_fit_keep_the_name_of_their_own(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path)
    edit = session.fit("mean_difference", contrast_rows()).edit
    for name, dose in (("weak", 0.5), ("strong", 2.0)):
        session.save_edit(edit.dosed(dose), name)
    ids = [session.workspace.edits.info(name).id for name in ("weak", "strong")]
    assert [lane.label for lane in session.compare(words(12), ids, Sampling(2)).lanes] == ["base", "weak × 0.5", "strong × 2"]
