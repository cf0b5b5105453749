"""Mean difference at heads and MLPs alone: what the named ones give moves, and nothing beside them does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows, words
from workbench.edits.engine import applied
from workbench.edits.placebo import rotated
from workbench.edits.store import load_edit, save
from workbench.errors import BadKnob
from workbench.methods import get
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
    fitted = METHOD.fit(model, rows, config(parts=("1.2", "0.1")))
    whole = METHOD.fit(model, rows, config(parts=tuple(f"1.{j}" for j in range(model.info.n_heads))))
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
    asked = config(parts=("2.3",))
    edit = METHOD.fit(tiny_gpt2, rows, asked).edit
    assert METHOD.without is not None
    row, left = next(iter(METHOD.without(tiny_gpt2, rows, edit, asked, progress=silent())))
    fit_rows = list(rows.split("fit"))
    fewer = type(rows)(tuple(one for one in rows if one.id != fit_rows[row].id))
    again = METHOD.fit(tiny_gpt2, fewer, asked).edit
    torch.testing.assert_close(left.vectors[2], again.vectors[2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gate", ["none", "hard", "soft"])
def test_gates_and_spared_tokens_go_along(tiny_gpt2: Any, gate: str) -> None:
    fitted = METHOD.fit(tiny_gpt2, contrast_rows(), METHOD.configure({"parts": ("1.0", "MLP 0"), "gate": gate, "strength": 2.0}))
    with torch.no_grad(), applied(tiny_gpt2, fitted.edit):
        assert tiny_gpt2.logits(tiny_gpt2.tokens(words(12, 13))).isfinite().all()


@pytest.mark.parametrize(
    ("values", "says"),
    [({"parts": ("1.2",), "layers": (1,)}, "both named"), ({"parts": ("9.0",)}, "the model has layers 0 to"),
     ({"parts": ("MLP 9",)}, "the model has layers 0 to"), ({"parts": ("x",)}, "is no head and no MLP"),
     ({"parts": ()}, "No head and no MLP is named")],
)  # fmt: skip
def test_heads_that_are_none_are_refused(tiny_gpt2: Any, values: Any, says: str) -> None:
    with pytest.raises(BadKnob, match=says):
        METHOD.fit(tiny_gpt2, contrast_rows(), config(**values))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_named_mlps_move_by_the_difference_of_their_means_and_nothing_beside_them(tiny_models: Any, family: str, tmp_path: Path) -> None:
    model, rows = tiny_models[family], contrast_rows()
    edit = METHOD.fit(model, rows, config(parts=("MLP 1", "0.2"))).edit
    alone = METHOD.fit(model, rows, config(parts=("MLP 1",))).edit
    assert set(edit.vectors) == {0} and set(edit.mlps) == {1} and not alone.vectors
    torch.testing.assert_close(edit.mlps[1], alone.mlps[1])
    fit_rows = list(rows.split("fit"))
    read = [
        torch.cat(
            [activations(model, model.tokens(row.prompt, side), [Site("mlp_out", 1)])[Site("mlp_out", 1)][:, -1] for row, side in told]
        )
        for told in ([(row, row.positive) for row in fit_rows], [(row, row.negative) for row in fit_rows])
    ]
    torch.testing.assert_close(alone.mlps[1], 2.0 * (read[0].double().mean(0) - read[1].double().mean(0)).float(), atol=1e-5, rtol=1e-4)
    moved, others = Site("mlp_out", 1), [Site("head_z", 0), Site("mlp_out", 0), Site("attn_out", 1)]
    batch = model.tokens(words(12, 13, 14))
    with torch.no_grad():
        before = activations(model, batch, [moved, *others])
        with applied(model, alone):
            after = activations(model, batch, [moved, *others])
    torch.testing.assert_close(after[moved] - before[moved], alone.mlps[1].expand_as(after[moved]), atol=1e-5, rtol=0)
    assert all(torch.equal(after[site], before[site]) for site in others), "what is not behind that MLP stays"
    assert "what heads and MLPs give" in getattr(edit.exports()["checkpoint"], "reason", "")
    save(edit, tmp_path / "parts")
    back = load_edit(tmp_path / "parts")
    assert {site: v.tolist() for site, v in back.moved.items()} == {site: v.tolist() for site, v in edit.moved.items()}


def test_without_a_row_is_the_fit_without_it_at_mlps_too(tiny_gpt2: Any) -> None:
    rows, asked = contrast_rows(), config(parts=("MLP 1", "2.3"))
    row, left = next(iter(METHOD.without(tiny_gpt2, rows, METHOD.fit(tiny_gpt2, rows, asked).edit, asked, progress=silent())))
    fit_rows = list(rows.split("fit"))
    again = METHOD.fit(tiny_gpt2, type(rows)(tuple(one for one in rows if one.id != fit_rows[row].id)), asked).edit
    for site, vector in again.moved.items():
        torch.testing.assert_close(left.moved[site], vector, atol=1e-5, rtol=1e-4)


def test_what_older_versions_call_heads_is_understood() -> None:
    assert METHOD.configure({"heads": "1.2, 0.1"}).parts == ("1.2", "0.1")


def test_mlps_of_a_scope_turn_by_themselves(tiny_gpt2: Any) -> None:
    tarot = get("tarot")
    told = tarot.configure({**tarot.scopes(Scope((), (), (1,))), "budget": 10, "n_train": 4, "select_on": "train", "shots": "zero"})
    edit = tarot.fit(tiny_gpt2, contrast_rows(), told, seed=0).edit
    assert {str(op.site) for op in edit.operations()} == {"mlp_out@1"}


def test_the_placebo_of_heads_moves_these_heads_alone_and_each_token_as_far(tiny_gpt2: Any) -> None:
    edit, d = METHOD.fit(tiny_gpt2, contrast_rows(), config(parts=("1.2", "1.3"))).edit, tiny_gpt2.info.d_head
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


def test_pairs_that_pull_in_different_directions_are_warned_of_and_those_that_agree_are_not(tiny_gpt2: Any) -> None:
    rows = contrast_rows(40)

    def told(answers: list[tuple[str, str]], n: int = 40) -> list[str]:
        kept = [replace(row, positive=good, negative=bad) for row, (good, bad) in zip(rows, answers * 20)][:n]
        report = METHOD.fit(tiny_gpt2, rows.with_rows(kept), config(parts=("1.2", "MLP 2"))).report
        return [notice.text for notice in report.notices if "different directions" in notice.text]

    swapped = [(" w3", " w52"), (" w52", " w3")]
    assert "The 24 pairs" in told(swapped)[0] and "of random ones it would be 0.20" in told(swapped)[0]
    assert not told(swapped[:1] * 2), "one good answer to all"
    assert not told(swapped, 20), "12 pairs do not tell"
    sides = rows.with_rows(
        [replace(row, positive=None, negative=None, label=("target", "anti_target")[i % 2]) for i, row in enumerate(rows)]
    )
    assert not [one for one in METHOD.fit(tiny_gpt2, sides, config(parts=("1.2",))).report.notices if "directions" in one.text]
