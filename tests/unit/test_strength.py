"""Mean difference: its strength and its dose are one thing, so a form asks for the dose alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows
from workbench.edits.engine import applied
from workbench.knobs import knobs
from workbench.methods import get

ROWS = contrast_rows(24)


def logits(model: Any, strength: float, dose: float, gate: str) -> torch.Tensor:
    known = get("mean_difference")
    edit = known.fit(model, ROWS, known.configure({"strength": strength, "gate": gate}), seed=0).edit
    with applied(model, edit.dosed(dose)):
        return model.logits(model.tokens([row.prompt for row in ROWS][:4]))


@pytest.mark.parametrize("gate", ["none", "hard"])
@pytest.mark.parametrize(("strength", "dose"), [(2.0, 1.0), (4.0, 0.5), (1.0, 2.0)])
def test_a_strength_at_a_dose_is_their_product_at_dose_1(tiny_gpt2: Any, gate: str, strength: float, dose: float) -> None:
    found = logits(tiny_gpt2, strength, dose, gate)
    torch.testing.assert_close(found, logits(tiny_gpt2, 2.0, 1.0, gate), atol=1e-5, rtol=1e-5)
    assert gate == "hard" or not torch.allclose(found, logits(tiny_gpt2, 2.0, 1.5, gate), atol=1e-3), "another product is another edit"


def test_the_form_shows_one_of_them_and_the_other_says_the_relation() -> None:
    by_name = {knob.name: knob for knob in knobs(get("mean_difference").config)}
    assert not by_name["strength"].main and "strength 2 at dose 1 is strength 1 at dose 2" in by_name["strength"].help
    assert "strength 2 at dose 1 is strength 1 at dose 2" in {k.name: k for k in knobs(get("refusal_direction").config)}["strength"].help
