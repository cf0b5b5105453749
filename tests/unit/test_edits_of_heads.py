"""Mean difference at heads alone: what the named heads give moves, and nothing beside them does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows, words
from workbench.edits.engine import applied
from workbench.edits.placebo import rotated
from workbench.edits.store import load_edit, save
from workbench.errors import BadKnob
from workbench.methods import get, ordered
from workbench.methods.registry import Scope
from workbench.methods.shared.heads import head_pairs
from workbench.progress import silent
from workbench.record import activations
from workbench.sites import Site

METHOD = get("mean_difference")


def config(**values: Any) -> Any:
    return METHOD.configure({"strength": 2.0, "spare": "none", **values})


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_only_the_named_heads_move_and_by_the_difference_of_their_means(tiny_models: Any, family: str, tmp_path: Path) -> None:
    model, rows = tiny_models[family], contrast_rows()
    fitted = METHOD.fit(model, rows, config(heads=("1.2", "0.1")))
    whole = METHOD.fit(model, rows, config(heads=tuple(f"1.{j}" for j in range(model.info.n_heads))))
    edit, d = fitted.edit, model.info.d_head
    assert set(edit.vectors) == {0, 1} and torch.count_nonzero(edit.vectors[1]) == d == torch.count_nonzero(edit.vectors[0])
    torch.testing.assert_close(edit.vectors[1][2 * d : 3 * d], whole.edit.vectors[1][2 * d : 3 * d])
    batch, sites = model.tokens(words(12, 13, 14)), [Site("head_z", 0), Site("head_z", 1)]
    with torch.no_grad():
        before = activations(model, batch, sites)
        with applied(model, edit):
            after = activations(model, batch, sites)
    moved = (after[sites[0]] - before[sites[0]]).view(*batch.ids.shape, -1, d)
    torch.testing.assert_close(moved[0, 0, 1], edit.vectors[0][d : 2 * d], atol=1e-5, rtol=0)
    assert torch.count_nonzero(moved[:, :, [0, *range(2, model.info.n_heads)]]) == 0, "the other heads of the layer give what they gave"
    checkpoint, script = edit.exports()["checkpoint"], edit.exports()["script"]
    assert "what heads give" in getattr(checkpoint, "reason", "") and not hasattr(script, "reason")
    save(edit, tmp_path / "heads")
    with torch.no_grad(), applied(model, load_edit(tmp_path / "heads")):
        again = model.logits(batch)
    with torch.no_grad(), applied(model, edit):
        assert torch.equal(again, model.logits(batch))


def test_without_a_row_is_the_fit_without_it_at_heads_too(tiny_gpt2: Any) -> None:
    rows = contrast_rows()
    asked = config(heads=("2.3",))
    edit = METHOD.fit(tiny_gpt2, rows, asked).edit
    assert METHOD.without is not None
    row, left = next(iter(METHOD.without(tiny_gpt2, rows, edit, asked, progress=silent())))
    fit_rows = list(rows.split("fit"))
    fewer = type(rows)(tuple(one for one in rows if one.id != fit_rows[row].id))
    again = METHOD.fit(tiny_gpt2, fewer, asked).edit
    torch.testing.assert_close(left.vectors[2], again.vectors[2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gate", ["none", "hard", "soft"])
def test_gates_and_spared_tokens_go_along(tiny_gpt2: Any, gate: str) -> None:
    fitted = METHOD.fit(tiny_gpt2, contrast_rows(), METHOD.configure({"heads": ("1.0",), "gate": gate, "strength": 2.0}))
    with torch.no_grad(), applied(tiny_gpt2, fitted.edit):
        assert tiny_gpt2.logits(tiny_gpt2.tokens(words(12, 13))).isfinite().all()


@pytest.mark.parametrize(
    ("values", "says"),
    [({"heads": ("1.2",), "layers": (1,)}, "both named"), ({"heads": ("9.0",)}, "no head of a model"),
     ({"heads": ("x",)}, "no head of a model"),
     ({"heads": ()}, "No head is named")],
)  # fmt: skip
def test_heads_that_are_none_are_refused(tiny_gpt2: Any, values: Any, says: str) -> None:
    with pytest.raises(BadKnob, match=says):
        METHOD.fit(tiny_gpt2, contrast_rows(), config(**values))


def test_a_scope_of_heads_is_honoured_by_these_methods_and_the_others_take_layers_or_nothing() -> None:
    heads = Scope((), ((1, 2), (3, 0)))
    honour = {one.name for one in ordered() if one.scopes(heads).get("heads") == ("1.2", "3.0")}
    assert honour == {"mean_difference", "tarot"}
    assert {one.name for one in ordered() if one.scopes(heads).get("parts") == ("1.2", "3.0")} == {"lora", "are"}
    assert get("mean_difference").scopes(Scope((1,), ((3, 0),))) == {"layers": (1, 3), "heads": None}
    assert get("sea").scopes(heads) == {"layers": (1, 3)}


def test_the_placebo_of_heads_moves_these_heads_alone_and_each_token_as_far(tiny_gpt2: Any) -> None:
    edit, d = METHOD.fit(tiny_gpt2, contrast_rows(), config(heads=("1.2", "1.3"))).edit, tiny_gpt2.info.d_head
    real, placebo = (moved - base for base, moved in (moves(tiny_gpt2, one) for one in (edit, rotated(edit, 0))))
    torch.testing.assert_close(real.norm(dim=-1), placebo.norm(dim=-1), atol=1e-5, rtol=0)
    assert torch.count_nonzero(placebo[..., : 2 * d]) == 0, "the other heads of the layer give what they gave"
    assert torch.cosine_similarity(real, placebo, dim=-1).abs().max() < 0.9
    # Negative control: one of the whole stream is turned in all its width.
    stream = rotated(METHOD.fit(tiny_gpt2, contrast_rows(), config(layers=(1,))).edit, 0)
    base, moved = moves(tiny_gpt2, stream, "resid_post")
    assert torch.count_nonzero((moved - base).abs() > 1e-6) == moved.numel()


def moves(model: Any, edit: Any, kind: str = "head_z") -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer gives without an edit and with it."""
    batch, site = model.tokens(words(12, 13, 14)), Site(kind, 1)
    with torch.no_grad():
        base = activations(model, batch, [site])[site]
        with applied(model, edit):
            return base, activations(model, batch, [site])[site]


def test_the_first_layer_and_head_that_a_model_lacks_are_refused(tiny_gpt2: Any) -> None:
    info = tiny_gpt2.info
    assert head_pairs([f"{info.n_layers - 1}.{info.n_heads - 1}", "0.0"], info) == ((0, 0), (info.n_layers - 1, info.n_heads - 1))
    for name in (f"{info.n_layers}.0", f"0.{info.n_heads}", "1", "1.x"):
        with pytest.raises(BadKnob, match="is no head of a model with"):
            head_pairs([name], info)
