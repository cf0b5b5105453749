"""Edits act on TransformerLens's bridge as the engine makes them act on the plain network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import FAMILIES, contrast_rows, words
from tests.families import family_folder
from tests.operations import edit_of, hooks_on, noise, operations_of, shift
from tests.shape_checks import unchecked
from workbench.edits.engine import applied
from workbench.errors import Obstructed
from workbench.lenses.bridged import edited_bridge, run
from workbench.models.catalog import load
from workbench.operations import AddToWeight, LowRank

BRIDGED = [family for family in FAMILIES if family != "backpack"]


# float32, three layers: the bridge's own logits differ from the plain network's by up to 1.5e-6, and edits here move
# them by 0.1 to 10.
TOLERANCE = 1e-5


@pytest.mark.parametrize("family", BRIDGED)
def test_each_kind_of_operation_acts_on_the_bridge_as_in_the_engine_and_leaves_nothing_behind(family: str, tiny_models: Any) -> None:
    tiny = tiny_models[family]
    batch = tiny.tokens([words(3, 7, 12, 5), words(7, 3, 1, 9)], [" w4 w3", " w8 w7"])
    base, before = run(tiny, batch)[0], hooks_on(tiny)
    parameters = {name: id(p) for name, p in tiny.bridge.original_model.named_parameters()}
    values = {name: p.clone() for name, p in tiny.network.named_parameters()}
    plain = tiny.logits(batch)
    for name, ops in operations_of(tiny).items():
        edit = edit_of(tiny, *ops)
        with torch.no_grad(), applied(tiny, edit):
            wanted = tiny.logits(batch)
        got = run(tiny, batch, [edit])[0]
        scale = max(1.0, float(wanted.abs().max()) / 10)
        assert (got - wanted).abs().max() < TOLERANCE * scale, name
        if "k_proj.bias" not in name:  # a constant in all keys nearly cancels in the softmax
            assert (wanted - plain).abs().max() > 1e-3, f"{name} does nothing, so the comparison shows nothing"
    assert hooks_on(tiny) == before
    assert {name: id(p) for name, p in tiny.bridge.original_model.named_parameters()} == parameters
    assert all(torch.equal(p, values[name]) for name, p in tiny.network.named_parameters())
    assert torch.equal(run(tiny, batch)[0], base)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_bridge_bit_equal(tiny_gpt2: Any, error: type[BaseException]) -> None:
    batch = tiny_gpt2.tokens(words(1, 2, 3))
    base, before = run(tiny_gpt2, batch)[0], hooks_on(tiny_gpt2)
    stack = operations_of(tiny_gpt2)
    edit = edit_of(tiny_gpt2, *stack["resid_post@0"], *stack["w_u"], *stack["w_q"])
    with pytest.raises(error), edited_bridge(tiny_gpt2, [edit]) as bridge:
        assert hooks_on(tiny_gpt2) > before
        assert not torch.equal(bridge(batch.ids), base)
        raise error
    assert hooks_on(tiny_gpt2) == before
    assert torch.equal(run(tiny_gpt2, batch)[0], base)


def test_a_fitted_method_acts_on_the_bridge_and_a_refused_edit_touches_nothing(tiny_gpt2: Any, tiny_models: Any) -> None:
    import workbench.methods  # noqa: F401 - registers
    from workbench.errors import ModelMismatch
    from workbench.methods.registry import get

    fitted = get("mean_difference").fit(tiny_gpt2, contrast_rows()).edit
    batch, before = tiny_gpt2.tokens(words(20, 21, 22)), hooks_on(tiny_models["llama"])
    with torch.no_grad(), applied(tiny_gpt2, fitted):
        wanted = tiny_gpt2.logits(batch)
    assert torch.allclose(run(tiny_gpt2, batch, [fitted])[0], wanted, atol=TOLERANCE)
    with pytest.raises(ModelMismatch), edited_bridge(tiny_models["llama"], [fitted]):
        pass
    assert hooks_on(tiny_models["llama"]) == before


def test_a_model_without_a_bridge_is_refused_with_a_way_on() -> None:
    class Other:
        class info:  # noqa: N801
            name = "embedded-backpack"

    with pytest.raises(Obstructed, match="embedded-backpack has none") as caught, unchecked(), edited_bridge(Other()):  # type: ignore[arg-type]
        pass
    assert "senses" in caught.value.hint


@pytest.mark.parametrize("model_type", ["phi3", "mixtral", "deepseek_v3", "opt", "gemma2", "gpt_bigcode", "olmo2", "qwen3_next", "bloom"])
def test_at_each_place_of_other_structures_the_bridge_is_the_engine_or_refuses_by_name(model_type: str, tmp_path: Path) -> None:
    model = load(str(family_folder(model_type, tmp_path / model_type)))
    batch, acted = model.tokens([words(12, 13, 14, 15)]), 0
    base = run(model, batch)[0]
    for site in model.sites():
        if site.is_weight:
            slot = model.weight(site)
            low = LowRank(noise(2, slot.shape[1]), noise(slot.shape[0], 2))
            op: Any = AddToWeight(site, noise(*slot.shape) if slot.is_table else low)
        else:
            op = shift(model.width(site), site=str(site))
        edit = edit_of(model, op)
        with torch.no_grad(), applied(model, edit):
            wanted = model.logits(batch)
        try:
            got = run(model, batch, [edit])[0]
        except Obstructed as refusal:
            assert f"does not show {site}" in str(refusal)
            continue
        acted += 1
        assert (got - wanted).abs().max() < TOLERANCE * 10 * max(1.0, float(wanted.abs().max()) / 10), site
    assert acted > model.info.n_layers and torch.equal(run(model, batch)[0], base)
