"""Placebos and doses: a placebo has the size and rank of its edit and none of its meaning; coherence is bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import contrast_rows, words
from tests.operations import edit_of, half_open, noise
from workbench.decode import generate
from workbench.edits.engine import applied
from workbench.edits.placebo import rotated, rotation
from workbench.edits.store import load_edit, save
from workbench.errors import BadKnob
from workbench.evaluate import side_effects
from workbench.evaluate.controls import shuffled, shuffled_fit
from workbench.evaluate.dose import Limits, dose_sweep, max_coherent_dose
from workbench.evaluate.evaluation import evaluation
from workbench.methods.registry import get
from workbench.operations import AddToWeight, LowRank, Rows, TransformAt
from workbench.record import gather
from workbench.sites import Site

NEUTRAL = [words(*range(i, i + 12)) for i in range(10, 30)]


@pytest.fixture(scope="module")
def fitted(tiny_models: Any) -> Any:
    import workbench.methods  # noqa: F401 - registers

    return get("mean_difference").fit(tiny_models["gpt2"], contrast_rows()).edit


def displacement(model: Any, edit: Any, site: str) -> torch.Tensor:
    batch = model.tokens([words(3, 7, 12, 5), words(30, 31, 32, 33)])
    before = gather(model, batch, [site], "all")[Site.parse(site)]
    with applied(model, edit):
        return gather(model, batch, [site], "all")[Site.parse(site)] - before


def test_a_rotated_edit_moves_every_token_as_far_and_elsewhere(tiny_gpt2: Any) -> None:
    basis = torch.linalg.qr(noise(32, 3)).Q
    site, gate = Site("resid_post", 1), half_open(tiny_gpt2)
    project = TransformAt(site, lambda x: x - (x @ basis) @ basis.T, 32, "prompt", gate)
    edit = edit_of(tiny_gpt2, project)
    real, placebo = (displacement(tiny_gpt2, item, "resid_post@1") for item in (edit, rotated(edit, 0)))
    # float32 activations of norm 5: their difference carries rounding of about 1e-6.
    assert torch.allclose(real.norm(dim=1), placebo.norm(dim=1), atol=1e-5)
    assert (real.norm(dim=1) == 0).any(), "the gate closes at some tokens, and the placebo stays closed there"
    acts = real.norm(dim=1) > 0
    assert torch.linalg.matrix_rank(placebo, atol=1e-4) == torch.linalg.matrix_rank(real, atol=1e-4) <= 3
    cosines = torch.cosine_similarity(real[acts], placebo[acts])
    assert cosines.abs().max() < 0.9
    again = displacement(tiny_gpt2, rotated(edit, 0), "resid_post@1")
    assert torch.equal(placebo, again)
    assert not torch.allclose(placebo, displacement(tiny_gpt2, rotated(edit, 1), "resid_post@1"), atol=1e-2)


def test_rotation_is_orthogonal_and_spread_over_all_directions() -> None:
    q = rotation(24, 3)
    assert torch.allclose(q @ q.T, torch.eye(24, dtype=torch.float64), atol=1e-12)
    first = torch.stack([rotation(24, seed)[:, 0] for seed in range(200)])
    # The mean of 200 unit vectors spread evenly has norm about 1/√200 = 0.07; of one fixed direction it has norm 1.
    assert first.mean(0).norm() < 0.15


def test_a_rotated_delta_keeps_its_singular_values(tiny_gpt2: Any) -> None:
    out, inward = tiny_gpt2.weight("w_in@1").shape
    dense, low = noise(out, inward), LowRank(noise(2, inward), noise(out, 2), 1.5)
    rows = Rows(torch.tensor([3, 7]), noise(2, 32))
    wide = LowRank(noise(2, 32), noise(100, 2))
    ops = [AddToWeight(Site("w_in", 1), dense), AddToWeight(Site("w_in", 1), low), AddToWeight(Site("w_e"), rows)]
    turned = rotated(edit_of(tiny_gpt2, *ops, AddToWeight(Site("w_u"), wide)), 0).operations()
    matrices = [(dense, turned[0].delta), (low.dense(), turned[1].delta.dense())]
    matrices += [(rows.values, turned[2].delta.values), (wide.dense(), turned[3].delta.dense())]
    for before, after in matrices:
        assert before.shape == after.shape and not torch.allclose(before.float(), after.float(), atol=1e-2)
        sizes = [torch.linalg.svdvals(x.double()) for x in (before, after)]
        assert torch.allclose(*sizes, atol=1e-5)


def test_a_placebo_is_saved_and_loaded_like_any_edit(tiny_gpt2: Any, fitted: Any, tmp_path: Any) -> None:
    placebo = rotated(fitted.scaled(0.5), 4)
    again = load_edit(save(placebo, tmp_path / "placebo"))
    batch = tiny_gpt2.tokens(words(1, 2, 3))
    results = []
    for edit in (placebo, again):
        with torch.no_grad(), applied(tiny_gpt2, edit):
            results.append(tiny_gpt2.logits(batch))
    assert torch.equal(*results) and again.id == placebo.id != fitted.id
    assert again.header.method == "placebo of mean_difference"


def test_shuffling_keeps_texts_and_splits_and_destroys_the_difference(tiny_gpt2: Any, fitted: Any) -> None:
    rows = contrast_rows(200)
    mixed = shuffled(rows, 0)
    assert [row.prompt for row in mixed] == [row.prompt for row in rows]
    assert [row.split for row in mixed] == [row.split for row in rows]
    swapped = [one.positive == other.negative for one, other in zip(mixed.split("fit"), rows.split("fit"))]
    assert sum(swapped) == len(swapped) // 2
    assert mixed.split("test").rows == rows.split("test").rows
    assert sorted(row.label for row in mixed) == sorted(row.label for row in rows)
    mixed_fit = shuffled_fit(tiny_gpt2, get("mean_difference").fit(tiny_gpt2, rows).edit, rows)
    assert not isinstance(mixed_fit, str)
    sizes = [next(iter(edit.tensors().values())).norm() for edit in (mixed_fit, fitted)]
    assert sizes[0] < 0.35 * sizes[1], "half of the pairs point the other way"


def test_an_evaluation_puts_a_pooled_placebo_beside_each_edit(tiny_gpt2: Any, fitted: Any) -> None:
    rows = contrast_rows(120)
    found = evaluation(tiny_gpt2, rows, [(fitted.scaled(2.0),)], neutral=NEUTRAL, n_placebos=3, n_generations=2)
    assert [lane.label for lane in found.lanes] == ["base", "mean_difference × 2", "placebo of mean_difference × 2"]
    gain = found.benefit.metric("mc2")
    own, placebo = gain.changes[1], gain.changes[2]
    assert own is not None and placebo is not None
    assert own.excludes_zero and own.estimate > placebo.estimate + 0.02
    assert found.side_effects is not None
    assert found.side_effects.metric("kl_nats").values[2].estimate > 0
    assert {item["lane"] for item in found.benefit.items} == {"base", "mean_difference × 2"}
    numbers = [row["value"] for row in found.rows()]
    assert len(numbers) == 3 * len(found.all_metrics) and all(np.isfinite(numbers))


def test_a_sweep_gives_every_metric_at_every_dose_and_equals_single_runs(tiny_gpt2: Any, fitted: Any) -> None:
    rows = contrast_rows(60)
    found = dose_sweep(tiny_gpt2, fitted, rows, NEUTRAL, [2.0, 0.5, 0.0], n_generations=2)
    assert found.doses == (0.0, 0.5, 2.0)
    one = evaluation(tiny_gpt2, rows, [(fitted.scaled(2.0),)], neutral=NEUTRAL, n_placebos=1, n_generations=2)
    for swept, single in zip(found.metrics, one.all_metrics):
        assert swept.name == single.name
        assert swept.values[2].estimate == pytest.approx(single.values[1].estimate, abs=1e-5)
        assert swept.values[2].low == pytest.approx(single.values[1].low, abs=1e-4, nan_ok=True)
    assert [row["lane"].partition(" of ")[0] for row in found.rows()] == ["base", *(found.edit, "placebo") * 2]
    row = found.rows()[3]
    assert found.rows()[4]["mc1"] == found.placebo[0].values[2].estimate and found.rows()[4]["dose"] == 2.0
    assert (row["lane"], row["dose"], row["mc1"], row["n"]) == (found.edit, 2.0, found.metrics[0].values[2].estimate, found.metrics[0].n)
    for metric in found.metrics:
        assert (row[f"{metric.name}_low"], row[f"{metric.name}_high"]) == metric.values[2].bounds and row[f"{metric.name}_n"] == metric.n
    for swept, single in zip(found.placebo, one.all_metrics):
        assert swept.values[2].estimate == pytest.approx(single.values[2].estimate, abs=1e-5)


def test_the_largest_coherent_dose_passes_and_a_little_more_does_not(tiny_gpt2: Any, fitted: Any) -> None:
    limits = Limits(kl_nats=0.1, perplexity_ratio=10.0, repetition_rise=2.0)
    found = max_coherent_dose(tiny_gpt2, fitted, NEUTRAL, limits, tolerance=0.02, max_new_tokens=4)
    assert found.is_bounded and 0 < found.dose < 4
    passing = [probe for probe in found.probes if not probe.broken]
    failing = [probe for probe in found.probes if probe.broken]
    assert max(probe.dose for probe in passing) == found.dose
    assert 0 < min(probe.dose for probe in failing) - found.dose <= 0.02
    assert {probe.broken for probe in failing} == {"KL"}
    assert found.probes == max_coherent_dose(tiny_gpt2, fitted, NEUTRAL, limits, tolerance=0.02, max_new_tokens=4).probes


def test_without_a_limit_in_reach_the_largest_dose_asked_for_is_returned_unbounded(tiny_gpt2: Any, fitted: Any) -> None:
    wide = Limits(kl_nats=1e9, perplexity_ratio=1e9, repetition_rise=2.0)
    found = max_coherent_dose(tiny_gpt2, fitted, NEUTRAL[:3], wide, largest=1.0, max_new_tokens=2)
    assert found.dose == 1.0 and not found.is_bounded
    nothing = Limits(kl_nats=-1.0)
    assert max_coherent_dose(tiny_gpt2, fitted, NEUTRAL[:3], nothing, largest=1.0, max_new_tokens=2).dose < 0.07
    with pytest.raises(BadKnob, match="above 0"):
        max_coherent_dose(tiny_gpt2, fitted, NEUTRAL, largest=0.0)


def test_a_gate_of_the_edit_is_the_gate_of_its_placebo(tiny_gpt2: Any, fitted: Any) -> None:
    site = Site("resid_post", next(iter(fitted.vectors)))
    gate = half_open(tiny_gpt2)
    closed = replace(gate, bias=torch.tensor(-1e9))
    moved = displacement(tiny_gpt2, rotated(fitted.gated({site: closed}), 0), str(site))
    assert moved.abs().max() == 0


def test_shuffling_turns_the_first_word_of_a_tag_round_and_keeps_all_that_follows_it() -> None:
    rows = contrast_rows(40).with_rows(replace(row, tags=("true:at 12:30", "kind:true", "true")) for row in contrast_rows(40))
    turned = [new for old, new in zip(rows.split("fit"), shuffled(rows, 0).split("fit")) if new.positive == old.negative]
    assert turned and {row.tags for row in turned} == {("false:at 12:30", "kind:true", "true")}


def test_continuations_that_are_looked_at_are_as_long_as_asked(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[int] = []

    def noted(*args: Any, **options: Any) -> Any:
        texts = generate(*args, **options)
        said.extend(len(one.ids) for lane in texts for one in lane)
        return texts

    monkeypatch.setattr(side_effects, "generate", noted)
    for n in (2, 9):
        assert side_effects.repetition(tiny_gpt2, NEUTRAL[:4], [()], n).shape == (1, 4) and max(said) == n
        said.clear()
