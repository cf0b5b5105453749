"""The battery's tasks as demonstrations: text written for Retouch, with fit, validation and test in different wordings.

On a model with a chat template the prompts of contrast tasks are conversations, else plain text; sentence tasks are plain in both.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from workbench.data.demonstrations import SPLITS, Demonstration, Demonstrations, Split
from workbench.models.base import LanguageModel
from workbench.models.chat import has_template
from workbench.resources import BATTERY

TASKS = ("mood", "politeness", "declining", "new-facts", "sentiment", "popular", "one-sentence", "pronouns")


@dataclass(frozen=True)
class Task:
    """Rows, the one-line prompt that asks for the same, and what is scored.

    `balance`: the score is minus the absolute log-ratio of a pair, else the margin of the good answer over the best bad one, a token.
    """

    name: str
    title: str
    rows: Demonstrations
    rival: str
    kind: str

    @property
    def is_balance(self) -> bool:
        return self.kind == "balance"


def task(name: str, model: LanguageModel, cap: int | None = None) -> Task:
    """Read a task; `cap`: test rows at most, drawn evenly over their order."""
    told: dict[str, Any] = yaml.safe_load((BATTERY / f"{name}.yaml").read_text(encoding="utf-8"))
    make = {"contrast": _contrast, "balance": _balance, "label": _labels, "canonical": _facts}[told["kind"]]
    rows = list(make(told))
    if has_template(model.tokenizer) and told["kind"] == "contrast":
        rows = [row.put_as_chat() for row in rows]
    test = [row for row in rows if row.split == "test"]
    if cap is not None and len(test) > cap:
        kept = {test[i * len(test) // cap].id for i in range(cap)}
        rows = [row for row in rows if row.split != "test" or row.id in kept]
    return Task(name, told["title"], Demonstrations(tuple(rows), name), told["rival"], told["kind"])


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
