"""How a model's own folder wants it to generate: where it ends, what it never says, how it is sampled unless somebody chooses otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GenerationDefaults:
    """What `generation_config.json` says. Temperature 0 is greedy; None or neutral values are not set.

    end_ids: tokens that end a text. suppressed: tokens that are never chosen; suppressed_first: not as the first one.
    """

    end_ids: tuple[int, ...] = ()
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0


def generation_defaults(config: Any, tokenizer: Any) -> GenerationDefaults:
    """Read a generation config; without one, a text ends at the tokenizer's end-of-text token, and is greedy.

    Differs: transformers ends only where the config says; the tokenizer's own end counts here too, since a chat model's turn ends there.
    """
    ends = [*_ids(getattr(config, "eos_token_id", None)), *_ids(getattr(tokenizer, "eos_token_id", None))]
    samples = bool(getattr(config, "do_sample", False))
    return GenerationDefaults(
        tuple(dict.fromkeys(ends)),
        tuple(_ids(getattr(config, "suppress_tokens", None))),
        tuple(_ids(getattr(config, "begin_suppress_tokens", None))),
        float(_or(getattr(config, "temperature", None), 1.0)) if samples else 0.0,
        (_or(getattr(config, "top_k", None), 0) or None) if samples else None,
        float(_or(getattr(config, "top_p", None), 1.0)) if samples else 1.0,
        float(_or(getattr(config, "repetition_penalty", None), 1.0)),
    )


def _ids(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(item) for item in value] if isinstance(value, (list, tuple, set)) else [int(value)]


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
