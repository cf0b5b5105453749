"""The demonstration sets in everyday English that ship, for models that read it: text written for Retouch, splits in different wordings.

A file of `assets/battery` tells prompts and answers by their parts, so that every pairing of them is a row.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import yaml

from workbench.data.demonstrations import SPLITS, Demonstration, Demonstrations, Split
from workbench.resources import BATTERY

EVERYDAY = ("mood", "gloom", "politeness", "declining", "new-facts", "sentiment", "popular", "one-sentence", "pronouns")
"""The names of their files, as the tables of real models call them."""


@dataclass(frozen=True)
class EverydaySet:
    """Rows as plain text; `kind` is how they are made, `rival` the one-line prompt that asks for the same as an edit on them."""

    name: str
    title: str
    about: str
    kind: str
    rival: str
    rows: Demonstrations


@cache
def everyday_set(name: str) -> EverydaySet:
    """Read the set of one of the names in `EVERYDAY`."""
    told: dict[str, Any] = yaml.safe_load((BATTERY / f"{name}.yaml").read_text(encoding="utf-8"))
    make = _turned if "of" in told else {"contrast": _contrast, "balance": _balance, "label": _labels, "canonical": _facts}[told["kind"]]
    return EverydaySet(name, told["title"], told["about"], told["kind"], told["rival"], Demonstrations(tuple(make(told)), name))


def _contrast(told: dict[str, Any]) -> Iterator[Demonstration]:
    for split in SPLITS:
        if "topics" in told:
            asked = [(question, *sides) for questions, *sides in told["topics"][split] for question in questions]
        else:
            part = told[split]
            asked = [(prompt, *pair) for prompt in part["prompts"] for pair in part["pairs"]]
            # On what is not to be declined, declining is the bad answer.
            asked += [(prompt, *pair[::-1]) for i, prompt in enumerate(part.get("general", ())) for pair in [part["pairs"][i % 4]]]
        for i, (prompt, good, bad) in enumerate(asked):
            yield Demonstration(prompt, f" {good}", f" {bad}", split=split, id=f"{split}-{i}")


def _turned(told: dict[str, Any]) -> Iterator[Demonstration]:
    """Another set with its sides exchanged."""
    for row in everyday_set(told["of"]).rows:
        yield replace(row, positive=row.negative, negative=row.positive)


def _balance(told: dict[str, Any]) -> Iterator[Demonstration]:
    first, second = told["pair"]
    for split in SPLITS:
        texts = [text.replace("{x}", name) for name in told[split]["occupations"] for text in told[split]["sentences"]]
        for i, text in enumerate(texts):
            yield Demonstration(text, first, second, loss="balance", split=split, id=f"{split}-{i}")


def _labels(told: dict[str, Any]) -> Iterator[Demonstration]:
    """Each review after shots of its own split, the wrong ones among them."""
    for split in SPLITS:
        part, rng = told[split], random.Random(split)
        reviews = [
            (text.replace("{thing}", thing), f" {side}")
            for thing in part["things"]
            for side, texts in part["sentences"].items()
            for text in texts
        ]
        for i, (text, label) in enumerate(reviews):
            shown = rng.sample([one for one in reviews if one[0] != text], told["shots"])
            other = dict(zip(told["labels"], reversed(told["labels"])))
            shots = [(what, other[right] if at < told["wrong_shots"] else right) for at, (what, right) in enumerate(shown)]
            rng.shuffle(shots)
            lines = [told["template"].format(text=what) + said for what, said in shots] + [told["template"].format(text=text)]
            yield Demonstration("\n\n".join(lines), label, other[label], label=label, split=split, id=f"{split}-{i}")


def _facts(told: dict[str, Any]) -> Iterator[Demonstration]:
    for n, fact in enumerate(told["facts"]):
        split: Split
        for split in SPLITS:
            for i, text in enumerate(fact[split]):
                others = tuple(f"false:{wrong.strip()}" for wrong in fact["wrong"][1:])
                yield Demonstration(text, fact["answer"], fact["wrong"][0], tags=others, split=split, id=f"{split}-{n}-{i}")
