"""Reading and writing demonstrations: every way in which a file can be bad, splits, and the hub."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from tests.samples import jsonl, only
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.hub import HubSource, read_hub
from workbench.data.sources import Imported, read, write
from workbench.data.splits import assigned
from workbench.errors import BadDemonstrations, StorageFailed


def lines(imported: Imported) -> list[int | None]:
    return [problem.line for problem in imported.problems if problem.line is not None]


def test_bad_lines_are_told_by_number_and_the_good_ones_kept_in_order() -> None:
    content = (
        b'{"prompt": "a", "positive": " x"}\n'
        b"{not json}\n"
        b"\n"
        b'{"prompt": "caf\xe9"}\n'
        b'{"positive": " x"}\n'
        b'{"prompt": 5}\n'
        b'{"prompt": "b", "split": "later"}\n'
        b'["a list"]\n'
        b'{"prompt": "\\ud800"}\n'
        b'{"prompt": "c"}\n'
    )
    imported = read(content, name="mixed.jsonl")
    assert [row.prompt for row in imported.demonstrations] == ["a", "c"]
    assert lines(imported) == [2, 4, 5, 6, 7, 8, 9]
    assert all(problem.what and problem.hint for problem in imported.problems)


def test_a_broken_line_of_a_csv_costs_only_itself() -> None:
    content = b'prompt,positive\na, x\nb, y, too many\nc,"unquoted" end\nd,caf\xe9\n"two\nlines", z\ne, w\n'
    imported = read(content, name="t.csv")
    assert [row.prompt for row in imported.demonstrations] == ["a", "two\nlines", "e"]
    assert lines(imported) == [3, 4, 5]


def test_what_the_hint_says_mends_the_line() -> None:
    broken, mended = b'prompt,positive\n"a, b, x\n', b'prompt,positive\n"a, b", x\n'
    assert lines(read(broken, name="t.csv")) == [2]
    assert only(read(mended, name="t.csv")).prompt == "a, b"


def test_duplicates_and_equal_sides_are_set_aside_for_the_user_to_take_back() -> None:
    row = {"prompt": "p", "positive": " a", "negative": " b"}
    imported = read(jsonl(row, row, row | {"negative": " a "}, row | {"positive": " c"}), name="d.jsonl")
    assert len(imported.demonstrations) == 2
    assert lines(imported) == [2, 3]
    assert [item.negative for item in imported.set_aside] == [" b", " a "]


def test_one_row_or_none_is_said() -> None:
    for content, n in ((b"", 0), (jsonl({"prompt": "p"}), 1)):
        imported = read(content, name="few.jsonl")
        assert len(imported.demonstrations) == n
        assert any(f"{n} usable rows" in problem.what for problem in imported.problems)
    two = read(jsonl({"prompt": "p"}, {"prompt": "q"}), name="two.jsonl")
    assert not any("usable rows" in problem.what for problem in two.problems)


def test_a_file_that_has_to_be_held_whole_is_refused_above_the_limit_before_it_is_opened(tmp_path: Path) -> None:
    big = tmp_path / "huge.json"
    with big.open("wb") as stream:
        stream.truncate(2**30)  # sparse: takes no space on disk
    with pytest.raises(BadDemonstrations, match=r"huge\.json has 1,024 MiB; at most 256 MiB") as caught:
        read(big)
    assert "split the file" in caught.value.hint
    with pytest.raises(BadDemonstrations, match=r"upload\.jsonl has 0 MiB"):
        read(jsonl({"prompt": "p"}), limit=3)


def test_a_file_of_lines_is_read_up_to_what_is_held_however_large_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.data.sources.MAX_TEXT", 2**20)
    big = tmp_path / "huge.jsonl"
    with big.open("wb") as stream:
        stream.writelines(jsonl({"prompt": f"{i} " + "w" * 1000, "positive": " y"}) for i in range(2000))
        stream.truncate(2**30)
    tracemalloc.start()
    imported = read(big)
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20  # what is held, and one line of the rest at a time
    tracemalloc.stop()
    assert 900 < len(imported.demonstrations) < 1200
    assert any("more than 1 million characters; the rest was left" in problem.what for problem in imported.problems)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_line_without_an_end_costs_itself_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.data.reading.MAX_LINE", 100)
    line = (lambda text: f'{{"prompt": "{text}"}}') if name.endswith("jsonl") else str
    texts = ["p", "w" * 100, "w" * 350, "q"]
    text = "".join(["prompt\n"] * name.endswith("csv") + [line(text) + "\n" for text in texts])
    imported = read(text.encode(), name=name)
    assert {row.prompt or row.neutral for row in imported.demonstrations} == {"p", "q"}
    first = 3 if name.endswith("csv") else 2
    assert [problem.line for problem in imported.problems if "is longer" in problem.what] == [first, first + 1]


def test_a_json_text_in_one_long_line_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.data.reading.MAX_LINE", 100)
    rows = [{"prompt": f"{'w' * 60}{i}", "positive": "a", "negative": "b"} for i in range(12)]
    imported = read(json.dumps(rows).encode(), name="a.json")
    assert len(imported.demonstrations) == 12 and not imported.problems


def test_columns_of_no_known_layout_are_listed_with_the_known_ones() -> None:
    with pytest.raises(BadDemonstrations, match="columns answer, query") as caught:
        read(b"query,answer\na,b\n", name="t.csv")
    assert "prompt" in caught.value.hint and "inputs + targets" in caught.value.hint


def test_what_is_not_a_text_file_is_named_so(tmp_path: Path) -> None:
    with pytest.raises(BadDemonstrations, match="not a text file"):
        read(b"PK\x03\x04rest", name="sheet.csv")
    with pytest.raises(BadDemonstrations, match=r"ends in \.xlsx"):
        read(b"x", name="sheet.xlsx")
    with pytest.raises(BadDemonstrations, match="is a folder"):
        read(tmp_path)
    (tmp_path / "pairs.csv").write_text("prompt\n")
    with pytest.raises(BadDemonstrations, match="There is no file") as caught:
        read(tmp_path / "pair.csv")
    assert "pairs.csv" in caught.value.hint


def test_utf_16_of_a_spreadsheet_is_read_by_its_mark() -> None:
    assert only(read("prompt\tpositive\ncafé\t oui\n".encode("utf-16"), name="t.csv")).prompt == "café"


def test_an_unknown_column_is_said_once_and_left_out() -> None:
    imported = read(jsonl(*[{"prompt": f"p{i}", "postive": " x"} for i in range(20)]), name="t.jsonl")
    said = [problem for problem in imported.problems if "postive" in problem.what]
    assert len(said) == 1 and "line 1" in said[0].what and "positive" in said[0].hint


def questions(n: int, each: int = 3) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(f"p{i}{j}", tags=(f"question:q{i}",)) for i in range(n) for j in range(each))


def test_a_file_without_splits_gets_them_by_question_from_the_seed() -> None:
    rows = assigned(questions(100), seed=3)
    by_question = [{row.split for row in rows if row.tagged("question") == f"q{i}"} for i in range(100)]
    assert all(len(splits) == 1 for splits in by_question)
    counts = {name: sum(name in splits for splits in by_question) for name in ("fit", "validation", "test")}
    assert counts == {"fit": 40, "validation": 10, "test": 50}
    assert assigned(questions(100), seed=4) != rows


def test_the_draw_does_not_depend_on_the_order_of_rows() -> None:
    rows = questions(30)
    assert set(assigned(rows)) == set(assigned(rows[::-1]))


def test_splits_of_a_file_are_kept_and_a_stated_split_fills_a_file_without_any() -> None:
    named = jsonl({"prompt": "a", "split": "train"}, {"prompt": "b", "split": "test"})
    bare = jsonl(*[{"prompt": f"p{i}"} for i in range(40)])
    assert [row.split for row in read(named, name="t.jsonl", split="test").demonstrations] == ["fit", "test"]
    assert {row.split for row in read(bare, name="t.jsonl", split="test").demonstrations} == {"test"}
    assert {row.split for row in read(bare, name="t.jsonl").demonstrations} == {"fit", "validation", "test"}


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(Demonstrations((Demonstration("old"),)), tmp_path / "set.jsonl")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workbench.data.sources.os.replace", full)
    with pytest.raises(StorageFailed, match="No space left") as caught:
        write(Demonstrations((Demonstration("new"),)), path)
    assert "space" in caught.value.hint
    assert only(read(path)).prompt == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_hub_dataset_streams_through_the_same_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load(name: str, config: str | None, *, split: str, streaming: bool) -> list[dict[str, object]]:
        asked.append((name, config, split, streaming))
        return [{"inputs": f"Is {i} even?\nA:", "targets": ["yes"]} for i in range(1000)]

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", load)
    imported = read_hub(HubSource("org/parity", "small", "test", limit=25))
    assert asked == [("org/parity", "small", "test", True)]
    assert len(imported.demonstrations) == 25 and imported.format == "bigbench"


def test_a_hub_without_a_network_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("Couldn't find any data file at org/none")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    with pytest.raises(BadDemonstrations, match="needs the network") as caught:
        read_hub(HubSource("org/parity"))
    assert "import it from disk" in caught.value.hint
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", missing)
    with pytest.raises(BadDemonstrations, match="cannot be read: Couldn't find"):
        read_hub(HubSource("org/none"))


def test_a_column_named_twice_is_refused_by_name() -> None:
    with pytest.raises(BadDemonstrations, match="'positive' 2 times"):
        read(b"prompt,positive,negative,positive\na, b, c, d\n", name="t.csv")
    assert len(read(b"prompt,positive,negative,,\na, b, c,,\n", name="t.csv").demonstrations) == 1  # a spreadsheet's empty columns


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('{"prompt": "b", "x": ' + "1" * 5000 + "}", "thousands of digits"),
        ('{"prompt": ' + "[" * 200_000 + "}", "nested"),
        ('{"prompt": "b", "tags": "' + "[" * 200_000 + '"}', "nested"),
    ],
)
def test_one_monstrous_line_costs_only_itself(line: str, word: str) -> None:
    found = read(f'{{"prompt": "a"}}\n{line}\n{{"prompt": "c"}}\n'.encode(), name="t.jsonl")
    assert [row.prompt for row in found.demonstrations] == ["a", "c"]
    assert found.problems[0].line == 2 and word in found.problems[0].what


def test_a_number_of_thousands_of_digits_in_one_json_value_is_a_problem_of_the_file() -> None:
    found = read(b'[{"prompt": "a", "x": ' + b"1" * 5000 + b"}]", name="t.json")
    assert not len(found.demonstrations) and "thousands of digits" in found.problems[0].what


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
def test_a_utf_16_file_cut_within_a_character_loses_that_line_alone(mark: str) -> None:
    whole = ("\ufeff" + "prompt,positive,negative\na, b, c\nd, e, f\n").encode(mark)
    found = read(whole + b"a", name="t.csv")
    assert [row.prompt for row in found.demonstrations] == ["a", "d"] and "UTF-8" in found.problems[0].what


def test_lines_that_end_as_old_mac_programs_end_them_are_lines() -> None:
    found = read(b"prompt,positive,negative\ra, b, c\rd, e, f\r", name="t.csv")
    assert [(row.prompt, row.negative) for row in found.demonstrations] == [("a", " c"), ("d", " f")] and lines(found) == []
    assert len(read(b'{"prompt": "a"}\r{"prompt": "b"}', name="t.jsonl").demonstrations) == 2


def test_a_header_of_a_megabyte_is_a_named_error() -> None:
    with pytest.raises(BadDemonstrations, match="header"):
        read(b"prompt," + b"x" * 2**21 + b"\na,b\n", name="t.csv")
