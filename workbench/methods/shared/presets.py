"""What a method's presets are, in words: whose they are, and what they set otherwise than the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, final

from workbench.knobs import COMPAT, as_json, compat_of, knobs
from workbench.methods.registry import Method

# What a name means wherever it stands; of the others each method says it.
_WHOSE = {
    "ours": "Ours: what we would start with.",
    "protected": "Ours: the paper's law, with neutral text held.",
    "paper": "As the authors published it.",
    "official-compat": "As the authors' released code does, its defects included.",
    "random-control": "A control: the same search, at random.",
    "gentle": "Less of it, so that other text stays as it was.",
}


@final
@dataclass(frozen=True)
class Preset:
    """A preset: its name, one sentence, and the labels of the knobs that it sets otherwise than the defaults, with their values."""

    name: str
    says: str
    sets: Mapping[str, Any]


def presets_of(known: Method) -> tuple[Preset, ...]:
    """The presets of a method, in their order; none for a method that has none."""
    return tuple(_told(known, name) for name in known.presets)


def _told(known: Method, name: str) -> Preset:
    config, plain = as_json(known.configure(preset=name)), as_json(known.config())
    sets = {item.label: config[item.name] for item in knobs(known.config) if config[item.name] != plain[item.name]}
    compat = compat_of(known.config)
    if compat is not None and (words := compat.words(cast("Mapping[str, object]", config[COMPAT]))):
        sets["As released"] = words
    return Preset(name, known.preset_says.get(name) or _WHOSE[name], sets)
