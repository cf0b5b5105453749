"""Figures draw what their records hold: same numbers, lane colours, units, nothing computed away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conftest import contrast_rows, words
from workbench.decode import Sampling
from workbench.evaluate.comparison import compare
from workbench.evaluate.dose import dose_sweep, max_coherent_dose
from workbench.evaluate.evaluation import evaluation
from workbench.figures.attention import attention_distance, attention_head
from workbench.figures.comparison import token_differences, top_tokens
from workbench.figures.evaluation import dose_curves, dose_probes, effect_against_damage, metric_intervals
from workbench.figures.logit_lens import lens_change, lens_grid, target_path
from workbench.figures.theme import LANE_COLOURS
from workbench.lenses.attention import attention
from workbench.lenses.logit_lens import logit_lens
from workbench.methods.registry import get

PROMPT = words(3, 7, 12, 3, 7)
NEUTRAL = [words(*range(i, i + 8)) for i in range(10, 16)]


@pytest.fixture(scope="module")
def edit(tiny_models: Any) -> Any:
    import workbench.methods  # noqa: F401 - registers

    return get("mean_difference").fit(tiny_models["gpt2"], contrast_rows()).edit


def test_a_head_shows_its_pattern_and_hides_what_cannot_be_seen(tiny_gpt2: Any, edit: Any) -> None:
    found = attention(tiny_gpt2, PROMPT, [(), (edit,)], layers=[2])
    z = np.array(attention_head(found, 1, 2, 3).data[0].z, dtype=float)
    lower = np.tril_indices(5)
    assert np.allclose(z[lower], found.pattern[1, 0, 3][lower]) and np.isnan(z[0, 1])
    change = attention_head(found, 1, 2, 3, change=True)
    assert np.allclose(np.array(change.data[0].z, dtype=float)[lower], found.change(1)[0, 3][lower])
    assert change.data[0].zmin == -change.data[0].zmax, "colours are centred at zero"
    labels = change.data[0].x
    assert len(set(labels)) == 5, "equal tokens stay apart"
    assert np.array_equal(attention_distance(found, 1).data[0].z, found.distance(1))


def test_the_lens_puts_the_models_own_prediction_on_top(tiny_gpt2: Any, edit: Any) -> None:
    found = logit_lens(tiny_gpt2, PROMPT, [(), (edit,)], targets=[" w5"])
    grid = lens_grid(found, 0).data[0]
    assert grid.y[0] == "final_post" and grid.text[0][4] == found.top_texts[0, -1, 4, 0]
    assert np.array_equal(np.array(grid.z)[0], found.top_probabilities[0, -1, :, 0])
    moved = np.array(lens_change(found, 1, 0).data[0].z)
    assert np.allclose(moved[0], found.target_log_probs[1, -1, :, 0] - found.target_log_probs[0, -1, :, 0])
    paths = target_path(found, reading="rank").data
    assert [line.line.color for line in paths] == list(LANE_COLOURS[:2])
    assert list(paths[1].y) == found.target_ranks[1, :, -1, 0].tolist()
    both = logit_lens(tiny_gpt2, PROMPT, [(), (edit,)], targets=[" w5", " w9"])
    drawn = target_path(both, entries={0: "embedding", 3: "layer 2"}).data
    looks = {(line.line.color, line.line.dash, line.marker.symbol) for line in drawn}
    assert len(looks) == 4 and len({line.line.dash for line in drawn[:2]}) == 2, "a target and its distractor are told apart without colour"
    assert list(drawn[3].x) == ["embedding", "layer 2"] and list(drawn[3].y) == np.exp(both.target_log_probs[1, [0, 3], -1, 1]).tolist()


def test_comparison_lines_are_the_tokens_differences(tiny_gpt2: Any, edit: Any) -> None:
    found = compare(tiny_gpt2, [PROMPT], [(edit,)], Sampling(max_new_tokens=5))
    line = token_differences(found, 0).data[0]
    assert list(line.y) == [token.kl_nats for token in found.texts[0][1].tokens]
    token = found.texts[0][1].tokens[0]
    bars = top_tokens(token).data
    assert max(value for value in bars[1].x if value is not None) == pytest.approx(token.top[0][1])


def test_evaluation_figures_carry_intervals_placebos_and_doses(tiny_gpt2: Any, edit: Any) -> None:
    rows = contrast_rows(30)
    found = evaluation(tiny_gpt2, rows, [(edit,)], neutral=NEUTRAL, n_placebos=1, n_generations=2)
    metric = found.benefit.metric("mc1")
    dots = metric_intervals(found, metric).data
    assert [dot.x[0] for dot in dots] == [value.estimate for value in metric.values]
    assert dots[2].marker.symbol == "circle-open" and dots[1].marker.symbol != "circle-open"
    assert dots[0].error_x.array[0] == pytest.approx(metric.values[0].high - metric.values[0].estimate)
    assert len(effect_against_damage(found, "mc1").data) == 3
    sweep = dose_sweep(tiny_gpt2, edit, rows, NEUTRAL, [1.0, 2.0], n_generations=2)
    largest = max_coherent_dose(tiny_gpt2, edit, NEUTRAL, tolerance=0.5, max_new_tokens=2)
    curves = dose_curves(sweep, "mc2", coherent=largest)
    assert list(curves.data[0].x) == [0.0, 1.0, 2.0] and {trace.name for trace in curves.data} == {sweep.edit, "placebo"}
    assert sum(len(trace.x) for trace in dose_probes(largest).data) == len(largest.probes)
