"""A dose as a plane: its points do what they say, the safe region is measured, and edits stand where they take tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.conftest import contrast_rows, taught_rows
from tests.made_edits import shift
from workbench.cli.main import app
from workbench.errors import BadKnob
from workbench.evaluate.dose_plane import SAFE_NATS, _best, _point, dose_plane, turned_towards
from workbench.figures.dose_plane import plane_figure as figure
from workbench.methods import get
from workbench.session import Session

TAUGHT = taught_rows(60)
ANGLES, LENGTHS = (0.0, 15.0, 40.0), (0.8, 1.0, 1.25)


def test_a_token_is_turned_by_the_angle_towards_the_direction_and_made_as_long_as_told() -> None:
    x, d = torch.randn(5, 7, 12, dtype=torch.float64), torch.randn(12)
    for angle, length in ((0.0, 1.0), (30.0, 0.7), (120.0, 1.3)):
        y = turned_towards(d, angle, length)(x)
        cosine = torch.nn.functional.cosine_similarity(x, y, dim=-1).clamp(-1, 1)
        assert torch.allclose(cosine.arccos().rad2deg(), torch.full_like(cosine, angle), atol=1e-4)
        assert torch.allclose(y.norm(dim=-1), length * x.norm(dim=-1))
        if angle:
            along = torch.nn.functional.cosine_similarity(y, d.double().expand_as(y), dim=-1)
            before = torch.nn.functional.cosine_similarity(x, d.double().expand_as(x), dim=-1)
            assert bool((along > before)[before.arccos().rad2deg() > angle].all()), "towards, not away"
    assert torch.equal(turned_towards(d, 0.0, 1.0)(x), x)


def test_a_point_is_an_edit_like_any_other_and_moves_to_a_device(tiny_gpt2: Any) -> None:
    point = _point(tiny_gpt2, torch.randn(tiny_gpt2.info.d_model), 1, 30.0, 0.8)
    again = point.on("cpu")
    x = torch.randn(2, 3, tiny_gpt2.info.d_model)
    (one,), (other,) = point.operations(), again.operations()
    assert torch.equal(one.fn(x), other.fn(x)) and not torch.allclose(one.fn(x), x)
    assert point.scaled(0.0).operations() == ()


def test_the_middle_of_the_plane_is_the_untouched_model_and_the_direction_gains(tiny_gpt2: Any) -> None:
    found = dose_plane(tiny_gpt2, TAUGHT, 1, angles=ANGLES, lengths=LENGTHS)
    assert found.gain.shape == found.damage.shape == (3, 3)
    assert abs(found.gain[0, 1]) < 1e-6 and found.damage[0, 1] < 1e-9
    assert found.damage[2, 1] > found.damage[1, 1] > 0 and found.gain[2, 1] > found.gain[1, 1] > 0
    assert len(found.table()) == 9 and "safe" in found.sentence and found.split == "validation"
    # What is best is a point of the plane, and how it is reached is told; the limit itself is safe.
    assert found.best is not None and found.gain_interval is not None
    assert found.gain_interval.estimate == pytest.approx(float(found.gain[found.best]), abs=1e-9)
    assert found.damage[found.best] <= found.limit
    for length, tail in (
        (1.0, "by turning by 40°."),
        (1.25, "by turning by 40° and 25% longer."),
        (0.8, "by turning by 40° and 20% shorter."),
    ):
        assert replace(found, best=(2, LENGTHS.index(length))).sentence.endswith(tail)
    gains = np.stack([np.linspace(0.9, 1.1, 40), np.linspace(1.9, 2.1, 40)])
    assert _best(gains, np.array([0.0, SAFE_NATS]))[0] == 1 and _best(gains, np.array([0.0, SAFE_NATS * 1.01]))[0] == 0
    json.dumps(found.table())


def test_of_sides_that_do_not_differ_nothing_is_told_to_gain(tiny_gpt2: Any) -> None:
    found = dose_plane(tiny_gpt2, contrast_rows(60), 1, angles=(0.0, 1.0), lengths=(1.0,))
    assert found.best is None and "Nothing safe gains" in found.sentence


def test_where_every_turn_breaks_the_model_it_is_not_said_that_safe_turns_gain_nothing(tiny_gpt2: Any) -> None:
    found = dose_plane(tiny_gpt2, contrast_rows(60), 1, angles=(0.0, 4.0, 8.0), lengths=(1.0,))
    broken = replace(found, damage=np.array([[0.0], [1.0], [2.0]]), best=None)
    assert broken.sentence.startswith("1 of 3 points are safe") and "a turn by less than 4° gains" in broken.sentence
    assert "Nothing safe gains" in replace(broken, damage=np.array([[0.0], [0.01], [2.0]])).sentence
    flat = replace(broken, angles=(0.0,), gain=np.zeros((1, 1)), damage=np.zeros((1, 1)))
    assert "Nothing safe gains" in flat.sentence, "a plane that was not asked for turns says nothing of them"


def gated_edit(model: Any) -> Any:
    """A mean difference behind layer 1 that acts only where a probe fires."""
    known = get("mean_difference")
    return known.fit(model, TAUGHT, known.configure({"layers": (1,), "strength": 2.0, "gate": "hard"})).edit


def test_edits_stand_where_they_take_tokens(tiny_gpt2: Any) -> None:
    edit = get("mean_difference").fit(tiny_gpt2, TAUGHT, get("mean_difference").configure({"layers": (1,), "strength": 2.0})).edit
    found = dose_plane(tiny_gpt2, TAUGHT, 1, [edit, shift(tiny_gpt2, seed=4)], angles=ANGLES, lengths=LENGTHS)
    one = found.placed[0]
    assert "of split validation" in found.why, "what may have chosen the edit is told"
    assert one.doses == (0.5, 1.0, 2.0) and list(one.angles) == sorted(one.angles) and one.angles[0] > 0 and not one.is_still
    assert one.share == 1.0
    rare = dose_plane(tiny_gpt2, TAUGHT, 1, [gated_edit(tiny_gpt2)], angles=(0.0,), lengths=(1.0,)).placed[0]
    assert 0 < rare.share < 1 and rare.angles[1] > 0, "a gate leaves most tokens alone, and it stands where it takes the others"
    assert one.spread[0][0] <= one.angles[1] <= one.spread[0][1]
    above = dose_plane(tiny_gpt2, TAUGHT, 0, [edit], angles=(0.0,), lengths=(1.0,)).placed[0]
    assert above.is_still, "an edit behind layer 1 leaves the stream behind layer 0 as it is"
    drawn = figure(found)
    told = [row for row in found.table() if row["what"] == one.label.label]
    assert [row["KL, nats a token"] for row in told] == [None, round(one.kl, 5), None]
    assert [row["safe"] for row in told] == [None, one.kl <= found.limit, None]
    assert {one.label.label for one in found.placed} <= {trace.name[2:] for trace in drawn.data}


@pytest.mark.parametrize("layer, angles, lengths", [(99, (0.0,), (1.0,)), (1, (200.0,), (1.0,)), (1, (0.0,), (0.0,)), (1, (), (1.0,))])
def test_what_is_no_plane_is_refused_by_name(tiny_gpt2: Any, layer: int, angles: Any, lengths: Any) -> None:
    with pytest.raises(BadKnob):
        dose_plane(tiny_gpt2, TAUGHT, layer, angles=angles, lengths=lengths)


def test_half_a_turn_is_the_most(tiny_gpt2: Any) -> None:
    assert dose_plane(tiny_gpt2, TAUGHT, 1, angles=(180.0,), lengths=(1.0,)).damage.shape == (1, 1)


def test_the_command_and_the_session_tell_the_same(tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, path = Session(tiny_gpt2, tmp_path / "home"), tmp_path / "taught.jsonl"
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: session)
    path.write_text("".join(f"{row.line}\n" for row in TAUGHT))
    edit = session.fit("mean_difference", str(path)).edit.id
    ran = CliRunner().invoke(app, ["plane", str(path), "--layer", "1", "--edit", edit, "--json"])
    assert ran.exit_code == 0, ran.output
    told, found = json.loads(ran.stdout), session.dose_plane(str(path), 1, [edit])
    assert told["sentence"] == found.sentence and len(told["points"]) == found.gain.size + 3
    assert np.isfinite(found.damage).all() and session.workspace.runs.list()[0].kind == "dose plane"
