"""Token ids as texts, one a token, as records and figures show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.conversations import Prompt
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


def one_token(model: LanguageModel, text: str) -> int:
    """The id of a text that is one token: what a lens follows. Unlike `first_token` it never takes a part for the whole.

    Raises:
        BadPrompt: the text has no token, or several: the message shows them, and how it would be one.
    """
    ids, first = token_ids(model, text), first_token(model, text)
    if len(ids) == 1:
        return first
    parts = token_texts(model.tokenizer, ids)
    other = text.lstrip() if text.startswith(" ") else f" {text}"
    where = "without its leading space" if text.startswith(" ") else "with a leading space"
    hint = f"Write {parts[0]!r} to follow its first token, or a word that is one token."
    if len(token_ids(model, other)) == 1:
        hint = f"Write {other!r}, {where}: that is one token. " + hint
    raise BadPrompt(f"{text!r} is {len(ids)} tokens here, {' · '.join(map(repr, parts))}; a lens follows one.", hint)


def text_so_far(model: LanguageModel, prompt: Prompt, ids: Sequence[int]) -> str:
    """A prompt and the beginning of its answer as one text of the same tokens, marks of a template among them: for what reads a text.

    Raises:
        BadPrompt: no text is read as these tokens; the tokenizer would cut it otherwise.
    """
    whole = [*model.tokens(prompt).ids[0].tolist(), *ids]
    text = str(model.tokenizer.decode(whole))
    for start in range(min(3, len(whole))):  # what the tokenizer puts before every text is not written again
        rest = str(model.tokenizer.decode(whole[start:]))
        if list(model.tokenizer(rest)["input_ids"]) == whole:
            return rest
    raise BadPrompt(f"The {len(whole)} tokens up to here are no text that is read so again: {text[-60:]!r}.", "Take another token.")
