"""Rows pasted from a spreadsheet, as text with tabs between the cells, with or without a header; or lines of JSON, or of prompts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from workbench.data.columns import spaced
from workbench.data.demonstrations import COLUMNS
from workbench.data.formats import recognised
from workbench.data.reading import BARE, Content, Problem, Record, records
from workbench.data.sources import Imported, read_records
from workbench.errors import BadDemonstrations

# What the cells of a row are where no header says it, by how many there are.
HEADLESS: dict[int, tuple[str, ...]] = {
    1: ("prompt",),
    2: ("prompt", "positive"),
    3: ("prompt", "positive", "negative"),
    4: ("prompt", "positive", "negative", "tags"),
    5: ("prompt", "positive", "negative", "tags", "split"),
}


@dataclass(frozen=True)
class Pasted:
    """What was pasted: its cells row by row, and whether the first row names the columns. JSON lines have no cells but their `text`."""

    rows: tuple[tuple[str, ...], ...] = ()
    has_header: bool = False
    text: str = ""


def pasted(text: str, has_header: bool | None = None) -> Pasted:
    """Take a paste apart.

    Args:
        has_header: whether the first row names the columns; None looks whether it does.

    Raises:
        BadDemonstrations: nothing was pasted.
    """
    if not text.strip():
        raise BadDemonstrations("Nothing was pasted.", "Copy the cells in the spreadsheet, then paste them here.")
    if text.lstrip().startswith("{"):
        return Pasted(text=text)
    rows = [tuple(cell.strip("\r\n") for cell in row) for row in _cells(text) if any(cell.strip() for cell in row)]
    named = _is_header(rows[0]) and len(rows) > 1
    return Pasted(tuple(rows), named if has_header is None else has_header)


def read_pasted(
    given: Pasted, *, mapping: Mapping[str, str] | None = None, name: str = "pasted", seed: int = 0, spaces: bool = True
) -> Imported:
    """Demonstrations from a paste; `mapping` as `columns.under_our_names`, where the header is of no known layout.

    Args:
        spaces: put a space before answers that lack one, as cells that were typed do.

    Raises:
        BadDemonstrations: too many cells without a header, or columns of no known layout.
    """
    items = records(Content(f"{name}.jsonl", given.text.encode())) if given.text else _records(given)
    put = (Record(item.line, spaced(item.values)) if spaces and isinstance(item, Record) else item for item in items)
    return read_records(put, stem=name, name="What was pasted", seed=seed, mapping=mapping)


def header_of(given: Pasted) -> tuple[str, ...]:
    """The names of the columns: as pasted, or by their number.

    Raises:
        BadDemonstrations: no header, and more cells than columns are known for.
    """
    if given.text:
        return ()
    if given.has_header:
        return tuple(_known(cell.strip()) for cell in given.rows[0])
    most = max(len(row) for row in given.rows)
    if most not in HEADLESS:
        what = f"A row has {most} cells, and no header says what they are."
        raise BadDemonstrations(what, f"Paste the header too, or at most {max(HEADLESS)} columns: {', '.join(HEADLESS[max(HEADLESS)])}.")
    return HEADLESS[most]


def _is_header(cells: Sequence[str]) -> bool:
    """Whether these are column names of a known layout, ours in any case."""
    return recognised(dict.fromkeys(_known(cell.strip()) for cell in cells)) is not None


def _known(cell: str) -> str:
    """A header's cell, in small letters where that is one of our columns."""
    return cell.lower() if cell.lower() in COLUMNS else cell


def _cells(text: str) -> Sequence[Sequence[str]]:
    """A quote inside a cell is a quote; a cell that begins with one may hold tabs and line breaks, as spreadsheets copy them."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    delimiter = "\t" if "\t" in lines or "," not in lines.split("\n", 1)[0] else ","
    if delimiter == ",":
        header = next(csv.reader(io.StringIO(lines)))
        if not _is_header(header) or len(header) < 2:
            delimiter = "\t"  # commas of a sentence
    return list(csv.reader(io.StringIO(lines), delimiter=delimiter))


def _records(given: Pasted) -> Iterator[Record | Problem]:
    header = header_of(given)
    first = 2 if given.has_header else 1
    for number, row in enumerate(given.rows[first - 1 :], first):
        if len(row) > len(header):
            what = f"has {len(row)} cells; the header names {len(header)}."
            yield Problem(number, what, "Give each column a name, or take the cells out.")
            continue
        filled = dict(zip(header, (*row, *[""] * (len(header) - len(row)))))
        yield Record(number, {name: cell for name, cell in filled.items() if name and name != BARE})
