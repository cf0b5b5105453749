"""Angular steering turns in one plane and nowhere else. Ref: docs/methods/angular.md §2, §6."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import contrast_rows, taught_rows, words
from workbench.edits.engine import applied
from workbench.edits.export import export
from workbench.edits.placebo import rotated
from workbench.errors import BadKnob, FitFailed
from workbench.figures.reports import report_pictures
from workbench.methods import get
from workbench.methods.angular import AngularConfig, PlaneEdit, plane_turn
from workbench.methods.choice import chosen

D = 12
CLOSE = 1e-12  # float64 sums of a dozen products
METHOD = get("angular")


@pytest.fixture
def plane() -> Tensor:
    return torch.linalg.qr(torch.randn(D, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).Q.T


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 5, D, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def angles(x: Tensor, plane: Tensor) -> Tensor:
    return torch.atan2(x @ plane[1], x @ plane[0])


def fitted(model: Any, **values: object) -> PlaneEdit:
    return METHOD.fit(model, contrast_rows(24), METHOD.configure(values)).edit


@pytest.mark.parametrize("turn", ["by", "to"])
@pytest.mark.parametrize("dose", [0.5, 1.0, -1.0, 3.0])
def test_length_and_all_that_is_outside_the_plane_stay(plane: Tensor, x: Tensor, turn: str, dose: float) -> None:
    y = plane_turn(plane, 0.7, turn, "all", dose)(x)
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1), atol=CLOSE, rtol=0)
    moved = y - x
    torch.testing.assert_close(moved - moved @ plane.T @ plane, torch.zeros_like(x), atol=CLOSE, rtol=0)
    # Negative control: inside the plane it does move.
    assert float(moved.norm(dim=-1).min()) > 1e-3


def test_turning_by_an_angle_is_one_rotation_whose_angles_add_and_angle_zero_is_the_identity(plane: Tensor, x: Tensor) -> None:
    law = lambda degrees, dose=1.0: plane_turn(plane, math.radians(degrees), "by", "all", dose)  # noqa: E731
    torch.testing.assert_close(law(20)(law(30)(x)), law(50)(x), atol=CLOSE, rtol=0)
    torch.testing.assert_close(law(20, 2.5)(x), law(50)(x), atol=CLOSE, rtol=0)
    assert torch.equal(law(0)(x), x)
    matrix = law(33)(torch.eye(D, dtype=torch.float64)[None])[0]
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(D, dtype=torch.float64), atol=CLOSE, rtol=0)
    assert float(torch.linalg.det(matrix)) == pytest.approx(1.0)
    # A quarter turn takes s to f, not f to s.
    torch.testing.assert_close(law(90)(plane[1][None, None])[0, 0], plane[0], atol=CLOSE, rtol=0)
    torch.testing.assert_close(law(90)(plane[0][None, None])[0, 0], -plane[1], atol=CLOSE, rtol=0)


def test_turning_to_an_angle_ends_there_by_the_shorter_way_and_half_a_dose_goes_half_of_it(plane: Tensor, x: Tensor) -> None:
    for degrees in (0.0, 60.0, -170.0, 180.0):
        aim = math.radians(degrees)
        y, half = (plane_turn(plane, aim, "to", "all", dose)(x) for dose in (1.0, 0.5))
        off = torch.remainder(angles(y, plane) - aim + math.pi, 2 * math.pi) - math.pi
        assert float(off.abs().max()) < 1e-9
        way = torch.remainder(aim - angles(x, plane) + math.pi, 2 * math.pi) - math.pi
        gone = torch.remainder(angles(half, plane) - angles(x, plane) + math.pi, 2 * math.pi) - math.pi
        torch.testing.assert_close(gone, way / 2, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("which", "sign"), [("aligned", 1), ("opposed", -1)])
def test_only_tokens_of_the_side_that_was_asked_for_move_and_the_others_stay_bit_equal(
    plane: Tensor, x: Tensor, which: str, sign: int
) -> None:
    y = plane_turn(plane, 0.7, "by", which, 1.0)(x)
    mine = sign * (x @ plane[0]) > 0
    assert mine.any() and not mine.all()
    assert torch.equal(y[~mine], x[~mine]) and float((y - x)[mine].norm(dim=-1).min()) > 1e-3


def test_a_fit_spans_the_difference_of_means_and_the_mean_and_finds_the_side_of_the_good_answers(tiny_gpt2: Any) -> None:
    edit = fitted(tiny_gpt2, layers=(1,))
    plane = edit.planes[1].double()
    torch.testing.assert_close(plane @ plane.T, torch.eye(2, dtype=torch.float64), atol=1e-6, rtol=0)
    rows = contrast_rows(24).split("fit")
    read = {}
    for side in ("positive", "negative"):
        from workbench.record import gather

        batch = tiny_gpt2.tokens(rows.column("prompt"), rows.column(side))
        (read[side],) = (x.double().mean(0) for x in gather(tiny_gpt2, batch, ["resid_post@1"]).values())
    for vector in (read["positive"] - read["negative"], read["positive"] + read["negative"]):
        torch.testing.assert_close(vector @ plane.T @ plane, vector, atol=1e-4, rtol=0)
    assert float((read["positive"] - read["negative"]) @ plane[0]) > 0 and float(read["positive"] @ plane[1]) > 0


def test_the_papers_plane_is_one_for_all_layers(tiny_gpt2: Any) -> None:
    one, own = fitted(tiny_gpt2, layers=(0, 2), plane="shared"), fitted(tiny_gpt2, layers=(0, 2))
    assert torch.equal(one.planes[0], one.planes[2]) and not torch.equal(own.planes[0], own.planes[2])
    preset = METHOD.configure(preset="paper")
    assert (preset.turn, preset.plane, preset.angle) == ("to", "shared", 0.0)


def test_swapping_the_sides_turns_the_plane_over(tiny_gpt2: Any) -> None:
    from dataclasses import replace

    rows = contrast_rows(24)
    back = rows.with_rows(replace(row, positive=row.negative, negative=row.positive) for row in rows)
    there, here = (METHOD.fit(tiny_gpt2, some, AngularConfig(layers=(1,))).edit.planes[1] for some in (rows, back))
    torch.testing.assert_close(there[0], -here[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(there[1], here[1], atol=1e-6, rtol=0)


def test_a_gate_and_a_placebo_and_a_choice_by_validation_come_with_it(tiny_gpt2: Any) -> None:
    fit = METHOD.fit(tiny_gpt2, contrast_rows(30), METHOD.configure({"layers": (1,), "gate": "hard"}))
    assert set(map(str, fit.edit.gates)) == {"resid_post@1"}
    names = {picture.name for picture in report_pictures(fit.report)}
    assert "gate-0" in names and any("p(good)" in name for name in names)
    batch = tiny_gpt2.tokens([words(12, 13, 14)])
    with torch.no_grad():
        base = tiny_gpt2.logits(batch)
        with applied(tiny_gpt2, rotated(fitted(tiny_gpt2, layers=(1,)), 0)):
            assert not torch.equal(tiny_gpt2.logits(batch), base)
    found = chosen(tiny_gpt2, "angular", taught_rows(30), {"gate": "none"}, doses=(0.5, 1.0), max_damage=100.0)
    tried = METHOD.tries(tiny_gpt2.info)
    assert len(found.candidates) == 2 * len(tried["layers"]) and all(layer < tiny_gpt2.info.n_layers for (layer, *_) in tried["layers"])


@pytest.mark.parametrize("turn", ["by", "to"])
def test_the_script_gives_the_logits_of_the_app(tiny_gpt2: Any, tmp_path: Any, turn: str) -> None:
    edit = fitted(tiny_gpt2, layers=(1, 2), turn=turn, which="opposed", where="generated")
    report = export(tiny_gpt2, [edit], "script", tmp_path / turn)
    assert report.parity is not None and report.parity < 1e-5
    with pytest.raises(Exception, match="depends on the token"):
        export(tiny_gpt2, [edit], "checkpoint", tmp_path / "no")


def test_what_cannot_be_fitted_is_refused_by_name(tiny_gpt2: Any) -> None:
    for layers in ((), (40,)):
        with pytest.raises(BadKnob, match="layers"):
            METHOD.fit(tiny_gpt2, contrast_rows(8), AngularConfig(layers=layers))
    from dataclasses import replace

    rows = contrast_rows(8)
    same = rows.with_rows(replace(row, negative=row.positive) for row in rows)
    with pytest.raises(FitFailed, match="same activations"):
        METHOD.fit(tiny_gpt2, same, AngularConfig(layers=(1,)))
