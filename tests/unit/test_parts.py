"""Edits of weights held to heads and MLPs: they move by what these write and nothing else; what is no part is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.contract.test_methods import QUICK, rows_for
from tests.families import family_folder
from workbench.edits.engine import applied
from workbench.edits.placebo import rotated
from workbench.edits.store import load_edit, save
from workbench.errors import BadKnob
from workbench.methods import get, ordered
from workbench.methods.registry import Scope
from workbench.methods.shared.held import beyond, held_by
from workbench.methods.shared.parts import part_sites
from workbench.models.catalog import load
from workbench.models.tokens import TokenBatch
from workbench.record import activations
from workbench.sites import Site

TEXT = words(12, 13, 14, 15)


def fitted(model: Any, name: str, parts: tuple[str, ...]) -> Any:
    method = get(name)
    more = {"read_blocks": (1, 2)} if "read_blocks" in method.config.__dataclass_fields__ else {}
    config = method.configure({**QUICK[name], **more, "parts": parts})
    return method.fit(model, rows_for(method), config, seed=1).edit


def attended(model: Any, batch: TokenBatch, *edits: Any, mute: int | None = None) -> torch.Tensor:
    """What attention of layer 1 gives, perhaps with one of its heads silent."""
    d, site = model.info.d_head, Site("attn_out", 1)

    def silent(z: torch.Tensor) -> torch.Tensor:
        y = z.clone()
        if mute is not None:
            y[..., mute * d : (mute + 1) * d] = 0
        return y

    with torch.no_grad(), applied(model, *edits), model.intercept(Site("head_z", 1), silent):
        return activations(model, batch, [site])[site]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("name", ["lora", "are"])
def test_a_head_changes_by_what_it_writes_and_nothing_beside_it_changes(tiny_models: Any, family: str, name: str, tmp_path: Path) -> None:
    model = tiny_models[family]
    edit, batch = fitted(model, name, ("1.2",)), model.tokens(TEXT)
    assert [str(site) for site in edit.factors] == ["w_o@1"]
    low, d = edit.factors[Site("w_o", 1)], model.info.d_head
    outside = torch.ones(low.a.shape[1], dtype=torch.bool)
    outside[2 * d : 3 * d] = False
    assert torch.count_nonzero(low.a[:, outside]) == 0 and torch.count_nonzero(low.a[:, ~outside]) > 0
    for one in (edit, rotated(edit, 0)):
        assert torch.equal(attended(model, batch, one, mute=2), attended(model, batch, mute=2)), "without the head there is no edit"
        assert (attended(model, batch, one) - attended(model, batch)).abs().max() > 1e-6
        assert not torch.equal(attended(model, batch, one, mute=1), attended(model, batch, mute=1)), "another head does not carry it"
    save(edit, tmp_path / "e")
    assert torch.equal(attended(model, batch, load_edit(tmp_path / "e")), attended(model, batch, edit))


@pytest.mark.parametrize("name", ["lora", "are"])
def test_mlps_and_heads_together_are_these_and_no_layers_whole(tiny_gpt2: Any, name: str) -> None:
    edit = fitted(tiny_gpt2, name, ("1.0", "1.3", "MLP 0"))
    assert {str(site) for site in edit.factors} == {"w_o@1", "w_in@0", "w_out@0"}
    seen = edit.factors[Site("w_o", 1)].a.abs().sum(0).view(4, -1) > 0
    assert seen.all(1).tolist() == [True, False, False, True] and not seen[1:3].any()
    assert not any((low.a == 0).all(0).any() for site, low in edit.factors.items() if site.kind != "w_o"), "an MLP is seen whole"


HEADS, MLPS, BOTH = Scope((), ((1, 2), (0, 1))), Scope((), (), (0,)), Scope((), ((1, 2), (0, 1)), (0,))


def test_a_scope_of_heads_and_mlps_is_held_to_by_the_methods_that_can(tiny_gpt2: Any) -> None:
    assert BOTH.parts == ("0.1", "MLP 0", "1.2") and BOTH.blocks == (0, 1) and Scope((2,), ((1, 2),)).parts is None
    weights = {"lora", "are"}
    for scope, able in ((HEADS, {"mean_difference", "tarot"}), (MLPS, {"mean_difference", "tarot"}), (BOTH, {"mean_difference"})):
        assert {method.name for method in held_by(tiny_gpt2, scope)} == able | weights
        for method in ordered():
            told = method.scopes(scope)
            assert set(told) <= set(method.config.__dataclass_fields__), "a scope sets knobs that there are"
            method.configure(dict(told))
    assert get("mean_difference").scopes(BOTH) == {"layers": None, "parts": BOTH.parts}
    assert get("mean_difference").scopes(Scope((1,), ((2, 0),))) == {"layers": (1, 2), "parts": None}
    assert get("tarot").scopes(HEADS)["heads"] == ("0.1", "1.2") == get("tarot").scopes(BOTH)["heads"]
    assert (get("tarot").scopes(MLPS)["variant"], get("tarot").scopes(MLPS)["layers"]) == ("mlp", (0,))
    assert get("lora").scopes(Scope((1, 2)))["parts"] == ("MLP 1", "MLP 2")
    assert get("are").scopes(Scope((1, 2))) == {"adapter_blocks": (1, 2), "parts": None, "read_blocks": (1, 2)}


def test_why_a_method_changes_more_or_less_than_a_scope_is_told_before_a_fit(tiny_gpt2: Any, tmp_path: Path) -> None:
    def reason(name: str, scope: Scope, model: Any = tiny_gpt2) -> str:
        why = beyond(get(name), model, scope)
        return "" if why is None else why.reason

    assert reason("sea", HEADS) == "SEA takes the layers of these heads whole."
    assert reason("tarot", BOTH) == "TaRot changes the heads of these alone, and leaves the others as they are."
    assert "Layers were picked too" in reason("lora", Scope((2,), ((1, 2),)))
    assert not reason("sea", Scope((1,))) and not reason("tarot", HEADS)
    mixture = load(str(family_folder("mixtral", tmp_path / "model")))
    assert "lacks: w_in@0, w_out@0" in reason("lora", MLPS, mixture)
    assert not reason("mean_difference", MLPS, mixture) and "lora" not in {method.name for method in held_by(mixture, MLPS)}
    with pytest.raises(BadKnob, match="has no w_in@0"):
        part_sites(mixture, ("MLP 0",))


@pytest.mark.parametrize("part", ["3", "x.1", "MLP", "MLP 1.2", "1.", "1.2.3"])
def test_what_is_no_part_is_refused_by_name(tiny_gpt2: Any, part: str) -> None:
    with pytest.raises(BadKnob, match="is no head and no MLP"):
        part_sites(tiny_gpt2, (part,))


def test_parts_that_the_model_lacks_and_none_at_all_are_refused(tiny_gpt2: Any) -> None:
    for parts, why in ((("1.9",), "layers 0 to 2 of 4 heads"), (("MLP 7",), "layers 0 to 2"), ((), "No head and no MLP")):
        with pytest.raises(BadKnob, match=why):
            part_sites(tiny_gpt2, parts)
    with pytest.raises(BadKnob, match="both named"):
        get("are").configure({"parts": "1.2", "adapter_blocks": "1"}).adapter_sites(3)
    with pytest.raises(BadKnob, match="parts = 2 is above"):
        get("are").configure({"parts": "2.1", "read_blocks": "1"}).adapter_sites(3)


def test_the_first_head_that_a_layer_lacks_is_refused(tiny_gpt2: Any) -> None:
    with pytest.raises(BadKnob, match="of 4 heads"):
        part_sites(tiny_gpt2, (f"0.{tiny_gpt2.info.n_heads}",))
