"""Directions are what they are made of, say what the unembedding says, and steering adds exactly that, at every token but the sinks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import taught_rows, words
from tests.made_edits import shift
from workbench.edits.cell import cell_site
from workbench.edits.engine import applied
from workbench.edits.steering import SteeringEdit
from workbench.edits.store import load_edit, save
from workbench.errors import BadKnob, BadPrompt, NoEffect
from workbench.lenses.bridged import edited_bridge
from workbench.lenses.directions import Origin, direction_card, made, read_origin, steering
from workbench.models.tokens import running
from workbench.record import activations

PROMPT, OTHER = words(3, 7, 12, 5), words(3, 8, 12)


def last(model: Any, prompt: str, layer: int) -> torch.Tensor:
    site = cell_site(layer)
    with torch.no_grad():
        return activations(model, model.tokens(prompt), [site])[site][0, -1].double()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_each_kind_is_what_it_says(tiny_models: Any, family: str) -> None:
    model = tiny_models[family]
    batch = model.tokens(PROMPT)
    with torch.no_grad(), edited_bridge(model) as bridge, running(batch.forward()):
        cache = bridge.run_with_cache(batch.ids)[1]
        heads, table = cache.stack_head_results(layer=3, pos_slice=-1)[:, 0].double(), bridge.W_U.double()
    head = made(model, read_origin(f"head: 1.2 | {PROMPT}", None), 1)
    torch.testing.assert_close(head, heads[4 + 2], atol=1e-5, rtol=1e-4)
    token = made(model, Origin("token", " w5"), 0)
    torch.testing.assert_close(token, table[:, 5] - table.mean(1))
    torch.testing.assert_close(made(model, read_origin("token: w5 | w9", None), 0), table[:, 5] - table[:, 9])
    two = made(model, read_origin(f"prompts: {PROMPT} | {OTHER}", None), 1)
    torch.testing.assert_close(two, last(model, PROMPT, 1) - last(model, OTHER, 1))
    other = made(model, read_origin(f"prompts: {PROMPT} | {OTHER}", None), 2)
    assert not torch.allclose(two, other), "the layer counts"


def test_a_card_raises_the_token_it_is_made_of_and_tells_cosines_beside_chance(tiny_gpt2: Any) -> None:
    token, minus = Origin("token", " w5", " w9"), Origin("token", " w9", " w5")
    found = direction_card(tiny_gpt2, token, 1, [token, minus, Origin("prompts", PROMPT, OTHER)])
    assert found.tokens.promoted[0][0] == "w5" and found.tokens.suppressed[0][0] == "w9"
    cosines = [value for _, value in found.cosines]
    assert cosines[:2] == pytest.approx([1.0, -1.0]) and abs(cosines[2]) < 1
    assert found.chance == pytest.approx(32**-0.5)
    turned = direction_card(tiny_gpt2, minus, 1)
    assert [text for text, _ in turned.tokens.promoted] == [text for text, _ in found.tokens.suppressed]
    draw = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0))
    assert float((draw[:, 0] / draw.norm(dim=1)).std()) == pytest.approx(found.chance, rel=0.05), "the law of chance"


def test_texts_that_it_was_not_made_of_lie_along_a_taught_direction_and_not_along_a_random_one(tiny_gpt2: Any) -> None:
    rows = taught_rows(40)
    for kind in ("mean", "probe"):
        found = direction_card(tiny_gpt2, kind, 2, demonstrations=rows)
        assert found.auc is not None and found.auc.estimate > 0.9 and found.auc.low > 0.5, "one good and one bad answer to all"
        assert [one.projection for one in found.along] == sorted((one.projection for one in found.along), reverse=True)
        fitted = {f"{row.prompt}{row.positive}" for row in rows if row.split == "fit"}
        assert not fitted & {one.text for one in found.along}
    assert found.auc is not None
    cards = [direction_card(tiny_gpt2, f"prompts: {words(i, 20)} | {words(i, 30)}", 2, demonstrations=rows) for i in range(4)]
    others = [abs(card.auc.estimate - 0.5) for card in cards if card.auc is not None]
    assert len(others) == 4 and sum(others) / 4 < found.auc.estimate - 0.5, "directions of something else tell the sides apart less"
    small = direction_card(tiny_gpt2, "mean", 2, demonstrations=taught_rows(12))
    assert small.auc is None, "too few for a score"


def test_an_edit_is_its_own_vector_or_what_it_moves(tiny_gpt2: Any) -> None:
    steered = steering(tiny_gpt2, PROMPT, "token: w5", 1).edit
    own = made(tiny_gpt2, Origin("edit", PROMPT, edit=steered), 0)
    torch.testing.assert_close(own, steered.vector.double())
    moved = shift(tiny_gpt2, layer=0)
    site, batch = cell_site(0), tiny_gpt2.tokens(PROMPT)
    with torch.no_grad():
        before = activations(tiny_gpt2, batch, [site])[site]
        with applied(tiny_gpt2, moved):
            after = activations(tiny_gpt2, batch, [site])[site]
    torch.testing.assert_close(
        made(tiny_gpt2, Origin("edit", PROMPT, edit=moved), 0), (after - before)[0].mean(0).double(), atol=1e-5, rtol=1e-4
    )
    with pytest.raises(NoEffect, match="has no length behind layer -1"):
        made(tiny_gpt2, Origin("edit", PROMPT, edit=moved), -1)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_steering_adds_the_direction_at_every_token_and_its_size_is_in_norms(tiny_models: Any, family: str, tmp_path: Path) -> None:
    model, layer = tiny_models[family], 1
    draft = steering(model, PROMPT, "token: w5 | w9", layer, size=0.7)
    site, batch = cell_site(layer), model.tokens(PROMPT)
    with torch.no_grad():
        before = activations(model, batch, [site])[site]
        with applied(model, draft.edit):
            after, logits = activations(model, batch, [site])[site], model.logits(batch)[0, -1]
        base = model.logits(batch)[0, -1]
    for column in (after - before)[0]:
        torch.testing.assert_close(column, draft.edit.vector, atol=1e-5, rtol=1e-4)
    assert float(draft.edit.vector.norm()) == pytest.approx(0.7 * float(before[0].norm(dim=-1).median()), rel=1e-4)
    assert float((logits[5] - logits[9]) - (base[5] - base[9])) > 0, "toward the first, away from the other"
    away = steering(model, PROMPT, "token: w5 | w9", layer, size=-0.7).edit
    assert torch.equal(away.vector, -draft.edit.vector)
    with applied(model, draft.edit.scaled(0.0)), torch.no_grad():
        assert torch.equal(model.logits(batch)[0, -1], base)
    save(draft.edit, tmp_path / "e")
    back = load_edit(tmp_path / "e")
    assert isinstance(back, SteeringEdit) and back.id == draft.edit.id and back.header.facts["direction"] == "token w5 less w9"


def test_what_makes_no_direction_is_refused_by_name(tiny_gpt2: Any) -> None:
    for told in ("token:", "nonsense", "head: 1.2", "mean"):
        with pytest.raises(BadKnob, match="names no direction"):
            direction_card(tiny_gpt2, told, 1)
    with pytest.raises(BadKnob, match="Layer 9"):
        direction_card(tiny_gpt2, "token: w5", 9)
    with pytest.raises(BadPrompt):
        direction_card(tiny_gpt2, Origin("prompts", PROMPT), 1)
    with pytest.raises(BadKnob, match="size = 0"):
        steering(tiny_gpt2, PROMPT, "token: w5", 1, size=0)
    with pytest.raises(NoEffect):
        made(tiny_gpt2, Origin("prompts", PROMPT, PROMPT), 1)
    assert np.isfinite(direction_card(tiny_gpt2, "token: w5", 1).vector).all()
