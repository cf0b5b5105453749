"""KL and −log p of texts are what their definitions give, for lanes that fork, lanes that run whole, and lanes that say something first."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.made_edits import rows as embedding_rows
from tests.made_edits import shift
from workbench.edits.engine import applied
from workbench.edits.lane import Lane, lane_of
from workbench.errors import BadPrompt
from workbench.evaluate.divergences import divergences_of
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress

TEXTS = [words(12, 13, 14, 15), words(20, 21), words(*range(30, 41)), words(9, 8, 7)]
SAID = words(40, 41, 42)


def direct(model: Any, text: str, edits: tuple[Any, ...], said: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    """KL(base ‖ lane) and −log p of the next token at every token of a text but its last, one text at a time."""

    def log_probs(whole: str) -> torch.Tensor:
        with torch.no_grad():
            return model.logits(model.tokens(whole))[0].double().log_softmax(-1)

    n = model.tokens(text).ids.shape[1]
    base = log_probs(text)
    with applied(model, *edits):
        lane = log_probs(f"{said} {text}" if said else text)[-n:]
    ids = model.tokens(text).ids[0]
    kl = (base.exp() * (base - lane)).sum(-1)[:-1]
    return kl, -lane[:-1].gather(-1, ids[1:, None])[:, 0]


@pytest.mark.parametrize("at_once", [1, 10**9])
@pytest.mark.parametrize("kind", ["forks", "whole", "said", "said with an edit"])
def test_every_token_has_the_kl_and_the_loss_of_the_definition(
    tiny_gpt2: Any, kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("workbench.score", "workbench.evaluate.divergences"):
        monkeypatch.setattr(f"{module}.LOGITS_AT_ONCE", at_once)
    edit = embedding_rows(tiny_gpt2) if kind == "whole" else shift(tiny_gpt2)
    edits = () if kind == "said" else (edit,)
    said = SAID if kind.startswith("said") else ""
    lane = (*edits, f'prompt:"{said}"') if said else edits
    batch = tiny_gpt2.tokens(TEXTS)
    told: list[float] = []
    found = divergences_of(tiny_gpt2, batch, [Lane(), lane_of(lane)], progress=Progress(lambda report: told.append(report.share)))
    wanted = [direct(tiny_gpt2, text, edits, said) for text in TEXTS]
    torch.testing.assert_close(found.kl[1], torch.cat([kl for kl, _ in wanted]), atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(found.nll[1], torch.cat([nll for _, nll in wanted]), atol=2e-5, rtol=1e-4)
    assert float(found.kl[0].abs().max()) < 1e-9 < float(found.kl[1].max()) and told[-1] == 1.0
    assert found.row.tolist() == [i for i, (kl, _) in enumerate(wanted) for _ in kl]


def test_only_counted_tokens_are_told(tiny_gpt2: Any) -> None:
    batch = tiny_gpt2.tokens(TEXTS)
    counted = torch.zeros_like(batch.mask)
    counted[:, -2] = True
    lanes = [lane_of((shift(tiny_gpt2),)), lane_of(f'prompt:"{SAID}"')]
    every, some = divergences_of(tiny_gpt2, batch, lanes), divergences_of(tiny_gpt2, batch, lanes, counted)
    last = [int((every.row == row).nonzero().max()) for row in range(len(TEXTS))]
    torch.testing.assert_close(some.kl, every.kl[:, last])
    torch.testing.assert_close(some.nll, every.nll[:, last])


def test_a_text_that_does_not_fit_behind_what_is_said_is_refused_with_both_lengths(tiny_gpt2: Any) -> None:
    n = tiny_gpt2.info.n_ctx
    batch = TokenBatch.of([[5] * (n - 2)], None)
    with pytest.raises(BadPrompt, match=f"{n + 1} tokens long; the context holds {n}"):
        divergences_of(tiny_gpt2, batch, [lane_of(f'prompt:"{SAID}"')])
