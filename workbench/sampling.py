"""How tokens are chosen. Nothing here imports torch: forms and settings need it before a model does."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import BadKnob


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    temperature 0 is greedy. Noise is Gumbel noise drawn per row from (seed, lane, prompt), so a row's text does not depend on the rest of
    the batch; with `same_seed` all lanes get the same noise, and differ only where their distributions do.
    """

    max_new_tokens: int = 30
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    same_seed: bool = True
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = (
            (self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "1 or more"),
            (self.temperature >= 0, "temperature", self.temperature, "0 (greedy) or more"),
            (self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "1 or more, or none"),
            (0 < self.top_p <= 1, "top_p", self.top_p, "above 0, up to 1"),
            (self.repetition_penalty > 0, "repetition_penalty", self.repetition_penalty, "above 0; 1 is off"),
        )
        for fine, name, got, wanted in checks:
            if not fine:
                raise BadKnob(f"{name} = {got}; it has to be {wanted}.", f"Give a {name} of {wanted}.")
