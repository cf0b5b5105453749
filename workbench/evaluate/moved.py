"""Who was helped and who was harmed: each scored row before and after, and the shares of rows that moved the wrong way or turned."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from workbench.evaluate.benefit import Benefit
from workbench.evaluate.metrics import ROUNDING
from workbench.numerics.intervals import Interval, share_interval

# The score of each kind of row, whether more of it is better, and what says that a row is right.
_SCORES: tuple[tuple[str, bool, str], ...] = (
    ("margin_nats", True, "mc1"),
    ("log_ratio_nats", False, ""),
    ("p_label", True, "label_accuracy"),
    ("log_prob_nats", True, ""),
)
WRONG, RIGHT = "right → wrong", "wrong → right"


@dataclass(frozen=True)
class Moved:
    """How many of `n` rows moved the wrong way, turned from right to wrong, and back; shares with exact 95 % intervals.

    `turns` is false where rows are neither right nor wrong.
    """

    n: int
    wrong_way: Interval
    to_wrong: Interval
    to_right: Interval
    turns: bool

    @property
    def sentence(self) -> str:
        """In words, for a verdict."""
        text = f"{self.wrong_way.told('.0%')} of {self.n} {'row moves' if self.n == 1 else 'rows move'} the wrong way"
        if not self.turns:
            return f"{text}."
        wrong, right = (round(share.estimate * self.n) for share in (self.to_wrong, self.to_right))
        return f"{text}; {wrong} turn from right to wrong, {right} from wrong to right."


def moved_rows(benefit: Benefit, lane: int) -> list[dict[str, Any]]:
    """One table row a scored row: before (lane 0), after (the lane), which way it moved and whether it turned; the worst first."""
    before, after = (_of_lane(benefit, benefit.lanes[at].label) for at in (0, lane))
    found = [row for one, other in zip(before, after) if (row := _row(one, other)) is not None]
    shapes = templates([str(row["prompt"]) for row in found])
    return sorted((row | {"template": shape} for row, shape in zip(found, shapes)), key=lambda row: row["gain"])


def templates(prompts: Sequence[str]) -> list[str]:
    """What each prompt shares with others: words that stand in a fifth of the prompts or more, and in two; … stands for the rest."""
    split = [prompt.split() for prompt in prompts]
    counts = Counter(word for words in split for word in set(words))
    least = max(2.0, len(prompts) / 5)
    masked = ([word if counts[word] >= least else "…" for word in words] for words in split)
    return [" ".join(word for word, _ in groupby(words)) for words in masked]


def shares_moved(benefit: Benefit, lane: int) -> Moved | None:
    """Shares over the rows of the first score; None where no row was kept."""
    rows = moved_rows(benefit, lane)
    first = next((name for name, *_ in _SCORES if any(row["score"] == name for row in rows)), None)
    mine = [row for row in rows if row["score"] == first]
    if not mine:
        return None

    def share(key: str, value: str) -> Interval:
        return share_interval(sum(row[key] == value for row in mine), len(mine))

    turns = any(right and name == first for name, _, right in _SCORES)
    return Moved(len(mine), share("moved", "wrong way"), share("turned", WRONG), share("turned", RIGHT), turns)


def _of_lane(benefit: Benefit, label: str) -> list[Mapping[str, Any]]:
    return [item for item in benefit.items if item["lane"] == label]


def _row(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    score = next(((name, better, right) for name, better, right in _SCORES if name in before), None)
    if score is None:
        return None
    name, is_more, right = score
    one, other = float(before[name]), float(after[name])
    gain = other - one if is_more else abs(one) - abs(other)
    row: dict[str, Any] = {"id": before["id"], "prompt": before["prompt"]}
    row |= {"moved": "right way" if gain > ROUNDING else "stays" if gain >= -ROUNDING else "wrong way", "turned": ""}
    if right and bool(before[right]) != bool(after[right]):
        row["turned"] = WRONG if before[right] else RIGHT
    row |= {"before": one, "after": other, "gain": gain, "score": name}
    row |= {"answer before": before.get("answer", ""), "answer after": after.get("answer", "")}
    return row | {"tags": " ".join(before.get("tags", ())), "words": len(str(before["prompt"]).split())}


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write table rows as CSV, or as JSON where the file's name ends so.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
