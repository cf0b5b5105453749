"""Edits off their targets: what is theirs beyond noise of their size, what is protected, and how two edits interact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows, taught_rows, words
from tests.made_edits import made, shift
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import BadLane, NotEnoughData
from workbench.evaluate.benefit import benefit
from workbench.evaluate.off_target import off_target
from workbench.methods import get
from workbench.operations import TransformAt
from workbench.session import Session
from workbench.sites import Site

TAUGHT, OTHER = taught_rows(150), contrast_rows(150, seed=5)


def taught(model: Any) -> Any:
    return get("mean_difference").fit(model, TAUGHT).edit


def test_what_an_edit_was_made_for_is_its_own_and_a_random_edit_is_not(tiny_gpt2: Any) -> None:
    edit = taught(tiny_gpt2)
    found = off_target(tiny_gpt2, [edit, shift(tiny_gpt2, seed=4).scaled(0.02)], {"taught": TAUGHT, "other": OTHER}, stacks=False)
    cells = {(cell.edit, cell.data): cell for cell in found.cells}
    names = list(dict.fromkeys(cell.edit for cell in found.cells))
    assert len(cells) == 4 and not found.interactions
    assert cells[names[0], "taught"].is_own and cells[names[0], "taught"].change.sign == 1
    assert not any(cells[names[1], data].is_own for data in ("taught", "other"))
    assert len(found.table()) == 4 and "beyond a random edit" in found.sentence


def test_a_protected_set_is_harmed_by_the_opposite_edit_and_not_by_none(tiny_gpt2: Any) -> None:
    edit = taught(tiny_gpt2)
    for dose, breaks in ((-1.0, True), (1.0, False)):
        found = off_target(tiny_gpt2, [edit.dosed(dose)], {"taught": TAUGHT}, protected=["taught"])
        assert [cell.breaks for cell in found.cells] == [breaks] and ("none is harmed" in found.sentence) != breaks
    found = off_target(tiny_gpt2, [edit.dosed(-1.0)], {"taught": TAUGHT})
    assert not found.cells[0].breaks, "what nobody protects is no limit"


def relay(model: Any) -> tuple[Any, Any]:
    """Two edits of which the second passes on what the first writes: alone it finds nothing there, behind the first it teaches."""
    edit = taught(model)
    (layer,) = edit.vectors
    vector, site = edit.vectors[layer], Site("resid_post", layer)
    mark = torch.linalg.qr(torch.randn(len(vector), 2, generator=torch.Generator().manual_seed(1)))[0][:, 1]
    mark = 60.0 * mark / mark.norm()
    first = made(model, lambda dose: (TransformAt(site, lambda x: x + dose * mark.to(x.dtype), len(mark)),))

    def passes(x: torch.Tensor) -> torch.Tensor:
        share = torch.sigmoid(0.02 * (x @ mark.to(x.dtype) - 0.5 * float(mark @ mark)))[..., None]
        return x + share * 3.0 * vector.to(x.dtype)

    return first, made(model, lambda dose: (TransformAt(site, passes, len(mark)),))


def test_a_planted_interaction_is_measured_and_foretold_with_the_right_sign_and_order(tiny_gpt2: Any) -> None:
    first, second = relay(tiny_gpt2)
    found = off_target(tiny_gpt2, [first, second], {"taught": TAUGHT})
    there, back = found.interactions
    assert there.surplus.sign == 1 and there.foretold is not None and there.foretold > 0
    assert abs(back.surplus.estimate) < 0.1 * there.surplus.estimate, "the other way round nothing is passed on"
    assert back.foretold is not None and abs(back.foretold) < abs(there.foretold)
    low, mid, high = there.predicted.estimate, there.surplus.estimate, there.measured.estimate
    assert high == pytest.approx(low + mid, abs=1e-6) and len(found.stack_table()) == 2


def test_the_same_direction_twice_gains_less_than_twice(tiny_gpt2: Any) -> None:
    edit = taught(tiny_gpt2).dosed(3.0)
    found = off_target(tiny_gpt2, [edit, edit.dosed(2.9)], {"taught": TAUGHT})
    for one in found.interactions:
        assert one.foretold is not None and one.surplus.sign == (1 if one.foretold > 0 else -1)


def test_a_session_measures_it_and_what_lacks_is_told(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path / "home")
    edit = session.fit("mean_difference", TAUGHT).edit
    found = session.off_target([edit], [TAUGHT], protected=[OTHER], stacks=False)
    assert [cell.is_protected for cell in found.cells] == [False, True]
    assert [run.kind for run in session.workspace.runs.list()].count("off target") == 1
    with pytest.raises(BadLane, match="no edit"):
        session.off_target([], [TAUGHT])
    with pytest.raises(NotEnoughData, match="no set"):
        session.off_target([edit], [])
    with pytest.raises(BadLane, match="no single edit"):
        session.off_target([(edit, edit)], [TAUGHT])


def test_two_edits_on_a_task_that_has_shares_alone_are_measured_and_no_interaction_is_made_up(tiny_gpt2: Any) -> None:
    edit = taught(tiny_gpt2)
    labels = Demonstrations(
        tuple(Demonstration(words(i), label=("w1", "w2")[i % 2], split="test", id=f"r{i}") for i in range(12)), "labels"
    )
    found = off_target(tiny_gpt2, [edit, edit.scaled(0.5)], {"labels": labels}, stacks=True)
    scored = {one.name for one in benefit(tiny_gpt2, labels, [()]).metrics if not one.is_share}
    assert len(found.cells) == 2 and len(found.interactions) == (2 if scored else 0)
