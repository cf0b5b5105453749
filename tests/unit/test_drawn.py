"""What is drawn with a seed: rows and positions, no more than asked for, the same for the same seed."""

from __future__ import annotations

import torch

from tests.conftest import contrast_rows
from workbench.methods.shared.contrast_rows import drawn_rows
from workbench.methods.shared.neutral import sampled_positions


def test_drawn_rows_keep_their_order_and_few_are_all() -> None:
    rows = contrast_rows(24)
    few = drawn_rows(rows, 6, seed=1)
    at = [list(rows).index(row) for row in few]
    assert len(at) == 6 and at == sorted(set(at)) and few == drawn_rows(rows, 6, seed=1)
    assert len({tuple(row.id for row in drawn_rows(rows, 6, seed)) for seed in range(8)}) > 4, "another seed draws others"
    assert drawn_rows(rows, 24, 0) is rows and drawn_rows(rows, 30, 0) is rows


def test_sampled_positions_are_of_the_mask_and_as_many_as_asked() -> None:
    mask = torch.rand(5, 9, generator=torch.Generator().manual_seed(0)) < 0.6
    few = sampled_positions(mask, 7, seed=2)
    assert few.shape == mask.shape and int(few.sum()) == 7 and bool((mask | ~few).all())
    assert torch.equal(few, sampled_positions(mask, 7, seed=2)) and not torch.equal(few, sampled_positions(mask, 7, seed=3))
    assert sampled_positions(mask, int(mask.sum()), 0) is mask
    seen = sum(sampled_positions(mask, 7, seed).long() for seed in range(60))
    assert isinstance(seen, torch.Tensor) and bool((seen > 0).eq(mask).all()), "every position can be drawn"
