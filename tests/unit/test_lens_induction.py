"""Induction heads are found by where they look and proven by what is lost without them, beside other heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from workbench.errors import BadPrompt
from workbench.lenses import induction
from workbench.lenses.induction import induction_proof
from workbench.models.catalog import load


@pytest.fixture(scope="module")
def embedded() -> Any:
    return load("embedded")


def test_the_embedded_model_repeats_by_its_induction_heads_and_by_no_others(embedded: Any) -> None:
    hooks = embedded.hook_count()
    found = induction_proof(embedded, draws=6)
    assert embedded.hook_count() == hooks
    assert found.is_proven and found.without < 0.1 < 0.8 < min(found.random) and found.whole > 0.8
    assert {(3, head) for head in range(6)} <= set(found.heads) and len(found.heads) < 12
    assert list(found.scores) == sorted(found.scores, reverse=True) and min(found.scores) >= 0.5 * max(found.scores)
    assert "3.2" in found.says and "instead of" in found.says and "not what it repeats by" not in found.says
    assert [row["probability of the repeated token"] for row in found.rows()] == [found.whole, found.without, *found.random]
    assert induction_proof(embedded, draws=6) == found, "a seed gives the same texts and draws"


def test_what_is_lost_is_what_a_network_without_these_columns_loses(embedded: Any) -> None:
    """The same number from the output matrices: columns of the silent heads are zero."""
    heads, batch = [(3, 1), (3, 2)], embedded.tokens(["When Kate and David were at the theatre, Kate and David"] * 2)
    length = 4
    before = induction._repeats(embedded, batch, length, ())
    got = induction._repeats(embedded, batch, length, heads)
    slot = embedded.weight("w_o@3")
    kept = slot.parameter.detach().clone()
    try:
        with torch.no_grad():
            columns = np.concatenate([np.arange(32 * head, 32 * head + 32) for _, head in heads])
            (slot.parameter if slot.is_transposed else slot.parameter.T)[columns] = 0
        assert induction._repeats(embedded, batch, length, ()) == pytest.approx(got, abs=1e-5)
    finally:
        with torch.no_grad():
            slot.parameter.copy_(kept)
    assert abs(got - before) > 1e-3


def test_a_model_whose_heads_look_nowhere_has_nothing_to_prove(tiny_gpt2: Any) -> None:
    with pytest.raises(BadPrompt, match="nothing to set against others"):
        induction_proof(tiny_gpt2, n=2, length=10, draws=2)
