"""What a method was found to do on a real model is told where it is offered."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.methods import registry
from workbench.methods.shared import evidence as module
from workbench.methods.shared.evidence import evidence, found_by_battery


def test_the_sentence_lists_tasks_by_what_was_found_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {
        "model": "a-model",
        "methods": {"sea": {"does it": ["a", "b", "c"], "no effect": ["d"]}, "hpr": {"no effect": ["a", "d"]}},
    }
    monkeypatch.setattr(module, "found_by_battery", lambda: found)
    assert evidence("sea") == "On a-model with its defaults: does it on a, b and c; no effect on d."
    assert evidence("hpr") == "On a-model with its defaults: no effect on a and d."
    assert evidence("lora") == "", "nothing was measured"


def test_what_is_shipped_names_its_model_and_methods_that_exist() -> None:
    found = found_by_battery()
    assert found["model"] and set(found["methods"]) <= {one.name for one in registry.ordered()}
    assert all(evidence(name).startswith(f"On {found['model']} with its defaults: ") for name in found["methods"])
