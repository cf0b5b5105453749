"""Which layer moved a token: the layers' shares add up to the whole change, and what a layer does not touch it does not move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import words
from tests.made_edits import low_rank, made, shift
from workbench.edits.engine import applied
from workbench.edits.store import save
from workbench.errors import BadPrompt, StorageFailed
from workbench.figures.layer_effects import effects_by_layer as picture
from workbench.lenses.layer_effects import EMBEDDING, layer_effects
from workbench.models.token_texts import text_so_far
from workbench.models.tokens import TokenBatch
from workbench.operations import Operation

PROMPT, ANSWER = words(12, 13, 14), [30, 7, 41]
# float32 rounding of rows in batches of another size
CLOSE = 2e-5


def log_p(model: Any, *stack: Any) -> float:
    head = model.tokens(PROMPT).ids[0].tolist()
    with torch.no_grad(), applied(model, *stack):
        logits = model.logits(TokenBatch.of([[*head, *ANSWER]], [len(head)]))
    return float(logits[0, -2].double().log_softmax(-1)[ANSWER[-1]])


def two_layers(model: Any) -> Any:
    parts = [shift(model, layer=0, seed=5), shift(model, "mlp_out", 2, seed=6), low_rank(model)]

    def operations(dose: float) -> tuple[Operation, ...]:
        return tuple(op for part in parts for op in part.make(dose))

    return made(model, operations)


def test_the_shares_of_the_layers_add_up_to_the_whole_change_and_alone_they_do_not(tiny: Any) -> None:
    edit = two_layers(tiny)
    found = layer_effects(tiny, PROMPT, ANSWER, (edit,))
    assert found.layers == (0, 1, 2) and found.position == 2 and found.token
    assert (found.base, float(found.up_to[-1])) == pytest.approx((log_p(tiny), log_p(tiny, edit)), abs=CLOSE)
    assert found.moved.sum() == pytest.approx(found.total, abs=1e-9)
    assert found.up_to[0] == pytest.approx(found.alone[0], abs=CLOSE), "the lowest has nothing below it"
    assert abs((found.alone - found.base).sum() - found.total) > 100 * CLOSE, "layers work through one another"


def test_a_layer_that_is_not_edited_is_not_there_and_one_layer_does_all(tiny_gpt2: Any) -> None:
    found = layer_effects(tiny_gpt2, PROMPT, ANSWER, (shift(tiny_gpt2, layer=1),), at=1)
    assert found.layers == (1,) and found.moved.tolist() == [found.total] and found.total != 0
    none = layer_effects(tiny_gpt2, PROMPT, ANSWER, ())
    assert none.layers == () and none.total == 0.0 and none.rows() == []
    assert layer_effects(tiny_gpt2, PROMPT, ANSWER, (shift(tiny_gpt2).scaled(0.0),)).layers == ()
    with pytest.raises(BadPrompt, match="3 tokens, and token 3"):
        layer_effects(tiny_gpt2, PROMPT, ANSWER, (), at=3)


def test_rows_and_picture_say_the_same(tiny_gpt2: Any) -> None:
    from tests.made_edits import rows

    found = layer_effects(tiny_gpt2, PROMPT, ANSWER, (rows(tiny_gpt2), shift(tiny_gpt2)))
    assert found.layers == (EMBEDDING, 1) and found.rows()[0]["layer"] == "embedding"
    bars: Any = picture(found).data
    assert np.allclose(bars[0].y, [row["moved_by_nats"] for row in found.rows()])
    assert np.allclose(bars[1].y, [row["alone_nats"] for row in found.rows()])
    assert "␣&lt;b&gt;:" in picture(replace(found, token=" <b>")).layout.title.text, "a token's text is no markup"


def test_an_edit_that_is_held_to_some_layers_is_that_part_of_it_and_is_not_saved(tiny_gpt2: Any, tmp_path: Path) -> None:
    edit = two_layers(tiny_gpt2)
    held = replace(edit, held_to=frozenset({0}))
    assert [op.site.layer for op in held.operations()] == [0] and len(edit.operations()) == 3
    assert log_p(tiny_gpt2, held) == pytest.approx(log_p(tiny_gpt2, shift(tiny_gpt2, layer=0, seed=5)), abs=1e-9)
    with pytest.raises(StorageFailed, match="held to some of its layers"):
        save(held, tmp_path / "part")


def test_a_prompt_and_its_answer_are_one_text_of_the_same_tokens_or_refused(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tiny.tokens(PROMPT).ids[0].tolist()
    text = text_so_far(tiny, PROMPT, ANSWER)
    assert tiny.tokens(text).ids[0].tolist() == [*ids, *ANSWER]
    monkeypatch.setattr(type(tiny.tokenizer), "decode", lambda *_, **__: "w1")
    with pytest.raises(BadPrompt, match="no text that is read so again"):
        text_so_far(tiny, PROMPT, ANSWER)
