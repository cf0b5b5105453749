"""What a set of demonstrations teaches besides what was meant: duplicates, confounds, leaks, missing sides.

Every check always answers, with a count of 0 when all is well, so that a page can show the same chips for every set.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.near import near_pairs
from workbench.data.splits import groups_of, linked, normalised
from workbench.numerics.ranks import auc

Severity = Literal["unjudged", "fine", "notice", "warning"]
Tokenize = Callable[[str], Sequence[object]]
# A confound is told from this many pairs on: with fewer, an AUC of 0.7 is within chance.
MIN_PAIRS = 10
MAX_PAIRS = 2000
AUC_LIMIT = 0.2
SHARE_LIMIT = 0.2
BALANCE_LIMIT = 3.0
_ENDINGS = (".", "!", "?")


@dataclass(frozen=True)
class Check:
    """One check's answer: how many rows it concerns, which (0-based), what to do, and the number behind it if any.

    `severity` is unjudged (too few rows to tell), fine (nothing found), notice, or warning (the fit will learn this).
    """

    name: str
    title: str
    severity: Severity
    count: int
    rows: tuple[int, ...]
    advice: str
    value: float | None = None


def checks(demonstrations: Demonstrations, tokenize: Tokenize = str.split) -> tuple[Check, ...]:
    """Run every check; `tokenize` decides what a token is, for lengths and for the first that differs (words without a model)."""
    rows = demonstrations.rows
    return (
        _empty(rows),
        _missing_side(rows),
        _same_text(rows),
        _duplicates(rows),
        _leak(rows),
        _near(rows),
        _spaces(rows),
        length(rows, tokenize),
        _final_period(rows),
        _first_token(rows, tokenize),
        _words(rows),
        _classes(rows),
    )


def _found(name: str, title: str, rows: Sequence[int], advice: str, severity: Severity = "warning", value: float | None = None) -> Check:
    index = tuple(sorted(set(rows)))
    return Check(name, title, severity if index else "fine", len(index), index, advice, value)


def _unjudged(name: str, title: str, pairs: str = "pairs") -> Check:
    return Check(name, title, "unjudged", 0, (), f"Needs {MIN_PAIRS} {pairs} to be judged.")


def _empty(rows: Sequence[Demonstration]) -> Check:
    sides = ("positive", "negative", "neutral", "label")
    blank = [
        i
        for i, row in enumerate(rows)
        if not str(row.prompt).strip() or any((text := getattr(row, side)) is not None and not text.strip() for side in sides)
    ]
    return _found("empty", "Empty text", blank, "Fill the text, or take the row out.")


def _missing_side(rows: Sequence[Demonstration]) -> Check:
    """Rows without a side that at least half of the rows have."""
    missing: list[int] = []
    for side in ("positive", "negative", "label"):
        lacking = [i for i, row in enumerate(rows) if getattr(row, side) is None]
        missing += lacking if 0 < len(lacking) <= len(rows) / 2 else []
    return _found("missing_side", "Missing side", missing, "Fill the column that other rows have.", "notice")


def _same_text(rows: Sequence[Demonstration]) -> Check:
    same = [i for i, row in enumerate(rows) if row.positive and row.negative and _same(row.positive, row.negative)]
    return _found("same_text", "Same text on both sides", same, "A contrast needs two different texts: change one.")


def _same(one: str, other: str) -> bool:
    return normalised(one) == normalised(other)


def _duplicates(rows: Sequence[Demonstration]) -> Check:
    seen: set[tuple[str, ...]] = set()
    repeated: list[int] = []
    for i, row in enumerate(rows):
        key = tuple(normalised(text or "") for text in (str(row.prompt), row.positive, row.negative, row.label))
        if key in seen:
            repeated.append(i)
        seen.add(key)
    return _found("duplicates", "Duplicates", repeated, "A row that stands twice counts twice in a fit: take the copies out.")


def _leak(rows: Sequence[Demonstration]) -> Check:
    """Rows whose question, entity or prompt is also in another split."""
    splits: dict[str, set[str]] = defaultdict(set)
    names = [(*groups_of(row), f"prompt:{normalised(str(row.prompt))}") for row in rows]
    for row, groups in zip(rows, names):
        for name in groups:
            splits[name].add(row.split)
    shared = [i for i, groups in enumerate(names) if any(len(splits[name]) > 1 for name in groups)]
    advice = "What is fitted on must not be tested on: draw the splits again by question or entity."
    return _found("leak", "Leak between splits", shared, advice)


def _near(rows: Sequence[Demonstration]) -> Check:
    """Rows that ask nearly the same as a row of another split, but not quite: that is the leak's."""
    texts = [normalised(row.question) for row in rows]
    found = [
        i for one, other in near_pairs(texts) if texts[one] != texts[other] and rows[one].split != rows[other].split for i in (one, other)
    ]
    advice = "What is tested on says nearly the same as what is fitted on: put both into one split."
    return _found("near_duplicates", "Near-duplicates across splits", found, advice)


def _spaces(rows: Sequence[Demonstration]) -> Check:
    """Continuations glued to the prompt, and prompts that end in a space (tokens seen in no natural text)."""
    wrong = [
        i
        for i, row in enumerate(rows)
        if isinstance(row.prompt, str)  # a conversation's template says what stands before its answer
        and row.prompt.endswith(" ")
        or isinstance(row.prompt, str)
        and any(text and not text[0].isspace() and not row.prompt.endswith(("\n", '"', "(", "“")) for text in (row.positive, row.negative))
    ]
    advice = "Begin continuations with a space, and end prompts without one."
    return _found("leading_space", "Missing leading space", wrong, advice)


def _pairs(rows: Sequence[Demonstration]) -> list[tuple[int, str, str]]:
    return [(i, row.positive, row.negative) for i, row in enumerate(rows) if row.positive and row.negative]


def length(rows: Sequence[Demonstration], tokenize: Tokenize = str.split) -> Check:
    """How well the length in tokens alone tells the sides apart; the rows are those where it does.

    `value` is the AUC, P(positive longer) + ½ P(equal) over all pairs of one of each side: 0.5 says nothing, 0 and 1 say all.
    """
    title, pairs = "Length tells the sides apart", _pairs(rows)
    if len(pairs) < MIN_PAIRS:
        return _unjudged("length", title)
    good, bad = [len(tokenize(one)) for _, one, _ in pairs], [len(tokenize(other)) for _, _, other in pairs]
    value = auc(good, bad)
    sign = 1 if value > 0.5 else -1
    telling = [i for (i, _, _), one, other in zip(pairs, good, bad) if sign * (one - other) > 0] if abs(value - 0.5) > AUC_LIMIT else []
    advice = f"Length alone has an AUC of {value:.2f}, chance is 0.5: make the sides equally long."
    return _found("length", title, telling, advice, value=value)


def _final_period(rows: Sequence[Demonstration]) -> Check:
    """Whether one side ends its sentences more often; `value` is the difference of the two shares."""
    title, pairs = "Final period tells the sides apart", _pairs(rows)
    if len(pairs) < MIN_PAIRS:
        return _unjudged("final_period", title)
    ended = [(i, one.rstrip().endswith(_ENDINGS), other.rstrip().endswith(_ENDINGS)) for i, one, other in pairs]
    value = float(np.mean([one for _, one, _ in ended]) - np.mean([other for _, _, other in ended]))
    differing = [i for i, one, other in ended if one != other] if abs(value) > SHARE_LIMIT else []
    advice = "End both sides the same way, or choose a method that forces a final period; else the edit learns the period."
    return _found("final_period", title, differing, advice, value=value)


def first_difference(row: Demonstration, tokenize: Tokenize = str.split) -> int | None:
    """Index of the first token in which the two sides differ; None without two sides or without a difference."""
    if row.positive is None or row.negative is None:
        return None
    one, other = list(tokenize(row.positive)), list(tokenize(row.negative))
    at = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    return None if at == len(one) == len(other) else at


def _first_token(rows: Sequence[Demonstration], tokenize: Tokenize) -> Check:
    """Rows whose sides first differ in the same two tokens as at least half of all pairs."""
    title, found = "The same two words differ", dict[int, tuple[object, object]]()
    for i, row in enumerate(rows):
        at = first_difference(row, tokenize)
        if at is not None:
            one, other = list(tokenize(row.positive or "")), list(tokenize(row.negative or ""))
            found[i] = (one[at] if at < len(one) else "", other[at] if at < len(other) else "")
    if len(found) < MIN_PAIRS:
        return _unjudged("first_token", title)
    pair, count = Counter(found.values()).most_common(1)[0]
    value = count / len(found)
    same = [i for i, item in found.items() if item == pair] if value >= 0.5 else []
    advice = "Most pairs differ in one fixed word: vary the wording, unless that word is the point."
    return _found("first_token", title, same, advice, "notice", value)


def _words(rows: Sequence[Demonstration]) -> Check:
    """How well the words of the answers alone tell the sides apart, on questions that the bag of words has not seen; `value` is the AUC."""
    title, pairs = "Words alone tell the sides apart", _pairs(rows)[:MAX_PAIRS]
    if len(pairs) < MIN_PAIRS:
        return _unjudged("words", title)
    from workbench.numerics.words import crossed_word_scores  # scikit-learn is slow to import

    groups = linked([rows[i] for i, _, _ in pairs])
    if len(set(groups)) < MIN_PAIRS:
        return _unjudged("words", title, "different questions")
    good, bad = crossed_word_scores([one for _, one, _ in pairs], [other for _, _, other in pairs], groups)
    value = auc(list(good), list(bad))
    telling = [i for (i, _, _), one, other in zip(pairs, good, bad) if one > other] if value - 0.5 > AUC_LIMIT else []
    advice = (
        f"The answers' words alone have an AUC of {value:.2f} on held-out questions: a probe inside the model says more only above that."
    )
    return _found("words", title, telling, advice, "notice", value)


def _classes(rows: Sequence[Demonstration]) -> Check:
    """Rows of the rare classes when the largest class is over three times the smallest; `value` is that ratio."""
    classes = [row.tagged("class") or row.label for row in rows]
    counts = Counter(name for name in classes if name)
    title = "Unbalanced classes"
    # Labels that hardly repeat are free answers, not classes.
    if len(counts) < 2 or len(counts) > len(rows) / 3:
        return _found("classes", title, (), "Fewer than two repeated classes.")
    value = max(counts.values()) / min(counts.values())
    rare = {name for name, count in counts.items() if count * BALANCE_LIMIT < max(counts.values())}
    found = [i for i, name in enumerate(classes) if name in rare]
    return _found("classes", title, found, "Add rows of the rare class, or leave out some of the common one.", value=value)
