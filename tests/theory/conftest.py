"""What several tests of sense edits share: the tiny Backpack of the golden numbers, and its embedding."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from tests.tiny_backpack import tiny_backpack


@pytest.fixture(scope="module")
def network() -> Any:
    return tiny_backpack()


@pytest.fixture(scope="module")
def E(network: Any) -> Tensor:
    return network.backpack.gpt2_model.wte.weight
