"""Which tokens of a row a fit reads and which the edit will write, as far as its knobs say so: shown before anything is fitted."""

from __future__ import annotations

from typing import NamedTuple

import torch

from workbench.knobs import COMPAT
from workbench.methods.shared.reading import settled_reading
from workbench.models.base import ModelInfo
from workbench.operations import Forward, rule_of

# What an edit's position rules mean where a row of one answer is read whole.
_WHERE = {"all": "every token", "prompt": "the prompt's tokens", "last": "the last token"}
_WHERE["generated"] = "the prompt's last token and the answer's"


def acted_on(rule: str, n_tokens: int, n_prompt: int) -> tuple[bool, ...]:
    """At which of the tokens of a prompt and its answer a position rule lets an edit act, the row being read as it was generated: token by
    token after the prompt, whose last token decides the answer's first.

    Args:
        rule: the name of a position rule (a KeyError else: names are this package's own). n_tokens: of both. n_prompt: of the prompt.
    """
    at = torch.arange(n_tokens)[None]
    since = (at - (n_prompt - 1)).clamp_min(0)
    called = Forward(torch.ones_like(at, dtype=torch.bool), at < n_prompt, at >= n_prompt - 1, since)
    if rule == "last":  # of each call: the prompt's, then every token by itself
        return tuple(called.generated[0].tolist())
    named = rule_of(rule)
    if named is None:
        raise KeyError(rule)
    return tuple(named(called)[0].tolist())


class Touched(NamedTuple):
    """A mark a token (`read`, `write`, both with a space, or nothing), and the same in words; empty words: the knobs do not say."""

    marks: tuple[str, ...]
    reads: str
    writes: str


def touched(config: object, info: ModelInfo, n_tokens: int, n_prompt: int) -> Touched:
    """The tokens of a row that a fit with this config reads and writes.

    A row without an answer (`n_tokens` = `n_prompt`) is read as its prompt. `generated` begins at the prompt's last token, whose output
    is the first token of the answer. Nothing is said of a method without the knob `read` (its own way of reading) or a position rule.

    Args:
        n_tokens: of prompt and answer. n_prompt: how many of them are the prompt's.
    """
    named, rule = getattr(config, "read", None), _rule(config)
    read = settled_reading(named, info) if isinstance(named, str) else ""
    start, last = n_prompt if n_prompt < n_tokens else 0, {n_tokens - 1}
    answer = set(range(start, n_tokens))
    reads = {"last": last, "mean": answer, "each": answer, "random": answer}
    after = set(range(n_prompt - 1, n_tokens))
    writes = {"all": set(range(n_tokens)), "prompt": set(range(n_prompt)), "generated": after, "last": last}
    read_at, written_at = reads.get(read, set[int]()), writes.get(rule, set[int]())
    marks = tuple(" ".join(["read"] * (i in read_at) + ["write"] * (i in written_at)) for i in range(n_tokens))
    what = "answer" if start else "prompt"
    told = {
        "last": f"the last token of the {what}", "mean": f"the mean over the {what}'s tokens", "each": f"every token of the {what}",
        "random": f"one of the {what}'s tokens, drawn with the seed",
    }  # fmt: skip
    return Touched(marks, told.get(read, ""), _WHERE.get(rule, ""))


def _rule(config: object) -> str:
    """The position rule that a config names, by either of the names of that knob; the released code's overrules it."""
    for name in ("where", "positions"):
        value = getattr(getattr(config, COMPAT, None), name, None) or getattr(config, name, None)
        if isinstance(value, str):
            return value
    return ""
