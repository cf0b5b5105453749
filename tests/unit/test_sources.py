"""Readers: every layout from a small invented sample, and every way in which a file can be bad."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.samples import jsonl, only
from workbench.data.sources import read


def test_truthful_qa_is_read_through_its_byte_order_mark_with_every_reference_kept() -> None:
    text = (
        "\ufeffType,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
        'A,Myths,Do moles sing?,Moles do not sing,"Moles do not sing; No, they are mute",They sing at dawn; They hum,\n'
    )
    row = only(read(text.encode(), name="TruthfulQA.csv"))
    assert row.prompt == "Q: Do moles sing?\nA:"
    assert row.positive == " Moles do not sing"
    assert row.negative in (" They sing at dawn", " They hum")
    assert row.all_tagged("true") == ("Moles do not sing", "No, they are mute")
    assert row.all_tagged("false") == ("They sing at dawn", "They hum")
    assert row.tagged("category") == "Myths"


def bbq(condition: str, polarity: str, label: int) -> dict[str, object]:
    return {
        "question_index": "7",
        "question_polarity": polarity,
        "context_condition": condition,
        "category": "Trade",
        "answer_info": {"ans0": ["baker", "baker"], "ans1": ["Unsure", "unknown"], "ans2": ["smith", "smith"]},
        "additional_metadata": {"stereotyped_groups": ["Smith"]},
        "context": "A baker and a smith met.",
        "question": "Who shouted?",
        "ans0": "The baker",
        "ans1": "Unsure",
        "ans2": "The smith",
        "label": label,
    }


def test_bbq_takes_the_labelled_option_and_names_the_biased_one_by_polarity() -> None:
    negative = only(read(jsonl(bbq("ambig", "neg", 1)), name="b.jsonl"))
    positive = only(read(jsonl(bbq("disambig", "nonneg", 2)), name="b.jsonl"))
    assert negative.positive == " Unsure" and negative.negative in (" The baker", " The smith")
    assert (negative.tagged("condition"), negative.tagged("unknown")) == ("ambig", "Unsure")
    assert positive.positive == " The smith" and positive.negative in (" The baker", " Unsure")
    assert (negative.tagged("biased"), positive.tagged("biased")) == ("The smith", "The baker")


def test_the_wrong_answer_is_chosen_by_the_seed_and_the_same_each_time() -> None:
    content = jsonl(*[bbq("ambig", "neg", 1) | {"context": f"Day {i}."} for i in range(30)])
    first, again, other = (read(content, name="b.jsonl", seed=seed) for seed in (0, 0, 1))
    chosen = [[row.negative for row in item.demonstrations] for item in (first, again, other)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert set(chosen[0]) == {" The baker", " The smith"}


def test_stereoset_reads_both_its_tasks_from_the_nested_file() -> None:
    def item(context: str, *texts: str) -> dict[str, object]:
        labels = ("stereotype", "anti-stereotype", "unrelated")
        sentences = [{"sentence": text, "gold_label": label} for text, label in zip(texts, labels)]
        return {"target": "miller", "bias_type": "profession", "context": context, "sentences": sentences}

    after = item("The miller came in.", "He was loud.", "He was quiet.", "Two is even.")
    blank = item("Every miller is BLANK today.", *(f"Every miller is {w} today." for w in ("loud", "quiet", "soup")))
    content = json.dumps({"version": 1, "data": {"intersentence": [after], "intrasentence": [blank]}}).encode()
    rows = read(content, name="dev.json").demonstrations
    assert [(row.prompt, row.positive, row.negative) for row in rows] == [
        ("The miller came in.", " He was quiet.", " He was loud."),
        ("Every miller is", " quiet", " loud"),
    ]
    assert [row.tagged("unrelated") for row in rows] == ["Two is even.", "soup"]


def test_stereoset_rows_of_the_hub_give_the_same_pairs() -> None:
    sentences = {"sentence": ["He was quiet.", "He was loud."], "gold_label": [0, 1]}
    row = only(read(jsonl({"context": "In came Bo.", "target": "bo", "sentences": sentences}), name="s.jsonl"))
    assert (row.positive, row.negative) == (" He was quiet.", " He was loud.")


@pytest.mark.parametrize(
    ("stem", "row", "positive", "negative", "loss", "role"),
    [
        ("country_capital_fixed-val", {"suffix": " Glorvale"}, " Glorvale", None, "good", "train"),
        ("country_capital_clear_eval-test", {"suffix": " Glorvale"}, " Glorvale", None, "good", "evaluation"),
        ("stereoset_train-val", {"suffix": " lazy"}, None, " lazy", "bad", "train"),
        ("stereoset_hard_neg-test", {"suffix": " a trade"}, " a trade", None, "good", "hard_negatives"),
        ("pronoun_gender_bias_train-val", {"suffix1": " he", "suffix2": " she"}, " he", " she", "balance", "train"),
        ("verb_conjugation_eval-val", {"suffix1": " a", "suffix2": " b"}, " a", " b", "good-v-bad", "evaluation"),
    ],
)
def test_canonical_examples_take_loss_and_role_from_the_name_of_their_file(
    stem: str, row: dict[str, str], positive: str | None, negative: str | None, loss: str, role: str
) -> None:
    read_row = only(read(jsonl({"prefix": "The capital of Freedonia is"} | row), name=stem + ".jsonl"))
    assert (read_row.positive, read_row.negative, read_row.loss) == (positive, negative, loss)
    assert read_row.tagged("role") == role
    assert read_row.split == ("test" if stem.endswith("test") else "validation")


def test_a_list_of_texts_becomes_prompts_of_one_concept() -> None:
    imported = read(json.dumps(["Rain on a roof.", "A lost key."]).encode(), name="calm.json")
    assert [row.prompt for row in imported.demonstrations] == ["Rain on a roof.", "A lost key."]
    assert {row.tagged("concept") for row in imported.demonstrations} == {"calm"}


def test_statements_name_their_class_and_never_a_number() -> None:
    rows = read(b'statement,label\n"Snow, oddly, is cold.",1\nStones float.,0\n', name="facts.csv").demonstrations
    assert [(row.prompt, row.label, row.tagged("class")) for row in rows] == [
        ("Snow, oddly, is cold.", "target", "target"),
        ("Stones float.", "anti_target", "anti_target"),
    ]


def test_bigbench_reads_options_from_columns_from_scores_and_from_the_text() -> None:
    options = {"multiple_choice_targets": ["yes", "no"], "multiple_choice_scores": [0, 1]}
    columns = only(read(jsonl({"inputs": "Is it?\nA:", "targets": ["no"]} | options), name="t.jsonl"))
    scores = {"examples": [{"input": "Is it", "target_scores": {"yes": 1, "no": 0}}]}
    scored = only(read(json.dumps(scores).encode(), name="task.json"))
    listed = [{"input": "Is it?\nOptions:\n- Yes\n- No", "target": "No"}]
    text = only(read(json.dumps(listed).encode(), name="n.json"))
    assert (columns.prompt, columns.positive, columns.negative, columns.label) == ("Is it?\nA:", " no", " yes", " no")
    assert (scored.prompt, scored.positive, scored.negative) == ("Is it\nA:", " yes", " no")
    assert (text.positive, text.negative, text.label) == (" No", " Yes", " No")


QUESTION = ("It is legal", ["It is legal", "You may, in fact"], ["Never", 'It isn\'t "allowed"'])


def hub_csv(true: str, false: str) -> bytes:
    quoted = [f'"{text.replace(chr(34), chr(34) * 2)}"' for text in (true, false)]
    return f"question,best_answer,correct_answers,incorrect_answers\nIs it legal?,It is legal,{quoted[0]},{quoted[1]}\n".encode()


@pytest.mark.parametrize(
    "spelled", [json.dumps, repr, lambda items: "[" + "\n ".join(map(repr, items)) + "]"], ids=["json", "python", "numpy"]
)
def test_a_list_written_into_a_cell_is_the_list(spelled: Callable[[list[str]], str]) -> None:
    _, true, false = QUESTION
    row = only(read(hub_csv(spelled(true), spelled(false)), name="hub.csv"))
    assert row.all_tagged("true") == tuple(true) and row.all_tagged("false") == tuple(false)
    assert row.negative in (" Never", ' It isn\'t "allowed"')


@pytest.mark.parametrize("cell", ["Never", "['Never'", "[Never]", "{}", "[" * 100_000, "['a', __import__('os')]", "1" * 5000])
def test_a_cell_that_is_no_list_is_named_and_never_cut_into_letters(cell: str) -> None:
    found = read(hub_csv("['It is legal']", cell), name="hub.csv")
    assert not len(found.demonstrations) and "incorrect_answers" in found.problems[0].what + found.problems[0].hint


def test_options_and_scores_of_bigbench_may_be_written_into_cells() -> None:
    text = "inputs,targets,multiple_choice_targets,multiple_choice_scores\nWhat?,Yes,\"['No', 'Yes']\",\"[0, 1]\"\n"
    row = only(read(text.encode(), name="b.csv"))
    assert (row.positive, row.negative) == (" Yes", " No") and row.all_tagged("false") == ("No",)
    scored = only(read(b"input,target_scores\nWhat?,\"{'No': 0, 'Yes': 1}\"\n", name="b.csv"))
    assert (scored.positive, scored.negative) == (" Yes", " No")


@pytest.mark.parametrize("head", ["statement,label,split", "text,x,split", "inputs,targets,split"])
def test_the_column_split_is_followed_in_every_layout(head: str) -> None:
    words = ["train", "Test", "val", "DEV", "fit"] * 4
    text = head + "\n" + "".join(f"Row number {i},{i % 2},{word}\n" for i, word in enumerate(words))
    found = read(text.encode(), name="s.csv").demonstrations
    assert [row.split for row in found] == ["fit", "test", "validation", "validation", "fit"] * 4
    wrong = read(f"{head}\nOne row,1,later\nAnother,0,test\n".encode(), name="s.csv")
    assert [problem.line for problem in wrong.problems][:1] == [2] and "later" in wrong.problems[0].what
