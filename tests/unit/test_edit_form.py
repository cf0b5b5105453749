"""What the form of a fit says before it: three questions, what presets are, the way out of an obstacle, what is read and written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows
from workbench import methods as registered
from workbench.data.demonstrations import Demonstrations
from workbench.edits.engine import applied
from workbench.errors import Obstructed
from workbench.knobs import as_json, knobs
from workbench.methods.shared.presets import presets_of
from workbench.methods.shared.reading import read_side
from workbench.methods.shared.touched import acted_on, touched
from workbench.models.base import ModelInfo
from workbench.progress import silent
from workbench.record import gather
from workbench.session import Session
from workbench.sites import Site
from workbench.workspace.ways_out import WayOut, model_way_out, way_out

every_method = pytest.mark.parametrize("known", registered.ordered(), ids=lambda known: known.name)
LAYER = 1
SITE = Site("resid_post", LAYER)


@every_method
def test_a_form_asks_two_things_beside_the_dose_and_no_knob_that_does_what_a_dose_does(known: Any) -> None:
    asked = [item for item in knobs(known.config) if item.main]
    assert 1 <= len(asked) <= 2 and not any(item.is_dose for item in asked)


@every_method
def test_every_preset_has_a_sentence_and_the_knobs_that_it_sets(known: Any) -> None:
    found = presets_of(known)
    assert [item.name for item in found] == list(known.presets)
    for item in found:
        assert item.says.endswith(".") and len(item.says) < 140
        as_default = known.configure(preset=item.name) == known.config()
        assert bool(item.sets) is not as_default, "what sets nothing is the default, and what sets something is not"
    assert not set(known.preset_says) - set(known.presets)


@every_method
def test_a_card_says_what_a_method_needs(known: Any) -> None:
    said = known.needs.in_words
    assert said.startswith("Needs ") and said.endswith(".") and "{" not in said
    assert ("Backpack" in said) is known.needs.senses and ("two sets of prompts" in said) is known.needs.sets


def test_the_way_out_is_a_set_with_which_the_method_can_run(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path / "home")
    bare = session.demos.save(Demonstrations(tuple(replace(row, positive=None, negative=None) for row in contrast_rows()), "bare")).id
    pairs = session.demos.save(contrast_rows()).id
    for known in registered.ordered():
        if known.needs.senses:
            continue
        found = way_out(known, tiny_gpt2, session.demos)
        assert not found.model and not known.obstacles(tiny_gpt2, session.demos(found.data))
    sea = registered.get("sea")
    assert sea.obstacles(tiny_gpt2, session.demos(bare)) and way_out(sea, tiny_gpt2, session.demos).data == pairs


def test_a_model_in_the_way_is_left_first_and_without_any_set_it_is_said(tiny_gpt2: Any, tiny_backpack_model: Any, tmp_path: Path) -> None:
    from workbench.workspace.shelf import Shelf
    from workbench.workspace.shipped import ShippedSets

    senses, tarot, sea = (registered.get(name) for name in ("senses", "tarot", "sea"))
    session = Session(tiny_gpt2, tmp_path / "home")
    assert way_out(senses, tiny_gpt2, session.demos) == WayOut(model="embedded-backpack") and senses.obstacles_of(tiny_gpt2)
    assert model_way_out(senses, tiny_backpack_model) == "" and not senses.obstacles_of(tiny_backpack_model)
    assert model_way_out(tarot, tiny_backpack_model) == "embedded" and model_way_out(tarot, tiny_gpt2) == ""
    nothing = Shelf(lambda: session.workspace, ShippedSets(tmp_path / "none", everyday=False))
    with pytest.raises(Obstructed, match="No set at hand will do for SEA"):
        way_out(sea, tiny_gpt2, nothing)


def streams(model: Any, batch: Any) -> torch.Tensor:
    """The residual stream behind the layer at every token of a row."""
    return gather(model, batch, [SITE], "all")[SITE].double()


@pytest.mark.parametrize("where", ["all", "prompt", "generated"])
def test_the_tokens_that_are_marked_written_are_those_that_the_edit_moves(tiny_gpt2: Any, where: str) -> None:
    known, rows = registered.get("mean_difference"), contrast_rows()
    config = known.configure({"layers": (LAYER,), "where": where, "spare": "none", "strength": 3.0})
    edit = known.fit(tiny_gpt2, rows, config, seed=0).edit
    batch = tiny_gpt2.tokens(rows[0].prompt, rows[0].positive)
    before = streams(tiny_gpt2, batch)
    with applied(tiny_gpt2, edit):
        moved = (streams(tiny_gpt2, batch) - before).abs().amax(-1) > 1e-6
    n_prompt = int(batch.n_prompt[0])
    found = touched(config, tiny_gpt2.info, len(moved), n_prompt)
    assert ["write" in mark for mark in found.marks] == moved.tolist() and found.writes
    rules = ("all", "prompt", "generated")
    others = {touched(known.configure({"where": rule}), tiny_gpt2.info, len(moved), n_prompt).marks for rule in rules}
    assert len(others) == 3, "each rule has marks of its own"


@pytest.mark.parametrize("read", ["last", "mean"])
def test_the_tokens_that_are_marked_read_are_those_that_the_reading_is_made_of(tiny_gpt2: Any, read: str) -> None:
    row = contrast_rows()[0]
    found = read_side(tiny_gpt2, [(row.prompt, " w1 w2 w3")], [SITE], silent())[SITE]
    batch = tiny_gpt2.tokens(row.prompt, " w1 w2 w3")
    seen = streams(tiny_gpt2, batch)
    config = registered.get("mean_difference").configure({"read": read})
    marks = touched(config, tiny_gpt2.info, len(seen), int(batch.n_prompt[0]))
    at = torch.tensor(["read" in mark for mark in marks.marks])
    torch.testing.assert_close(seen[at].mean(0), getattr(found, read)[0], atol=1e-5, rtol=1e-4)
    assert int(at.sum()) == (1 if read == "last" else 3) and marks.reads


def test_of_a_method_that_settles_it_while_it_fits_nothing_is_marked(tiny_gpt2: Any) -> None:
    info: ModelInfo = tiny_gpt2.info
    found = touched(registered.get("tarot").config(), info, 5, 3)
    assert found == (("",) * 5, "", "")
    alone = touched(registered.get("mean_difference").configure({"read": "mean"}), info, 4, 4)
    assert alone.reads == "the mean over the prompt's tokens" and all("read" in mark for mark in alone.marks)


def test_presets_of_equal_configs_would_be_told_alike() -> None:
    sea = registered.get("sea")
    found = {item.name: item.sets for item in presets_of(sea)}
    assert as_json(sea.configure(preset="centred"))["keep"] == 0.99 == found["centred"]["Share kept"]
    assert "As released" in found["official-compat"] and "As released" not in found["centred"]


def test_where_a_rule_acts_is_told_token_by_token() -> None:
    def told(rule: str) -> str:
        return "".join("x" if on else "." for on in acted_on(rule, 7, 4))

    assert (told("all"), told("prompt"), told("generated")) == ("xxxxxxx", "xxxx...", "...xxxx")
    assert (told("first 1"), told("first 4"), told("last")) == ("...x...", "...xxxx", "...xxxx")
    with pytest.raises(KeyError):
        acted_on("nowhere", 7, 4)
