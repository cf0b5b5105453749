"""Files of any supported layout as a stream of records with line numbers; what cannot be read becomes a problem.

A file is never held whole unless its layout asks for it (one JSON value): that, and an upload, is refused unread above the size limit.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.conversations import as_written, from_a_cell
from workbench.data.demonstrations import Demonstration
from workbench.errors import BadDemonstrations, BadPrompt

MAX_BYTES = 256 * 2**20
MAX_FIELD = 2**20
MAX_LINE = 2**24
# No file can name a column so.
BARE = "\0"
_LAYOUTS = (".jsonl", ".ndjson", ".csv", ".tsv", ".json", ".txt", ".parquet")
# Columns of a table that may hold a list of messages in a cell.
_PROMPTS = ("prompt", "messages", "conversations", "chosen", "rejected")
# Escaped bytes that are not UTF-8 land here (PEP 383), so that one bad line does not cost the file.
_ESCAPED = range(0xD800, 0xE000)
# Stands for a line that is too long to be held.
_LONG = "\udfff"
_HEAD = 2**16


@dataclass(frozen=True)
class Problem:
    """What is wrong with one line (None: with the file), and what to do. `row` is the row set aside, if any."""

    line: int | None
    what: str
    hint: str
    row: Demonstration | None = None

    def __str__(self) -> str:
        return f"Line {self.line}: {self.what}" if self.line else self.what


@dataclass(frozen=True)
class Record:
    """One object of a file and the line on which it starts (in a list: its number); bare texts are under `BARE`."""

    line: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Content:
    """A named file on disk, or the bytes of an upload."""

    name: str
    content: Path | bytes

    @staticmethod
    def of(content: str | Path | bytes, name: str | None = None, limit: int = MAX_BYTES) -> Content:
        """Check what can be checked before reading.

        Raises:
            BadDemonstrations: no such file, a folder, an unknown ending, or more than `limit` bytes where all of them have to be held.
        """
        if isinstance(content, bytes):
            source, size = Content(name or "upload.jsonl", content), len(content)
        else:
            path = Path(content)
            source, size = Content(name or path.name, path), _size(path)
        if source.layout not in _LAYOUTS:
            raise BadDemonstrations(
                f"{source.name} ends in {source.layout or 'nothing'}; demonstrations are {', '.join(_LAYOUTS)}.",
                "Save the table as CSV or Parquet, or as JSONL with one object a line.",
            )
        if size > limit and (isinstance(content, bytes) or source.layout == ".json"):
            raise BadDemonstrations(
                f"{source.name} has {size / 2**20:,.0f} MiB; at most {limit / 2**20:,.0f} MiB are read.",
                "Keep the rows that you need, split the file, or name a JSONL, CSV or Parquet file by its path.",
            )
        return source

    @property
    def layout(self) -> str:
        """The file name's ending, which says how to read it."""
        return Path(self.name).suffix.lower()

    @property
    def stem(self) -> str:
        """The file name without its ending."""
        return Path(self.name).stem

    def open(self) -> io.BufferedReader | io.BytesIO:
        """Open it for reading bytes."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")


def _size(path: Path) -> int:
    if path.is_dir():
        raise BadDemonstrations(f"{path} is a folder.", "Name one file in it.")
    if not path.exists():
        beside = sorted(item.name for item in path.parent.glob("*") if item.suffix in _LAYOUTS)[:5]
        hint = f"That folder has {', '.join(beside)}." if beside else "Check the path."
        raise BadDemonstrations(f"There is no file {path}.", hint)
    try:
        return path.stat().st_size
    except OSError as error:
        raise BadDemonstrations(f"{path} cannot be read: {error.strerror}.", "Check the file's permissions.") from error


def records(source: Content) -> Iterator[Record | Problem]:
    """Stream the records of a source in order, with a problem in place of each line that is not one.

    Raises:
        BadDemonstrations: the file is not text, or cannot be opened.
    """
    try:
        with source.open() as stream:
            if source.layout == ".parquet":
                yield from _parquet(source.name, stream)
                return
            # One JSON text is one line where nobody indents it; a table's or a list's rows are lines.
            lines = _lines(source.name, stream, -1 if source.layout == ".json" else MAX_LINE)
            if source.layout == ".json":
                yield from _json(lines)
            elif source.layout in (".csv", ".tsv"):
                yield from _csv(lines)
            elif source.layout == ".txt":
                yield from _bare(lines)
            else:
                yield from _jsonl(lines)
    except OSError as error:
        message = f"{source.name} cannot be read: {error.strerror}."
        raise BadDemonstrations(message, "Check the file's permissions.") from error


def _lines(name: str, stream: io.BufferedReader | io.BytesIO, most: int) -> Iterator[str]:
    head = stream.read(_HEAD)
    stream.seek(0)
    is_wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if not is_wide and (b"\x00" in head[:4] or head.startswith(b"PK")):
        raise BadDemonstrations(f"{name} is not a text file.", "Export the table as CSV, or as JSONL, in UTF-8.")
    # Old Mac programs end lines with a carriage return alone.
    ends = "\r" if b"\r" in head and b"\n" not in head else "\n"
    with io.TextIOWrapper(stream, "utf-16" if is_wide else "utf-8-sig", newline=ends, errors=_ESCAPE) as lines:
        while line := lines.readline(most):
            is_long = len(line) == most and not line.endswith(ends)
            while is_long and len(rest := lines.readline(most)) == most and not rest.endswith(ends):
                pass
            yield _LONG if is_long else line


def _parquet(name: str, stream: io.BufferedReader | io.BytesIO) -> Iterator[Record | Problem]:
    """The rows of a table in Apache's column format, a batch held at a time; a line is a row's number."""
    import pyarrow  # slow to import, and needed for this layout alone
    import pyarrow.parquet

    try:
        batches: Any = pyarrow.parquet.ParquetFile(stream).iter_batches(1000)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield Record(number, {str(key): value for key, value in row.items()})
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadDemonstrations(
            f"{name} is no Parquet file that can be read: {reason}.", "Write it again, or export the table as CSV."
        ) from error


def _bare(lines: Iterator[str]) -> Iterator[Record | Problem]:
    for number, line in enumerate(lines, 1):
        if is_escaped(line):
            yield _unreadable(number, line)
        elif line.strip():
            yield Record(number, {BARE: line.strip()})


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Mark what is no character, and go on behind it: UTF-8's own handler knows no UTF-16."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return chr(_ESCAPED[0]), error.end


_ESCAPE = "retouch-escape"
codecs.register_error(_ESCAPE, _escaped)


_HALF = re.compile("[\ud800-\udfff]")


def is_escaped(text: str) -> bool:
    """Whether a text holds bytes that were not UTF-8, or half of a character."""
    return _HALF.search(text) is not None


def _unreadable(line: int, text: str) -> Problem:
    if _LONG in text:
        return Problem(line, f"is longer than {MAX_LINE // 2**20} million characters.", "Split it, or leave it out.")
    return Problem(line, "is not UTF-8 text.", "Save the file as UTF-8; spreadsheet programs call it 'CSV UTF-8'.")


def _jsonl(lines: Iterator[str]) -> Iterator[Record | Problem]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if is_escaped(line):
            yield _unreadable(number, line)
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = f"is not JSON: {_json_reason(error)}"
            yield Problem(number, what, "Write one {…} object a line, no comma after it.")
            continue
        yield _record(number, value)


def _cell(text: str) -> str | list[dict[str, str]]:
    try:
        return as_written(from_a_cell(text))
    except BadPrompt:  # a list of messages that is damaged: its layout says by its name what is wrong
        return json.loads(text)


def _json_reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}."
    return "it is nested too deeply." if isinstance(error, RecursionError) else "a number in it has thousands of digits."


def _record(number: int, value: Any) -> Record | Problem:
    if isinstance(value, str):
        return Record(number, {BARE: value})
    if not isinstance(value, dict):
        return Problem(number, f"holds a {type(value).__name__}, not an object.", 'Write an object: {"prompt": "…"}.')
    return Record(number, {str(key): item for key, item in value.items()})


def _json(lines: Iterator[str]) -> Iterator[Record | Problem]:
    text = "".join(lines)
    if half := _HALF.search(text):
        yield _unreadable(text[: half.start()].count("\n") + 1, text)
        return
    if not text.strip():
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        hint = "Repair it, or write one object a line and call the file .jsonl."
        yield Problem(line, f"is not JSON: {_json_reason(error)}", hint)
        return
    for number, item in enumerate(_listed(value), 1):
        yield _record(number, item)


def _listed(value: Any) -> list[Any]:
    """The list inside a JSON file: itself, BIG-bench's `examples`, or StereoSet's `data` by task."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and isinstance(value.get("examples"), list):
        return value["examples"]
    if isinstance(value, dict) and isinstance(value.get("data"), dict):
        return [item for part in value["data"].values() if isinstance(part, list) for item in part]
    return [value]


def _csv(lines: Iterator[str]) -> Iterator[Record | Problem]:
    header_line = next(lines, "")
    if not header_line.strip():
        return
    csv.field_size_limit(MAX_FIELD)
    delimiter = max(",;\t", key=header_line.count)
    try:
        header = [name.strip() for name in next(csv.reader([header_line], delimiter=delimiter, strict=True))]
    except csv.Error as error:
        message = f"The header of the table cannot be read: {error}."
        raise BadDemonstrations(message, "Name each column once, with commas between.") from error
    twice = [name for name in dict.fromkeys(header) if name and header.count(name) > 1]
    if twice:
        raise BadDemonstrations(f"The header names the column {twice[0]!r} {header.count(twice[0])} times.", "Name each column once.")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 2
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "Put texts with commas, quotes or line breaks in double quotes, and double each quote inside."
            yield Problem(start, f"is not CSV: {error}.", hint)
            continue
        if not any(field.strip() for field in fields):
            continue
        if is_escaped(told := "".join(fields)):
            yield _unreadable(start, told)
        elif len(fields) != len(header):
            what = f"has {len(fields)} fields; the header names {len(header)}."
            yield Problem(start, what, "Put a text with commas in double quotes.")
        else:
            yield Record(start, {name: _cell(field) if name in _PROMPTS else field for name, field in zip(header, fields)})
