"""How a model's own folder wants it to generate: where it ends, what it never says, how it is sampled unless somebody chooses otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.sampling import Sampling

# Where a folder samples and names no top k, transformers draws among so many.
TOP_K = 50
# What a folder may ask for and is not done here, with the value that asks for nothing.
_UNDONE: dict[str, Any] = {
    "min_p": None, "typical_p": 1.0, "top_h": None, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "no_repeat_ngram_size": 0,
    "bad_words_ids": None, "min_new_tokens": None, "min_length": 0, "forced_bos_token_id": None, "forced_eos_token_id": None,
    "sequence_bias": None, "guidance_scale": None, "num_beams": 1, "penalty_alpha": None, "exponential_decay_length_penalty": None,
    "stop_strings": None,
}  # fmt: skip


@dataclass(frozen=True)
class GenerationDefaults:
    """What `generation_config.json` says. Temperature 0 is greedy; None or neutral values are not set.

    end_ids: tokens that end a text. suppressed: tokens that are never chosen; suppressed_first: not as the first one. undone: what else the
    folder asks for, which is not done here. stop: texts before which a text ends, for a model that never says its end.
    """

    end_ids: tuple[int, ...] = ()
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    undone: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()

    def sampling(self, **chosen: Any) -> Sampling:
        """The model's own way to draw tokens, with what was chosen over it; None chooses nothing, a `top_k` of 0 is none.

        Raises:
            BadKnob: as `Sampling`.
        """
        own = {name: getattr(self, name) for name in ("temperature", "top_k", "top_p", "repetition_penalty", "stop")}
        told: dict[str, Any] = {**own, **{name: value for name, value in chosen.items() if value is not None}}
        told["top_k"] = told["top_k"] or None
        return Sampling(**told)


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
        (max(0, int(_or(getattr(config, "top_k", None), TOP_K))) or None) if samples else None,  # 0 and −1 are how folders write none
        float(_or(getattr(config, "top_p", None), 1.0)) if samples else 1.0,
        float(_or(getattr(config, "repetition_penalty", None), 1.0)),
        tuple(name for name, neutral in _UNDONE.items() if getattr(config, name, None) not in (None, neutral)),
    )


def _ids(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(item) for item in value] if isinstance(value, (list, tuple, set)) else [int(value)]


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
