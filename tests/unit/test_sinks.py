"""Massive activations: found where they are planted, and nowhere else; bounds that tell them from the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.made_edits import made, shift
from workbench.edits.engine import applied
from workbench.models.sinks import norm_bound, norm_bounds, sinks
from workbench.operations import TransformAt
from workbench.record import activations
from workbench.sites import Site

TEXTS = [words(12, 13, 14, 15, 16), words(20, 12, 13), words(31, 32, 33, 34)]


def test_a_bound_lies_between_the_two_kinds() -> None:
    ordinary = torch.linspace(1.0, 3.0, 50)
    bound = norm_bound(torch.cat([ordinary, torch.tensor([100.0, 120.0])]))
    assert bound == pytest.approx((3.0 * 100.0) ** 0.5)


@pytest.mark.parametrize(
    "norms",
    [
        torch.linspace(1.0, 3.0, 50),  # one kind only
        torch.linspace(1.0, 40.0, 400).square() / 40,  # a long tail without a gap
        torch.tensor([5.0]),
        torch.zeros(0),
    ],
)
def test_no_bound_where_nothing_stands_apart(norms: torch.Tensor) -> None:
    assert norm_bound(norms) is None


def planted(model: Any, layer: int = 1, factor: float = 100.0) -> Any:
    """An edit that makes the fourth token from the end a hundred times as long behind one block."""
    site, width = Site("resid_post", layer), model.info.d_model

    def grow(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[:, -4] = factor * y[:, -4]
        return y

    return made(model, lambda dose: (TransformAt(site, grow, width),))


def test_a_planted_token_is_found_and_named(tiny_gpt2: Any) -> None:
    assert sinks(tiny_gpt2, TEXTS).bounds == {}
    with applied(tiny_gpt2, planted(tiny_gpt2)):
        found = sinks(tiny_gpt2, [TEXTS[0]])
    assert 1 in found.bounds and 0 not in found.bounds
    assert found.tokens[0][:2] == ("w13", 1)
    layer = found.layers[1]
    assert layer.bound is not None and layer.median < layer.bound < layer.largest
    assert "'w13' at position 1" in found.says and "times as long" in found.says


def test_bounds_are_given_by_site_and_do_not_hang_on_padding(tiny_gpt2: Any) -> None:
    sites = [Site("resid_post", 1), Site("resid_post", 0)]
    with applied(tiny_gpt2, planted(tiny_gpt2)):
        alone = norm_bounds(tiny_gpt2, tiny_gpt2.tokens([TEXTS[0]]), sites)
        padded = norm_bounds(tiny_gpt2, tiny_gpt2.tokens([TEXTS[0], TEXTS[2]]), sites, batch_size=1)
    assert set(alone) == {sites[0]} == set(padded)
    assert norm_bounds(tiny_gpt2, tiny_gpt2.tokens(TEXTS), sites) == {}


def test_sparing_keeps_the_massive_token_and_edits_the_others(tiny_gpt2: Any) -> None:
    site = Site("resid_post", 1)
    grown, batch = planted(tiny_gpt2), tiny_gpt2.tokens([TEXTS[0]])
    edit = shift(tiny_gpt2, layer=1)
    with applied(tiny_gpt2, grown):
        bounds = norm_bounds(tiny_gpt2, batch, [site])
        base = activations(tiny_gpt2, batch, [site])[site]
        with applied(tiny_gpt2, edit):
            everywhere = activations(tiny_gpt2, batch, [site])[site]
        with applied(tiny_gpt2, edit.sparing(bounds)):
            spared = activations(tiny_gpt2, batch, [site])[site]
    assert torch.equal(spared[0, 1], base[0, 1]) and not torch.equal(everywhere[0, 1], base[0, 1])
    others = torch.tensor([0, 2, 3, 4])
    assert torch.equal(spared[0, others], everywhere[0, others]) and not torch.equal(spared[0, others], base[0, others])
