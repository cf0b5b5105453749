"""Token ids as texts, one a token, as records and figures show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.errors import BadPrompt
from workbench.models.base import LanguageModel
from workbench.shapes import Int, Tensor


def token_texts(tokenizer: Any, ids: Sequence[int] | Int[Tensor, " pos"]) -> tuple[str, ...]:
    """One text a token, with its own spaces and newlines."""
    plain: list[int] = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    return tuple(str(tokenizer.decode([token])) for token in plain)


def token_ids(model: LanguageModel, text: str) -> list[int]:
    """The ids of a continuation: of its own tokens alone, without those that begin or end a text."""
    return list(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def first_token(model: LanguageModel, text: str) -> int:
    """The id of the first token of a continuation: what a next-token distribution can be asked about.

    Raises:
        BadPrompt: the text has no token.
    """
    ids = token_ids(model, text)
    if not ids:
        raise BadPrompt(f"{text!r} holds no token.", "Write a word, with its leading space if it follows one.")
    return ids[0]
