"""Write the demonstration sets as JSONL with an index, and check that no entity crosses a split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

from workbench.data.demonstrations import SPLITS, Demonstration
from workbench.world import canonical_sets, sets
from workbench.world.sets import DemonstrationSet


def every_set() -> tuple[DemonstrationSet, ...]:
    """Build all sets; the same code gives the same rows."""
    neutral = canonical_sets.neutral_text()
    built = (
        sets.truthfulness(),
        sets.carefulness(),
        sets.bias(),
        sets.sentiment(),
        sets.plain_sentiment(),
        sets.refusal(),
        sets.mood(),
        canonical_sets.agreement_labels(),
        sets.name_swaps(),
        sets.known_facts(),
        canonical_sets.new_facts(),
        canonical_sets.new_companies(),
        canonical_sets.pronoun_balance(),
        canonical_sets.stereotypes(),
        canonical_sets.agreement_task(),
    )
    return (*(with_neutral(item, neutral) for item in built), neutral)


def with_neutral(item: DemonstrationSet, neutral: DemonstrationSet) -> DemonstrationSet:
    """Give each fit and validation row of a set that edits activations a neutral text of its own, for gates and for retention."""
    if item.kind not in ("contrast", "concept"):
        return item
    texts = cycle(str(row.prompt) for row in neutral.rows if row.split == "fit")
    rows = tuple(row if row.split == "test" else replace(row, neutral=next(texts)) for row in item.rows)
    return replace(item, rows=rows)


def crossings(rows: Iterable[Demonstration]) -> dict[str, list[str]]:
    """Return the entities, and the prompts, that occur in more than one split, with those splits."""
    where: dict[str, set[str]] = {}
    for row in rows:
        for key in (*(f"entity:{entity}" for entity in row.all_tagged("entity")), f"prompt:{row.prompt}"):
            where.setdefault(key, set()).add(row.split)
    return {key: sorted(splits) for key, splits in where.items() if len(splits) > 1}


def line(row: Demonstration) -> str:
    """One row as JSON: columns that say nothing are left out, the answers always in the order of the columns."""
    values: dict[str, Any] = {
        "prompt": row.prompt, "positive": row.positive, "negative": row.negative, "neutral": row.neutral,
        "label": row.label, "loss": row.loss, "tags": list(row.tags), "split": row.split, "id": row.id,
    }  # fmt: skip
    return json.dumps({key: value for key, value in values.items() if value not in (None, [])}, ensure_ascii=False)


def entry(item: DemonstrationSet) -> dict[str, Any]:
    """What the index says about a set."""
    splits = Counter(row.split for row in item.rows)
    roles = Counter(tag for row in item.rows for tag in row.tags if tag.startswith("role:"))
    return {
        "id": item.id, "title": item.title, "about": item.about, "kind": item.kind, "file": f"{item.id}.jsonl",
        "metric": item.metric, "rows": {split: splits[split] for split in SPLITS},
        "roles": dict(sorted(roles.items())),
    }  # fmt: skip


def write_sets(folder: Path) -> list[dict[str, Any]]:
    """Write every set and the index; returns the index."""
    folder.mkdir(parents=True, exist_ok=True)
    index: list[dict[str, Any]] = []
    for item in every_set():
        (folder / f"{item.id}.jsonl").write_text("".join(line(row) + "\n" for row in item.rows), encoding="utf-8")
        index.append(entry(item))
    (folder / "index.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return index
