"""How much an edit moves the activations of texts, against what each number says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.made_edits import draw, made
from workbench.methods.shared.edit_size import measured_sizes
from workbench.operations import TransformAt
from workbench.sites import Site

SITE = Site("resid_post", 1)


def test_sizes_are_those_of_what_is_added_and_texts_may_come_in_parts(tiny_gpt2: Any) -> None:
    vector, texts = draw(tiny_gpt2.width(SITE)), tiny_gpt2.tokens([words(*range(9 * n, 10 * n)) for n in (3, 5, 4)])
    seen: list[torch.Tensor] = []
    with torch.no_grad(), tiny_gpt2.intercept(SITE, seen.append):
        tiny_gpt2.logits(texts)
    x = seen[0][texts.mask].double()
    cut = float(x[:, 0].quantile(0.6))

    def some(x: torch.Tensor) -> torch.Tensor:
        return x + torch.where(x[..., :1] > cut, vector.to(x.dtype), torch.zeros_like(vector))

    edit = made(tiny_gpt2, lambda dose: (TransformAt(SITE, some, len(vector)),))
    whole = measured_sizes(tiny_gpt2, edit, texts, [SITE])[SITE]
    parts = measured_sizes(tiny_gpt2, edit, texts, [SITE], batch_size=2)[SITE]
    assert torch.allclose(whole.sizes, parts.sizes, atol=1e-6) and torch.allclose(whole.cosines, parts.cosines, atol=1e-6)
    moved = x[:, 0] > cut
    y = x + moved[:, None] * vector.double()
    assert int(moved.sum()) == 5 and len(whole.sizes) == 12
    assert whole.unchanged_share == parts.unchanged_share == pytest.approx(7 / 12)
    last = torch.tensor([3, 5, 4]).cumsum(0) - 1
    assert torch.allclose(whole.before_last, x[last]) and torch.allclose(whole.after_last, y[last], atol=1e-5)
    assert torch.allclose(whole.sizes, (y - x).norm(dim=1) / x.norm(dim=1), atol=1e-5)
    assert torch.allclose(whole.cosines, (x * y).sum(1) / x.norm(dim=1) / y.norm(dim=1), atol=1e-5)
    assert whole.mean == pytest.approx(float(whole.sizes.mean())) and whole.cosine == pytest.approx(float(whole.cosines.mean()))
    assert whole.upper_95 == pytest.approx(float(torch.quantile(whole.sizes, 0.95)))
