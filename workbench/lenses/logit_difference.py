"""The number that lenses explain: the logit of a target at the last token, less that of a distractor, on one prompt or on two."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.conversations import Prompt
from workbench.errors import BadPrompt
from workbench.models.base import LanguageModel
from workbench.models.token_texts import one_token, token_texts
from workbench.models.tokens import TokenBatch
from workbench.shapes import Float, Tensor

_SAME = 1e-6


@dataclass(frozen=True)
class LogitDifference:
    """The tokens of a target and, where there is one, of a distractor: ids and texts, the target first."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]

    @property
    def target(self) -> str:
        """The target."""
        return self.texts[0]

    @property
    def distractor(self) -> str | None:
        """The distractor, if there is one."""
        return self.texts[1] if len(self.texts) > 1 else None

    def __call__(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, " batch"]:
        """The difference at the last token, nats, float64."""
        return self._of(logits[:, -1].double())

    def direction(self, unembedding: Float[Tensor, "d_model d_vocab"]) -> Float[Tensor, " d_model"]:
        """The direction of the final residual stream along which the difference is read, float64."""
        return self._of(unembedding.double())

    def _of(self, x: Float[Tensor, "row d_vocab"]) -> Float[Tensor, " row"]:
        target = x[:, self.ids[0]]
        return target - x[:, self.ids[1]] if len(self.ids) > 1 else target


def logit_difference(model: LanguageModel, target: str, distractor: str | None = None) -> LogitDifference:
    """The difference between two words on a model.

    Raises:
        BadPrompt: a word is not one token.
    """
    ids = tuple(one_token(model, text) for text in (target, distractor) if text is not None)
    return LogitDifference(ids, token_texts(model.tokenizer, ids))


def prompt_pair(model: LanguageModel, clean: Prompt, corrupt: Prompt) -> TokenBatch:
    """A clean and a corrupted prompt as two rows, token beside token.

    Raises:
        BadPrompt: they differ in length.
    """
    batch = model.tokens([clean, corrupt])
    lengths = batch.lengths.tolist()
    if lengths[0] != lengths[1]:
        raise BadPrompt(
            f"The prompts have {lengths[0]} and {lengths[1]} tokens; patching needs equal lengths.",
            "Swap a word for one of as many tokens.",
        )
    return batch


def gap(clean: float, corrupt: float) -> float:
    """What there is to bring back: the difference on the clean prompt less that on the corrupted one, nats.

    Raises:
        BadPrompt: there is nothing.
    """
    if abs(clean - corrupt) < _SAME:
        raise BadPrompt(
            "Both prompts give the same logit difference, so there is nothing to bring back.",
            "Change the word that decides between target and distractor.",
        )
    return clean - corrupt
