"""How two sets of prompts are read from demonstrations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.concepts import concept_rows
from tests.conftest import contrast_rows, words
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sides import behaviour, sided
from workbench.errors import NotEnoughData
from workbench.methods import get
from workbench.methods.shared.concept import concept_of


def tagged(n: int, name: str, start: int) -> list[Demonstration]:
    return [Demonstration(words(start + i % 7, start + i % 5), tags=(f"concept:{name}",), id=f"{name}-{i}") for i in range(n)]


def test_labels_say_the_sides_and_unlabelled_rows_are_left_out() -> None:
    rows = concept_rows(20)
    free = Demonstration(words(9), positive=" w1", negative=" w2", id="free")
    sides = sided(rows.with_rows((*rows.rows, free)))
    assert len(sides["target"]) == len(sides["anti_target"]) == 10
    assert (words(9), None) not in sides["target"] + sides["anti_target"]


def test_two_files_of_concept_prompts_make_a_concept_and_the_target_can_be_named() -> None:
    rows = Demonstrations((*tagged(6, "happiness", 5), *tagged(4, "sadness", 60)), "emotions")
    assert [len(side) for side in sided(rows).values()] == [6, 4]
    assert [len(side) for side in sided(rows, "sadness").values()] == [4, 6]


def test_concept_tags_do_not_count_where_labels_say_the_sides() -> None:
    rows = Demonstrations((*tagged(6, "a", 5), *tagged(4, "b", 60)), "both")
    labelled = rows.with_rows(replace(row, label=("target", "anti_target")[i % 2]) if i < 4 else row for i, row in enumerate(rows))
    assert [len(side) for side in sided(labelled).values()] == [2, 2]


def test_answers_give_a_prompt_to_each_side() -> None:
    rows = contrast_rows(10).split("fit")
    sides = sided(rows)
    assert sides["target"][0] == (rows[0].prompt, rows[0].positive)
    assert sides["anti_target"][0] == (rows[0].prompt, rows[0].negative)


def test_both_sides_are_cut_to_the_same_number_and_alternate(tiny_gpt2: Any) -> None:
    rows = Demonstrations((*tagged(30, "a", 5), *tagged(20, "b", 60)), "uneven")
    concept = concept_of(tiny_gpt2, rows, n_prompts=12)
    assert len(concept.train) == 12
    assert concept.train.sides[:4] == ("target", "anti_target") * 2
    assert concept.train.is_target.tolist() == [True, False] * 6


def test_a_small_validation_split_is_filled_from_fit_and_says_so_and_test_is_never_read(tiny_gpt2: Any) -> None:
    rows = concept_rows(60)
    concept = concept_of(tiny_gpt2, rows)
    assert "held out" in concept.notices[0].text
    seen = set(concept.train.texts) | set(concept.validation.texts)
    assert not set(concept.train.texts) & set(concept.validation.texts)
    assert not seen & {row.prompt for row in rows.split("test")}
    assert len(concept.validation) >= 16
    assert not concept_of(tiny_gpt2, concept_rows(120)).notices


def test_outcomes_put_rows_without_a_side_first_and_then_the_side_to_change(tiny_gpt2: Any) -> None:
    free = [Demonstration(words(9, i), " w1", " w2", split="validation", id=f"free-{i}") for i in range(9)]
    labelled = [replace(row, positive=" w1", negative=" w2") for row in concept_rows(120)]
    concept = concept_of(tiny_gpt2, Demonstrations((*labelled, *free), "mixed"), changed="target")
    assert len(concept.outcomes) == 2
    assert all(row.label is None for row in concept.outcomes[0])
    assert {row.label for row in concept.outcomes[1]} == {"target"}
    assert {row.split for group in concept.outcomes for row in group} == {"validation"}


def test_one_side_only_is_an_obstacle_and_an_error_that_names_the_concepts(tiny_gpt2: Any) -> None:
    rows = Demonstrations(tuple(tagged(9, "happiness", 5)), "one")
    assert "0 anti_target" in get("are").obstacles(tiny_gpt2, rows)[0].reason
    two = Demonstrations((*tagged(9, "happiness", 5), *tagged(9, "sadness", 60)), "two")
    with pytest.raises(NotEnoughData, match="happiness, sadness; asked for 'joy'"):
        concept_of(tiny_gpt2, two, target="joy")


def test_a_constant_last_word_on_one_side_is_told(tiny_gpt2: Any) -> None:
    rows = concept_rows(120)
    fixed = rows.with_rows(replace(row, prompt=row.prompt + " w99") if row.label == "target" else row for row in rows)
    assert any("always the same" in notice.text for notice in concept_of(tiny_gpt2, fixed).notices)
    assert not any("always the same" in notice.text for notice in concept_of(tiny_gpt2, rows).notices)


def test_general_rows_are_on_no_side_and_no_outcome(tiny_gpt2: Any) -> None:
    rows = contrast_rows(40)
    general = [replace(row, tags=(*row.tags, "role:general")) for row in rows]
    assert all(len(prompts) == len(rows.split("fit")) for prompts in sided(rows.split("fit")).values())
    assert not any(sided(rows.with_rows(general)).values()) and behaviour(rows.with_rows(general)) == ()
    assert len(behaviour(rows)) == len(rows)
    assert sum(map(len, concept_of(tiny_gpt2, rows).outcomes)) == len(rows.split("validation"))
    mixed = rows.with_rows(replace(row, tags=(*row.tags, "role:general")) if row.split == "validation" else row for row in rows)
    assert concept_of(tiny_gpt2, mixed).outcomes == ()


def test_a_conversation_is_read_by_its_ids_and_keeps_the_token_that_opens_its_turn(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the begin-of-text token opens the user's turn, cutting it from the text as a begin-of-text that comes twice loses the turn."""
    monkeypatch.setattr(tiny_gpt2.tokenizer, "chat_template", "{% for m in messages %}<e> w1 {{ m.content }} w2 {% endfor %}<e> w3")
    rows = concept_rows(120).put_as_chat()
    batch = concept_of(tiny_gpt2, rows).train.tokens(tiny_gpt2)
    wanted = tiny_gpt2.tokenizer.apply_chat_template(rows[0].prompt.messages(), tokenize=True, return_dict=False)
    assert wanted[0] == tiny_gpt2.tokenizer.bos_token_id and batch.ids[0][batch.mask[0]].tolist() == wanted
    assert get("are").configure() and not hasattr(get("are").configure(), "template")


def test_where_all_of_a_side_ask_the_same_texts_that_ask_the_same_are_parted(tiny_gpt2: Any) -> None:
    """Kept together they would leave nothing to fit on; the other side asks many things, so one side's scarcity decides."""
    same = [Demonstration(words(9, 9), f" w{i}", tags=("concept:a",), id=f"a-{i}") for i in range(30)]
    concept = concept_of(tiny_gpt2, Demonstrations((*same, *tagged(30, "b", 60)), "scarce"))
    assert {"target", "anti_target"} == set(concept.train.sides) == set(concept.validation.sides)
    assert len(concept.train) >= 4


def test_a_prompt_is_shown_with_its_continuation(tiny_gpt2: Any) -> None:
    train = concept_of(tiny_gpt2, concept_rows(), n_prompts=8).train
    bare, whole = replace(train, ends=None), replace(train, ends=tuple(f" w{i}" for i in range(len(train))))
    assert [bare.whole(i) for i in range(2)] == [str(text) for text in train.texts[:2]]
    assert [whole.whole(i) for i in range(2)] == [f"{text} w{i}" for i, text in enumerate(train.texts[:2])]
