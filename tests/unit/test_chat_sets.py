"""Sets of conversations: layouts of the hub, both files that Retouch writes, and a text set put as chat."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import jsonl, only
from workbench.conversations import Conversation, Turn, as_chat, conversation, from_a_cell, in_a_cell
from workbench.data.checks import checks
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sources import as_text, read
from workbench.workspace.home import Workspace

ASK, WARM, COLD = ({"role": who, "content": text} for who, text in (("user", "Why rain?"), ("assistant", "Clouds."), ("assistant", "No.")))
PROMPT = as_chat("Why rain?")


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"messages": [ASK, WARM]}, Demonstration(PROMPT, "Clouds.")),
        ({"messages": [ASK]}, Demonstration(PROMPT)),
        ({"prompt": "Why rain?", "prompt_id": "p7", "messages": [ASK, WARM]}, Demonstration(PROMPT, "Clouds.", id="p7")),
        (
            {"conversations": [{"from": "human", "value": "Why rain?"}, {"from": "gpt", "value": "Clouds."}]},
            Demonstration(PROMPT, "Clouds."),
        ),
        ({"conversations": [ASK], "system": "Be brief."}, Demonstration(PROMPT.with_system("Be brief."))),
        ({"chosen": [ASK, WARM], "rejected": [ASK, COLD]}, Demonstration(PROMPT, "Clouds.", "No.")),
        ({"prompt": "Why rain?", "chosen": [ASK, WARM], "rejected": [ASK, COLD]}, Demonstration(PROMPT, "Clouds.", "No.")),
        ({"prompt": [ASK], "chosen": [WARM], "rejected": [COLD]}, Demonstration(PROMPT, "Clouds.", "No.")),
        ({"prompt": [ASK], "chosen": "Clouds.", "rejected": "No."}, Demonstration(PROMPT, "Clouds.", "No.")),
        ({"prompt": "Rain is", "chosen": "wet", "rejected": "dry"}, Demonstration("Rain is", " wet", " dry")),
        (
            {"chosen": "\n\nHuman: Why rain?\n\nAssistant: Clouds.", "rejected": "\n\nHuman: Why rain?\n\nAssistant: No."},
            Demonstration(PROMPT, "Clouds.", "No."),
        ),
        ({"prompt": [ASK], "positive": "Clouds."}, Demonstration(PROMPT, "Clouds.")),
    ],
)
def test_layouts_of_conversations_are_recognised(record: dict[str, Any], wanted: Demonstration) -> None:
    assert only(read(jsonl(record), name="talks.jsonl")) == wanted


def test_a_table_may_hold_the_messages_in_a_cell() -> None:
    cell = json.dumps([{"from": "human", "value": "Why rain?"}, {"from": "gpt", "value": "Clouds."}]).replace('"', '""')
    assert only(read(f'conversations\n"{cell}"\n'.encode(), name="talks.csv")) == Demonstration(PROMPT, "Clouds.")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"messages": [{"role": "robot", "content": "a"}]}, "damaged"),
        ({"messages": "hello"}, "messages are needed"),
        ({"messages": [WARM]}, "no question"),
        ({"chosen": [ASK, WARM], "rejected": [ASK]}, "do not part"),
        ({"chosen": [WARM], "rejected": [COLD]}, "no question"),
        ({"chosen": "wet", "rejected": "dry"}, "prompt"),
        ({"prompt": [{"role": "user"}]}, "damaged"),
    ],
)
def test_a_damaged_row_is_told_by_its_line_and_the_good_ones_stay(record: dict[str, Any], says: str) -> None:
    good = {"messages": [ASK, WARM]} if "messages" in record else {"chosen": [ASK, WARM], "rejected": [ASK, COLD]}
    found = read(jsonl(good, record), name="talks.jsonl")
    assert len(found.demonstrations) == 1
    assert any(problem.line == 2 and says in str(problem) for problem in found.problems), found.problems


TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(st.characters(codec="utf-8"))), min_size=1, max_size=4)
CELLS = [
    '[{"role": "user", "content": "a"}]',
    '"[{\\"role\\": \\"user\\", \\"content\\": \\"a\\"}]"',
    '"Why?"',
    "[1]",
    '[{"a": 1}]',
    "",
    "[",
    '"',
]


@given(st.one_of(st.text(), st.sampled_from(CELLS), TURNS.map(lambda turns: Conversation(tuple(Turn(*turn) for turn in turns)))))  # type: ignore[arg-type]
def test_a_cell_gives_back_what_was_put_into_it(prompt: str | Conversation) -> None:
    assert from_a_cell(in_a_cell(prompt)) == prompt
    assert from_a_cell(in_a_cell(in_a_cell(prompt))) == in_a_cell(prompt)


def test_a_plain_text_stands_in_its_cell_as_it_is() -> None:
    assert [in_a_cell(text) for text in ('"Why?"', "[1, 2]", "Hello")] == ['"Why?"', "[1, 2]", "Hello"]


MIXED = Demonstrations(
    (
        Demonstration(conversation([{"role": "system", "content": 'Be, "brief".'}, ASK]), "Clouds.", "No.", tags=("a;b",), id="r0"),
        Demonstration("Rain is", " wet", " dry", id="r1"),
        Demonstration(CELLS[0], " wet", id="r2"),
        Demonstration(CELLS[1], " wet", id="r3"),
    ),
    "mixed",
)


@pytest.mark.parametrize("layout", [".jsonl", ".csv"])
def test_both_files_give_the_conversations_back(layout: str) -> None:
    found = read(as_text(MIXED, layout).encode(), name=f"mixed{layout}")
    assert found.demonstrations.rows == MIXED.rows and not [item for item in found.problems if item.line]


def test_a_workspace_keeps_conversations(tmp_path: Any) -> None:
    workspace = Workspace(tmp_path)
    workspace.sets.save(MIXED)
    found = workspace.sets.get("mixed")
    assert found.rows == MIXED.rows and found.fingerprint == MIXED.fingerprint


def test_a_text_set_put_as_chat_asks_in_one_turn_and_leaves_general_text_alone() -> None:
    general = Demonstration("It rains.", tags=("role:general",))
    rows = Demonstrations((Demonstration("Why rain?", " Clouds.", " No."), Demonstration(PROMPT, "Clouds."), general))
    found = rows.put_as_chat("Be brief.")
    system = PROMPT.with_system("Be brief.")
    assert found.rows == (Demonstration(system, "Clouds.", "No."), Demonstration(system, "Clouds."), general)
    assert rows.is_chat and found.is_chat and not rows.with_rows([general]).is_chat
    assert found[0].as_answer(" Yes ") == "Yes" and rows[0].as_answer("Yes") == " Yes"


def test_sets_that_ask_are_told_from_sets_that_are_gone_on_with() -> None:
    assert Demonstrations(tuple(map(Demonstration, ("Why?", "Tell me.", "Rain is")))).asks
    assert not Demonstrations(tuple(map(Demonstration, ("Q: Why?\nA:", "Rain is", "Why?")))).asks


def test_an_answer_in_a_conversation_needs_no_space() -> None:
    spaces = {item.name: item for item in checks(MIXED)}["leading_space"]
    assert spaces.count == 0
    bad = MIXED.with_rows([Demonstration("Rain is", "wet")])
    assert {item.name: item for item in checks(bad)}["leading_space"].count == 1


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_an_answer_of_nothing_is_none_and_stays_so_when_it_is_written_and_read(ending: str) -> None:
    said = "\n\nHuman: hello\n\nAssistant: "
    found = read(json.dumps({"chosen": f"{said}good", "rejected": said}).encode(), name="x.jsonl").demonstrations
    assert found[0].positive == "good" and found[0].negative is None
    assert read(as_text(found, ending).encode(), name=f"x{ending}").demonstrations.rows == found.rows
