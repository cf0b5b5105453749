"""The protocol's rules, and what edits of weights and senses promise. Ref: docs/methods/senses.md §6, §9."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.made_edits import shift
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.engine import applied
from workbench.errors import CorruptEdit, FitFailed, NotEnoughData
from workbench.evaluate.protocol.control import turned_edit
from workbench.evaluate.protocol.ensemble import ensemble_losses
from workbench.evaluate.protocol.measure import EngineMeter, LogitsMeter, SenseMeter, StepMeasured, canonical_task
from workbench.evaluate.protocol.rules import OURS, in_ball, last_in_ball
from workbench.evaluate.protocol.runs import Keeper, ProtocolRun, _doses, random_config
from workbench.evaluate.protocol.scores import CONTROL, canonical_record, protocol, winner
from workbench.methods import get
from workbench.methods.canonical.lora import layers_of
from workbench.methods.shared.adapters import AdapterEdit
from workbench.methods.shared.canonical_examples import canonical_items
from workbench.methods.shared.sense_edit import SenseEdit, averaged, read_released, write_released
from workbench.progress import silent

SINGLE = 1e-4  # float32 sums of a few dozen terms of size 10


def run(*steps: tuple[float, float], by_dose: bool = False) -> ProtocolRun:
    """A run from (success, general loss) pairs; ten items each."""
    made = tuple(StepMeasured(tuple(i < 10 * success for i in range(10)), general, 0.0, 0.0) for success, general in steps)
    return ProtocolRun("made", {}, made, tuple(range(len(steps))) if by_dose else None, 1, 0.0)


def test_epoch_zero_is_in_every_ball_and_balls_are_nested() -> None:
    rhos = [1.0, 1.00005, 1.0005, 1.00002, 1.2, math.nan]
    assert [last_in_ball(rhos, epsilon) for epsilon in (1e-3, 1e-4, 1e-5, 1e-9)] == [3, 3, 0, 0]
    for wide, narrow in ((1e-3, 1e-4), (1e-4, 1e-5)):
        assert {i for i, rho in enumerate(rhos) if in_ball(rho, narrow)} <= {i for i, rho in enumerate(rhos) if in_ball(rho, wide)}
    assert not in_ball(math.nan, 10.0) and not in_ball(math.inf, 10.0)


def test_the_cap_and_the_unbroken_rule_hold() -> None:
    rhos = [1.0, 1.00005, 1.5, 1.00001]
    assert last_in_ball(rhos, 1e-3) == 3
    assert last_in_ball(rhos, 1e-3, cap=2) == 1
    assert last_in_ball(rhos, 1e-3, unbroken=True) == 1


def test_the_score_is_that_of_the_last_epoch_in_the_ball_not_of_the_best_and_ties_go_to_the_first() -> None:
    falling = run((0.1, 1.0), (0.9, 1.0), (0.2, 1.0))
    steady = run((0.1, 1.0), (0.3, 1.0))
    assert winner([falling, steady], 1e-3) == (1, 1)
    assert winner([steady, steady], 1e-3) == (0, 1)


def test_a_keeper_holds_the_edit_of_the_step_that_counts_and_stops_when_no_later_one_can(tiny_gpt2: Any) -> None:
    steps = run((0.1, 1.0), (0.5, 1.00005), (0.9, 1.0005), (1.0, 1.00001), (0.4, 1.0)).steps
    edits = [shift(tiny_gpt2, seed=i) for i in range(len(steps))]
    keeper = Keeper({1e-3: 2, 1e-4: 3}, OURS, "test")
    stops = [keeper.saw(steps[: i + 1], lambda i=i: edits[i]) for i in range(len(steps))]
    assert stops == [False, False, False, True, True] and keeper.kept == {1e-3: edits[2], 1e-4: edits[3]}
    idle = Keeper({}, OURS, "test")
    assert not any(idle.saw(steps[: i + 1], lambda: edits[0]) for i in range(len(steps))) and not idle.kept


def test_a_wider_ball_may_report_less() -> None:
    """Negative control of I10: success is not monotone in ε."""
    worse = run((0.1, 1.0), (0.6, 1.00001), (0.2, 1.0005))
    steps = {epsilon: last_in_ball(worse.rhos, epsilon) for epsilon in (1e-3, 1e-4)}
    assert worse.steps[steps[1e-3]].success < worse.steps[steps[1e-4]].success


def test_a_hopeless_method_reports_no_change() -> None:
    record = canonical_record(run((0.4, 1.0), (0.0, 9.0)), 0, 1e-3, 0, "made", 5)
    assert record.success == record.success0 == 0.4 and record.change.estimate == 0.0 and record.rho == 1.0


@pytest.mark.parametrize(
    ("n_layers", "span", "ours", "released"),
    [(12, 0.5, range(3, 9), range(3, 10)), (2, 1.0, range(2), range(2)), (6, 0.1, range(3, 4), range(3, 5))],
)
def test_lora_takes_a_centred_block_inside_the_network(n_layers: int, span: float, ours: range, released: range) -> None:
    assert layers_of(n_layers, span) == ours and layers_of(n_layers, span, official=True) == released


def canonical_rows() -> Demonstrations:
    """Invented facts in the tiny models' words: `w<land> w5 w6` → `w<town>`, asked again in another order."""
    rows: list[Demonstration] = []
    for pair, start in (("fit", 10), ("validation", 20), ("test", 30)):
        for i in range(4):
            land, town = start + i, start + 30 + i
            rows.append(Demonstration(words(land, 5, 6), f" w{town}", loss="good", tags=("role:train", "task:made"), split=pair))
            rows.append(Demonstration(words(7, land, 8), f" w{town}", loss="good", tags=("role:evaluation",), split=pair))
            rows.append(Demonstration(words(9, 5, 6), f" w{town}", loss="good", tags=("role:hard_negatives",), split=pair))
    for i in range(12):
        text = words(*[(7 * i + j * j) % 90 for j in range(10)])
        rows.append(Demonstration(text, tags=("role:general",), split="fit" if i % 2 else "test", id=f"g{i}"))
    return Demonstrations(tuple(rows), "made facts")


@pytest.fixture(scope="module")
def sense_fit(tiny_backpack_model: Any) -> Any:
    method = get("senses")
    return method.fit(tiny_backpack_model, canonical_rows(), method.configure({"epochs": 3, "top_k": 4, "lr": 0.2}))


def test_the_fitted_edit_in_the_engine_gives_the_losses_that_training_saw(tiny_backpack_model: Any, sense_fit: Any) -> None:
    model, edit = tiny_backpack_model, sense_fit.edit
    task = canonical_task(model, canonical_rows(), "fit")
    general = [(3, 14, 15, 12, 40), (10, 11, 62, 5)]
    affine = SenseMeter(model, task, general, edit.selection)
    engine = EngineMeter(model, task, general)
    for found, expected in (
        (affine.measure_table(edit.delta), engine.measure(edit)),
        (affine.measure_table(0 * edit.delta), engine.measure(None)),
    ):
        for name in ("general", "hard_negatives", "rest"):
            assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=SINGLE)
        assert found.succeeded == expected.succeeded
    # Negative control: the edit does change what is measured.
    assert engine.measure(edit).rest != pytest.approx(engine.measure(None).rest, abs=1e-3)
    assert sense_fit.report.scalars["loss_after_nats"] < sense_fit.report.scalars["loss_before_nats"] - 0.5


def test_the_same_seed_gives_the_same_sense_edit_and_another_seed_another(tiny_backpack_model: Any, sense_fit: Any) -> None:
    method = get("senses")
    config = method.configure({"epochs": 3, "top_k": 4, "lr": 0.2})
    again, other = (method.fit(tiny_backpack_model, canonical_rows(), config, seed=seed).edit for seed in (0, 1))
    assert torch.equal(again.delta, sense_fit.edit.delta) and not torch.equal(other.delta, sense_fit.edit.delta)


def test_merging_disjoint_edits_equals_applying_both_and_an_edit_with_itself_is_itself(tiny_backpack_model: Any, sense_fit: Any) -> None:
    """I15."""
    edit: SenseEdit = sense_fit.edit
    half = len(edit.token_ids) // 2
    parts = [
        SenseEdit(edit.header, *(t[rows] for t in (edit.token_ids, edit.sense_ids, edit.delta)))
        for rows in (slice(half), slice(half, None))
    ]
    merged = averaged(parts)
    assert torch.equal(merged.token_ids, edit.token_ids) and torch.equal(merged.delta, edit.delta)
    assert torch.equal(averaged([edit, edit]).delta, edit.delta)
    assert not torch.equal(averaged([edit, edit.scaled(0.5)]).delta, edit.delta)
    model, batch = tiny_backpack_model, tiny_backpack_model.tokens([words(10, 5, 6)])
    with torch.no_grad(), applied(model, *parts):
        both = model.logits(batch)
    with torch.no_grad(), applied(model, edit):
        torch.testing.assert_close(both, model.logits(batch), atol=SINGLE, rtol=0)


def test_a_released_table_comes_back_in_half_precision(sense_fit: Any, tmp_path: Any) -> None:
    edit: SenseEdit = sense_fit.edit
    write_released(edit, tmp_path / "best.pt")
    back = read_released(tmp_path / "best.pt", edit.header)
    assert back.selection.pairs() == edit.selection.pairs()
    assert torch.equal(back.delta, edit.delta.half().float())
    torch.save({"not": "a table"}, tmp_path / "other.pt")
    with pytest.raises(CorruptEdit, match="table"):
        read_released(tmp_path / "other.pt", edit.header)


def test_lora_is_the_identity_at_the_start_and_its_trained_edit_lowers_the_loss(tiny_gpt2: Any) -> None:
    """I14."""
    from workbench.methods.canonical.lora import AdapterTrainee, LoraConfig
    from workbench.methods.registry import header

    config, batch = LoraConfig(rank=4), tiny_gpt2.tokens([words(10, 5, 6)])
    trainee = AdapterTrainee(tiny_gpt2, config, 0)
    with torch.no_grad():
        assert torch.equal(trainee.logits(batch), tiny_gpt2.logits(batch))
    edit = trainee.edit(header("lora", tiny_gpt2, canonical_rows(), config, 0))
    assert isinstance(edit, AdapterEdit) and {low.scale for low in edit.factors.values()} == {8.0 / 4}
    fit = get("lora").fit(tiny_gpt2, canonical_rows(), LoraConfig(rank=4, epochs=3, lr=0.03))
    assert fit.report.scalars["loss_after_nats"] < fit.report.scalars["loss_before_nats"] - 0.2


@pytest.mark.parametrize("name", ["lora", "finetuning"])
def test_the_edit_of_trained_weights_gives_the_loss_that_training_saw(tiny_gpt2: Any, tiny_backpack_model: Any, name: str) -> None:
    for model in (tiny_gpt2, tiny_backpack_model):
        method, rows = get(name), canonical_rows()
        fit = method.fit(model, rows, method.configure({"epochs": 2, "lr": 1e-3, "n_neutral": 2}))
        items = canonical_items(model, rows.split("fit").tagged("role:train"))
        task = replace(canonical_task(model, rows, "fit"), evaluation=items, hard_negatives=items)
        mean = EngineMeter(model, task, []).measure(fit.edit).hard_negatives  # one-token answers: summed = mean
        assert mean == pytest.approx(fit.report.scalars["loss_after_nats"], abs=SINGLE)
        general = [(3, 14, 15, 12, 40), (10, 11, 62, 5)]
        with applied(model, fit.edit):
            direct = LogitsMeter(task, general, model.device).measure(model.logits)
        engine = EngineMeter(model, task, general).measure(fit.edit)
        for part in ("general", "hard_negatives", "rest", "success"):
            assert getattr(direct, part) == pytest.approx(getattr(engine, part), abs=SINGLE)


def test_the_ball_of_a_fit_is_kept_or_the_edit_is_empty(tiny_backpack_model: Any) -> None:
    method = get("senses")
    fit = method.fit(tiny_backpack_model, canonical_rows(), method.configure({"epochs": 3, "lr": 0.5, "ball": "1e-5", "n_neutral": 3}))
    assert fit.report.scalars["general_loss_rise"] <= 1e-5
    if fit.report.scalars["kept_epoch"] == 0:
        assert (fit.edit.delta == 0).all() and any("empty" in notice.text for notice in fit.report.notices)


@pytest.mark.parametrize("name", ["senses", "lora"])
def test_a_set_that_asks_nothing_in_other_words_can_be_fitted_and_shows_no_success(tiny_backpack_model: Any, name: str) -> None:
    method, rows = get(name), canonical_rows()
    alone = rows.where(lambda row: row.split == "fit" and row.tagged("role") != "evaluation")
    for source, has in ((rows, True), (alone, False)):
        report = method.fit(tiny_backpack_model, source, method.configure({"epochs": 1, "n_neutral": 2})).report
        assert ("success_after" in report.scalars) is has
        assert ("success in other words" in {curve.name for curve in report.curves}) is has


def test_an_ensemble_with_beta_zero_is_the_big_model_and_with_beta_one_it_moves(
    tiny_backpack_model: Any, tiny_gpt2: Any, sense_fit: Any
) -> None:
    edit, items = sense_fit.edit, canonical_items(tiny_backpack_model, canonical_rows().split("fit").tagged("role:train"))
    task = replace(canonical_task(tiny_gpt2, canonical_rows(), "fit"), evaluation=items, hard_negatives=items)
    alone = EngineMeter(tiny_gpt2, task, []).measure(None).hard_negatives
    mean = lambda beta: sum(ensemble_losses(tiny_gpt2, tiny_backpack_model, items, edit.selection, edit.delta, beta)) / len(items)  # noqa: E731
    assert mean(0.0) == pytest.approx(alone, abs=SINGLE)
    assert mean(1.0) < alone - 0.1


@pytest.mark.parametrize("name", ["senses", "lora"])
def test_the_protocol_reports_every_ball_over_seeds(tiny_backpack_model: Any, name: str) -> None:
    found = protocol(tiny_backpack_model, canonical_rows(), name, draws=2, seeds=(0, 1), n_general=4, epsilons=(1.0, 1e-5))
    assert [(summary.method, summary.epsilon) for summary in found] == [(f"{name}{end}", e) for end in ("", CONTROL) for e in (1.0, 1e-5)]
    for summary in found:
        assert len(summary.records) == 2 and summary.standard_error >= 0
        assert all(in_ball(record.rho, summary.epsilon) for record in summary.records)
        assert {"change", "hard negatives rise", "general loss rise"} <= set(summary.row())
    assert found[0].records[0].row().keys() == found[1].records[0].row().keys()


def test_a_method_without_epochs_runs_by_doses(tiny_gpt2: Any) -> None:
    rows = canonical_rows()
    paired = rows.with_rows(replace(row, negative=" w1") if row.positive else row for row in rows)
    (summary,) = protocol(tiny_gpt2, paired, "mean_difference", draws=1, seeds=(0,), n_general=4, epsilons=(1e-3,), control=False)
    assert in_ball(summary.records[0].rho, 1e-3) and 0 <= summary.records[0].epoch <= 13
    told, one = summary.row(), summary.records[0]
    assert told["general loss rise"] == one.rho - 1 and told["change"] == one.success - one.success0
    assert (told["hard negatives rise"], told["rest rise"]) == (one.hn - one.hn0, one.rest - one.rest0)


def test_doses_rise_by_half_a_doubling_up_to_the_methods_largest_and_begin_with_none(tiny_gpt2: Any) -> None:
    rows, known = canonical_rows(), get("mean_difference")
    paired = rows.with_rows(replace(row, negative=" w1") if row.positive else row for row in rows)
    task = canonical_task(tiny_gpt2, paired, "fit")
    keeper = Keeper({}, OURS, task.pair)
    _, doses = _doses(known, tiny_gpt2, task, known.configure({}), 0, [(1, 2, 3)], silent(), keeper)
    assert doses[0] == 0.0 and doses[-1] == known.top_dose
    assert [b / a for a, b in itertools.pairwise(doses[1:])] == pytest.approx([2**0.5] * 12)


def test_the_control_of_a_sense_edit_turns_all_its_vectors_by_one_rotation(sense_fit: Any) -> None:
    edit, turned = sense_fit.edit, turned_edit(sense_fit.edit, 3)
    gram, other = (one.delta.double() @ one.delta.double().T for one in (edit, turned))
    assert torch.allclose(gram, other, atol=1e-5 * float(gram.abs().max())) and not torch.allclose(edit.delta, turned.delta)
    assert not torch.equal(turned_edit(edit, 4).delta, turned.delta)


@pytest.mark.slow
def test_methods_that_no_sweep_names_draw_from_their_grid_and_searches_choose_on_what_they_train_on(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = ({random_config(get(name), tiny_gpt2, seed) for seed in range(6)} for name in ("tarot", "sea"))
    assert {config.select_on for config in few} == {"train"} and len(few) == 1
    assert len(many) > 2 and get("sea").configure({}) in many
    rows = canonical_rows()
    paired = rows.with_rows(replace(row, negative=" w1") if row.positive else row for row in rows)
    # A random model may answer one word to everything under the angles that rounding makes the best; that is another test's.
    monkeypatch.setattr("workbench.methods.tarot.fit.constant_answer", lambda _: None)
    (summary,) = protocol(tiny_gpt2, paired, "tarot", draws=2, seeds=(0,), n_general=4, epsilons=(1.0,), control=False)
    assert summary.records[0].config["select_on"] == "train" and in_ball(summary.records[0].rho, 1.0)


def test_a_draw_that_cannot_be_fitted_is_told_and_does_not_cost_the_others(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.evaluate.protocol import scores
    from workbench.methods.directions.mean_difference import MeanDifferenceConfig

    honest = scores.run_of
    bad = [MeanDifferenceConfig(strength=3.0)]

    def picky(*args: Any) -> Any:
        if args[3] in bad:
            raise FitFailed("It did not converge.", "Lower the rate.")
        return honest(*args)

    monkeypatch.setattr(scores, "run_of", picky)
    monkeypatch.setattr(scores, "random_config", lambda *args: MeanDifferenceConfig(strength=(1.0, 3.0)[args[2]]))
    rows = canonical_rows()
    paired = rows.with_rows(replace(row, negative=" w1") if row.positive else row for row in rows)
    ask = lambda: protocol(tiny_gpt2, paired, "mean_difference", draws=2, seeds=(0,), n_general=4, epsilons=(1.0,), control=False)  # noqa: E731
    (summary,) = ask()
    assert summary.records[0].config["strength"] == 1.0 and summary.row()["not fitted"] == 1
    assert "It did not converge." in summary.not_fitted[0] and "3.0" in summary.not_fitted[0]
    bad.append(MeanDifferenceConfig(strength=1.0))
    with pytest.raises(FitFailed, match="converge"):
        ask()


def test_a_set_without_roles_is_refused_by_the_protocol(tiny_backpack_model: Any) -> None:
    rows = Demonstrations((Demonstration("w1", " w2", split="validation"),), "bare")
    with pytest.raises(NotEnoughData, match="1 examples to train on and 0 to evaluate on") as caught:
        canonical_task(tiny_backpack_model, rows, "validation")
    assert "role:evaluation" in caught.value.hint
