"""Gates: what passes, what does not, and that they travel with the edit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import contrast_rows, words
from workbench import memo, methods
from workbench.edits.engine import applied
from workbench.edits.store import load_edit, save
from workbench.errors import UnsupportedExport
from workbench.methods.registry import FitReport, Fitted
from workbench.methods.shared.gating import deciding, gated, gated_edit
from workbench.numerics.probes import logistic_probe
from workbench.operations import TransformAt

ROWS = contrast_rows(40)


def draw(n: int, shift: float, seed: int) -> torch.Tensor:
    x = torch.randn(n, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[:, 0] += shift
    return x * torch.logspace(0, 3, 12, dtype=torch.float64)  # coordinates of very different size


def test_a_probe_tells_shifted_classes_apart_and_not_equal_ones() -> None:
    probe = logistic_probe(draw(300, 3.0, 0), draw(900, -3.0, 1))
    yes, no = probe.scores(draw(100, 3.0, 2)) > 0, probe.scores(draw(100, -3.0, 3)) <= 0
    assert float(yes.double().mean()) > 0.95 and float(no.double().mean()) > 0.95
    same = logistic_probe(draw(300, 0.0, 0), draw(900, 0.0, 1))
    assert 0.3 < float((same.scores(draw(200, 0.0, 2)) > 0).double().mean()) < 0.7


@pytest.mark.parametrize("name", ["sea", "mean_difference"])
def test_a_closed_gate_leaves_neutral_text_bit_equal_and_the_ungated_edit_does_not(tiny_gpt2: Any, name: str) -> None:
    chosen = methods.get(name)
    bare = chosen.fit(tiny_gpt2, ROWS, chosen.configure({"layers": (1,)})).edit
    gated = gated_edit(tiny_gpt2, bare, ROWS)
    (site,) = gated.gates
    neutral = tiny_gpt2.tokens([words(*range(60 + i, 72)) for i in range(9)])
    shut: list[torch.Tensor] = []
    with torch.no_grad(), tiny_gpt2.intercept(site, lambda x: shut.append(gated.gates[site](x)[..., 0] == 0)):
        base = tiny_gpt2.logits(neutral)
    until = (shut[0] | ~neutral.mask).long().cumprod(1).bool()  # rows up to the first token that passes are untouched
    assert float(until.double().mean()) > 0.5
    with applied(tiny_gpt2, gated):
        assert torch.equal(tiny_gpt2.logits(neutral)[until], base[until])
    with applied(tiny_gpt2, bare):
        assert not torch.allclose(tiny_gpt2.logits(neutral)[until], base[until], atol=1e-3)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_gate_is_saved_with_its_edit(tiny_gpt2: Any, tmp_path: Path, kind: str) -> None:
    chosen = methods.get("mean_difference")
    fitted = chosen.fit(tiny_gpt2, ROWS, chosen.configure({"gate": kind}))
    batch = tiny_gpt2.tokens(ROWS.column("prompt")[:3])
    with applied(tiny_gpt2, fitted.edit):
        expected = tiny_gpt2.logits(batch)
    with applied(tiny_gpt2, load_edit(save(fitted.edit, tmp_path / "e"))):
        assert torch.equal(tiny_gpt2.logits(batch), expected)
    assert all(isinstance(op, TransformAt) and op.gate is not None and op.gate.kind == kind for op in fitted.edit.operations())
    assert set(fitted.report.arrays) >= {"gate_passes", "gate_leaks"} and fitted.report.scalars["gate_leaks"] <= 0.05


def test_edits_of_weights_take_no_gate(tiny_gpt2: Any) -> None:
    chosen = methods.get("sea")
    edit = chosen.fit(tiny_gpt2, ROWS, chosen.configure({"center": "none"}, "linear")).edit
    assert gated_edit(tiny_gpt2, edit, ROWS).gates
    with pytest.raises(UnsupportedExport, match="gate"):
        gated_edit(tiny_gpt2, edit, ROWS).folded(tiny_gpt2)


def test_a_gate_lets_as_much_neutral_text_pass_as_it_may_leak_and_never_more_than_its_probe_does(tiny_gpt2: Any) -> None:
    """Texts drawn at random: the probe tells them apart badly, so that its own threshold leaks much."""
    draw = torch.Generator().manual_seed(0)

    def drawn(n: int) -> str:
        return words(*torch.randint(1, 90, (n,), generator=draw).tolist())

    rows = ROWS.with_rows(dataclasses.replace(row, prompt=drawn(6), neutral=drawn(7)) for row in ROWS)
    edit = methods.get("mean_difference").fit(tiny_gpt2, ROWS, methods.get("mean_difference").configure({"layers": (1,)})).edit

    def leaks(leak: float) -> float:
        found = gated(tiny_gpt2, Fitted(edit, FitReport()), rows, leak=leak).report
        (scores,) = (values for name, values in found.arrays.items() if name.startswith("gate_scores_neutral["))
        assert found.scalars["gate_leaks"] == (scores > 0).mean() and len(scores) == 112
        return found.scalars["gate_leaks"]

    own = leaks(1.0)
    assert 0.2 < own < 0.5 and leaks(0.9) == own
    # One token of 112: between two of them the quantile is interpolated.
    assert [leaks(leak) for leak in (0.0, 0.05, 0.15)] == pytest.approx([0.0, 0.05, 0.15], abs=1 / 112)
    assert leaks(0.0) == 0.0


def test_what_is_kept_of_a_gate_is_of_its_model_its_rows_its_seed_and_its_form(tiny_gpt2: Any, tiny_models: Any) -> None:
    method = methods.get("mean_difference")
    config = method.configure({"layers": (1,)})

    def gate(model: Any, rows: Any = ROWS, seed: int = 0, leak: float = 0.01) -> Any:
        found = gated(model, Fitted(method.fit(model, rows, config).edit, FitReport()), rows, seed=seed, leak=leak)
        return {name: scores for name, scores in found.report.arrays.items() if name.startswith("gate_scores")}

    def equal(one: Any, other: Any) -> bool:
        return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)

    alone = gate(tiny_models["neox"])
    with memo.remembering():
        first = gate(tiny_gpt2)
        assert first and equal(first, gate(tiny_gpt2))
        assert equal(gate(tiny_models["neox"]), alone), "another model's gate is its own"
        assert not equal(first, gate(tiny_gpt2, leak=0.5)) and not equal(first, gate(tiny_gpt2, contrast_rows(40, seed=3)))


def test_where_what_is_said_is_decided_no_padding_counts(tiny_gpt2: Any) -> None:
    batch = tiny_gpt2.tokens([words(1, 2, 3, 4), words(5)], [words(6), words(7)])
    decided = deciding(batch)
    assert decided.sum(1).tolist() == [2, 2] and not (decided & ~batch.mask).any(), "the prompt's last token and the answer's one"


def test_a_gate_draws_by_the_seed_that_it_is_given_and_by_0_else(tiny_gpt2: Any) -> None:
    rows = contrast_rows(60)
    edit = methods.get("mean_difference").fit(tiny_gpt2, rows).edit
    alike = [gated_edit(tiny_gpt2, edit, rows, **seed).id for seed in ({}, {"seed": 0})]
    assert alike[0] == alike[1]
