"""Facts that lessons ask of contests, planes, rivals in words and taught examples, against the records that they are read from."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.conftest import contrast_rows, taught_rows, words
from tests.made_edits import shift
from workbench.edits.lane import Lane
from workbench.edits.prompting import Prompting
from workbench.evaluate.comparison import compare
from workbench.evaluate.dose_plane import dose_plane
from workbench.evaluate.equal_damage import Contestant, equal_damage
from workbench.evaluate.evaluation import evaluation
from workbench.lenses.senses import taught_example
from workbench.lessons.attempt import Attempt
from workbench.lessons.facts import value_of
from workbench.lessons.lesson import FactRef
from workbench.settings import Rivals
from workbench.sites import Site

NEUTRAL = [words(*range(i, i + 12)) for i in range(10, 30)]


def told(place: str, found: Any, fact: str, of: str = "") -> Any:
    return value_of(Attempt({place: found}), FactRef(fact, of))


def test_a_contest_tells_its_limit_and_of_its_best_edit(tiny_gpt2: Any) -> None:
    edits = [Contestant(shift(tiny_gpt2)), Contestant(shift(tiny_gpt2, layer=0, seed=3))]
    found = equal_damage(tiny_gpt2, contrast_rows(40), edits, NEUTRAL, said=[Prompting(prefix="w3 w4")], limit=0.01, n_placebos=1)
    best = found.standings[1]
    assert best.placebo is not None
    assert told("equal-damage", found, "contest.limit") == 0.01
    assert told("equal-damage", found, "contest.dose") == best.dose
    assert told("equal-damage", found, "contest.random") == best.placebo.gain.estimate
    shown = [replace(one, shows="does it") for one in found.standings]
    assert told("equal-damage", replace(found, standings=tuple(shown)), "contest.doing") == 2, "edits alone, no prompt and no pair of both"
    still = [replace(one, shows="no more than noise") for one in found.standings]
    assert told("equal-damage", replace(found, standings=tuple(still)), "contest.doing") == 0
    edit, prompt, base = (told("equal-damage", found, f"contest.{name}") for name in ("best_edit", "best_prompt", "base"))
    assert told("equal-damage", found, "contest.gain") == edit - base and told("equal-damage", found, "contest.ahead") == edit - prompt
    lower = replace(found, better="lower")
    assert told("equal-damage", lower, "contest.best_edit") == min(one.gain.estimate for one in found.standings if one.is_edit)
    assert told("equal-damage", lower, "contest.gain") == base - told("equal-damage", lower, "contest.best_edit")
    assert told("equal-damage", found, "contest.data") == found.data
    bare = replace(found, standings=found.standings[:1])
    assert told("equal-damage", bare, "contest.gain") is None and told("equal-damage", bare, "contest.ahead") is None
    assert told("equal-damage", bare, "contest.dose") is None and told("equal-damage", bare, "contest.random") is None


def test_a_plane_tells_what_turning_and_what_stretching_gain_and_where_an_edit_lies(tiny_gpt2: Any) -> None:
    found = dose_plane(tiny_gpt2, taught_rows(60), 1, [shift(tiny_gpt2, layer=1)], angles=(0.0, 15.0, 40.0), lengths=(0.8, 1.0, 1.25))
    (one,) = found.placed
    name = one.label.label
    assert told("dose-plane", found, "plane.layer") == 1 and told("dose-plane", found, "plane.data") == found.data
    own = Attempt({"dose-plane": found}, edits=frozenset(one.label.edit_ids))

    def placed(attempt: Attempt, fact: str, of: str) -> Any:
        return value_of(attempt, FactRef(fact, of))

    assert placed(own, "plane.angle", name) == one.angles[1] > 0 and placed(own, "plane.length", name) == one.lengths[1]
    assert placed(own, "plane.stretch", name) == pytest.approx(abs(one.lengths[1] - 1))
    for attempt, of in ((own, "elephant"), (Attempt({"dose-plane": found}), name), (Attempt(edits=own.edits), name)):
        assert all(placed(attempt, f"plane.{fact}", of) is None for fact in ("angle", "length", "stretch"))
    gain, damage = np.arange(9.0).reshape(3, 3), np.zeros((3, 3))
    damage[2] = 1.0
    made = replace(found, gain=gain, damage=damage)
    assert told("dose-plane", made, "plane.turning") == 4.0, "of length one, and safe"
    assert told("dose-plane", made, "plane.stretching") == 2.0
    assert told("dose-plane", replace(made, damage=damage + 1), "plane.turning") is None
    assert told("dose-plane", replace(made, lengths=(0.8, 1.1, 1.25)), "plane.turning") is None
    assert told("dose-plane", replace(made, angles=(5.0, 15.0, 40.0)), "plane.stretching") is None


def test_the_edit_behind_the_opposite_and_both_sentences_are_told_apart(tiny_gpt2: Any) -> None:
    rows, edited = contrast_rows(40), Lane((shift(tiny_gpt2),))

    def fit(rivals: Rivals) -> Any:
        return SimpleNamespace(evaluation=evaluation(tiny_gpt2, rows, list(rivals.lanes(edited)), n_placebos=1, n_generations=0))

    both = fit(Rivals("w3 w4", "w5 w6"))
    values = both.evaluation.all_metrics[0].values
    # base, edit, the sentence, the opposite, the edit behind it, both sentences
    for fact, lane in (("fit.edit", 1), ("fit.prompt", 2), ("fit.opposed", 4), ("fit.overruled", 5)):
        assert told("fit", both, fact) == float(values[lane].estimate), fact
    alone = fit(Rivals("w3 w4"))
    assert told("fit", alone, "fit.opposed") is None and told("fit", alone, "fit.overruled") is None
    assert told("fit", fit(Rivals("", "w5 w6")), "fit.overruled") is None


def test_the_round_that_was_kept_is_told_and_no_other() -> None:
    rounds = ({"round": 0, "linear_accuracy": 0.9, "kept": False}, {"round": 1, "linear_accuracy": 0.8, "kept": True})

    def fit(**tables: Any) -> Any:
        return SimpleNamespace(fitted=SimpleNamespace(report=SimpleNamespace(tables=tables)))

    assert told("fit", fit(rounds=rounds), "fit.kept", "linear_accuracy") == 0.8
    assert told("fit", fit(rounds=rounds), "fit.kept", "elephant") is None
    assert told("fit", fit(rounds=rounds[:1]), "fit.kept", "linear_accuracy") is None and told("fit", fit(), "fit.kept", "round") is None


def test_a_rise_is_that_of_the_prompts_that_are_meant() -> None:
    scalars = {"train_p_before": 0.2, "train_p_after": 0.6, "validation_p_before": 0.3, "validation_p_after": 0.2, "lone_p_after": 1.0}
    found = SimpleNamespace(fitted=SimpleNamespace(report=SimpleNamespace(scalars=scalars)))
    assert told("fit", found, "fit.rise", "train") == pytest.approx(0.4)
    assert told("fit", found, "fit.rise", "validation") == pytest.approx(-0.1)
    assert told("fit", found, "fit.rise", "lone") is None and told("fit", found, "fit.rise", "elephant") is None


def test_an_evaluation_tells_its_split_and_whether_an_edit_of_ones_own_is_in_it(tiny_gpt2: Any) -> None:
    edit = shift(tiny_gpt2)
    lanes = [Lane((edit,)), Lane((edit,), Prompting(prefix="w3 w4"))]
    found = evaluation(tiny_gpt2, contrast_rows(40), lanes, n_placebos=1, n_generations=0)
    assert told("evaluate", found, "evaluate.split") == "test" and told("evaluate", found, "evaluate.n") == found.benefit.n
    own = Attempt({"evaluate": found}, edits=frozenset({edit.id}))
    assert value_of(own, FactRef("evaluate.mine")) == 1, "neither its placebo, nor the lane with a sentence"
    assert value_of(Attempt({"evaluate": found}), FactRef("evaluate.mine")) == 0 and value_of(Attempt(), FactRef("evaluate.mine")) is None


def test_layers_at_which_tokens_are_spared_are_counted(tiny_gpt2: Any) -> None:
    edit = shift(tiny_gpt2, layer=1)
    for one, n in ((edit, 0), (edit.sparing({Site("resid_post", 1): 30.0}), 1)):
        assert told("fit", SimpleNamespace(fitted=SimpleNamespace(edit=one)), "fit.spared") == n


def test_what_was_taught_is_told_of_the_sentence_and_of_the_question_that_holds_a_word(tiny_backpack_model: Any) -> None:
    asked = [words(7, 12, 8), words(9, 10)]
    found = taught_example(tiny_backpack_model, words(12, 5, 6), " w40", asked, method="senses", config={"epochs": 3})
    assert told("teach", found, "teach.prompt") == words(12, 5, 6) and told("teach", found, "teach.answer") == "w40"
    assert told("teach", found, "teach.before") == found.before[0] and told("teach", found, "teach.after") == found.after[0]
    assert told("teach", found, "teach.before", "w10") == found.before[2] and told("teach", found, "teach.after", "w10") == found.after[2]
    assert told("teach", found, "teach.says", "w10") == found.likeliest_after[2].strip()
    for fact in ("teach.before", "teach.after", "teach.says"):
        assert told("teach", found, fact, "elephant") is None
    assert told("teach", found, "teach.senses") == found.report.scalars["n_senses"] >= 1
    assert told("teach", found, "teach.words") == found.report.scalars["n_words"] >= 1
    made = replace(found, likeliest_before=(" a", " a", " w40"), likeliest_after=(" w40", " w40", " w40"))
    assert told("teach", made, "teach.reached") == 1, "not the sentence itself, and none that said so before"
    assert told("teach", made, "teach.reached", "w7") == 1 and told("teach", made, "teach.reached", "w9") == 0
    itself = replace(made, questions=(made.questions[0], f"w2 {made.questions[0].upper()}", made.questions[2]))
    assert told("teach", itself, "teach.reached") == 0, "what holds the taught sentence is no question in other words"
    attempt = Attempt({"teach": found}, {"teach": SimpleNamespace(unwanted=" w9 ")})
    assert value_of(attempt, FactRef("teach.unwanted")) == "w9" and value_of(Attempt(), FactRef("teach.unwanted")) is None


@pytest.mark.parametrize(
    ("tokens", "signs", "pieces"),
    [
        (("<|endoftext|>", "Question", ":", " What", "?"), 2, 0),
        ((" Z", "ora", " saw", " the"), 0, 1),
        (("An", "na", "'", "s", " 1", "2"), 1, 2),
        (("Anna", " ", "saw"), 1, 0),
        ((), 0, 0),
    ],
)
def test_signs_and_pieces_of_words_are_counted_apart(tokens: tuple[str, ...], signs: int, pieces: int) -> None:
    found = SimpleNamespace(tokens=tokens)
    assert (told("logit_lens", found, "lens.signs"), told("logit_lens", found, "lens.pieces")) == (signs, pieces)


def test_silencing_others_is_told_by_the_draw_that_costs_most() -> None:
    proof = SimpleNamespace(heads=((1, 0),), whole=0.9, without=0.2, random=(0.8, 0.5, 0.7))
    assert told("induction", (None, proof), "induction.random") == 0.5


def test_a_lane_with_words_of_its_own_is_none_of_ones_edit(tiny_gpt2: Any) -> None:
    edit = shift(tiny_gpt2)
    alone = compare(tiny_gpt2, [words(3, 4)], [Lane((edit,)), Lane((edit,), Prompting(prefix="w3 w4"))])
    beside = compare(tiny_gpt2, [words(3, 4)], [Lane((edit,), Prompting(prefix="w3 w4"))])
    for found, mine, lanes in ((alone, 1, 2), (beside, 0, 1)):
        attempt = Attempt({"compare": found}, edits=frozenset({edit.id}))
        assert value_of(attempt, FactRef("compare.mine")) == mine and value_of(attempt, FactRef("compare.lanes")) == lanes
        assert (value_of(attempt, FactRef("compare.changed")) is None) is (mine == 0)
