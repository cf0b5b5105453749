"""What a direction of the residual stream says: the tokens that it promotes and suppresses."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.shapes import Float, Tensor

Scored = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class DirectionTokens:
    """Tokens whose logits a direction raises and lowers most, with the change of the logit that it alone would read as."""

    promoted: Scored
    suppressed: Scored


def direction_tokens(model: LanguageModel, direction: Float[Tensor, "d_model"], k: int = 10) -> DirectionTokens:
    """Read a direction through the final norm and the unembedding, less what a zero vector reads as.

    The norm rescales it, so only the order and the ratios of the numbers mean something; −v swaps both lists.
    """
    with torch.no_grad():
        pair = torch.stack([direction, torch.zeros_like(direction)]).to(model.device, model.dtype)
        logits = model.unembed(pair).double()
    change = logits[0] - logits[1]
    k = min(k, change.numel())

    def told(values: Tensor, sign: float) -> Scored:
        top = (sign * values).topk(k)
        return tuple(zip(token_texts(model.tokenizer, top.indices), (sign * top.values).tolist()))

    return DirectionTokens(told(change, 1.0), told(change, -1.0))
