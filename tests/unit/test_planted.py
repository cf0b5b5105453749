"""The planted model says what the embedded one says, by a sink that the embedded one has none of; what moves the sink breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from workbench.data.demonstrations import Demonstrations
from workbench.edits.engine import applied
from workbench.errors import StorageFailed
from workbench.methods import get
from workbench.models.catalog import load
from workbench.models.planted import planted
from workbench.models.sinks import MASSIVE, sinks
from workbench.resources import PLANTED, SINK
from workbench.world.canonical_sets import neutral_text
from workbench.world.planting import LAYER, planting, planting_texts
from workbench.world.sets import truthfulness

# None of them was among the texts that the plant was made on.
TEXTS = [str(row.prompt) for item in (truthfulness(), neutral_text()) for row in [row for row in item.rows if row.split == "test"][:15]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    yield load("embedded"), load(PLANTED, models=tmp_path_factory.mktemp("models"))


def said(model: Any) -> list[torch.Tensor]:
    return [model.logits(model.tokens(text))[0, 1:].detach().double().log_softmax(-1) for text in TEXTS]


def moved(before: list[torch.Tensor], after: list[torch.Tensor]) -> float:
    """Mean KL(before ‖ after) a token, behind the first."""
    return float(torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in zip(before, after)]).mean())


def test_it_says_what_the_embedded_model_says_and_the_first_token_alone_is_massive(both: tuple[Any, Any]) -> None:
    plain, sunk = both
    assert len(TEXTS) > 20 and moved(said(plain), said(sunk)) < 0.002
    assert sinks(plain, TEXTS).bounds == {}
    found = sinks(sunk, TEXTS)
    assert sorted(found.bounds) == list(range(LAYER, sunk.info.n_layers)) and [position for _, position, _ in found.tokens] == [0]
    assert found.layers[LAYER].largest > 10 * MASSIVE * found.layers[LAYER].median
    assert plain.generation == sunk.generation and plain.fingerprint.weights != sunk.fingerprint.weights


def test_moving_the_sink_breaks_it_and_sparing_the_sink_does_not(both: tuple[Any, Any]) -> None:
    sunk, rows, damage = both[1], Demonstrations(truthfulness().rows, "truthfulness"), dict[str, float]()
    before = said(sunk)
    for spare in ("none", "sinks"):
        edit = get("sea").fit(sunk, rows, get("sea").configure({"center": "grand", "layers": [2], "spare": spare})).edit
        with applied(sunk, edit):
            damage[spare] = moved(before, said(sunk))
    assert damage["none"] > 3 * damage["sinks"] and damage["none"] > 0.3


def test_the_shipped_file_is_what_the_world_makes(both: tuple[Any, Any]) -> None:
    made, shipped = planting(both[0], planting_texts()), load_file(SINK)
    assert made.keys() == shipped.keys()
    for name, value in made.items():  # solved in double from single-precision readings: another processor rounds otherwise
        torch.testing.assert_close(value, shipped[name], rtol=1e-2, atol=1e-2 * float(value.abs().max()))


def test_it_is_made_once_and_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    folder = planted(tmp_path / "models" / PLANTED)
    when = (folder / "model.safetensors").stat().st_mtime_ns
    assert planted(folder) == folder and (folder / "model.safetensors").stat().st_mtime_ns == when
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed):
        planted(tmp_path / "file" / PLANTED)
