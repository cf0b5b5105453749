"""Two sets of prompts without answers do where no pairs are needed; what needs pairs says so, and what is scored there is true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.concepts import concept_rows
from tests.conftest import contrast_rows, taught_rows
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sides import two_sides
from workbench.errors import BadKnob, NotEnoughData, Obstructed
from workbench.evaluate.benefit import benefit
from workbench.evaluate.evaluation import evaluation
from workbench.methods import get
from workbench.methods.registry import Fitted
from workbench.record import gather
from workbench.score import text_scores
from workbench.sites import Site

TAKE_SETS = ("mean_difference", "angular", "sea")


def fitted(model: Any, name: str, rows: Demonstrations, **knobs: Any) -> Fitted:
    return get(name).fit(model, rows, get(name).configure({"layers": (1,), **knobs}))


@pytest.mark.parametrize("name", TAKE_SETS)
def test_methods_without_pairs_fit_two_sets_of_prompts(tiny_gpt2: Any, name: str) -> None:
    rows = concept_rows(60)
    one = fitted(tiny_gpt2, name, rows).edit
    uneven = rows.with_rows(row for row in rows if row.label == "target" or row.id[-1] != "1")
    assert len(two_sides(uneven.split("fit"))["anti_target"]) < len(two_sides(uneven.split("fit"))["target"])
    other = fitted(tiny_gpt2, name, uneven).edit
    for edit in (one, other):
        assert all(bool(torch.isfinite(x).all()) for x in edit.tensors().values())
        found = benefit(tiny_gpt2, rows, [(edit,)], split="test")
        assert [metric.name for metric in found.metrics] == ["side_gap_nats", "side_auc"]


def test_the_mean_difference_of_two_sets_is_that_of_their_means_and_the_sides_swapped_negate_it(tiny_gpt2: Any) -> None:
    rows, site = concept_rows(60), Site("resid_post", 1)
    sides = two_sides(rows.split("fit"))
    good, bad = (gather(tiny_gpt2, tiny_gpt2.tokens([prompt for prompt, _ in sides[s]]), [site])[site] for s in ("target", "anti_target"))
    (vector,) = fitted(tiny_gpt2, "mean_difference", rows, strength=1.0).edit.tensors().values()
    torch.testing.assert_close(vector, (good.double().mean(0) - bad.double().mean(0)).float())
    other = {"target": "anti_target", "anti_target": "target"}
    swapped = rows.with_rows(replace(row, label=other[str(row.label)]) for row in rows)
    (back,) = fitted(tiny_gpt2, "mean_difference", swapped, strength=1.0).edit.tensors().values()
    torch.testing.assert_close(back, -vector)


def test_answers_win_over_labels_where_every_row_has_both(tiny_gpt2: Any) -> None:
    rows = contrast_rows(40)
    tagged = rows.with_rows(replace(row, label=("target", "anti_target")[i % 2]) for i, row in enumerate(rows))
    (plain,) = fitted(tiny_gpt2, "mean_difference", rows).edit.tensors().values()
    (same,) = fitted(tiny_gpt2, "mean_difference", tagged).edit.tensors().values()
    assert torch.equal(plain, same)


def test_each_side_as_its_own_base_needs_no_pairs_and_the_good_side_as_base_does(tiny_gpt2: Any) -> None:
    sets = concept_rows(60)
    order = sets.with_rows([row for row in sets if row.label == "target"][::-1] + [row for row in sets if row.label != "target"])
    one, two = (fitted(tiny_gpt2, "sea", rows, merge="exclusive").edit.laws[1] for rows in (sets, order))  # type: ignore[attr-defined]
    torch.testing.assert_close(one.drop @ one.drop.T, two.drop @ two.drop.T, atol=1e-5, rtol=0)
    for base in ("own", "positive"):
        with pytest.raises(BadKnob, match="needs pairs"):
            fitted(tiny_gpt2, "sea", sets, base=base)
    pairs = contrast_rows(40)
    by_pairs = [fitted(tiny_gpt2, "sea", pairs, merge="exclusive", base=base).edit.laws[1] for base in ("positive", "sides")]  # type: ignore[attr-defined]
    assert not torch.allclose(by_pairs[0].drop @ by_pairs[0].drop.T, by_pairs[1].drop @ by_pairs[1].drop.T, atol=1e-2)


def test_what_needs_pairs_says_so_and_names_the_way_out(tiny_gpt2: Any) -> None:
    with pytest.raises(Obstructed, match="HPR needs a good and a bad answer to each prompt; here are two sets of prompts") as caught:
        fitted(tiny_gpt2, "hpr", concept_rows(60))
    for title in ("Mean difference", "SEA", "Angular steering", "Direction ablation", "ARE"):
        assert title in caught.value.hint
    half = contrast_rows(10).with_rows([Demonstration("w1 w2", " w3"), Demonstration("w2 w3")])
    with pytest.raises(Obstructed, match="2 of 2 demonstrations to fit have no negative") as caught:
        fitted(tiny_gpt2, "mean_difference", half)
    assert "two sets of prompts do as well" in caught.value.hint
    one = concept_rows(60).where(lambda row: row.label == "target")
    with pytest.raises(Obstructed, match="target and 0 anti_target are marked fit; 2 of each"):
        fitted(tiny_gpt2, "mean_difference", one)


def test_two_sets_are_scored_by_which_side_is_likelier_and_nothing_paired_is_made_up(tiny_gpt2: Any) -> None:
    rows = concept_rows(60)
    edit = fitted(tiny_gpt2, "mean_difference", rows, strength=4.0).edit
    found = benefit(tiny_gpt2, rows, [(edit,), (edit.scaled(-1.0),)], split="test")
    gap = found.metric("side_gap_nats")
    assert len(found.items) == 3 * len(rows.split("test"))
    for lane, label in enumerate(found.lanes):
        mine = [item for item in found.items if item["lane"] == label.label]
        good, bad = ([item["log_prob_a_token"] for item in mine if item["side"] == side] for side in ("target", "anti_target"))
        assert gap.values[lane].estimate == pytest.approx(sum(good) / len(good) - sum(bad) / len(bad))
        right = [(one > other) + 0.5 * (one == other) for one in good for other in bad]
        assert found.metric("side_auc").values[lane].estimate == pytest.approx(sum(right) / len(right))
    held = rows.split("test")
    stack = text_scores(tiny_gpt2, held.prompts(), [(edit,)]).mean[0].double()
    told = [item["log_prob_a_token"] for item in found.items if item["lane"] == found.lanes[1].label]
    assert told == pytest.approx(stack.tolist(), abs=1e-5)
    whole = evaluation(tiny_gpt2, rows, [(edit,)], n_placebos=1)
    assert "The target's texts ahead of the others" in whole.verdict.plain
    alone = rows.where(lambda row: row.label == "target")
    with pytest.raises(NotEnoughData, match="has a positive or a label"):
        benefit(tiny_gpt2, alone, [(edit,)], split="test")
    assert {metric.name for metric in benefit(tiny_gpt2, taught_rows(30), [()], split="test").metrics} & {"side_gap_nats"} == set()
