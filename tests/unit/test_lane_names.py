"""What a picture calls lanes: its letter and label; of several placebos each has the letter of its lane."""

from __future__ import annotations

from pages._ui.evaluate.evaluations import _names
from workbench.edits.labels import Control, LaneLabel


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
