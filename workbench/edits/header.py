"""Where an edit comes from, and what no edit of some kinds of networks can become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, final

from workbench.models.base import Fingerprint, LanguageModel

EDIT_SCHEMA = 1
ExportTarget = Literal["checkpoint", "peft", "script", "report"]
_NONE: Mapping[Any, Any] = MappingProxyType({})
_QUANTISED = "The network was quantised while it was loaded, which"
# Kinds of network, and what no edit of one can become.
REFUSED: Mapping[str, Mapping[ExportTarget, str]] = {
    "": {},
    "mixture": {},
    "backpack": {
        "peft": "PEFT knows no Backpack, whose network transformers does not have.",
        "script": "It needs the Backpack's own network, which transformers does not have.",
    },
    "quantised": {
        "checkpoint": f"{_QUANTISED} takes no change of a weight.",
        "peft": f"{_QUANTISED} takes no change of a weight.",
        "script": f"{_QUANTISED} a script's plain load does not repeat.",
    },
}


def network_of(model: LanguageModel) -> str:
    """The kind of a model's network, as exports tell them apart: empty for a dense one that transformers builds."""
    info = model.info
    return "backpack" if info.has_senses else "quantised" if info.quantised else "mixture" if info.n_experts else ""


@final
@dataclass(frozen=True)
class Header:
    """Where an edit comes from. `facts` are JSON values: what its class needs beside its tensors, and how prompts were rendered.

    `rows` are the marks of the rows that it was fitted on, as `Demonstrations.fitted_marks` makes them; older edits carry none.
    """

    method: str
    config: Mapping[str, Any]
    model: Fingerprint
    data: str
    seed: int
    versions: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=lambda: _NONE)
    schema: int = EDIT_SCHEMA
    rows: tuple[str, ...] = ()

    @property
    def rendered(self) -> str:
        """The chat template through which the demonstrations were read, by name and hash; empty where they were texts."""
        return str(self.facts.get("rendered", ""))

    @property
    def network(self) -> str:
        """The kind of network that it was fitted on (`network_of`); empty also where an older edit does not say."""
        told = str(self.facts.get("network", ""))
        return told if told in REFUSED else ""

    @property
    def system(self) -> str:
        """The system turn that every demonstration got when it was put as chat; empty without."""
        return str(self.facts.get("system", ""))

    def as_json(self) -> dict[str, Any]:
        """As JSON types, as `edit.json` holds it."""
        return {
            "method": self.method,
            "config": dict(self.config),
            "model": self.model.as_json(),
            "data": self.data,
            "seed": self.seed,
            "versions": dict(self.versions),
            "facts": dict(self.facts),
            "schema": self.schema,
            **({"rows": list(self.rows)} if self.rows else {}),
        }
