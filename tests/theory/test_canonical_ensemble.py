"""A Backpack's sense edit lent to another model at inference time. Ref: docs/methods/senses.md §10."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
import torch

from tests.theory.test_canonical_protocol import SINGLE, canonical_rows
from workbench.errors import Obstructed
from workbench.evaluate.protocol.ensemble import BETAS, Ensemble, ensemble_protocol
from workbench.evaluate.protocol.measure import EngineMeter, canonical_task
from workbench.evaluate.protocol.rules import Rules, in_ball
from workbench.evaluate.protocol.scores import general_chunks
from workbench.methods import get
from workbench.methods.shared.canonical_examples import canonical_items
from workbench.methods.shared.sense_edit import SenseEdit
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch


@pytest.fixture(scope="module")
def edit(tiny_backpack_model: Any) -> SenseEdit:
    method = get("senses")
    return method.fit(tiny_backpack_model, canonical_rows(), method.configure({"epochs": 3, "top_k": 4, "lr": 0.2})).edit


@pytest.fixture
def ensemble(tiny_gpt2: Any, tiny_backpack_model: Any) -> Ensemble:
    return Ensemble(tiny_gpt2, tiny_backpack_model, general_chunks(tiny_backpack_model, canonical_rows())[1])


def by_log_probabilities(big: Any, model: Any, edit: SenseEdit, ids: tuple[int, ...], beta: float) -> torch.Tensor:
    """log p_big + β (log p_edited − log p_backpack), normalised: the definition, through the engine."""
    from workbench.edits.engine import applied

    batch, n = TokenBatch.of([ids], None), min(big.info.d_vocab, model.n_tokens)
    with torch.no_grad():
        before = model.logits(batch)[0].log_softmax(-1)[:, :n]
        with applied(model, edit):
            after = model.logits(batch)[0].log_softmax(-1)[:, :n]
        return (big.logits(batch)[0, :, :n].log_softmax(-1) + beta * (after - before)).log_softmax(-1)


def test_the_affine_ensemble_is_its_definition_by_log_probabilities(
    ensemble: Ensemble, tiny_gpt2: Any, tiny_backpack_model: Any, edit: SenseEdit
) -> None:
    items = canonical_items(tiny_backpack_model, canonical_rows().split("fit").tagged("role:train"))
    for beta in (0.0, 0.7):
        found = ensemble.losses(items, edit.selection, edit.delta, beta)
        for item, value in zip(items, found, strict=True):
            ids, rows = item.sequences()[0]
            log_p = by_log_probabilities(tiny_gpt2, tiny_backpack_model, edit, ids, beta)
            assert value == pytest.approx(-float(log_p[list(rows), list(ids[rows.start + 1 :])].sum()), abs=SINGLE)
    # Negative control: the edit does reach the other model.
    assert found != pytest.approx(ensemble.losses(items, edit.selection, edit.delta, 0.0), abs=1e-2)


def test_beta_zero_is_the_big_model_alone_on_neutral_text_too(ensemble: Ensemble, tiny_gpt2: Any, edit: SenseEdit) -> None:
    rows = canonical_rows()
    task, general = canonical_task(tiny_gpt2, rows, "test"), general_chunks(tiny_gpt2, rows)[1]
    alone = EngineMeter(tiny_gpt2, task, general).measure(None).general
    assert ensemble.general(edit.selection, edit.delta, 0.0) == pytest.approx(alone, abs=SINGLE)


def test_beta_is_the_largest_tenth_in_the_big_models_own_ball(ensemble: Ensemble, edit: SenseEdit) -> None:
    base = ensemble.general(edit.selection, edit.delta, 0.0)
    rhos = {beta: ensemble.general(edit.selection, edit.delta, beta) / base for beta in BETAS}
    assert max(rhos.values()) > 1 + 1e-6, "the edit costs nothing here, so no ball would bind"
    for epsilon in (max(rhos.values()), (rhos[1.0] - 1) / 2, 1e-9):
        beta, rho = ensemble.beta(edit.selection, edit.delta, abs(epsilon))
        assert beta == next(b for b in BETAS if b == 0 or in_ball(rhos[b], abs(epsilon))) and rho == pytest.approx(rhos[beta], abs=1e-12)
    assert BETAS[0] == 1.0 and BETAS[-1] == 0.0 and len(BETAS) == 11


def test_an_edit_without_size_is_lent_whole_and_changes_nothing(ensemble: Ensemble, edit: SenseEdit) -> None:
    assert ensemble.beta(edit.selection, 0 * edit.delta, 1e-5) == (1.0, 1.0)


def test_beta_chosen_on_one_half_reports_the_rise_of_the_other(ensemble: Ensemble, edit: SenseEdit) -> None:
    wide, (_, rho) = 10.0, ensemble.beta(edit.selection, edit.delta, 10.0, Rules(beta_data="half"))
    first, second = (
        ensemble.general(edit.selection, edit.delta, 1.0, half) / ensemble.general(edit.selection, edit.delta, 0.0, half) for half in (0, 1)
    )
    assert rho == pytest.approx(second) and second != pytest.approx(first, abs=1e-6)
    assert ensemble.beta(edit.selection, edit.delta, wide)[1] != pytest.approx(rho, abs=1e-6)


def test_the_protocol_lends_each_seeds_edit_and_stays_in_the_ball(tiny_gpt2: Any, tiny_backpack_model: Any) -> None:
    found, alone = ensemble_protocol(tiny_gpt2, tiny_backpack_model, canonical_rows(), draws=1, seeds=(0, 1), epsilons=(1.0, 1e-5))
    assert [summary.row()["epsilon"] for summary in found] == [1.0, 1e-5] == [summary.epsilon for summary in alone]
    for summary in found:
        assert [record.seed for record in summary.records] == [0, 1]
        assert all(in_ball(record.rho, record.epsilon) and 0 <= record.beta <= 1 for record in summary.records)


def test_models_with_other_tokens_are_refused_before_anything_is_fitted(tiny_gpt2: Any, tiny_backpack_model: Any) -> None:
    other = create_autospec(LanguageModel, instance=True, info=replace(tiny_gpt2.info, name="other"), tokenizer=Mock())
    other.tokenizer.get_vocab.return_value = {"a": 0}

    with pytest.raises(Obstructed, match="different tokens"):
        ensemble_protocol(other, tiny_backpack_model, canonical_rows())
