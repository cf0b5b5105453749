"""While tests run, a wrong shape or type at any call within the package is caught where it happens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

import workbench
from workbench.models.tokens import TokenBatch
from workbench.numerics.probes import LinearProbe
from workbench.progress import Progress


def probe(width: int) -> LinearProbe:
    return LinearProbe(torch.ones(width, dtype=torch.float64), torch.zeros((), dtype=torch.float64))


def test_shapes_and_types_as_annotated_pass() -> None:
    assert probe(4).scores(torch.ones(2, 4)).tolist() == [4.0, 4.0]
    assert TokenBatch(torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 5, dtype=torch.bool), torch.tensor([1, 2])).ids.shape == (2, 3)


def test_a_tensor_with_a_dimension_too_many_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="parameter 'x'"):
        probe(4).scores(torch.ones(2, 2, 4))


def test_two_tensors_that_share_a_dimension_must_agree_on_it() -> None:
    with pytest.raises(TypeCheckError, match="n_prompt"):
        TokenBatch(torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool), torch.tensor([1, 2, 3]))


def test_a_tensor_of_another_kind_of_number_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="mask"):
        TokenBatch(torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3), torch.tensor([1, 2]))


def test_plain_types_are_checked_too_and_a_whole_number_is_a_number() -> None:
    Progress()(1, "Done")
    with pytest.raises(TypeCheckError, match="share"):
        Progress()("half", "Going on")  # pyright: ignore[reportArgumentType]


def test_the_app_pays_nothing_the_package_names_no_checker() -> None:
    sources = Path(workbench.__path__[0]).rglob("*.py")
    assert not any("beartype" in path.read_text(encoding="utf-8") for path in sources)
