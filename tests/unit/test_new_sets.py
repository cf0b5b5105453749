"""Sets that begin with a paste, an unknown file, a copy or a merge; and nothing of them before somebody keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.data.columns import guessed
from workbench.data.conditions import Condition
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.hub import HubSource, configurations, hub_source, parts, peek, read_hub
from workbench.data.pasting import pasted, read_pasted
from workbench.data.sources import Imported, read
from workbench.errors import BadDemonstrations, UnknownName
from workbench.progress import Cancelled, Progress, Report
from workbench.workspace.home import Workspace
from workbench.workspace.shelf import Shelf, read_files
from workbench.workspace.shipped import ShippedSets


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    workspace = Workspace(tmp_path / "home")
    return Shelf(lambda: workspace, ShippedSets(tmp_path, everyday=False))


def said(read: Imported) -> list[tuple[object, ...]]:
    return [(row.prompt, row.positive, row.negative) for row in read.demonstrations]


def test_a_paste_is_read_with_its_header_and_without() -> None:
    cells = "Where do owls sleep?\tIn trees.\tUnder water.\nWhat is ice?\tWater.\tGlass.\n"
    expected = [("Where do owls sleep?", " In trees.", " Under water."), ("What is ice?", " Water.", " Glass.")]
    assert said(read_pasted(pasted(cells))) == expected
    assert said(read_pasted(pasted("Prompt\tPositive\tnegative\n" + cells))) == expected
    assert said(read_pasted(pasted("prompt,positive\nIce is,cold\nFire is,hot\n"))) == [
        ("Ice is", " cold", None),
        ("Fire is", " hot", None),
    ]
    lines = read_pasted(pasted("Tell me, please, a tale.\nSing.\n"))
    assert said(lines) == [("Tell me, please, a tale.", None, None), ("Sing.", None, None)], "commas of a sentence part no cells"


def test_a_first_row_of_data_can_be_called_a_header_and_the_reverse() -> None:
    cells = "prompt\tpositive\nIce is\tcold\n"
    assert said(read_pasted(pasted(cells, has_header=False)))[0] == ("prompt", " positive", None)
    other = pasted("Frage\tAntwort\nWas ist Eis?\tWasser\n", has_header=True)
    with pytest.raises(BadDemonstrations, match="Frage"):
        read_pasted(other)
    assert said(read_pasted(other, mapping={"prompt": "Frage", "positive": "Antwort"})) == [("Was ist Eis?", " Wasser", None)]


def test_a_cell_with_line_breaks_and_quotes_stays_one_cell() -> None:
    read_back = read_pasted(pasted('"Say ""hi""\nto me"\tHi "you".\r\nGo\tGone\r\n'))
    assert said(read_back) == [('Say "hi"\nto me', ' Hi "you".', None), ("Go", " Gone", None)]


def test_a_paste_of_json_lines_is_read_as_a_file_is_and_an_empty_one_is_refused() -> None:
    assert said(read_pasted(pasted('{"prompt": "a", "positive": "b"}\n{"prompt": "c"}\n'))) == [("a", " b", None), ("c", None, None)]
    for blank in ("", "  \n\t\n"):
        with pytest.raises(BadDemonstrations, match="Nothing was pasted"):
            pasted(blank)
    with pytest.raises(BadDemonstrations, match="7 cells"):
        read_pasted(pasted("\t".join("abcdefg")))


def test_a_row_with_more_cells_than_names_is_told_by_its_line() -> None:
    found = read_pasted(pasted("prompt\tpositive\na\tb\nc\td\te\n"))
    assert len(found.demonstrations) == 1 and found.problems[0].line == 3


def test_an_unknown_file_is_read_through_a_mapping_and_refused_without() -> None:
    content = b"Frage,Gut,Thema\nWas ist Eis?,Wasser,Natur\nWas ist Gold?,Metall,Natur\n"
    with pytest.raises(BadDemonstrations, match="no known layout"):
        read(content, name="f.csv")
    found = read(content, name="f.csv", mapping={"prompt": "Frage", "positive": "Gut", "tags": "Thema"})
    assert found.demonstrations[0] == Demonstration("Was ist Eis?", " Wasser", tags=("Thema:Natur",))
    for wrong, word in (
        ({"prompt": "Fragen"}, "Fragen"),
        ({"positive": "Gut"}, "No column is the prompt"),
        ({"prompts": "Frage"}, "prompts"),
    ):
        with pytest.raises(BadDemonstrations, match=word):
            read(content, name="f.csv", mapping=wrong)


def test_the_mapping_that_is_offered_follows_the_names_of_the_columns() -> None:
    assert guessed(["id", "user_question", "correct_answer", "wrong_answer", "topic"]) == {
        "prompt": "user_question", "positive": "correct_answer", "negative": "wrong_answer", "tags": "topic", "id": "id",
    }  # fmt: skip
    assert guessed(["a", "b"]) == {}


def test_a_parquet_file_is_read_as_a_table_and_a_broken_one_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "positive": [" x", None], "tags": [["t:1"], []]}), path)
    for found in (read(path), read(path.read_bytes(), name="p.parquet")):
        assert said(found) == [("a", " x", None), ("b", None, None)] and found.demonstrations[0].tags == ("t:1",)
    with pytest.raises(BadDemonstrations, match="no Parquet file"):
        read(b"PAR1 and nothing more", name="p.parquet")


def test_a_dataset_folder_is_streamed_filtered_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "quiz"
    folder.mkdir()
    for part in ("train", "test"):
        rows = "".join(f'{{"q": "{part} {i}?", "a": "yes", "kind": "{"odd" if i % 2 else "even"}", "score": {i}}}\n' for i in range(20))
        (folder / f"{part}.jsonl").write_text(rows)
    assert configurations(str(folder)) == ("default",) and set(parts(str(folder))) == {"train", "test"}
    assert [item.values["q"] for item in peek(HubSource(str(folder)), 2)] == ["train 0?", "train 1?"]
    where = (Condition.read("kind=odd"), Condition.read("score>=5"))
    source = HubSource(str(folder), part="test", where=where, limit=4)
    found = read_hub(source, mapping={"prompt": "q", "positive": "a"})
    assert [row.prompt for row in found.demonstrations] == [f"test {i}?" for i in (5, 7, 9, 11)]
    with pytest.raises(BadDemonstrations, match="no column 'sort'"):
        read_hub(HubSource(str(folder), where=(Condition.read("sort=x"),)), mapping={"prompt": "q"})
    with pytest.raises(BadDemonstrations, match="cannot be read"):
        read_hub(HubSource(str(folder), part="nowhere"), mapping={"prompt": "q"})
    assert hub_source(str(folder) + "@test") == HubSource(str(folder), part="test")
    assert hub_source("org/name/cfg@test") == HubSource("org/name", "cfg", "test") and hub_source("org/name").part == "train"


def test_classes_of_a_dataset_that_was_saved_to_disk_are_told_by_name(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"prompt": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
    datasets.Dataset.from_dict({"prompt": ["a", "b"], "label": [1, 0]}, features=features).save_to_disk(str(tmp_path / "saved"))
    found = read_hub(HubSource(str(tmp_path / "saved")))
    assert [row.label for row in found.demonstrations] == ["good", "bad"]
    with pytest.raises(BadDemonstrations, match="no part 'test', only train"):
        read_hub(HubSource(str(tmp_path / "saved"), part="test"))


def test_reading_a_dataset_stops_when_it_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: ({"prompt": f"{i}"} for i in range(10**9)))

    def tell(report: Report) -> None:
        if report.doing == "Row 201":
            raise Cancelled

    with pytest.raises(Cancelled):
        read_hub(HubSource("org/long", limit=10**6), progress=Progress(tell))


@pytest.mark.parametrize(
    ("text", "row", "holds"),
    [
        ("a=1", {"a": 1}, True), ("a=1", {"a": 2}, False), ("a!=1", {"a": 2}, True), ("a~OWL", {"a": "an owl"}, True),
        ("a~owl", {"a": "x"}, False), ("a>1.5", {"a": "2"}, True), ("a<=1", {"a": 2}, False), ("a>1", {"a": "many"}, False),
        ("a=x=y", {"a": "x=y"}, True), ("a=", {"a": ""}, True),
    ],
)  # fmt: skip
def test_a_condition_holds_or_does_not(text: str, row: dict[str, object], holds: bool) -> None:
    assert Condition.read(text).holds(row) is holds


@pytest.mark.parametrize("text", ["a", "=1", "a>many", ""])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(BadDemonstrations):
        Condition.read(text)


def pairs(name: str, *prompts: str) -> Demonstrations:
    return Demonstrations(tuple(Demonstration(text, " x", " y", id=f"{i}") for i, text in enumerate(prompts)), name)


def test_reading_keeps_nothing_until_it_is_kept(shelf: Shelf) -> None:
    files = [(b'{"prompt": "a"}\n{"prompt": "b"}\n', "mine.jsonl")]
    found = read_files(files)
    assert not shelf.list()
    info = shelf.keep(found, "mine.jsonl")
    assert info is not None and (info.name, info.n, info.note) == ("mine", 2, "imported mine.jsonl")
    assert shelf.keep(read_files([(b"nonsense\n", "bad.jsonl")]), "bad.jsonl") is None and len(shelf.list()) == 1


def test_a_set_is_begun_duplicated_and_renamed(shelf: Shelf) -> None:
    empty = shelf.new("mine")
    assert (empty.name, empty.n) == ("mine", 0) and shelf.new("mine").name == "mine 2"
    shelf.save(pairs("mine", "a", "b"), key=empty.id)
    copy = shelf.duplicate(empty.id)
    assert (copy.name, copy.n, copy.can_undo) == ("mine copy", 2, False)
    shelf.save(pairs("mine", "a"), key=copy.id)
    assert len(shelf.get(empty.id)) == 2, "a copy is a set of its own"
    assert shelf.rename(copy.id, "other").name == "other"


def test_a_merge_takes_each_text_once_and_leaves_its_sources(shelf: Shelf) -> None:
    one, two = shelf.save(pairs("one", "a", "b")), shelf.save(pairs("two", "b", "c"))
    whole = shelf.merge([one.id, two.id])
    rows = shelf.get(whole.id)
    assert (whole.name, [row.prompt for row in rows]) == ("one + two", ["a", "b", "c"]) and len({row.id for row in rows}) == 3
    assert shelf.get(one.id).fingerprint == one.fingerprint and shelf.merge([one.id, two.id], "both").name == "both"
    with pytest.raises(BadDemonstrations, match="Got 1 set"):
        shelf.merge([one.id, one.id])
    with pytest.raises(UnknownName):
        shelf.merge([one.id, "three"])


def test_a_deleted_set_comes_back_as_it_was(shelf: Shelf) -> None:
    one = shelf.save(pairs("one", "a", "b"))
    shelf.delete(one.id)
    assert not shelf.list()
    assert shelf.restore(one.id).fingerprint == one.fingerprint and [offer.id for offer in shelf.list()] == [one.id]
