"""Low-rank adapters: the edit, its trainable form, and their composition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import words
from workbench.edits.base import Header
from workbench.edits.engine import applied
from workbench.edits.store import load_edit, save
from workbench.errors import BadKnob, CorruptEdit, ModelMismatch, NotEnoughData
from workbench.methods.shared.adapters import AdapterEdit, Adapters, adapted_sites, composed, matrix_of, relative_norms, singular_values
from workbench.models.base import Fingerprint
from workbench.operations import LowRank
from workbench.sites import Site

TEXTS = [words(1, 2, 3, 4), words(5, 6), words(7, 8, 9, 10, 11, 12)]
SITES = ("w_in@0", "w_out@0", "w_q@1", "w_v@1")
# float32 rounding of one more matrix product beside a layer
CLOSE = 2e-5


def trained(model: Any, seed: int = 0, sites: tuple[str, ...] = SITES, rank: int = 3) -> Adapters:
    """Adapters with b ≠ 0, as after training."""
    made = Adapters(model, sites, rank, 2.0 * rank, torch.Generator().manual_seed(seed))
    draw = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        for b in made.parameters()[1::2]:
            b.copy_(0.1 * torch.randn(b.shape, generator=draw))
    return made


def edit_of(model: Any, adapters: Adapters) -> AdapterEdit:
    factors = adapters.factors()
    return AdapterEdit(Header("made", {}, model.fingerprint, "none", 0, {}, AdapterEdit.facts(factors)), factors)


def test_fresh_adapters_leave_logits_bit_equal_and_trained_ones_do_not(tiny: Any) -> None:
    batch = tiny.tokens(TEXTS)
    with torch.no_grad():
        base = tiny.logits(batch)
        with Adapters(tiny, SITES, 3, 3.0, torch.Generator().manual_seed(0)).attached():
            assert torch.equal(tiny.logits(batch), base)
        with trained(tiny).attached():
            assert (tiny.logits(batch) - base).abs().max() > 1e-2


def test_attached_adapters_equal_the_frozen_edit_through_the_engine(tiny: Any) -> None:
    batch, adapters = tiny.tokens(TEXTS), trained(tiny)
    with torch.no_grad():
        with adapters.attached():
            training = tiny.logits(batch)
        with applied(tiny, edit_of(tiny, adapters)):
            assert (tiny.logits(batch) - training).abs().max() < CLOSE


def test_gradients_reach_b_but_not_a_of_fresh_adapters_and_never_the_model(tiny: Any) -> None:
    adapters = Adapters(tiny, SITES, 3, 3.0, torch.Generator().manual_seed(0))
    with adapters.attached():
        tiny.logits(tiny.tokens(TEXTS)).square().mean().backward()
    for a, b in zip(adapters.parameters()[::2], adapters.parameters()[1::2]):
        assert a.grad is not None and not a.grad.any()
        assert b.grad is not None and b.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in tiny.network.parameters())
    assert all(norm > 0 for norm in adapters.gradient_norms().values())


def test_relative_norms_and_singular_values_equal_those_of_the_dense_product(tiny: Any) -> None:
    for site, low in trained(tiny).factors().items():
        dense, weight = low.dense(), matrix_of(tiny.weight(site)).double()
        norm = relative_norms(tiny, {site: low})[site]
        # float64 throughout; the thin and the dense way round differently
        assert norm == pytest.approx(float(dense.norm() / weight.norm()), rel=1e-9)
        torch.testing.assert_close(singular_values(low), torch.linalg.svdvals(dense)[:3], rtol=1e-9, atol=1e-9)
        assert weight.shape == dense.shape


def test_composition_equals_the_stack_of_its_parts_at_their_doses(tiny: Any) -> None:
    one = edit_of(tiny, trained(tiny, 1)).scaled(0.5)
    other = edit_of(tiny, trained(tiny, 2, ("w_in@0", "w_o@2"), rank=2))
    whole, batch = composed([one, other]), tiny.tokens(TEXTS)
    assert whole.factors[Site("w_in", 0)].a.shape[0] == 5
    with torch.no_grad():
        with applied(tiny, one, other):
            stacked = tiny.logits(batch)
        with applied(tiny, whole):
            assert (tiny.logits(batch) - stacked).abs().max() < CLOSE
        with applied(tiny, one):
            assert (tiny.logits(batch) - stacked).abs().max() > 1e-2


def test_composition_of_nothing_or_of_two_models_is_refused(tiny_gpt2: Any) -> None:
    edit = edit_of(tiny_gpt2, trained(tiny_gpt2))
    stranger = AdapterEdit(
        Header("made", {}, Fingerprint("other", "", "float32", "raw", "0"), "none", 0, {}, edit.header.facts),
        edit.factors,
    )
    with pytest.raises(NotEnoughData):
        composed([])
    with pytest.raises(NotEnoughData, match="dose 0"):
        composed([edit.scaled(0.0)])
    with pytest.raises(ModelMismatch, match="other"):
        composed([edit, stranger])


def test_saved_and_loaded_adapters_are_the_same_edit(tiny_gpt2: Any, tmp_path: Path) -> None:
    edit = edit_of(tiny_gpt2, trained(tiny_gpt2))
    save(edit, tmp_path / "edit")
    again = load_edit(tmp_path / "edit")
    assert isinstance(again, AdapterEdit) and again.id == edit.id
    for site, low in edit.factors.items():
        assert torch.equal(again.factors[site].b, low.b) and again.factors[site].scale == low.scale


def test_a_missing_factor_and_ranks_that_differ_are_named(tiny_gpt2: Any) -> None:
    edit = edit_of(tiny_gpt2, trained(tiny_gpt2))
    tensors = dict(edit.tensors())
    tensors["w_in@0.b"] = tensors["w_in@0.b"][:, :2]
    with pytest.raises(CorruptEdit, match="w_in@0"):
        AdapterEdit.from_tensors(edit.header, tensors)
    del tensors["w_in@0.b"]
    with pytest.raises(CorruptEdit):
        AdapterEdit.from_tensors(edit.header, tensors)


def test_adapters_need_a_matrix_that_maps_activations(tiny_gpt2: Any) -> None:
    draw = torch.Generator()
    with pytest.raises(BadKnob, match="w_e"):
        Adapters(tiny_gpt2, ["w_e"], 2, 2.0, draw)
    with pytest.raises(BadKnob, match="No weight"):
        Adapters(tiny_gpt2, [], 2, 2.0, draw)


def test_adapters_on_both_ends_of_the_network_are_not_foldable(tiny_gpt2: Any) -> None:
    low = LowRank(torch.zeros(1, 32), torch.zeros(100, 1))
    edit = AdapterEdit(Header("made", {}, tiny_gpt2.fingerprint, "none", 0, {}), {Site("w_u"): low})
    assert "w_u" in str(edit.exports()["checkpoint"])


def test_first_factors_are_even_draws_on_both_sides_of_zero_within_their_bound(tiny: Any) -> None:
    for low in Adapters(tiny, SITES, 3, 3.0, torch.Generator().manual_seed(0)).factors().values():
        bound = low.a.shape[1] ** -0.5
        # 96 even draws or more: their mean is within 5 · bound / √(3 · 96) of 0, and one lies in each outer eighth.
        assert float(low.a.abs().max()) <= bound and abs(float(low.a.mean())) < 0.3 * bound
        assert float(low.a.min()) < -0.75 * bound and float(low.a.max()) > 0.75 * bound


def test_a_matrix_that_no_layer_has_is_refused_with_those_there_are(tiny_gpt2: Any) -> None:
    with pytest.raises(BadKnob, match="has no w_gate in layers 0, 1") as caught:
        adapted_sites(tiny_gpt2, (0, 1), ("w_gate",))
    n = tiny_gpt2.info.n_layers
    assert f"w_in in layers {', '.join(map(str, range(n)))}" in caught.value.hint and "w_gate" not in caught.value.hint


def test_a_mixture_of_experts_says_why_peft_cannot_take_its_mlp_and_no_other_network_does(tiny_gpt2: Any) -> None:
    low = LowRank(torch.zeros(1, 32), torch.zeros(32, 1))
    for network, sites, refused in (("mixture", ("w_in",), True), ("mixture", ("w_o",), False), ("", ("w_in",), False)):
        facts = {"network": network} if network else {}
        edit = AdapterEdit(Header("made", {}, tiny_gpt2.fingerprint, "none", 0, {}, facts), {Site(kind, 1): low for kind in sites})
        told = edit.exports()
        assert ("those of the experts" in getattr(told["peft"], "reason", "")) == refused
        assert not hasattr(told["checkpoint"], "reason") and not hasattr(told["script"], "reason")


def test_a_composition_names_the_data_of_all_its_parts(tiny_gpt2: Any) -> None:
    one, other = (edit_of(tiny_gpt2, trained(tiny_gpt2, seed)) for seed in (1, 2))
    other = AdapterEdit(replace(other.header, data="another"), other.factors)
    assert composed([one, other]).header.data == f"{one.header.data}+another"
