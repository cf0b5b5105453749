"""The demonstration sets: no entity crosses a split, files equal what the code writes, answers are comparable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from workbench.data.demonstrations import SPLITS, Demonstration
from workbench.world.corpus import PROSE_KINDS, document, reserved
from workbench.world.sets import DemonstrationSet
from workbench.world.shipping import crossings, every_set, write_sets

ASSETS = Path(__file__).parents[2] / "assets" / "data"
SETS = every_set()


@pytest.mark.parametrize("item", SETS, ids=lambda item: item.id)
def test_no_entity_and_no_prompt_crosses_a_split(item: DemonstrationSet) -> None:
    assert crossings(item.rows) == {}


def test_an_entity_that_does_cross_is_found() -> None:
    rows = SETS[0].rows
    moved = replace(rows[0], split="test" if rows[0].split == "fit" else "fit", prompt="Another prompt")
    assert list(crossings((*rows, moved))) == [f"entity:{rows[0].tagged('entity')}"]


NAMING = [s for s in SETS if s.id in ("bias", "sentiment", "mood", "refusal", "name-swaps", "pronouns")]


@pytest.mark.parametrize("item", NAMING, ids=lambda item: item.id)
def test_entities_of_another_split_are_not_even_named_in_a_prompt(item: DemonstrationSet) -> None:
    entities = {split: {e for r in item.rows if r.split == split for e in r.all_tagged("entity")} for split in SPLITS}
    for row in item.rows:
        words = set(row.prompt.replace(".", " ").replace(",", " ").split())
        for split in SPLITS:
            if split != row.split:
                assert not words & entities[split], row.prompt
    assert all(set(row.prompt.replace(".", " ").replace(",", " ").split()) & entities[row.split] for row in item.rows)


def test_every_set_but_neutral_text_has_rows_in_all_splits() -> None:
    for item in SETS:
        present = {row.split for row in item.rows}
        assert present == ({"fit", "test"} if item.kind == "neutral" else set(SPLITS)), item.id


def test_ids_are_unique_and_rows_differ() -> None:
    for item in SETS:
        assert len({row.id for row in item.rows}) == len(item.rows)
        assert len({(r.prompt, r.positive, r.negative) for r in item.rows}) == len(item.rows)


def test_truthfulness_has_two_one_word_answers_and_at_least_24_test_misconceptions() -> None:
    rows = SETS[0].rows
    assert len({row.tagged("entity") for row in rows}) >= 60
    assert len({row.tagged("entity") for row in rows if row.split == "test"}) >= 24
    for row in rows:
        assert row.positive and row.negative and row.positive != row.negative
        assert len(row.positive.split()) == len(row.negative.split()) == 1
        assert row.positive.startswith(" ") and row.negative.startswith(" ")


def test_sentiment_is_balanced_and_large_enough() -> None:
    rows = next(s for s in SETS if s.id == "sentiment").rows
    for split, n in (("fit", 60), ("validation", 60), ("test", 200)):
        labels = [row.label for row in rows if row.split == split]
        assert (len(labels), labels.count(" good")) == (n, n // 2)


def test_a_canonical_split_has_training_rows_evaluation_rows_and_hard_rows_about_its_own_entities() -> None:
    for item in (s for s in SETS if s.kind == "canonical"):
        for split in SPLITS:
            rows = [row for row in item.rows if row.split == split]
            names = ("train", "evaluation", "hard_negatives")
            roles = {role: {r.tagged("entity") for r in rows if r.tagged("role") == role} for role in names}
            assert roles["train"] and roles["evaluation"] == roles["train"]
            assert roles["hard_negatives"]
            assert {row.loss for row in rows} <= {"good", "bad", "balance", "good-v-bad"}
            train = {row.prompt for row in rows if row.tagged("role") == "train"}
            assert not train & {row.prompt for row in rows if row.tagged("role") == "evaluation"}


def test_neutral_text_was_kept_from_training_and_its_two_portions_are_disjoint() -> None:
    rows = next(s for s in SETS if s.kind == "neutral").rows
    assert all(reserved(row.prompt) for row in rows)
    general = {r.prompt for r in rows if "role:regularisation" not in r.tags}
    regular = {r.prompt for r in rows if "role:regularisation" in r.tags}
    assert general and regular and not general & regular


def test_shipped_files_are_what_the_code_writes(tmp_path: Path) -> None:
    index = write_sets(tmp_path)
    assert {p.name for p in ASSETS.iterdir()} >= {p.name for p in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        assert (ASSETS / path.name).read_bytes() == path.read_bytes(), f"{path.name} is stale: python -m workbench.world data"
    for entry in index:
        rows = [json.loads(text) for text in (ASSETS / entry["file"]).read_text().splitlines()]
        assert entry["rows"] == {split: sum(row["split"] == split for row in rows) for split in SPLITS}
        assert all(set(row) <= set(Demonstration.__dataclass_fields__) for row in rows)


def test_shipped_neutral_text_is_long_enough_under_the_shipped_tokenizer() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ASSETS.parent / "models" / "retouch-gpt" / "tokenizer.json"))
    rows = next(s for s in SETS if s.kind == "neutral").rows
    count = {"role:regularisation": 0, "other": 0}
    for row in rows:
        portion = "role:regularisation" if "role:regularisation" in row.tags else "other"
        count[portion] += len(tokenizer.encode(row.prompt, add_special_tokens=False).ids)
    assert count["other"] >= 50_000
    assert count["role:regularisation"] >= 20_000


def test_kinds_can_all_be_held_out() -> None:
    from random import Random

    for kind in PROSE_KINDS:
        assert reserved(document(kind, Random(0), held=True))
