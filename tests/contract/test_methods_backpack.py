"""What every registered method promises, once more on a Backpack: what trains canonical examples, and one that steers."""

from __future__ import annotations

from typing import Any

import pytest

import tests.contract.test_methods as contract
from tests.contract.test_methods import (
    test_a_fit_leaves_the_model_bit_equal_and_reports_its_progress_to_the_end as test_a_fit_leaves_the_model_bit_equal,
)
from tests.contract.test_methods import test_an_edit_comes_back_from_disk_with_bit_equal_logits as test_an_edit_comes_back_from_disk
from tests.contract.test_methods import test_cached_equals_uncached_and_batched_equals_alone as test_cached_equals_uncached
from tests.contract.test_methods import test_cancelling_in_the_middle_leaves_nothing_behind as test_cancelling_leaves_nothing_behind
from tests.contract.test_methods import (
    test_dose_zero_is_the_identity_and_nothing_below_the_first_site_moves as test_dose_zero_is_the_identity,
)
from tests.contract.test_methods import test_generation_runs_under_the_edit as test_generation_runs
from tests.contract.test_methods import test_lanes_with_other_methods_equal_each_alone as test_lanes_equal_each_alone

NAMES = ("senses", "lora", "finetuning", "mean_difference")
TESTS = (
    test_a_fit_leaves_the_model_bit_equal, test_an_edit_comes_back_from_disk, test_cached_equals_uncached,
    test_cancelling_leaves_nothing_behind, test_dose_zero_is_the_identity, test_generation_runs, test_lanes_equal_each_alone,
)  # fmt: skip


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest, tiny_backpack_model: Any) -> tuple[str, str, Any]:
    name: str = request.param
    method = contract.get(name)
    assert not method.obstacles(tiny_backpack_model, contract.rows_for(method))
    return name, "backpack", tiny_backpack_model
