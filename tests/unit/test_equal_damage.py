"""Edits at equal damage: the dose at a limit, and what stands beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import contrast_rows, taught_rows, words
from tests.made_edits import made, shift
from workbench.edits.lane import Lane
from workbench.edits.placebo import rotated
from workbench.edits.prompting import Prompting
from workbench.errors import BadKnob, BadLane, NotEnoughData, UnknownMethod
from workbench.evaluate.benefit import benefit
from workbench.evaluate.equal_damage import CLOSE, Contestant, _room, equal_damage, even_doses
from workbench.evaluate.metrics import mean_metric, share_metric
from workbench.evaluate.side_effects import side_effects
from workbench.methods import get, registry
from workbench.operations import TransformAt
from workbench.progress import Cancelled
from workbench.session import Session
from workbench.sites import Site

NEUTRAL = [words(*range(i, i + 12)) for i in range(10, 30)]


def tail(model: Any, edit: Any, dose: float) -> float:
    return side_effects(model, NEUTRAL, [Lane((edit.dosed(dose),))], n_generations=0).metric("kl_p95_nats").values[1].estimate


def test_every_edit_stands_just_below_the_limit_and_a_little_more_is_beyond_it(tiny_gpt2: Any) -> None:
    edits = [shift(tiny_gpt2), shift(tiny_gpt2, layer=0, seed=3), made(tiny_gpt2, lambda dose: shift(tiny_gpt2).at_dose(30 * dose))]
    limit = 0.5 * min(tail(tiny_gpt2, edit, 5.0) for edit in edits)
    for edit, found in zip(edits, even_doses(tiny_gpt2, edits, NEUTRAL, limit)):
        assert not found.why and (1 - CLOSE) * limit <= found.tail_nats <= limit
        assert tail(tiny_gpt2, edit, found.dose) == pytest.approx(found.tail_nats, rel=1e-4)
        assert tail(tiny_gpt2, edit, 1.1 * found.dose) > limit


def test_what_cannot_reach_the_limit_stands_at_its_strongest(tiny_gpt2: Any) -> None:
    nothing = made(tiny_gpt2, lambda dose: shift(tiny_gpt2).at_dose(1e-4 * dose))
    (found,) = even_doses(tiny_gpt2, [nothing], NEUTRAL, 0.1)
    assert found.dose == 5.0 and found.why == "its strongest" and found.tail_nats < 1e-4


def test_a_pass_beyond_a_failure_does_not_count(tiny_gpt2: Any) -> None:
    vector = torch.ones(tiny_gpt2.info.d_model)
    vector[::2] = -1.0

    def swings(dose: float) -> tuple[TransformAt, ...]:
        size = 4.0 if 0.5 < dose < 3.0 else 0.01 * dose
        return (TransformAt(Site("resid_post", 1), lambda x: x + size * vector.to(x.dtype), len(vector)),)

    edit = made(tiny_gpt2, swings)
    limit = 0.5 * tail(tiny_gpt2, edit, 1.0)
    assert tail(tiny_gpt2, edit, 5.0) < limit < tail(tiny_gpt2, edit, 1.25)
    (found,) = even_doses(tiny_gpt2, [edit], NEUTRAL, limit)
    assert 0.3 < found.dose <= 0.5 and found.why == "jumps beyond" and found.tail_nats < 0.5 * limit


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_is_a_number_above_zero(tiny_gpt2: Any, limit: float) -> None:
    with pytest.raises(BadKnob, match="nats a token"):
        even_doses(tiny_gpt2, [shift(tiny_gpt2)], NEUTRAL, limit)


def test_lanes_controls_and_prompts_stand_beside_one_another_each_at_its_own_dose(tiny_gpt2: Any) -> None:
    rows, good = contrast_rows(60), shift(tiny_gpt2)
    said, limit = Prompting(prefix="w3 w4"), 0.3 * tail(tiny_gpt2, good, 5.0)
    those = [Contestant(good, shift(tiny_gpt2, seed=7)), Contestant(shift(tiny_gpt2, layer=0, seed=9), "refused so")]
    found = equal_damage(tiny_gpt2, rows, those, NEUTRAL, said=[said], limit=limit)
    names = [one.label.label for one in found.standings]
    assert names[0] == "base" and names[-1] == "“w3 w4”" and len(names) == 6
    edits, behind = found.standings[1:3], found.standings[3:5]
    assert [one.dose for one in behind] == [one.dose for one in edits] and all(one.label.prompting == said for one in behind)
    gains = [one.gain.estimate for one in edits]
    assert gains == sorted(gains, reverse=found.better == "higher")
    by_why = {one.why_not: one for one in edits}
    assert by_why[""].shuffled is not None and by_why["refused so"].shuffled is None
    for one, edit in zip(edits, (those[0].edit, those[1].edit) if edits[0].why_not == "" else (those[1].edit, those[0].edit)):
        assert one.placebo is not None and 0.3 * limit < one.tail.estimate < 3 * limit  # on texts that its dose was not found on
        # Each control stands at the dose of its own, found on the same half of the texts.
        turned = [rotated(edit, seed) for seed in range(2)]
        own = even_doses(tiny_gpt2, turned, NEUTRAL[::2], limit)
        lanes = [Lane((each.dosed(even.dose),)) for each, even in zip(turned, own)]
        alone = benefit(tiny_gpt2, rows, [Lane((edit.dosed(one.dose),)), *lanes], split="test").metrics[0]
        assert one.placebo.gain.estimate == pytest.approx((alone.values[2].estimate + alone.values[3].estimate) / 2, abs=1e-4)
        assert one.placebo.ahead.estimate == pytest.approx(alone.values[1].estimate - one.placebo.gain.estimate, abs=1e-4)
    mixed, (even,) = those[0].shuffled, even_doses(tiny_gpt2, [those[0].shuffled], NEUTRAL[::2], limit)  # type: ignore[list-item]
    lane = Lane((mixed.dosed(even.dose),))  # type: ignore[union-attr]
    told = by_why[""].shuffled.gain.estimate  # type: ignore[union-attr]
    assert told == pytest.approx(benefit(tiny_gpt2, rows, [lane], split="test").metrics[0].values[1].estimate, abs=1e-4)
    table, numbers = found.table(), found.rows()
    assert [row["lane"] for row in table] == names == [row["lane"] for row in numbers]
    assert all(value is not None for row in table for value in row.values()), "what is not there is an empty cell"
    assert [(row["gain_low"], row["gain_high"]) for row in numbers] == [one.gain.bounds for one in found.standings]
    assert all(np.isfinite(row["tail_nats"]) for row in numbers) and numbers[0]["tail_nats"] == 0


def test_one_neutral_text_is_too_few(tiny_gpt2: Any) -> None:
    with pytest.raises(NotEnoughData, match="the other"):
        equal_damage(tiny_gpt2, contrast_rows(20), [Contestant(shift(tiny_gpt2))], NEUTRAL[:1])


def test_a_session_fits_methods_and_says_which_it_could_not(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path)
    demos = contrast_rows(60)
    session.demos.save(demos)
    found = session.equal_damage(
        demos.name, ["mean_difference", "senses"], ['prompt:"w3"'], neutral=None, shuffled=True, n_placebos=1, limit=0.01
    )
    assert [name for name, _ in found.refused] == ["senses"] and "Backpack" in found.refused[0][1]
    assert [one.label.label.split(" × ")[0] for one in found.standings[1:2]] == ["mean_difference"]
    (run,) = [run for run in session.workspace.runs.list() if run.kind == "equal damage"]
    assert run.outputs["rows"][1]["lane"] == found.standings[1].label.label
    with pytest.raises(UnknownMethod):
        session.equal_damage(demos.name, ["mean_difference", "sae"])
    other = session.fit("mean_difference", contrast_rows(40, seed=8)).edit
    there = session.equal_damage(demos.name, [], [other], shuffled=True, n_placebos=1, limit=0.01).standings[1]
    assert "not the set that it was fitted on" in there.why_not and there.shuffled is None
    with pytest.raises(BadLane, match="no single edit"):
        session.equal_damage(demos.name, [], [()])
    with pytest.raises(BadLane, match="no edit"):
        session.equal_damage(demos.name, ["senses"])


def test_what_a_row_shows_is_weighed_against_noise_and_shuffled_sides(tiny_gpt2: Any) -> None:
    rows = taught_rows(150)
    good, noise = get("mean_difference").fit(tiny_gpt2, rows).edit, shift(tiny_gpt2, layer=0, seed=9)
    limit = 0.3 * tail(tiny_gpt2, good, 5.0)
    said = [Prompting(prefix="w3 w3 w3")]

    def shown(*those: Contestant) -> Any:
        return equal_damage(tiny_gpt2, rows, those, NEUTRAL, said=said, limit=limit, split="test")

    found = shown(Contestant(good), Contestant(noise))
    by_lane = {one.label.label.split(" ")[0]: one.shows for one in found.standings if one.is_edit}
    assert by_lane["mean_difference"] == "does it" and by_lane["made"] != "does it"
    assert "Of 2 edits at this damage **1** does what was asked" in found.sentence and "mean_difference" in found.sentence
    assert found.standings[-1].shows and found.standings[-1].shows in found.sentence
    # A fit on shuffled sides that does as well takes the edit's merit; one that does worse leaves it.
    same, other = (shown(Contestant(good, mixed)).standings[1].shows for mixed in (good, noise))
    assert (same, other) == ("no more than shuffled sides", "does it")
    fitted = equal_damage(tiny_gpt2, rows, [Contestant(good)], NEUTRAL, limit=limit, split="fit")
    assert fitted.standings[1].shows == "not told" and "**none**" in fitted.sentence


def test_what_one_method_had_when_it_was_cancelled_is_no_table_of_all(
    tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, demos = Session(tiny_gpt2, tmp_path), contrast_rows(60)
    session.demos.save(demos)
    had = session.fit("mean_difference", demos.name)

    def stopped(*_: Any, **__: Any) -> Any:
        raise Cancelled(had)

    monkeypatch.setitem(registry._METHODS, "mean_difference", replace(registry.get("mean_difference"), run=stopped))
    with pytest.raises(Cancelled) as alone:
        session.fit("mean_difference", demos.name)
    assert alone.value.best == had, "of the fit itself it is the result"
    for lanes, methods, shuffled in (([], ["mean_difference"], False), ([Lane((had.edit,))], [], True)):
        with pytest.raises(Cancelled) as among:
            session.equal_damage(demos.name, methods, lanes, shuffled=shuffled)
        assert among.value.best is None


def test_what_is_told_beside_the_table_is_all_that_is_missing_from_it(tiny_gpt2: Any) -> None:
    found = equal_damage(tiny_gpt2, contrast_rows(20), [Contestant(shift(tiny_gpt2), "it refused them")], NEUTRAL, limit=0.01)
    whole = replace(found, why="3 rows were fitted", refused=(("senses", "no Backpack"),), notes=("a note",))
    label = found.standings[1].label.label
    assert whole.told == (
        "3 rows were fitted", "senses was not fitted: no Backpack", f"{label} has no fit on shuffled sides: it refused them", "a note",
    )  # fmt: skip
    assert replace(found, standings=found.standings[:1], notes=()).told == ()
    one = replace(found.standings[1], shows="does it")
    for n, verb in ((1, "**1** does"), (2, "**2** do"), (0, "**none** does")):
        assert f"{verb} what was asked" in replace(found, standings=(found.standings[0], *[one] * n)).sentence
    assert whole.table()[1]["shuffled sides"] == "not fitted" and whole.table()[0]["shuffled sides"] == ""


@pytest.mark.parametrize(
    ("right", "better", "told"), [(57, "higher", True), (50, "higher", False), (3, "lower", True), (30, "lower", False)]
)
def test_a_score_that_has_no_room_for_a_gain_says_so(right: int, better: Any, told: bool) -> None:
    hits = np.arange(60)[None] < np.array([[right], [right]])
    notes = _room(share_metric("mc1", "MC1", hits, better))
    assert bool(notes) == told and (not told or "57 of 60 right" in notes[0])
    assert _room(mean_metric("margin", "Margin", hits.astype(float), "nats", better)) == ()
