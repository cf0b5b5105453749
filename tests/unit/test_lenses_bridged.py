"""Edits act on TransformerLens's bridge as the engine makes them act on the plain network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import pytest
import torch

from tests.conftest import FAMILIES, contrast_rows, words
from workbench.edits.base import AddToWeight, Edit, Gate, Header, LowRank, Rows, TransformAt, edit_kind
from workbench.edits.engine import applied
from workbench.errors import Obstructed
from workbench.lenses.bridged import edited_bridge, run
from workbench.record import gather
from workbench.sites import Site

BRIDGED = [family for family in FAMILIES if family != "backpack"]


@edit_kind("bridged-test")
@final
@dataclass(frozen=True)
class OneOperation(Edit):
    op: Any = None

    def tensors(self):
        return {}

    @classmethod
    def from_tensors(cls, header, tensors):
        return cls(header)

    def at_dose(self, dose):
        return self.op

    def exports(self):
        return {}


def edit_of(model: Any, *ops: Any) -> OneOperation:
    return OneOperation(Header("test", {}, model.fingerprint, "", 0, {}), ops)


def shift(width: int, where: str = "all", gate: Any = None, *, site: str, seed: int = 0) -> TransformAt:
    vector = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    return TransformAt(Site.parse(site), lambda x: (1.3 * x + vector).type_as(x), width, where, gate)  # type: ignore[arg-type]


def noise(*shape: int) -> torch.Tensor:
    return 0.2 * torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def hooks_on(model: Any) -> int:
    modules = list(model.bridge.modules()) + list(model.network.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules)


def half_open(model: Any) -> Gate:
    """A gate that lets half of the tokens of a text through."""
    weight = noise(model.info.d_model) * 5
    x = gather(model, model.tokens(words(3, 7, 12, 5)), ["resid_post@1"], "all")[Site("resid_post", 1)]
    below, above = (x @ weight).sort().values[1:3]  # a threshold between two tokens, far from rounding
    return Gate(weight, -(below + above) / 2)


def operations_of(model: Any) -> dict[str, tuple[Any, ...]]:
    """One stack of operations a kind, with the places where they meet."""
    info = model.info
    found: dict[str, tuple[Any, ...]] = {}
    streams = ("resid_pre@1", "resid_post@0", "attn_out@1", "mlp_out@2", "ln_final")
    for site in (*streams, "mlp_post@1", "head_z@1", "head_z@2.1"):
        found[site] = (shift(model.width(site), site=site),)
    gate = half_open(model)
    for where in ("prompt", "generated", "last"):
        found[where] = (shift(info.d_model, where, site="resid_post@1"),)
    found["gate"] = (shift(info.d_model, "all", gate, site="resid_post@1"),)
    soft = Gate(gate.weight, gate.bias, "soft", 0.3)
    found["soft gate"] = (shift(info.d_model, "prompt", soft, site="resid_post@1"),)
    for kind in ("w_q", "w_k", "w_v", "w_o", "w_in", "w_out", "w_gate"):
        if Site(kind, 1) in model.sites():
            out, inward = model.weight(Site(kind, 1)).shape
            found[f"{kind} low rank"] = (AddToWeight(Site(kind, 1), LowRank(noise(2, inward), noise(out, 2), 1.5)),)
            found[kind] = (AddToWeight(Site(kind, 1), noise(out, inward)),)
    tables = [kind for kind in ("w_e", "w_u", "w_pos") if Site(kind) in model.sites()]
    for kind in tables:
        found[kind] = (AddToWeight(Site(kind), noise(*model.weight(Site(kind)).shape)),)
    found["rows"] = (AddToWeight(Site("w_e"), Rows(torch.tensor([3, 7]), noise(2, info.d_model))),)
    for name, parameter in model.network.named_parameters():
        if "1." in name and "lm_head" not in name:
            found[name] = (AddToWeight(Site("param", name=name), noise(*parameter.shape)),)
    together = ("w_out", "mlp_post@1", "w_o", "head_z@1")
    found["transform before a weight"] = tuple(found[name][0] for name in together)
    found["head and layer"] = (found["head_z@2.1"][0], shift(model.width("head_z@2"), site="head_z@2", seed=5))
    return found


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

    with pytest.raises(Obstructed, match="embedded-backpack has none") as caught, edited_bridge(Other()):  # type: ignore[arg-type]
        pass
    assert "senses" in caught.value.hint
