"""Where a text is read is one knob with the same words for every method of activations; older words are understood."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.concepts import concept_rows
from workbench.data.sides import two_sides
from workbench.errors import BadKnob
from workbench.knobs import knobs, renamed
from workbench.methods import get
from workbench.methods.shared import reading
from workbench.methods.shared.layers import SMALL
from workbench.methods.shared.reading import read_sides, settled_reading
from workbench.progress import silent
from workbench.sites import Site

READ = {"mean_difference", "angular", "sea", "hpr", "refusal_direction"}


@pytest.mark.parametrize("name", sorted(READ))
def test_the_knob_has_one_name_one_label_and_the_same_words_wherever_it_stands(name: str) -> None:
    (found,) = [item for item in knobs(get(name).config) if item.name == "read"]
    assert found.label == "Read from" and found.help.startswith("What stands for a text. ")
    for option in set(found.choices or ()) - {"auto"}:
        assert f"{option}: {reading._WORDS[option]}" in found.help  # pyright: ignore[reportPrivateUsage]
    assert not {item.name for item in knobs(get(name).config)} & {"collect", "pairing"}


@pytest.mark.parametrize(
    ("name", "old", "now"),
    [
        ("sea", {"collect": "mean"}, {"read": "mean"}),
        ("hpr", {"pairing": "aligned"}, {"read": "each"}),
        ("hpr", {"pairing": "last"}, {"read": "last"}),
        ("mean_difference", {"read": "continuation"}, {"read": "mean"}),
    ],
)
def test_names_and_words_of_older_versions_mean_what_they_meant(name: str, old: dict[str, str], now: dict[str, str]) -> None:
    method = get(name)
    assert method.configure(old) == method.configure(now) and renamed(method.config, old) == now
    with pytest.raises(BadKnob):
        method.configure({next(iter(old)): "middle"})


@pytest.mark.parametrize("name", ["sea", "hpr", "mean_difference", "sea_official", "hpr_official"])
def test_the_knobs_of_a_saved_edit_configure_its_method(name: str) -> None:
    told = json.loads((Path(__file__).parents[1] / "data" / "saved_edits" / name / "edit.json").read_text())["header"]
    method = get(told["method"])
    config = method.configure(renamed(method.config, told["config"]))
    assert config.read == {"aligned": "each", "continuation": "mean"}.get(was := _read_of(told["config"]), was)


def _read_of(config: dict[str, str]) -> str:
    return next(config[name] for name in ("collect", "pairing", "read") if name in config)


def test_the_default_follows_the_size_of_the_network(tiny_gpt2: Any) -> None:
    large = dataclasses.replace(tiny_gpt2.info, n_parameters=SMALL)
    assert settled_reading("auto", tiny_gpt2.info) == "last" and settled_reading("auto", large) == "mean"
    assert settled_reading("last", large) == "last"


def test_a_mean_leaves_out_tokens_that_are_far_longer_and_by_hand_they_would_be_most_of_it(tiny_gpt2: Any) -> None:
    rows, site = concept_rows(40), Site("resid_post", 1)
    sides = two_sides(rows.split("fit"))
    plain = read_sides(tiny_gpt2, sides, [site], "mean", silent())[site]
    position = tiny_gpt2.network.transformer.wpe.weight
    was = position.detach().clone()
    try:
        position.data[0] += 100 * torch.randn(position.shape[1], generator=torch.Generator().manual_seed(1))
        spared = read_sides(tiny_gpt2, sides, [site], "mean", silent())[site]
        everything = tiny_gpt2.tokens([prompt for prompt, _ in sides["target"]])
        from workbench.record import gather

        tokens = gather(tiny_gpt2, everything, [site], "all")[site].double()
        owner = everything.mask.nonzero()[:, 0]
        ordinary = everything.positions[everything.mask] > 0
        texts = range(len(everything))
        with_sink = torch.stack([tokens[owner == row].mean(0) for row in texts])
        without = torch.stack([tokens[(owner == row) & ordinary].mean(0) for row in texts])
    finally:
        position.data.copy_(was)
    assert float(spared[0].norm(dim=1).max()) < 5 * float(plain[0].norm(dim=1).max())
    assert float(with_sink.norm(dim=1).min()) > 5 * float(spared[0].norm(dim=1).max()), "the sink is there to be left out"
    torch.testing.assert_close(spared[0], without)
