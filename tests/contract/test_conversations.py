"""Every method reads a conversation as its template renders it, by ids: a fit on conversations is the fit on those very ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.contract.test_methods import quick, rows_for
from workbench.data.demonstrations import Demonstrations
from workbench.methods import get, names
from workbench.models.base import LanguageModel

# Adds nothing: a conversation of one turn has the ids of its text. The other opens the turn with the token that begins a text.
BARE = "{% for m in messages %}{{ m.content }} {% endfor %}"
OPENED = "{% for m in messages %}<e> {{ m.content }} w7 w8 {% endfor %}<e> w9"


def tensors(name: str, model: LanguageModel, rows: Demonstrations) -> dict[str, torch.Tensor]:
    method = get(name)
    config = quick(method)
    # Shots stand as turns of their own in a conversation: here every prompt stands alone.
    alone = replace(config, shots="zero") if hasattr(config, "shots") else config
    return method.fit(model, rows, alone, seed=1).edit.all_tensors()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", [name for name in names() if not get(name).needs.senses])
def test_a_method_reads_conversations_as_the_template_renders_them(name: str, tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = rows_for(get(name))
    plain = tensors(name, tiny_gpt2, texts)
    monkeypatch.setattr(tiny_gpt2.tokenizer, "chat_template", BARE)
    same = tensors(name, tiny_gpt2, texts.put_as_chat())
    assert equal(plain, same)
    monkeypatch.setattr(tiny_gpt2.tokenizer, "chat_template", OPENED)
    opened = tensors(name, tiny_gpt2, texts.put_as_chat())
    assert not equal(plain, opened)
    rendered = [replace(row, prompt=f"<e> {row.prompt} w7 w8 <e> w9") for row in texts if "role:regularisation" not in row.tags]
    kept = [row for row in texts if "role:regularisation" in row.tags]
    by_hand = tensors(name, tiny_gpt2, texts.with_rows([*rendered, *kept]))
    assert equal(opened, by_hand)
