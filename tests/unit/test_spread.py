"""A model whose layers lie on several devices. No second device is at hand, so torch's device `meta` stands in for it: its tensors
have a shape and no numbers, and an operation on two devices raises as it does on two GPUs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.test_methods import QUICK, rows_for
from tests.family_checks import batch_of, cache, heads, logits, stream
from tests.operations import half_open
from workbench.edits import engine
from workbench.edits.engine import applied, planned
from workbench.methods import get
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.catalog import load
from workbench.models.tokens import TokenBatch, running
from workbench.sites import Site

ONE, OTHER, AT = "cpu", "meta", Site("resid_post", 1)


def captured(model: LanguageModel, edits: list[Any], monkeypatch: pytest.MonkeyPatch, spread: bool = True) -> tuple[list[Any], list[Any]]:
    """What the engine would ask of a model whose matrices lie on the other device."""
    asked: list[Any] = []
    weight = model.weight

    def there(site: Any) -> Any:
        slot = weight(site)
        return replace(slot, parameter=torch.nn.Parameter(slot.parameter.to(OTHER), requires_grad=False))

    monkeypatch.setattr(type(model), "is_spread", property(lambda _: spread))
    monkeypatch.setattr(model, "weight", there)
    monkeypatch.setattr(engine, "checked", lambda _, edit: edit)  # which looks at numbers, and these tensors have none
    monkeypatch.setattr(model, "interception", lambda readers, weights: asked.append((readers, weights)) or nullcontext)
    planned(model, [[], edits])
    return asked[0]


def fitted(model: LanguageModel, name: str, **knobs: Any) -> Any:
    method = get(name)
    return method.fit(model, rows_for(method), method.configure({**QUICK.get(name, {}), **knobs}), seed=1).edit


EDITS = {
    "mean_difference": lambda model: fitted(model, "mean_difference"),
    "gated": lambda model: fitted(model, "mean_difference", layers=(1,), where="generated").gated({AT: half_open(model)}),
    "sea": lambda model: fitted(model, "sea", layers=(1,)),
    "angular": lambda model: fitted(model, "angular"),
    "tarot": lambda model: fitted(model, "tarot"),
    "refusal_direction": lambda model: fitted(model, "refusal_direction"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edits_tensors_are_where_the_activations_of_its_site_are(name: str, tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    edit = EDITS[name](tiny_gpt2)
    readers, _ = captured(tiny_gpt2, [edit.sparing({op.site: 1e9 for op in edit.operations()})], monkeypatch)
    batch = TokenBatch.of([[1, 2, 3, 4, 5]] * 4, [3] * 4)
    for device in (ONE, OTHER, ONE):
        for site, act in readers:
            with running(batch.forward()):
                assert act(torch.ones(4, 5, tiny_gpt2.width(site), device=device)).device == torch.device(device)


def test_a_delta_is_where_its_matrix_is_and_its_input_may_come_from_elsewhere(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    n_out, n_in = tiny_gpt2.weight("w_in@1").shape
    edit = fitted(tiny_gpt2, "lora")
    _, weights = captured(tiny_gpt2, [edit], monkeypatch)
    for site, term in weights:
        wide = {"w_in": (n_in, n_out), "w_out": (n_out, n_in)}[site.kind]
        x, y = torch.zeros(4, 5, wide[0], device=ONE), torch.zeros(4, 5, wide[1], device=OTHER)
        assert term(torch.nn.Identity(), x, y).device == torch.device(OTHER)


def test_what_is_not_moved_fails_there(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    readers, _ = captured(tiny_gpt2, [fitted(tiny_gpt2, "mean_difference")], monkeypatch, spread=False)
    with pytest.raises(RuntimeError, match="device"):
        readers[0][1](torch.zeros(4, 5, 32, device=OTHER))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_that_accelerate_has_shared_out_is_bridged_and_edited(family: str, tiny_folders: dict[str, Path]) -> None:
    """All its devices are the processor here: what is tested is that wrapped forwards, the twin and our hooks go together."""
    from accelerate import dispatch_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_folders[family]
    plain = load(str(folder))
    network: Any = AutoModelForCausalLM.from_pretrained(folder)
    places = {name: "cpu" for name, module in network.named_modules() if not list(module.children()) and list(module.parameters())}
    network = dispatch_model(network, places, main_device="cpu", force_hooks=True)
    model = BridgeModel(network, AutoTokenizer.from_pretrained(folder), source=str(folder), name="shared out")
    assert torch.equal(logits(model), logits(plain)) and not model.info.unseen and not model.is_spread
    assert stream(model) == heads(model) == cache(model) == "yes"
    edit = fitted(model, "lora")
    with applied(model, edit):
        moved = logits(model, batch_of(model))
    with applied(plain, edit):
        torch.testing.assert_close(moved, logits(plain), atol=1e-5, rtol=1e-5)
