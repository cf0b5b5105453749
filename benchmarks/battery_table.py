"""What the battery found, as a table and in words: for `docs/real-models.md`, the README and the cards of the methods."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.marks import write_between
from workbench.resources import FOUND, ROOT

BEGIN, END = "<!-- python -m benchmarks.real --write -->", "<!-- end -->"
SEEDS = ("SEA", "HPR", "TaRot", "ARE", "LoRA", "mean difference")
"""Those of which the battery asks how many beat both controls on two tasks."""
_GAINS = ("does it", "beats its placebo")
KINDS, BREAKS = (*_GAINS, "no effect found", "does harm", "refused"), "breaks the model"
Row = Mapping[str, Any]


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    head = ("task", "method", "n", "before", "effect", "placebo", "shuffled", "worse", "KL", "KL 95 %", "fit, s", "GB", "what it shows")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(_cells(row)) + " |" for row in rows)])


def _cells(row: Row) -> tuple[str, ...]:
    def plain(key: str, form: str) -> str:
        return format(row[key], form) if key in row else ""

    told = row.get("says") or f"refused: {row['refused'][:90]}"
    shuffled = plain("shuffled", "+.2f") or ("not run" if "shuffled_not_run" in row else "")
    return (
        row["task"], row["method"], str(row["n_prompts"]), plain("before", "+.2f"), effect(row) if "effect" in row else "",
        plain("placebo", "+.2f"), shuffled, plain("rows_worse", ".2f"), plain("kl", ".3f"), plain("kl_tail", ".2f"),
        plain("seconds", ".0f"), plain("gb_above_the_model", ".2f"), told,
    )  # fmt: skip


def effect(row: Row) -> str:
    """The mean effect of a row with its interval."""
    told = row["effect"]
    return f"{told['mean']:+.2f} [{told['low']:+.2f}, {told['high']:+.2f}]"


def kind(row: Row) -> str:
    """What a row comes to, in the words of the cards."""
    if "refused" in row:
        return "no effect found" if "No effect" in row["refused"] else "refused"
    return next(word for word in KINDS if row["says"].startswith(word))


def findings(rows: Sequence[Row]) -> dict[str, dict[str, list[str]]]:
    """By the table's name of a method: tasks by what was found on them, and those on which it breaks the model."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        mine = found.setdefault(row["method"], {what: [] for what in (*KINDS, BREAKS)})
        mine[kind(row)].append(row["task"])
        if BREAKS in row.get("says", ""):
            mine[BREAKS].append(row["task"])
    return {name: {what: tasks for what, tasks in mine.items() if tasks} for name, mine in found.items()}


def sentences(rows: Sequence[Row], missing: Sequence[tuple[str, str]]) -> list[str]:
    """What the table shows, a sentence a method, and how many do it on two tasks."""
    told = [f"- **{name}**: {in_words(mine)}." for name, mine in findings(rows).items()]
    by = {name: mine.get("does it", []) for name, mine in findings(rows).items()}
    twice = [name for name in SEEDS if any(len(tasks) >= 2 for method, tasks in by.items() if method.split(",")[0] == name)]
    many = ", ".join(twice) or "none"
    told.append(
        f"- Of {', '.join(SEEDS[:-1])} and {SEEDS[-1]}, {len(twice)} beat the unedited model, the placebo and the fit on shuffled sides "
        f"beyond the intervals on two tasks or more: {many}."
    )
    if missing:
        by_method: dict[str, list[str]] = {}
        for task, method in missing:
            by_method.setdefault(method, []).append(task)
        told.append("- Not measured: " + "; ".join(f"{method} on {', '.join(tasks)}" for method, tasks in by_method.items()) + ".")
    return told


def in_words(found: Mapping[str, Sequence[str]]) -> str:
    """As `does it on mood; no effect found on popular`."""
    return "; ".join(f"{what} on {', '.join(tasks)}" for what, tasks in found.items())


def short(rows: Sequence[Row], missing: Sequence[tuple[str, str]]) -> str:
    """The README's table: a method a line, effects in nats a token where it does something, and those of which nothing is known yet."""
    lines = ["| method | what it shows on tasks of the battery | KL | fit, s |", "|---|---|---|---|"]
    for name, mine in findings(rows).items():
        own = [row for row in rows if row["method"] == name]
        gains = {what: [f"{row['task']} {effect(row)}" for row in own if kind(row) == what] for what in _GAINS}
        rest = {what: tasks for what, tasks in mine.items() if what not in _GAINS}
        does = [f"**{what}**: {', '.join(told)}" for what, told in gains.items() if told]
        said = "; ".join([*does, *([in_words(rest)] if rest else [])])
        kl, seconds = ([row[key] for row in own if row.get(key)] for key in ("kl", "seconds"))
        lines.append(f"| {name} | {said} | {_span(kl, '.3f')} | {_span(seconds, '.0f')} |")
    lines += [f"| {name} | not measured | | |" for name in dict.fromkeys(method for _, method in missing) if name not in findings(rows)]
    return "\n".join(lines)


def _span(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low}–{high}"


def write(rows: Sequence[Row], missing: Sequence[tuple[str, str]], cap: int, defaults: Mapping[str, str]) -> None:
    """Into `docs/real-models.md`, the README, and the file that the cards read.

    Args:
        defaults: registry names of the methods that the table has with their defaults, by the table's name.

    Raises:
        ValueError: no row, or a page without the marks.
    """
    if not rows:
        raise ValueError("The file holds no row of today's settings; measure first.")
    notes = [textwrap.fill(one, 150, subsequent_indent="  ", break_on_hyphens=False) for one in sentences(rows, missing)]
    head = textwrap.fill(f"{rows[0]['model']}, at most {cap} test rows a task; {len(rows)} of {len(rows) + len(missing)} cells.", 150)
    for page, parts in (("docs/real-models.md", [table(rows), "\n".join(notes)]), ("README.md", [short(rows, missing)])):
        write_between(ROOT / page, BEGIN, END, "\n" + "\n\n".join([head, *parts]) + "\n")
    by = {defaults[name]: mine for name, mine in findings(rows).items() if name in defaults}
    FOUND.write_text(json.dumps({"model": rows[0]["model"], "methods": by}, indent=1) + "\n", encoding="utf-8")
