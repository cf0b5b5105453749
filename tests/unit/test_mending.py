"""A mend leaves its check with nothing to find; near-duplicates are few; splits keep groups whole; a test that was scored is opened."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.test_checks import clean, found
from workbench.data.checks import Check, checks
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.mending import MENDS, mended
from workbench.data.near import near_pairs
from workbench.data.splits import groups_of, reassigned
from workbench.errors import BadDemonstrations, NotEnoughData
from workbench.workspace.home import Workspace
from workbench.workspace.shelf import Shelf
from workbench.workspace.shipped import ShippedSets

LONG = "Tell me in a few words where the small brown owls of the northern forest like to sleep through the long and cold day of winter"


def broken(name: str) -> Demonstrations:
    """A set that is clean but for one thing."""
    rows = list(clean().rows)
    if name == "empty":
        rows[3] = replace(rows[3], positive="  ")
    elif name == "same_text":
        rows[3] = replace(rows[3], negative=(rows[3].positive or "").upper())
    elif name == "duplicates":
        rows.append(replace(rows[1], prompt=rows[1].prompt.upper(), id="copy"))
    elif name == "leading_space":
        rows[3] = replace(rows[3], prompt="It is ", positive="red.", negative=" wet.")
    elif name == "final_period":
        rows = [replace(row, positive=(row.positive or "").rstrip(".")) for row in rows]
    elif name == "leak":
        rows[3:5] = [replace(rows[3], tags=("entity:owl",)), replace(rows[4], tags=("entity:owl",), split="test")]
    elif name == "near_duplicates":
        rows[3:5] = [replace(rows[3], prompt=LONG + "?"), replace(rows[4], prompt=LONG.replace("Tell", "tell") + "!", split="test")]
    else:
        rows = [Demonstration(f"p{i}", label=" no" if i < 3 else " yes") for i in range(15)]
    return Demonstrations(tuple(rows))


@pytest.mark.parametrize("name", sorted(MENDS))
def test_a_mend_leaves_its_check_with_nothing_to_find(name: str) -> None:
    before = broken(name)
    check = found(before)[name]
    after = mended(before, check)
    assert name not in found(after) and name in found(before)
    untouched = [row for i, row in enumerate(before) if i not in check.rows]
    assert name == "classes" or all(row in after.rows for row in untouched)
    assert not {item.name for item in checks(after) if item.severity == "warning"} - {item.name for item in checks(before) if item.count}


def test_what_no_mend_is_for_is_refused_and_a_quiet_check_changes_nothing() -> None:
    with pytest.raises(BadDemonstrations, match="cannot be mended"):
        mended(clean(), Check("length", "Length tells the sides apart", "warning", 1, (0,), "Write anew."))
    quiet = next(item for item in checks(clean()) if item.name == "duplicates")
    assert mended(clean(), quiet) is not None and mended(clean(), quiet).rows == clean().rows


def test_a_leak_is_mended_towards_fit_since_that_may_have_been_fitted_on() -> None:
    before = broken("leak")
    after = mended(before, found(before)["leak"])
    assert [row.split for row in after][3:5] == ["fit", "fit"]


def test_full_stops_go_where_most_answers_have_none() -> None:
    rows = [replace(row, positive=(row.positive or "").rstrip("."), negative=(row.negative or "").rstrip(".")) for row in clean()]
    rows[:4] = [replace(row, positive=f"{row.positive}.") for row in rows[:4]]
    before = Demonstrations(tuple(rows))
    after = mended(before, found(before)["final_period"])
    assert not any((row.positive or "").endswith(".") for row in after)


def test_near_duplicates_are_texts_of_the_same_words_and_long_ones_that_differ_in_one() -> None:
    template = [f"Question: where does the {name} sleep at night? Answer:" for name in ("owl", "bee", "cat")]
    assert near_pairs(template) == [], "rows of one template are no near-duplicates"
    texts = [LONG, LONG.replace("winter", "summer"), "Where, then, do owls sleep?", "where then do owls SLEEP", "Where do bees sleep?", ""]
    assert near_pairs(texts) == [(0, 1), (2, 3)]


def test_near_pairs_are_those_of_all_pairs_compared() -> None:
    import random

    rng = random.Random(0)
    base = [[rng.choice("abcdefgh") for _ in range(rng.randint(4, 30))] for _ in range(12)]
    texts = [" ".join(rng.choice("abcdefgh") if rng.random() < 0.05 else word for word in rng.choice(base)) for _ in range(80)]
    runs = [frozenset(zip(*(text.split()[k:] for k in range(3)))) for text in texts]
    slow = {(i, j) for j in range(80) for i in range(j) if runs[i] and 5 * len(runs[i] & runs[j]) >= 4 * len(runs[i] | runs[j])}
    fast = set(near_pairs(texts))
    first = {text: texts.index(text) for text in texts}
    assert {(first[texts[i]], first[texts[j]]) for i, j in fast} | {(first[t], first[t]) for t in texts} >= {
        (min(a, b), max(a, b)) for i, j in slow for a, b in [(first[texts[i]], first[texts[j]])]
    }
    assert all((i, j) in slow or texts[i] == texts[j] for i, j in fast)


def test_words_that_tell_the_sides_apart_are_noticed_and_words_that_do_not_are_not() -> None:
    rows = [Demonstration(f"Q: {i}?", f" Surely {word}.", f" Perhaps {word}.") for i, word in enumerate("abcdefghijklmnop")]
    check = found(Demonstrations(tuple(rows)))["words"]
    assert check.value == 1.0 and check.count == 16 and "1.00" in check.advice
    assert "words" not in found(clean())
    same = [replace(row, tags=("question:one",)) for row in rows]
    assert "words" not in found(Demonstrations(tuple(same))), "one question alone leaves nothing held out"


def questions(n: int) -> Demonstrations:
    rows = [
        Demonstration(
            f"Q{i} in way {j}", " a", " b", label=" yes" if i % 4 else " no", tags=(f"question:{i}", f"topic:{i % 3}"), id=f"{i}-{j}"
        )
        for i in range(n)
        for j in range(3)
    ]
    return Demonstrations(tuple(rows))


def test_splits_keep_groups_whole_follow_the_seed_and_the_shares() -> None:
    drawn = reassigned(questions(100), 3, (0.5, 0.2))
    by = {}
    for row in drawn:
        by.setdefault(groups_of(row), set()).add(row.split)
    assert all(len(splits) == 1 for splits in by.values())
    assert Counter(row.split for row in drawn) == {"fit": 150, "validation": 60, "test": 90}
    assert reassigned(questions(100), 3, (0.5, 0.2)) == drawn != reassigned(questions(100), 4, (0.5, 0.2))
    turned = questions(100).with_rows(reversed(questions(100).rows))
    assert set(reassigned(turned, 3, (0.5, 0.2))) == set(drawn), "the order of rows decides nothing"


def test_strata_have_equal_shares_and_a_tag_can_be_the_group() -> None:
    drawn = reassigned(questions(100), 0, (0.4, 0.2), stratify="label")
    for label in (" yes", " no"):
        counts = Counter(row.split for row in drawn if row.label == label)
        assert abs(counts["fit"] / sum(counts.values()) - 0.4) < 0.05
    topics = reassigned(questions(100), 0, (0.34, 0.33), by="topic")
    assert all(len({row.split for row in topics if row.tagged("topic") == name}) == 1 for name in "012")


def test_shares_and_groups_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(NotEnoughData, match="2 groups"):
        reassigned(questions(2))
    for shares in ((0.0, 0.5), (0.9, 0.2), (-0.1, 0.5)):
        with pytest.raises(BadDemonstrations, match="cannot be drawn"):
            reassigned(questions(20), 0, shares)


def test_a_test_split_is_opened_by_a_run_that_scored_it_in_any_version_and_by_no_other(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    shelf = Shelf(lambda: workspace, ShippedSets(tmp_path, everyday=False))
    one, other = shelf.save(replace(questions(12), name="one")), shelf.save(replace(questions(13), name="other"))
    workspace.runs.record("evaluate", "e", inputs={"data": one.fingerprint, "split": "validation"})
    workspace.runs.record("compare", "c", inputs={"data": one.fingerprint})
    assert shelf.n_opened(one.id) == 0
    workspace.runs.record("evaluate", "e", inputs={"data": one.fingerprint, "split": "test"})
    workspace.runs.record("sweep", "s", inputs={"data": one.fingerprint, "split": None})
    shelf.save(replace(questions(11), name="one"), key=one.id)
    assert shelf.n_opened(one.id) == 2 and shelf.n_opened(other.id) == 0


def test_stars_are_on_what_a_row_says(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    row = clean()[0]
    workspace.star(row.marks[1])
    assert workspace.starred() == {replace(row, id="new", split="test").marks[1]}
    workspace.star(row.marks[1], False)
    assert not workspace.starred()
