"""SEA read side by side takes the knobs that it records, and a choice in networks of size tries layers alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from tests.concepts import concept_rows
from tests.conftest import contrast_rows
from tests.shape_checks import unchecked
from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import two_sides
from workbench.errors import BadKnob
from workbench.methods import get
from workbench.methods.shared.layers import SMALL
from workbench.methods.shared.reading import read_sides
from workbench.progress import silent
from workbench.sites import Site


def kept(model: Any, rows: Demonstrations, **knobs: Any) -> torch.Tensor:
    law = get("sea").fit(model, rows, get("sea").configure({"layers": (1,), "base": "sides", **knobs})).edit.laws[1]  # type: ignore[attr-defined]
    return law.keep @ law.keep.T


@pytest.mark.parametrize("rows", [contrast_rows(40), concept_rows(60)], ids=["pairs", "sets"])
def test_a_token_that_is_drawn_needs_pairs_read_against_a_base_and_nothing_is_read_in_its_place(tiny_gpt2: Any, rows: Any) -> None:
    with pytest.raises(BadKnob, match="read = random with base = sides") as caught:
        kept(tiny_gpt2, rows, read="random")
    assert "last or mean" in caught.value.hint
    kept(tiny_gpt2, rows, read="mean")


@pytest.mark.parametrize("read", ["random", "each"])
def test_sides_are_read_at_the_last_token_or_as_means_and_other_words_are_refused(tiny_gpt2: Any, read: str) -> None:
    sides = two_sides(contrast_rows(20))
    with pytest.raises(BadKnob, match=f"read = {read}"), unchecked():
        read_sides(tiny_gpt2, sides, [Site("resid_post", 1)], read, silent())  # type: ignore[arg-type]


def test_answers_read_side_by_side_have_the_full_stop_that_the_knob_says(tiny_gpt2: Any) -> None:
    def stopped(rows: Demonstrations) -> Demonstrations:
        return rows.with_rows(dataclasses.replace(row, positive=f"{row.positive}.", negative=f"{row.negative}.") for row in rows)

    bare = contrast_rows(40)
    plain, forced = (kept(tiny_gpt2, bare, final_period=period) for period in ("keep", "force"))
    assert torch.equal(forced, kept(tiny_gpt2, stopped(bare), final_period="keep"))
    assert torch.equal(plain, kept(tiny_gpt2, stopped(bare), final_period="strip"))
    assert not torch.allclose(plain, forced, atol=1e-2), "the full stop is there to be read"


def test_a_choice_in_a_network_of_size_tries_layers_and_leaves_every_other_knob_as_given(tiny_gpt2: Any) -> None:
    sea, large = get("sea"), dataclasses.replace(tiny_gpt2.info, n_parameters=SMALL)
    assert set(sea.tries(large)) == {"layers"}
    assert {"keep", "gate"} <= set(sea.tries(tiny_gpt2.info)), "small networks have other laws, where shares are worth a trial"
