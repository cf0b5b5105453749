"""Every method that offers it leaves a planted sink alone, unless asked not to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import build_folder, contrast_rows, words
from workbench.data.demonstrations import Demonstrations
from workbench.edits.engine import applied
from workbench.knobs import knobs
from workbench.methods import get, names
from workbench.methods.registry import Fitted
from workbench.operations import TransformAt
from workbench.record import activations

SINK = 0
SPARING = [name for name in names() if any(item.name == "spare" for item in knobs(get(name).config))]
QUICK: dict[str, dict[str, Any]] = {"hpr": {"epochs": 2, "neutral_weight": 0.0, "select": "accuracy"}}


@pytest.fixture(scope="module")
def sunk(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny model whose word w0 is a hundred times as long behind its blocks as the others, and every text begins with it."""
    from workbench.models.catalog import load

    model = load(str(build_folder("gpt2", tmp_path_factory.mktemp("sunk") / "gpt2")))
    with torch.no_grad():
        model.weight("w_e").parameter[SINK] *= 1000  # ten times is lost on the way up: blocks write about as much as the embedding holds
    return model


def rows() -> Demonstrations:
    def begun(text: str | None) -> str | None:
        return text and f"{words(SINK)} {text}"

    found = contrast_rows(60)
    return found.with_rows(type(row)(words(SINK) + " " + row.prompt, row.positive, row.negative, begun(row.neutral), row.label, row.loss,
                                     row.tags, row.split, row.id) for row in found)  # fmt: skip


def fitted(model: Any, name: str, spare: str) -> Fitted:
    method = get(name)
    return method.fit(model, rows(), method.configure({**QUICK.get(name, {}), "spare": spare}), seed=0)


@pytest.mark.parametrize("name", SPARING)
def test_the_sink_stays_bit_equal_and_the_others_are_edited(sunk: Any, name: str) -> None:
    spared, edited = fitted(sunk, name, "sinks"), fitted(sunk, name, "none")
    assert spared.edit.spares and not edited.edit.spares
    assert any("attention sink" in notice.text for notice in spared.report.notices)
    batch = sunk.tokens([f"{words(SINK)} {row.prompt} {row.positive}" for row in rows().split("test")])
    site = next(op.site for op in spared.edit.operations() if isinstance(op, TransformAt))
    base = activations(sunk, batch, [site])[site]
    sink = batch.ids == SINK
    with applied(sunk, spared.edit):
        left = activations(sunk, batch, [site])[site]
    with applied(sunk, edited.edit):
        moved = activations(sunk, batch, [site])[site]
    assert torch.equal(left[sink & batch.mask], base[sink & batch.mask])
    if name != "hpr":  # whose probe may happen not to fire on it
        assert not torch.equal(moved[sink & batch.mask], base[sink & batch.mask])
    others = batch.mask & ~sink
    assert torch.equal(left[others], moved[others]) and not torch.equal(left[others], base[others])


def test_moving_the_sink_is_damage_that_sparing_avoids(sunk: Any) -> None:
    texts = sunk.tokens([words(SINK, *range(20 + i, 28 + i)) for i in range(8)])

    def damage(spare: str) -> float:
        with torch.no_grad():
            base = sunk.logits(texts).log_softmax(-1)
            with applied(sunk, fitted(sunk, "sea", spare).edit):
                found = sunk.logits(texts).log_softmax(-1)
        return float((base.exp() * (base - found)).sum(-1)[:, 1:].mean())

    assert damage("sinks") < damage("none")


@pytest.mark.parametrize("name", SPARING)
def test_without_a_sink_there_is_no_bound(tiny_gpt2: Any, name: str) -> None:
    method = get(name)
    edit = method.fit(tiny_gpt2, contrast_rows(60), method.configure(QUICK.get(name, {})), seed=0).edit
    assert not edit.spares


def test_presets_of_the_papers_edit_every_token() -> None:
    for name in SPARING:
        method = get(name)
        for preset in method.presets:
            wanted = "none" if preset.startswith(("paper", "official", "linear")) else "sinks"
            assert method.configure(preset=preset).spare == wanted, (name, preset)
