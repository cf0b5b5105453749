"""The whole fit: its report, its moving picture, cancelling, composition, the frozen adversary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.concepts import concept_rows
from tests.conftest import words
from workbench.edits.engine import applied
from workbench.errors import BadKnob
from workbench.figures import adversary as figures
from workbench.methods import get
from workbench.methods.registry import Fitted
from workbench.methods.shared.adapters import AdapterEdit, composed
from workbench.progress import Cancelled, Progress, Report

QUICK = {"lr_g": 1e-2, "epochs_g": 1, "n_prompts": 16, "max_rounds": 2, "keep": "last", "stop_low": 0.69}


@pytest.fixture(scope="module")
def told() -> list[Report]:
    return []


@pytest.fixture(scope="module")
def fitted(tiny_models: dict[str, Any], told: list[Report]) -> Fitted:
    method = get("are")
    return method.fit(tiny_models["gpt2"], concept_rows(), method.configure(QUICK), progress=Progress(told.append))


def test_the_report_holds_the_trajectory_with_the_kept_round_marked(fitted: Fitted) -> None:
    rows = fitted.report.tables["rounds"]
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert [row["kept"] for row in rows] == [False, False, True]
    assert rows[0]["kl"] == 0.0 and rows[2]["kl"] > 0.0
    assert all(row["seconds"] > 0 and row["memory_mb"] > 1 for row in rows)
    assert fitted.report.scalars["kept_round"] == fitted.edit.header.facts["round"] == 2
    assert {curve.x_label for curve in fitted.report.curves} == {"round", "block"}
    assert fitted.report.arrays["projection"].shape == (3, 16, 2)


def test_every_picture_says_something_and_the_moving_ones_follow_the_last_round(fitted: Fitted, told: list[Report]) -> None:
    for picture in figures.pictures(fitted.report):
        assert picture.figure.data and picture.rows and picture.says and picture.look_for
    moving = figures.moving(told)
    assert len(moving) == 3 and "Round 2" in moving[0].says and "It now says" in moving[0].says
    assert figures.moving(told[:3]) == ()
    rows = [{"beta": beta, "benefit": 0.5, "kl": 0.01} for beta in (0.0, 1.0)]
    assert len(figures.gain_against_damage(rows).data) == 2


def test_cancelling_after_a_round_keeps_the_best_round_so_far(tiny_gpt2: Any) -> None:
    def stop(report: Report) -> None:
        if "rounds" in report.live:
            progress.cancel()

    progress, method = Progress(stop), get("are")
    with pytest.raises(Cancelled) as caught:
        method.fit(tiny_gpt2, concept_rows(), method.configure({**QUICK, "max_rounds": 3}), progress=progress)
    best = caught.value.best
    assert isinstance(best, Fitted) and best.report.scalars["rounds"] == 1.0
    assert "cancelled" in best.report.notices[-2].text or any("cancelled" in item.text for item in best.report.notices)
    with torch.no_grad(), applied(tiny_gpt2, best.edit):
        assert torch.isfinite(tiny_gpt2.logits(tiny_gpt2.tokens(words(1, 2)))).all()


def test_cancelling_within_the_first_round_has_nothing_to_keep(tiny_gpt2: Any) -> None:
    def stop(report: Report) -> None:
        if "g_loss" in report.live:
            progress.cancel()

    progress, method = Progress(stop), get("are")
    with pytest.raises(Cancelled) as caught:
        method.fit(tiny_gpt2, concept_rows(), method.configure(QUICK), progress=progress)
    assert caught.value.best is None


def test_two_concepts_compose_into_one_edit(tiny_gpt2: Any, fitted: Fitted) -> None:
    method = get("are")
    away = method.fit(tiny_gpt2, concept_rows(seed=3), method.configure({**QUICK, "max_rounds": 1, "modules": "w_q,w_v"})).edit
    assert isinstance(away, AdapterEdit) and isinstance(fitted.edit, AdapterEdit)
    both, batch = composed([fitted.edit, away.scaled(0.5)]), tiny_gpt2.tokens(words(1, 2, 3))
    with torch.no_grad():
        with applied(tiny_gpt2, fitted.edit, away.scaled(0.5)):
            stacked = tiny_gpt2.logits(batch)
        with applied(tiny_gpt2, both):
            torch.testing.assert_close(tiny_gpt2.logits(batch), stacked, atol=2e-5, rtol=1e-4)  # float32, ranks joined


def test_a_frozen_adversary_stays_the_first_one(tiny_gpt2: Any) -> None:
    method = get("are")
    frozen = method.fit(tiny_gpt2, concept_rows(), method.configure({**QUICK, "adversary": "frozen"})).report.tables["rounds"]
    assert frozen[2]["g_loss_first"] < 0.5 * frozen[1]["g_loss_mean"] + 1e-3, "nothing new to fool"
    assert frozen[1]["d_loss"] != frozen[1]["d_loss"], "no discriminator was trained"


@pytest.mark.parametrize(("values", "error", "words_of_it"), [
    ({"adapter_blocks": "2", "read_blocks": "1"}, BadKnob, "no gradient"),
    ({"read_blocks": "7"}, BadKnob, "read_blocks = 7; the model has layers 0 to 2"),
    ({"modules": "w_gate"}, BadKnob, "has no w_gate"),
])  # fmt: skip
def test_blocks_and_matrices_that_cannot_be_edited_are_named(tiny_gpt2: Any, values: dict[str, str], error: Any, words_of_it: str) -> None:
    method = get("are")
    with pytest.raises(error, match=words_of_it):
        method.fit(tiny_gpt2, concept_rows(), method.configure({**QUICK, **values}))


def test_the_preset_official_compat_trains_each_discriminator_for_the_released_passes_and_ours_for_steps_enough(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.methods.shared import discriminator

    passes: list[int] = []
    honest = discriminator.train_discriminator

    def counted(*args: Any, **more: Any) -> Any:
        losses = honest(*args, **more)
        passes.append(len(losses))
        return losses

    monkeypatch.setattr(discriminator, "train_discriminator", counted)
    method = get("are")
    for preset, wanted in (("official-compat", 30), ("ours", 120)):
        passes.clear()
        method.fit(tiny_gpt2, concept_rows(), method.configure({**QUICK, "max_rounds": 1}, preset))
        assert passes and set(passes) == {wanted}


def test_a_round_of_a_large_network_has_so_many_steps_and_the_next_goes_on_behind_them(tiny_gpt2: Any) -> None:
    small, method = tiny_gpt2.info, get("are")
    large, ours, paper = replace(small, n_parameters=10**9), method.configure({}), method.configure({}, "paper")
    rounds = [ours.steps(200, index, large) for index in (1, 2)]
    assert [len(steps) for steps in rounds] == [160, 160] and rounds[0][0] == 0 and rounds[1][0] == 160 and rounds[1][40] == 0
    every = [*range(200), *range(200)]
    assert ours.steps(200, 2, small) == paper.steps(200, 2, large) == every  # no limit: each passes all prompts
    assert ours.steps(80, 2, large) == [*range(80), *range(80)]  # few prompts are passed as often as asked
    assert method.configure({"batch_g": 50, "most_steps_g": 3}).steps(200, 2, small) == [150, 0, 50]
