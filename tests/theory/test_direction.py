"""Direction ablation: docs/methods/directions.md §6, each invariant with a negative control."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import pytest
import torch

from tests.concepts import concept_rows
from tests.conftest import contrast_rows, words
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.base import Edit, Header
from workbench.edits.engine import applied
from workbench.errors import FitFailed, NotEnoughData, UnsupportedExport
from workbench.methods import get
from workbench.methods.directions.ablation import DirectionCandidate, DirectionConfig, best_direction
from workbench.methods.directions.behaviour import MAX_STARTS, bench, next_log_probs
from workbench.methods.directions.edit import DirectionEdit, folded_ablation
from workbench.methods.shared.adapters import AdapterEdit
from workbench.methods.shared.concept import concept_of
from workbench.methods.shared.neutral import neutral_of
from workbench.operations import AddToWeight
from workbench.record import activations
from workbench.sites import Site

TEXTS = [words(1, 2, 3, 4), words(5, 6)]


@final
@dataclass(frozen=True)
class Folded(Edit):
    """Deltas as an edit, for tests."""

    kind = "folded-for-tests"
    deltas: tuple[AddToWeight, ...] = ()

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Any) -> Folded:
        return cls(header)

    def at_dose(self, dose: float) -> tuple[AddToWeight, ...]:
        return self.deltas

    def exports(self) -> dict[Any, Any]:
        return {}


def direction_on(model: Any, mode: str = "ablate", seed: int = 0) -> DirectionEdit:
    facts = {"mode": mode, "layer": 1, "n_layers": model.info.n_layers, "tied": model.info.tied_embeddings}
    made = torch.randn(model.info.d_model, generator=torch.Generator().manual_seed(seed))
    return DirectionEdit(Header("refusal_direction", {}, model.fingerprint, "none", 0, {}, facts), made)


def last_stream(model: Any, *edits: Edit) -> torch.Tensor:
    batch, site = model.tokens(TEXTS), Site("resid_post", model.info.n_layers - 1)
    with torch.no_grad(), applied(model, *edits):
        return activations(model, batch, [site])[site][batch.mask]


def test_the_ablated_stream_has_nothing_along_the_direction_and_ablating_twice_is_ablating_once(tiny: Any) -> None:
    edit = direction_on(tiny)
    unit, base = edit.unit.float(), last_stream(tiny)
    ablated = last_stream(tiny, edit)
    # float32 rounding of sums over three blocks
    assert (ablated @ unit).abs().max() < 1e-4 < (base @ unit).abs().max() / 100
    torch.testing.assert_close(last_stream(tiny, edit, edit), ablated, atol=1e-4, rtol=1e-3)
    other = direction_on(tiny, seed=1).unit.float()
    assert (ablated @ other).abs().max() > 0.1, "another direction stays"


@pytest.mark.parametrize("dose", [0.5, 1.0])
def test_hooks_equal_weights_at_every_dose(tiny: Any, dose: float) -> None:
    edit = direction_on(tiny).scaled(dose)
    deltas = folded_ablation(tiny, edit.unit, dose)
    by_weights = last_stream(tiny, Folded(edit.header, deltas=deltas))
    torch.testing.assert_close(last_stream(tiny, edit), by_weights, atol=2e-4, rtol=1e-3)  # float32 through three blocks
    without_embeddings = tuple(delta for delta in deltas if delta.site.kind != "w_e")
    assert not torch.allclose(last_stream(tiny, edit), last_stream(tiny, Folded(edit.header, deltas=without_embeddings)), atol=1e-2)


def test_folding_is_refused_where_the_table_is_also_the_unembedding_and_for_additions(tiny_models: dict[str, Any]) -> None:
    for model, mode in ((tiny_models["gpt2"], "ablate"), (tiny_models["llama"], "add")):
        with pytest.raises(UnsupportedExport):
            direction_on(model, mode).folded(model)
    assert len(direction_on(tiny_models["llama"]).folded(tiny_models["llama"])) == 1 + 2 * 3


def test_adding_moves_the_input_of_one_block_by_the_vector_times_the_dose(tiny_gpt2: Any) -> None:
    edit, batch, site = direction_on(tiny_gpt2, "add").scaled(0.5), tiny_gpt2.tokens(TEXTS), Site("resid_pre", 1)
    with torch.no_grad():
        base = activations(tiny_gpt2, batch, [site])[site]
        with applied(tiny_gpt2, edit):
            moved = activations(tiny_gpt2, batch, [site])[site]
    torch.testing.assert_close(moved - base, (0.5 * edit.direction).expand_as(base), atol=1e-5, rtol=1e-5)


def test_the_chosen_direction_has_the_lowest_metric_within_the_limits() -> None:
    def made(layer: int, ablated: float, kl: float, induced: float) -> DirectionCandidate:
        return DirectionCandidate(-1, layer, torch.ones(2), ablated, kl, induced)

    tried = [
        made(0, -5.0, 0.5, 1.0),
        made(1, -3.0, 0.05, 1.0),
        made(2, -2.0, 0.01, 1.0),
        made(3, -9.0, 0.01, -1.0),
        made(4, float("nan"), 0, 1),
    ]
    assert best_direction(tried, DirectionConfig()).layer == 1
    assert best_direction(tried, DirectionConfig(max_kl=1.0)).layer == 0
    with pytest.raises(FitFailed, match="layer 2"):
        best_direction(tried, DirectionConfig(max_kl=0.001))


def test_the_fit_reads_the_difference_of_means_and_needs_to_know_the_behaviour(tiny_gpt2: Any) -> None:
    method, rows = get("refusal_direction"), concept_rows()
    fitted = method.fit(tiny_gpt2, rows, method.configure({"layer": 1, "positions": 1}))
    assert isinstance(fitted.edit, DirectionEdit) and not isinstance(fitted.edit, AdapterEdit)
    other_side = {"target": "anti_target", "anti_target": "target"}
    swapped = rows.with_rows(replace(row, label=other_side[str(row.label)]) for row in rows)
    opposite = method.fit(tiny_gpt2, swapped, method.configure({"layer": 1, "positions": 1}))
    # the two sides are cut to the same number in the same order, so only the sign differs
    assert isinstance(opposite.edit, DirectionEdit)
    torch.testing.assert_close(opposite.edit.direction, -fitted.edit.direction, atol=1e-5, rtol=1e-4)
    with pytest.raises(NotEnoughData, match="begin in"):
        method.fit(tiny_gpt2, rows, method.configure({"layer": 1}))
    loose = {"answers": (" w1", " w2"), "max_kl": 100.0, "min_induced": -20.0}
    report = method.fit(tiny_gpt2, contrast_rows(40), method.configure(loose)).report
    assert report.scalars["candidates"] == len(report.tables["candidates"]) >= 2


def asked(answers: list[str], own: bool = True) -> Demonstrations:
    """Labelled prompts, each with its own positive answer; without `own` validation prompts have none."""
    made: list[Demonstration] = []
    for i, row in enumerate(concept_rows(80)):
        positive = answers[i % len(answers)] if own or row.split == "fit" else None
        made.append(replace(row, positive=positive, negative=" w98" if positive else None))
    return Demonstrations(tuple(made), "asked")


def starts_of(model: Any, rows: Demonstrations, *answers: str) -> tuple[list[set[int]], str]:
    by = bench(model, rows, concept_of(model, rows).validation, answers, 0)
    return [{int(token) for token in row.nonzero()} for row in torch.cat([by.target.is_start, by.other.is_start])], by.said


def test_answers_that_begin_in_few_ways_are_the_behaviour_all_of_them(tiny_gpt2: Any) -> None:
    starts, said = starts_of(tiny_gpt2, asked([" w3", " w4 w5"]))
    assert all(found == {3, 4} for found in starts) and "'w3', 'w4'" in said
    assert starts_of(tiny_gpt2, asked([" w3"]), "w7", " w8")[0][0] == {7, 8}


def test_where_answers_begin_in_many_ways_each_prompt_is_judged_by_its_own(tiny_gpt2: Any) -> None:
    rows = asked([f" w{i}" for i in range(40, 60)])
    starts, said = starts_of(tiny_gpt2, rows)
    n = len({row.positive for row in rows.split("fit")})
    assert n > MAX_STARTS and f"own positive answers, which begin in {n} ways" in said and all(len(found) == 1 for found in starts)
    by_prompt = {row.prompt: int(str(row.positive)[2:]) for row in rows.split("validation")}
    judged = concept_of(tiny_gpt2, rows).validation
    texts = [text for side in ("target", "anti_target") for text, one in zip(judged.texts, judged.sides) if one == side]
    assert [found == {by_prompt[text]} for text, found in zip(texts, starts)] == [True] * len(texts)


def test_without_answers_of_their_own_the_likeliest_starts_are_judged_and_their_share_is_said(tiny_gpt2: Any) -> None:
    rows = asked([f" w{i}" for i in range(40, 60)], own=False)
    starts, said = starts_of(tiny_gpt2, rows)
    known = sorted({int(str(row.positive)[2:]) for row in rows.split("fit")})
    assert all(found == starts[0] for found in starts) and f"the likeliest of {len(known)} starts" in said
    p = next_log_probs(tiny_gpt2, tiny_gpt2.tokens(list(concept_of(tiny_gpt2, rows).validation.texts))).exp().mean(0)[known]
    assert starts[0] == {known[int(i)] for i in p.topk(MAX_STARTS).indices}
    assert f"{float(p.topk(MAX_STARTS).values.sum() / p.sum()):.0%} of their probability" in said


def test_sides_that_are_answers_are_judged_at_the_prompts_end_with_neutral_text_to_stay(tiny_gpt2: Any) -> None:
    rows = contrast_rows(40)
    judged = concept_of(tiny_gpt2, rows).validation
    by = bench(tiny_gpt2, rows, judged, (" w1",), 0)
    prompts = list(dict.fromkeys(judged.texts))
    assert torch.equal(by.target.batch.ids, tiny_gpt2.tokens(prompts).ids) and torch.equal(by.target.batch.ids, by.other.batch.ids)
    assert len(by.calm) == len(neutral_of(tiny_gpt2, rows, 0).held)
    labelled = asked([" w3"])
    apart = bench(tiny_gpt2, labelled, concept_of(tiny_gpt2, labelled).validation, (), 0)
    assert apart.calm is apart.other.batch


def test_a_direction_has_to_raise_what_it_induces_and_by_the_paper_above_zero() -> None:
    tried = [DirectionCandidate(-1, 0, torch.ones(2), -1.0, 0.0, -2.0), DirectionCandidate(-1, 1, torch.ones(2), -5.0, 0.0, -4.0)]
    assert best_direction(tried, DirectionConfig(), before=-3.0).layer == 0
    with pytest.raises(FitFailed, match="induces ≥ 0"):
        best_direction(tried, get("refusal_direction").configure(preset="paper"), before=-3.0)
    with pytest.raises(FitFailed, match="induces ≥ -1"):
        best_direction(tried, DirectionConfig(), before=-1.0)


@pytest.mark.slow
def test_with_its_defaults_it_turns_the_shipped_refusals_down_and_says_what_it_was_judged_by() -> None:
    from workbench.models.catalog import load
    from workbench.world.sets import refusal

    model, rows = load("embedded"), Demonstrations(refusal().rows, "refusal")
    sides = {label: [row for row in rows.split("validation") if row.label == label][:12] for label in ("target", "anti_target")}
    few = rows.with_rows([*rows.split("fit"), *sides["target"], *sides["anti_target"]])
    method = get("refusal_direction")
    fitted = method.fit(model, few, method.configure())
    report = fitted.report
    assert report.scalars["metric_ablated"] < report.scalars["metric_base"] - 1.0 and report.scalars["kl_nats"] < 0.1
    assert "answers that begin with ' Sorry'" in report.notices[0].text and len(report.notices) == 1
