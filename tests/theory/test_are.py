"""Invariants of docs/methods/are.md §6, 1 to 7, each with its negative control: adapters and the representation that is read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.contest import CLOSE, TEXTS, contest_on, fitted, weights_of
from tests.shape_checks import unchecked
from workbench.edits.engine import applied
from workbench.methods.are.config import AreConfig
from workbench.methods.shared.adapters import AdapterEdit, Adapters
from workbench.methods.shared.discriminator import representation, representations
from workbench.models.base import WeightSlot
from workbench.progress import silent

READ = (1, 0)


def test_1_fresh_adapters_leave_the_representation_bit_equal(tiny: Any) -> None:
    batch = tiny.tokens(TEXTS)
    base = representations(tiny, batch, READ)
    adapters = Adapters(tiny, ["w_in@0", "w_out@1"], 4, 4.0, torch.Generator().manual_seed(0))
    with adapters.attached():
        assert torch.equal(representations(tiny, batch, READ), base)
        adapters.parameters()[1].data.normal_(0, 0.1)
        assert not torch.equal(representations(tiny, batch, READ), base)


@pytest.mark.parametrize("modules", [("w_in", "w_out"), ("w_q", "w_v")])
def test_2_the_edit_equals_the_merged_weights_which_come_back_bit_exactly(tiny: Any, modules: tuple[str, ...]) -> None:
    contest = contest_on(tiny, modules=modules)
    contest.open()
    contest.move(1, silent())
    made, batch = contest.edit(contest.adapters.factors(), 1), tiny.tokens(TEXTS)
    before = weights_of(tiny)
    with torch.no_grad():
        base = tiny.logits(batch)
        with applied(tiny, made):
            beside = tiny.logits(batch)
        for site, low in made.factors.items():
            slot, delta = tiny.weight(site), low.dense().float()
            whole = slot.parameter.T if slot.is_transposed else slot.parameter
            rows = slice(None) if slot.columns is None else slot.columns
            whole[rows] += delta
        merged = tiny.logits(batch)
        for name, parameter in tiny.network.named_parameters():
            parameter.copy_(before[name])
        assert torch.equal(tiny.logits(batch), base)
    assert (beside - merged).abs().max() < CLOSE
    assert (beside - base).abs().max() > 50 * CLOSE


def test_3_rank_is_bounded_and_other_weights_are_untouched(tiny: Any) -> None:
    before = weights_of(tiny)
    made = fitted(tiny, rank=3).edit
    assert isinstance(made, AdapterEdit)
    for low in made.factors.values():
        assert int(torch.linalg.matrix_rank(low.dense())) <= 3
        assert low.dense().abs().max() > 0
    assert all(torch.equal(before[name], parameter) for name, parameter in tiny.network.named_parameters())


@pytest.mark.parametrize(("kinds", "shapes", "count"), [
    (("w_q", "w_v"), {"w_q": (4096, 4096), "w_v": (4096, 4096)}, 655_360),
    (("w_in", "w_out"), {"w_in": (11008, 4096), "w_out": (4096, 11008)}, 1_208_320),
])  # fmt: skip
def test_3_trainable_counts_are_those_of_the_released_runs(kinds: tuple[str, ...], shapes: dict[str, tuple[int, int]], count: int) -> None:
    def weight(site: Any) -> WeightSlot:
        parameter = nn.Parameter(torch.empty(shapes[site.kind], device="meta"))
        return WeightSlot(parameter, site.kind, nn.Identity())

    llama: Any = SimpleNamespace(dtype=torch.float32, device=torch.device("cpu"), weight=weight)
    sites = AreConfig(modules=kinds, depth="middle").adapter_sites(32)
    assert [site.layer for site in sites[::2]] == [9, 10, 11, 12, 13]
    with unchecked():
        assert Adapters(llama, sites, 8, 8.0, torch.Generator()).n_parameters == count


def test_4_the_representation_is_the_hidden_states_deepest_block_first(tiny: Any) -> None:
    batch = tiny.tokens([TEXTS[0]])
    r = representation(tiny, batch, READ)
    hidden = tiny.network(batch.ids, output_hidden_states=True).hidden_states
    d = tiny.info.d_model
    assert r.shape == (1, len(READ) * d)
    for j, block in enumerate(READ):
        torch.testing.assert_close(r[:, j * d : (j + 1) * d], hidden[block + 1][:, -1], atol=CLOSE, rtol=1e-4)
    assert not torch.allclose(r[:, :d], hidden[READ[0]][:, -1], atol=1e-2), "the block below is another one"


def test_4_middle_blocks_are_those_of_the_released_code_at_its_depth() -> None:
    paper = AreConfig(depth="middle")
    assert {n: paper.reads(n) for n in (6, 12, 28, 32)} == {6: (3, 2), 12: (5, 4), 28: (12, 11, 10, 9), 32: (14, 13, 12, 11, 10)}
    blocks = {n: sorted({site.layer for site in paper.adapter_sites(n)}) for n in (6, 12, 28)}
    assert blocks == {6: [1, 2], 12: [3, 4, 5], 28: [8, 9, 10, 11]}


@pytest.mark.parametrize("n_layers", [1, 2, 4, 6, 12, 32])
def test_4_late_blocks_are_read_at_least_as_deep_as_any_is_edited(n_layers: int) -> None:
    reads, edited = AreConfig().reads(n_layers), {site.layer for site in AreConfig().adapter_sites(n_layers)}
    assert list(reads) == sorted(reads, reverse=True) and edited and max(edited) <= reads[0] < n_layers
    assert n_layers < 4 or reads[0] > AreConfig(depth="middle").reads(n_layers)[0]


def test_5_the_representation_depends_only_on_real_tokens(tiny: Any) -> None:
    together = representations(tiny, tiny.tokens(TEXTS), READ)
    for i, text in enumerate(TEXTS):
        alone = representations(tiny, tiny.tokens([text]), READ)
        torch.testing.assert_close(together[i : i + 1], alone, atol=CLOSE, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_6_gradients_of_the_short_forward_are_those_of_the_full_one(tiny: Any) -> None:
    batch = tiny.tokens(TEXTS)
    adapters = Adapters(tiny, ["w_in@0", "w_v@1"], 4, 4.0, torch.Generator().manual_seed(0))
    for parameter in adapters.parameters():
        parameter.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    with adapters.attached():
        short = torch.autograd.grad(representation(tiny, batch, READ).square().sum(), adapters.parameters())
        seen: list[torch.Tensor] = []
        with tiny.intercepts([(f"resid_post@{block}", seen.append) for block in READ]):
            logits = tiny.logits(batch)
        assert logits.shape[-1] == tiny.info.d_vocab
        whole = torch.cat([x[:, -1] for x in reversed(seen)], -1)
        full = torch.autograd.grad(whole.square().sum(), adapters.parameters())
    assert all(torch.equal(one, other) for one, other in zip(short, full))
    assert all(one.abs().max() > 0 for one in short)


def test_7_no_gradient_reaches_adapters_above_the_deepest_block_read(tiny: Any) -> None:
    adapters = Adapters(tiny, ["w_in@0", "w_in@2"], 4, 4.0, torch.Generator().manual_seed(0))
    with adapters.attached():
        representation(tiny, tiny.tokens(TEXTS), READ).square().sum().backward()
    low_a, low_b, high_a, high_b = (parameter.grad for parameter in adapters.parameters())
    assert high_a is None and high_b is None
    assert low_a is not None and not low_a.any(), "b = 0 keeps a's first gradient at zero"
    assert low_b is not None and low_b.abs().max() > 0
