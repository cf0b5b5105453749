"""What a rotation of head outputs promises on live models: invariants of docs/methods/tarot.md §6, each with what must fail."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.rotations import CLOSE, HELD, config, edit_of, logits
from workbench.edits.base import Possible, Refused
from workbench.edits.engine import applied
from workbench.errors import UnsupportedExport
from workbench.methods.tarot.config import angle_space
from workbench.methods.tarot.edit import RotationEdit
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.numerics.rotations import AngleSpace
from workbench.record import activations
from workbench.sites import Site

EXACT = 1e-9  # float64


def drawn(model: LanguageModel, variant: str = "rotary", layers: tuple[int, ...] = (1, 2), seed: int = 0, **more: Any) -> RotationEdit:
    space = angle_space(config(variant=variant, layers=layers), model, None)
    point = torch.rand(space.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return edit_of(model, space, space.angles(point), **more)


@pytest.mark.parametrize("variant", ["rotary", "givens", "scale", "mlp"])
def test_identity_angles_give_the_same_bits_and_others_do_not(tiny: LanguageModel, variant: str) -> None:
    edit = drawn(tiny, variant)
    identity = torch.ones_like(edit.angles) if variant == "scale" else torch.zeros_like(edit.angles)
    base = logits(tiny)
    assert torch.equal(logits(tiny, RotationEdit(edit.header, identity)), base)
    assert torch.equal(logits(tiny, edit.scaled(0.0)), base)
    assert not torch.allclose(logits(tiny, edit), base, atol=1e-3)


def test_head_norms_are_kept_and_everything_outside_the_edit_is_bit_equal(tiny: LanguageModel) -> None:
    space = AngleSpace("rotary", (1,), tiny.info.n_heads, tiny.info.d_head, heads=((1, 2),))
    edit = edit_of(tiny, space, space.angles(torch.rand(space.dim, generator=torch.Generator().manual_seed(0)).double()))
    batch = tiny.tokens([words(11, 12, 13), words(20, 21)])
    below, here = Site("resid_pre", 1), Site("head_z", 1)
    with torch.no_grad():
        base = activations(tiny, batch, [below, here])
        with applied(tiny, edit):
            after = activations(tiny, batch, [below, here])
    assert torch.equal(base[below], after[below])
    old, new = (x[here].view(*x[here].shape[:2], tiny.info.n_heads, -1) for x in (base, after))
    others = [head for head in range(tiny.info.n_heads) if head != 2]
    assert torch.equal(old[:, :, others], new[:, :, others])
    assert not torch.allclose(old[:, :, 2], new[:, :, 2], atol=1e-4)
    torch.testing.assert_close(old.norm(dim=-1), new.norm(dim=-1), atol=0, rtol=1e-5)  # float32


def test_opposite_angles_restore_and_a_full_turn_changes_nothing(tiny_gpt2: LanguageModel) -> None:
    edit = drawn(tiny_gpt2)
    base, turned_logits = logits(tiny_gpt2), logits(tiny_gpt2, edit)
    torch.testing.assert_close(logits(tiny_gpt2, edit, RotationEdit(edit.header, -edit.angles)), base, atol=CLOSE, rtol=0)
    full = RotationEdit(edit.header, edit.angles + 2 * math.pi)
    torch.testing.assert_close(logits(tiny_gpt2, full), turned_logits, atol=CLOSE, rtol=0)
    half = RotationEdit(edit.header, edit.angles + math.pi)
    assert not torch.allclose(logits(tiny_gpt2, half), turned_logits, atol=1e-2)


def test_doses_add_and_scale_the_angles(tiny_gpt2: LanguageModel) -> None:
    edit = drawn(tiny_gpt2)
    once = logits(tiny_gpt2, edit.scaled(0.3), edit.scaled(0.7))
    torch.testing.assert_close(once, logits(tiny_gpt2, edit), atol=CLOSE, rtol=0)
    half = RotationEdit(edit.header, 0.5 * edit.angles)
    torch.testing.assert_close(logits(tiny_gpt2, edit.scaled(0.5)), logits(tiny_gpt2, half), atol=0, rtol=0)
    assert not torch.allclose(logits(tiny_gpt2, edit.scaled(0.5)), logits(tiny_gpt2, edit), atol=1e-3)


def test_appending_tokens_permuting_rows_and_a_cache_change_nothing(tiny: LanguageModel) -> None:
    edit = drawn(tiny)
    short, long = tiny.tokens(words(11, 12, 13)), tiny.tokens(words(11, 12, 13, 14, 15))
    with torch.no_grad(), applied(tiny, edit):
        torch.testing.assert_close(tiny.logits(long)[:, :3], tiny.logits(short)[:, :3], atol=CLOSE, rtol=0)
    forwards = logits(tiny, edit, text=(words(11, 12, 13), words(20, 21)))
    torch.testing.assert_close(logits(tiny, edit, text=(words(20, 21), words(11, 12, 13))), forwards.flip(0), atol=CLOSE, rtol=0)
    with torch.no_grad(), applied(tiny, edit):
        _, cache = tiny.step(short, tiny.new_cache(), 0)
        cached, _ = tiny.step(long, cache, 3)
        torch.testing.assert_close(cached, tiny.logits(long)[:, -1], atol=CLOSE, rtol=0)
    assert not torch.allclose(cached, logits(tiny, text=(words(11, 12, 13, 14, 15),)), atol=1e-3)


def merged(model: LanguageModel, edit: RotationEdit) -> Any:
    """Return a plain network with the edit folded in."""
    network = copy.deepcopy(model.network)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for operation in edit.folded(model):
            slot = model.weight(operation.site)
            delta = operation.delta.T if slot.is_transposed else operation.delta  # type: ignore[union-attr]
            old = parameters[slot.parameter_name]
            old.copy_((old.double() + delta).to(old.dtype))
    return network


@pytest.mark.parametrize("variant", ["rotary", "givens", "scale", "mlp"])
def test_a_checkpoint_with_the_edit_folded_in_gives_the_same_logits(tiny: LanguageModel, variant: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    edit = drawn(tiny, variant).scaled(0.8)
    network = merged(tiny, edit)
    if variant == "rotary":
        network.save_pretrained(tmp_path)
        network = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    batch = tiny.tokens(words(11, 12, 13, 14))
    with torch.no_grad():
        plain = network(batch.ids).logits[:, -1]
        unedited = tiny.network(batch.ids).logits[:, -1]
    torch.testing.assert_close(plain, logits(tiny, edit, text=(words(11, 12, 13, 14),)), atol=CLOSE, rtol=0)
    assert not torch.allclose(plain, unedited, atol=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_folding_is_exact_in_float64(tiny_folders: dict[str, Path], family: str) -> None:
    model = load(str(tiny_folders[family]), dtype="float64")
    edit = drawn(model)
    batch = model.tokens(words(11, 12, 13, 14))
    with torch.no_grad():
        plain = merged(model, edit)(batch.ids).logits[:, -1]
    assert float((plain - logits(model, edit, text=(words(11, 12, 13, 14),))).abs().max()) < EXACT


@pytest.mark.parametrize("family", ["gpt2", "neox"])
def test_a_held_value_bias_folds_into_the_output_bias_and_is_another_edit(tiny_models: dict[str, Any], family: str) -> None:
    model = tiny_models[family]
    edit, included = drawn(model, convention=HELD), drawn(model)
    assert edit.held is not None
    batch = model.tokens(words(11, 12, 13, 14))
    with torch.no_grad():
        plain = merged(model, edit)(batch.ids).logits[:, -1]
    held = logits(model, edit, text=(words(11, 12, 13, 14),))
    torch.testing.assert_close(plain, held, atol=CLOSE, rtol=0)
    assert not torch.allclose(held, logits(model, included, text=(words(11, 12, 13, 14),)), atol=1e-3)


def test_a_held_value_bias_without_an_output_bias_is_not_exported(tiny_models: dict[str, Any]) -> None:
    edit = drawn(tiny_models["qwen2"], convention=HELD)
    assert isinstance(edit.exports()["checkpoint"], Refused)
    with pytest.raises(UnsupportedExport, match="no bias"):
        edit.folded(tiny_models["qwen2"])
    assert isinstance(drawn(tiny_models["qwen2"]).exports()["checkpoint"], Possible)
    assert drawn(tiny_models["llama"], convention=HELD).held is None  # no value bias, one convention


def test_turning_values_instead_of_outputs_is_the_same_without_shared_values(tiny_models: dict[str, Any]) -> None:
    model = tiny_models["gpt2"]
    edit = drawn(model, layers=(1,))
    network = copy.deepcopy(model.network)
    slot, rotation = model.weight(Site("w_v", 1)), edit.rotations()[0]
    columns = slot.columns
    module = network.get_submodule(slot.parameter_name.rpartition(".")[0])
    n, d = rotation.shape[:2]
    with torch.no_grad():  # Conv1D: y = x W + b, so the outputs of a head turn from the right
        for parameter in (module.weight, module.bias):
            old = parameter[..., columns].double().view(-1, n, d)
            parameter[..., columns] = torch.einsum("xhd,hde->xhe", old, rotation).reshape(parameter[..., columns].shape).float()
    batch = model.tokens(words(11, 12, 13, 14))
    with torch.no_grad():
        plain = network(batch.ids).logits[:, -1]
    torch.testing.assert_close(plain, logits(model, edit, text=(words(11, 12, 13, 14),)), atol=CLOSE, rtol=0)
