"""What a direction of the residual stream says: the tokens that it promotes and suppresses (the logit lens read both ways)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.shapes import Float, Tensor

Scored = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class DirectionTokens:
    """Tokens whose logits a direction raises and lowers most, strongest first, with the change of the logit that it alone would read as."""

    promoted: Scored
    suppressed: Scored

    def texts(self) -> dict[str, tuple[str, ...]]:
        """The tokens alone, as a table row."""
        return {"promoted": tuple(text for text, _ in self.promoted), "suppressed": tuple(text for text, _ in self.suppressed)}


def direction_tokens(model: LanguageModel, direction: Float[Tensor, " d_model"], k: int = 8) -> DirectionTokens:
    """Read a direction v through the final norm and the unembedding U: (U(v) − U(−v)) / 2, so that what a bias adds to all cancels.

    The norm rescales it, so only the order and the ratios of the numbers mean something; −v swaps both lists.
    """
    with torch.no_grad():
        up, down = model.unembed(torch.stack([direction, -direction]).to(model.device, model.dtype)).double()
    change = (up - down) / 2

    def told(sign: float) -> Scored:
        top = (sign * change).topk(min(k, change.numel()))
        return tuple(zip(token_texts(model.tokenizer, top.indices), (sign * top.values).tolist()))

    return DirectionTokens(told(1.0), told(-1.0))
