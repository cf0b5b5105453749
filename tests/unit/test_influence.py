"""Which demonstration did it: closed forms are the refits, first-order scores agree with them, and shuffled influences do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from tests.conftest import contrast_rows, taught_rows
from tests.made_edits import low_rank
from workbench.data.demonstrations import Demonstrations
from workbench.errors import BadKnob, BadLane, FittedRows, NotEnoughData, Obstructed, UnknownName
from workbench.evaluate import halves
from workbench.evaluate import influence as module
from workbench.evaluate.benefit import Benefit, benefit
from workbench.evaluate.influence import Influence, Refit, influence
from workbench.evaluate.metrics import mean_metric
from workbench.evaluate.slopes import asked, margins, sites_of
from workbench.knobs import knobs
from workbench.methods import get
from workbench.methods.canonical import training
from workbench.progress import silent
from workbench.session import Session

ROWS = contrast_rows(40)
KNOBS: dict[str, list[dict[str, Any]]] = {
    "mean_difference": [{}, {"read": "mean", "layers": (0, 2), "strength": 3.0}, {"gate": "hard"}],
    "sea": [
        {"k_plus": 5, "k_minus": 2},
        {"k_plus": 5, "k_minus": 2, "merge": "exclusive"},
        {"k_plus": 4, "k_minus": 3, "center": "none", "phi": "tanh"},
        {"k_plus": 3, "k_minus": 3, "base": "sides", "center": "demonstrations"},
    ],
}


def agreement(one: Any, other: Any) -> float:
    """Spearman's rank correlation."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def without(rows: Demonstrations, gone: int) -> Demonstrations:
    """The set without one of its rows to fit."""
    out = rows.split("fit")[gone]
    return rows.where(lambda row: row is not out)


def space(name: str, x: Any) -> Any:
    """What a tensor of an edit does: a basis by its projector, whatever its signs."""
    return x.double() @ x.double().T if name.endswith(("keep", "drop")) else x.double()


@pytest.mark.parametrize(("name", "values"), [(name, values) for name, those in KNOBS.items() for values in those])
def test_the_edit_without_a_row_is_the_refit_without_it(tiny_gpt2: Any, name: str, values: dict[str, Any]) -> None:
    method = get(name)
    config = method.configure(values)
    edit = method.fit(tiny_gpt2, ROWS, config).edit
    assert method.without is not None
    left = dict(method.without(tiny_gpt2, ROWS, edit.dosed(2.0), config, progress=silent()))
    assert sorted(left) == list(range(len(ROWS.split("fit"))))
    for row in (0, 9, 23):
        refit = method.fit(tiny_gpt2, without(ROWS, row), config).edit
        assert left[row].dose == 2.0 and left[row].gates.keys() == edit.gates.keys()
        for part, mine in left[row].tensors().items():
            old, new = (space(part, one.tensors()[part]) for one in (edit, refit))
            gap = float((space(part, mine) - new).norm())
            # the fit is in float64 and kept in float32; without the row it is somewhere else
            assert gap < 1e-4 * max(1.0, float(new.norm())) and float((old - new).norm()) > 10 * gap


def test_two_sets_of_prompts_lose_the_row_on_its_own_side(tiny_gpt2: Any) -> None:
    told = contrast_rows(24)
    sets = told.with_rows(
        [replace(row, positive=None, negative=None, label=("target", "anti_target")[i % 2]) for i, row in enumerate(told)]
    )
    # The strength is named: without one a refit measures its own on neutral text that the row is part of.
    for name, values in (("mean_difference", {"strength": 2.0}), ("sea", {"k_plus": 3, "k_minus": 2})):
        method, config = get(name), get(name).configure(values)
        edit = method.fit(tiny_gpt2, sets, config).edit
        assert method.without is not None
        left = dict(method.without(tiny_gpt2, sets, edit, config, progress=silent()))
        refit = method.fit(tiny_gpt2, without(sets, 3), config).edit
        for part, mine in left[3].tensors().items():
            assert float((space(part, mine) - space(part, refit.tensors()[part])).norm()) < 1e-4


def true_influences(model: Any, name: str, values: dict[str, Any], found: Any) -> Any:
    """What each row's score falls by in a fit without each demonstration."""
    method = get(name)
    these = asked(ROWS.split("test"), ROWS)
    refits = [method.fit(model, without(ROWS, row), method.configure(values)).edit for row in range(len(found.demonstrations))]
    return found.after - margins(model, these, [(edit,) for edit in refits], silent())[0]


@pytest.mark.parametrize(("name", "values"), [("mean_difference", {}), ("sea", KNOBS["sea"][0]), ("sea", KNOBS["sea"][1])])
def test_influences_agree_with_true_refits_and_shuffled_ones_do_not(tiny_gpt2: Any, name: str, values: dict[str, Any]) -> None:
    edit = get(name).fit(tiny_gpt2, ROWS, get(name).configure(values)).edit
    found = influence(tiny_gpt2, ROWS, edit, split="test")
    assert found.way == "closed form" and found.reliability is None and found.matrix.shape == (24, 8)
    true = true_influences(tiny_gpt2, name, values, found)
    assert agreement(found.matrix.mean(1), true.mean(1)) > 0.9
    assert agreement(found.matrix.ravel(), true.ravel()) > 0.9
    mixed = np.random.default_rng(0).permutation(found.matrix.mean(1))
    assert abs(agreement(mixed, true.mean(1))) < 0.5


def test_scores_are_those_of_the_verdicts_table(tiny_gpt2: Any) -> None:
    edit = get("mean_difference").fit(tiny_gpt2, ROWS).edit
    found = influence(tiny_gpt2, ROWS, edit.dosed(1.5), split="test")
    (margin,) = [one for one in benefit(tiny_gpt2, ROWS, [edit.dosed(1.5)], split="test").metrics if one.name == "margin_nats"]
    assert found.title == margin.title
    assert np.allclose(np.stack([found.before, found.after]), margin.per_item, atol=1e-4)
    assert all(found.after[j] < found.before[j] for j in found.victims)
    assert len(found.victims) == margin.moved(1)[1] == len(found.victim_table())


def test_fits_on_halves_find_what_the_closed_form_says(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    edit = get("mean_difference").fit(tiny_gpt2, ROWS).edit
    exact = influence(tiny_gpt2, ROWS, edit, split="test").matrix.mean(1)
    blind = replace(get("mean_difference"), without=None)
    monkeypatch.setattr(module, "get", lambda name: blind)
    found = influence(tiny_gpt2, ROWS, edit, split="test", n_refits=200)
    assert found.way == "refits of halves" and found.fits == 200 and found.reliability is not None and found.reliability > 0.5
    told = found.matrix.mean(1)
    assert agreement(told, exact) > 0.8
    assert 0.5 < float(np.polyfit(exact, told, 1)[0]) < 2.0, "halves are on the scale of one row left out"
    few = influence(tiny_gpt2, ROWS, edit, split="test", n_refits=4)
    assert few.reliability is not None and few.reliability < found.reliability
    with pytest.raises(BadKnob, match="refits of halves"):
        influence(tiny_gpt2, ROWS, edit, split="test", n_refits=5)


def test_a_table_row_counts_whom_a_demonstration_harms_and_a_victim_is_named_with_its_prompt(tiny_gpt2: Any) -> None:
    rows = contrast_rows(12, 5)
    matrix = np.array([[0.5, -0.5, -0.2], [0.1, 0.1, 0.1], [-1e-15, 0.0, -0.3]])
    before, after = np.zeros(3), np.array([0.6, -0.4, -0.4])
    found = Influence("m", "set", "test", "label", "id", "Margin", "closed form", rows.rows[:3], rows.rows[3:6], matrix, before, after)
    assert {row["id"]: row["harms"] for row in found.table()} == {rows[0].id: 2, rows[1].id: 0, rows[2].id: 1}
    told = found.victim_table()
    assert {row["id"]: row["prompt"] for row in told} == {rows[at].id: str(rows[at].prompt) for at in (4, 5)}
    assert all(row["after"] < row["before"] for row in told) and told[0]["behind it"]
    unnamed = tuple(replace(row, id="") for row in rows.rows[:3])
    told = replace(found, demonstrations=unnamed).victim_table()
    assert str(unnamed[0].prompt) in told[0]["behind it"], "without an id a demonstration goes by its prompt"


@pytest.mark.parametrize("n", [3, 4])
def test_four_demonstrations_can_be_told_apart_and_three_cannot(tiny_gpt2: Any, n: int) -> None:
    edit, fit = get("mean_difference").fit(tiny_gpt2, ROWS).edit, ROWS.split("fit").rows[:n]
    few = ROWS.with_rows([*fit, *ROWS.split("test")])
    if n < 4:
        with pytest.raises(NotEnoughData, match="demonstrations to fit"):
            influence(tiny_gpt2, few, edit, split="test")
    else:
        assert len(influence(tiny_gpt2, few, edit, split="test").demonstrations) == 4


def planted(n: int = 60) -> Demonstrations:
    """One answer to all, and two rows to fit that teach the opposite."""
    rows = taught_rows(n)
    fit = [i for i, row in enumerate(rows) if row.split == "fit"]
    return rows.with_rows(
        [replace(row, positive=row.negative, negative=row.positive) if i in fit[:2] else row for i, row in enumerate(rows)]
    )


def test_rows_that_teach_the_opposite_are_found_and_a_fit_without_them_gains(tiny_gpt2: Any, tmp_path: Path) -> None:
    session, rows = Session(tiny_gpt2, tmp_path / "home"), planted()
    edit = session.fit("mean_difference", rows).edit
    found = session.influence(edit, rows)
    bad = [found.demonstrations[i].id for i in found.harmful]
    assert bad[:2] == [found.demonstrations[i].id for i in found.order[:2]] and set(bad[:2]) == {"row-0", "row-1"}
    assert "lower the mean score" in found.sentence or "lowers the mean score" in found.sentence
    again = session.refit_without(edit, rows, bad[:2])
    score = next(one for one in again.benefit.metrics if one.name == "margin_nats")
    assert score.between(2, 1).sign == 1 and again.edit.id in {one.edit.id for one in session.shelf.fitted()}
    kinds = [run.kind for run in session.workspace.runs.list()]
    assert kinds.count("influence") == 1 and kinds.count("refit") == 1


@pytest.mark.parametrize(("gain", "says"), [(0.5, "beyond chance"), (0.0, "no more than chance"), (-0.5, "beyond chance")])
def test_a_refit_says_both_scores_and_whether_their_difference_is_more_than_chance(tiny_gpt2: Any, gain: float, says: str) -> None:
    items = np.random.default_rng(0).normal(0, 0.1, (3, 30)) + np.array([[0.0], [1.0], [1.0 + gain]])
    score = mean_metric("margin_nats", "Margin", items, "nats", "higher")
    told = Refit(low_rank(tiny_gpt2), ("a", "b"), Benefit("m", (), "set", "validation", 30, (score,), ())).sentence
    assert told == (
        f"Without 2 demonstrations: **{score.values[2].words}** nats, with all {score.values[1].words} "
        f"(Margin, 30 rows of split validation); the change is {score.between(2, 1).words}, {says}."
    )


def test_what_cannot_be_asked_is_told(tiny_gpt2: Any, tmp_path: Path) -> None:
    session, rows = Session(tiny_gpt2, tmp_path / "home", records=False), contrast_rows(40)
    edit = session.fit("mean_difference", rows).edit
    with pytest.raises(Obstructed, match="not the set"):
        session.influence(edit, contrast_rows(40, seed=1))
    with pytest.raises(BadLane, match="no single edit"):
        session.influence((edit, edit), rows)
    with pytest.raises(UnknownName, match="row-999"):
        session.refit_without(edit, rows, ["row-999"])
    with pytest.raises(NotEnoughData, match="to score"):
        asked(rows.split("test").with_rows([replace(row, positive=None, label=None) for row in rows.split("test")]), rows)
    bare = rows.split("fit")
    with pytest.raises((NotEnoughData, FittedRows)):
        session.influence(session.fit("mean_difference", bare).edit, bare)
    assert sites_of(edit) is not None and sites_of(low_rank(tiny_gpt2)) is None


def test_the_command_says_it_and_fits_again(tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from workbench.cli.main import app

    session, rows = Session(tiny_gpt2, tmp_path / "home"), planted()
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: session)
    path = tmp_path / "planted.jsonl"
    path.write_text("".join(f"{row.line}\n" for row in rows))
    edit = session.fit("mean_difference", str(path)).edit
    told = CliRunner().invoke(app, ["influence", edit.id, str(path), "--drop-harmful"])
    assert told.exit_code == 0, told.output
    assert "held-out rows the edit harms" in told.output and "nats; closed form" in told.output
    assert "row-0" in told.output and "The new fit is edit" in told.output
    odd = CliRunner().invoke(app, ["influence", edit.id, str(path), "--refits", "5"])
    assert odd.exit_code == 2


def test_refits_hold_the_layers_that_a_fit_found_in_the_knobs_own_shape(tiny_gpt2: Any) -> None:
    for name in ("mean_difference", "refusal_direction"):
        method = get(name)
        config = method.configure({})
        edit = method.fit(tiny_gpt2, taught_rows(60), config).edit
        held = halves._held(edit, config)
        ((knob, told),) = [(one.name, getattr(held, one.name)) for one in knobs(type(config)) if one.names_layers]
        facts = edit.header.facts
        assert told == (tuple(facts["layers"]) if knob == "layers" else facts["layer"]), name
        assert held == method.configure({knob: told}), "a config that a person could have given"


TRAINED: dict[str, Any] = {"epochs": 2, "group": 1, "n_neutral": 4, "chunk_tokens": 8}


@pytest.mark.parametrize("name", ["lora", "finetuning"])
def test_trained_weights_without_a_row_are_those_of_a_fit_that_never_drew_it(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rows, method = taught_rows(24), get(name)
    config = method.configure(TRAINED)
    edit, n = method.fit(tiny_gpt2, rows, config).edit, len(rows.split("fit"))
    assert method.refits is not None
    left = dict(method.refits(tiny_gpt2, rows, edit.dosed(0.5), config, progress=silent()))
    assert sorted(left) == list(range(n)) and {one.dose for one in left.values()} == {0.5}
    whole = training.seeded_schedule

    def undrawn(*given: Any) -> Any:
        draws = whole(*given)
        return lambda epoch: [draw for draw in draws(epoch) if draw[0] != 3]

    monkeypatch.setattr(training, "seeded_schedule", undrawn)
    never = method.fit(tiny_gpt2, rows, config).edit
    monkeypatch.undo()
    fewer = method.fit(tiny_gpt2, without(rows, 3), config).edit
    far = {who: sum(float((x - left[3].tensors()[part]).double().square().sum()) for part, x in other.tensors().items()) ** 0.5
           for who, other in (("never", never), ("whole", edit), ("redrawn", fewer))}  # fmt: skip
    assert far["never"] < 1e-2 * min(far["whole"], far["redrawn"]), "a fit of fewer rows draws another order"


def test_a_trained_fit_is_asked_by_refits_without_each_as_far_as_they_are_granted(tiny_gpt2: Any) -> None:
    rows, method = taught_rows(24), get("lora")
    edit, n = method.fit(tiny_gpt2, rows, config := method.configure(TRAINED)).edit, len(rows.split("fit"))
    found = influence(tiny_gpt2, rows, edit, split="test", n_refits=n)
    assert (found.way, found.fits, found.reliability) == ("refits without each", n, None)
    assert method.refits is not None
    left = dict(method.refits(tiny_gpt2, rows, edit, config, progress=silent()))
    these = asked(rows.split("test"), rows)
    score = margins(tiny_gpt2, these, [(edit,), (left[2],)], silent())[0]
    assert np.allclose(found.matrix[2], score[0] - score[1], atol=1e-6) and np.abs(found.matrix).min() >= 0 < np.abs(found.matrix).max()
    fewer = influence(tiny_gpt2, rows, edit, split="test", n_refits=4)
    assert fewer.way == "refits of halves" and fewer.matrix.shape == found.matrix.shape


def test_only_what_a_fit_trains_on_is_a_demonstration(tiny_gpt2: Any) -> None:
    told = taught_rows(24)
    apart = [i for i, row in enumerate(told) if row.split == "fit"][:3]
    rows = told.with_rows(replace(row, tags=("role:evaluation",)) if i in apart else row for i, row in enumerate(told))
    edit = get("lora").fit(tiny_gpt2, rows, get("lora").configure(TRAINED)).edit
    found = influence(tiny_gpt2, rows, edit, split="test")
    assert [row.id for row in found.demonstrations] == [row.id for row in rows.split("fit")][3:]
    halves_of = influence(tiny_gpt2, rows, edit, split="test", n_refits=4)
    assert halves_of.demonstrations == found.demonstrations and halves_of.matrix.shape == found.matrix.shape


def test_an_edit_that_the_same_fit_does_not_give_is_refused(tiny_gpt2: Any) -> None:
    rows, method = taught_rows(24), get("lora")
    edit: Any = method.fit(tiny_gpt2, rows, method.configure(TRAINED)).edit
    other = replace(edit, header=replace(edit.header, seed=1))
    with pytest.raises(Obstructed, match="the edit differs by"):
        influence(tiny_gpt2, rows, other, split="test")
