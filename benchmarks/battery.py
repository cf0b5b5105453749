"""The battery's tasks as demonstrations: the sets in everyday English that ship, as a model is asked them.

On a model with a chat template the prompts of contrast tasks are conversations, else plain text; sentence tasks are plain in both.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.data.demonstrations import Demonstrations
from workbench.data.everyday import everyday_set
from workbench.models.base import LanguageModel
from workbench.models.chat import has_template

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
    told = everyday_set(name)
    rows = list(told.rows)
    if has_template(model.tokenizer) and told.kind == "contrast":
        rows = [row.put_as_chat() for row in rows]
    test = [row for row in rows if row.split == "test"]
    if cap is not None and len(test) > cap:
        kept = {test[i * len(test) // cap].id for i in range(cap)}
        rows = [row for row in rows if row.split != "test" or row.id in kept]
    return Task(name, told.title, Demonstrations(tuple(rows), name), told.rival, told.kind)
