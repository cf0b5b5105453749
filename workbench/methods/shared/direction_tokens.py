"""Which tokens a direction of the residual stream promotes and suppresses (the logit lens read both ways)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from workbench.models.base import LanguageModel
from workbench.shapes import Float, Tensor


@dataclass(frozen=True)
class DirectionTokens:
    """Tokens of the largest and smallest logits of a direction, strongest first."""

    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]


def direction_tokens(model: LanguageModel, direction: Float[Tensor, "d_model"], n: int = 8) -> DirectionTokens:
    """Return the `n` tokens that the direction moves most, either way.

    Half the difference of both signs: what the final norm's bias adds to every direction cancels.
    """
    both = torch.stack([direction, -direction]).to(model.device, model.dtype)
    with torch.no_grad():
        up, down = model.unembed(both).double()
    order = ((up - down) / 2).argsort(descending=True)

    def texts(ids: Tensor) -> tuple[str, ...]:
        return tuple(str(model.tokenizer.decode([int(i)])) for i in ids)

    return DirectionTokens(texts(order[:n]), texts(order.flip(0)[:n]))
