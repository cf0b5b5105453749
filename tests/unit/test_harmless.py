"""Defaults leave neutral text alone: the strength follows from what neutral text bears."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.conftest import taught_rows, words
from workbench.conversations import Conversation, Turn
from workbench.data.passages import Passages
from workbench.errors import FitFailed
from workbench.methods import get
from workbench.methods.directions import mean_difference
from workbench.methods.shared import ground, harmless, reading, starts
from workbench.methods.shared.ground import few_texts
from workbench.methods.shared.harmless import MOST_DAMAGE, harmless_dose
from workbench.methods.shared.validation import neutral_kl
from workbench.models.tokens import prompt_ids

ROWS = taught_rows(30)


def kl(model: Any, edit: Any) -> float:
    return float(neutral_kl(model, [(edit,)], few_texts(model, ROWS, 0))[0])


def fitted(model: Any, **knobs: Any) -> Any:
    known = get("mean_difference")
    return known.fit(model, ROWS, known.configure({"layers": (1,), **knobs}), seed=0)


def test_a_default_leaves_neutral_text_alone_and_a_given_strength_is_kept(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = fitted(tiny_gpt2, strength=8.0, read="last")
    assert kl(tiny_gpt2, given.edit) > MOST_DAMAGE  # control: there is something to be spared
    monkeypatch.setattr(mean_difference, "DEFAULT_STRENGTH", 8.0)
    free = fitted(tiny_gpt2, read="last")
    assert 0.3 * MOST_DAMAGE < kl(tiny_gpt2, free.edit) <= MOST_DAMAGE + 1e-6
    assert 0 < free.report.scalars["strength"] < 8.0
    assert any(f"Strength {free.report.scalars['strength']:.2g}" in notice.text for notice in free.report.notices)
    again = fitted(tiny_gpt2, strength=8.0, read="last")
    assert again.report.scalars["strength"] == 8.0 and kl(tiny_gpt2, again.edit) == pytest.approx(kl(tiny_gpt2, given.edit))


def test_an_edit_that_harms_nothing_keeps_its_dose(tiny_gpt2: Any) -> None:
    edit = fitted(tiny_gpt2, strength=0.01).edit
    dose, damage = harmless_dose(tiny_gpt2, edit, ROWS, 0)
    assert dose == edit.dose and damage <= MOST_DAMAGE


def test_a_damage_that_is_no_number_is_a_failure_by_name_and_no_dose(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    edit, seen = fitted(tiny_gpt2, strength=8.0, read="last").edit, list[float]()

    def broken(*_: Any) -> torch.Tensor:
        seen.append(math.nan)
        if len(seen) > 3:
            pytest.fail("it looks again and again")
        return torch.tensor([math.nan])

    monkeypatch.setattr(harmless, "neutral_kl", broken)
    with pytest.raises(FitFailed, match="mean_difference.* no finite number") as caught:
        harmless_dose(tiny_gpt2, edit, ROWS, 0)
    assert "float32" in caught.value.hint


def test_a_damage_that_is_no_number_does_not_pass_for_little(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.methods.sea import config, fit

    for module in (config, fit, reading, starts):
        monkeypatch.setattr(module, "SMALL", 0)
    method, damages = get("sea"), iter([math.nan, 0.01, math.nan, math.nan])
    monkeypatch.setattr(fit, "neutral_kl", lambda *_: torch.tensor([next(damages)]))
    found = method.fit(tiny_gpt2, ROWS, method.configure({"layers": (1,)}))
    assert next(iter(found.edit.laws.values())).drop.shape[1] == 1  # type: ignore[attr-defined]
    with pytest.raises(FitFailed, match="sea.* no finite number"):
        method.fit(tiny_gpt2, ROWS, method.configure({"layers": (1,)}))


@pytest.mark.parametrize(("limit", "dropped", "level"), [(1e9, 2, ""), (1e-12, 1, "warning")])
def test_our_law_drops_one_direction_where_two_move_neutral_text_too_far(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch, limit: float, dropped: int, level: str
) -> None:
    from workbench.methods.sea import config, fit

    for module in (config, fit, reading, starts):
        monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(fit, "MOST_DAMAGE", limit)
    method = get("sea")
    found = method.fit(tiny_gpt2, ROWS, method.configure({}))
    (law,) = found.edit.laws.values()  # type: ignore[attr-defined]
    assert law.drop.shape[1] == dropped and found.edit.header.config["merge"] == "exclusive"
    told = [notice for notice in found.report.notices if "One direction is dropped" in notice.text]
    assert [notice.level for notice in told] == ([level] if level else [])
    named = method.fit(tiny_gpt2, ROWS, method.configure({"k_minus": 2})).edit
    assert next(iter(named.laws.values())).drop.shape[1] == 2, "a number that is named is kept"  # type: ignore[attr-defined]


@pytest.mark.parametrize("template", [None, "{% for m in messages %}<e> {{ m.role }} w1 {{ m.content }} {% endfor %}w3"])
def test_a_quick_look_reads_shipped_passages_and_chats_where_the_model_has_a_template(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch, template: str | None
) -> None:
    shipped = Passages(tuple(words(*range(i, i + 6)) for i in range(1, 60)), ((words(1, 2), words(3)),) * 9)
    monkeypatch.setattr(ground, "passages", lambda: shipped)
    monkeypatch.setitem(ground._reading, tiny_gpt2, True)
    monkeypatch.setattr(tiny_gpt2.tokenizer, "chat_template", template)
    found = few_texts(tiny_gpt2, ROWS, 0)
    heads = [ids[mask].tolist() for ids, mask in zip(found.batch.ids, found.batch.mask)]
    texts = shipped.read[:: len(shipped.read) // ground.N_FEW_TEXTS][: ground.N_FEW_TEXTS]
    asked = [*texts, *([] if template is None else [chat_of(*shipped.chats[0])] * ground.N_FEW_CHATS)]
    assert heads == [prompt_ids(tiny_gpt2.tokenizer, text) for text in asked] and found.source == f"{len(asked)} shipped passages"
    assert found.batch.n_prompt.tolist() == [1] * len(asked) and torch.equal(found.counted, found.batch.mask)


def chat_of(asked: str, told: str) -> Conversation:
    return Conversation((Turn("user", asked), Turn("assistant", told)))
