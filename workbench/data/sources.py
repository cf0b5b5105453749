"""Read demonstrations from files and uploads, and write them.

Good rows are kept in order; every bad one is told by its line, with what to do. Readable rows that should not
be used as they are (duplicates, equal texts on both sides) are set aside inside their problem, to be taken back.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from workbench.conversations import in_a_cell, read_prompt
from workbench.data.columns import checked_mapping, under_our_names
from workbench.data.demonstrations import COLUMNS, Demonstration, Demonstrations, Split
from workbench.data.formats import FORMATS, OWN_COLUMNS, Format, recognised
from workbench.data.reading import BARE, MAX_BYTES, Content, Problem, Record, is_escaped, records
from workbench.data.rows import BadRow, Context, split_of
from workbench.data.splits import MIN_GROUPS, assigned, groups_of
from workbench.errors import BadDemonstrations, StorageFailed

MAX_ROWS = 200_000
# Characters of all rows together: what is held stays bounded, however large the file is.
MAX_TEXT = 2**28
# Beyond this many, problems of single lines are only counted.
MAX_PROBLEMS = 1000


@dataclass(frozen=True)
class Imported:
    """What a file gave: the good rows, the problems in order of lines, and the name of its format."""

    demonstrations: Demonstrations
    problems: tuple[Problem, ...]
    format: str

    @property
    def set_aside(self) -> tuple[Demonstration, ...]:
        """Rows that could be read and were left out."""
        return tuple(problem.row for problem in self.problems if problem.row is not None)


def read(
    content: str | Path | bytes,
    *,
    name: str | None = None,
    seed: int = 0,
    split: Split | None = None,
    limit: int = MAX_BYTES,
    mapping: Mapping[str, str] | None = None,
) -> Imported:
    """Read demonstrations from a path or from the bytes of an upload, in any known layout.

    Args:
        name: the file's name when `content` is bytes; its ending says the layout.
        seed: drives the choice among wrong answers, and the splits of a file that has none.
        split: the split of every row of a file that has none; None draws them by question or entity.
        limit: bytes above which a file is refused.
        mapping: from our columns to the file's, where its layout is unknown or another is meant; as `columns.under_our_names`.

    Raises:
        BadDemonstrations: no such file, too large, not text, columns of no known layout, or a mapping from columns that are not there.
    """
    source = Content.of(content, name, limit)
    return read_records(records(source), stem=source.stem, name=source.name, seed=seed, split=split, mapping=mapping)


def head(content: str | Path | bytes, name: str | None = None, n: int = 5) -> tuple[Record, ...]:
    """The first records of a file as they are, whatever their columns.

    Raises:
        BadDemonstrations: as `read`, but for columns of no known layout.
    """
    found = (item for item in records(Content.of(content, name)) if isinstance(item, Record))
    return tuple(record for _, record in zip(range(n), found))


def read_records(
    items: Iterable[Record | Problem],
    *,
    stem: str,
    name: str,
    seed: int = 0,
    split: Split | None = None,
    mapping: Mapping[str, str] | None = None,
) -> Imported:
    """Demonstrations from records of whatever source, called `stem` in a set and `name` in messages; the rest as `read`.

    Raises:
        BadDemonstrations: columns of no known layout, or a mapping from columns that are not there.
    """
    return _Reading(stem, name, seed, split, mapping).run(items)


class _Reading:
    """One pass over the records of one source."""

    def __init__(self, stem: str, name: str, seed: int, split: Split | None, mapping: Mapping[str, str] | None = None) -> None:
        self._stem, self._name, self._seed, self._split, self._mapping = stem, name, seed, split, mapping
        self._rows: list[Demonstration] = []
        self._lines: dict[tuple[str, ...], int] = {}
        self._problems: list[Problem] = []
        self._n_untold = self._n_text = 0
        self._n_without_split = 0
        self._unknown: dict[str, int] = {}
        self._format: Format | None = None

    def run(self, items: Iterable[Record | Problem]) -> Imported:
        for item in items:
            if isinstance(item, Problem):
                self._tell(item)
            elif len(self._rows) == MAX_ROWS or self._n_text >= MAX_TEXT:
                most = f"{MAX_ROWS:,} rows" if len(self._rows) == MAX_ROWS else f"{MAX_TEXT // 2**20} million characters"
                self._problems.append(
                    Problem(
                        item.line, f"{self._name} has more than {most}; the rest was left.", "Split the file, or keep the rows you need."
                    )
                )
                break
            else:
                self._take(item)
        self._conclude()
        demonstrations = Demonstrations(self._with_splits(), self._stem)
        return Imported(demonstrations, tuple(self._problems), self._format.name if self._format else "empty")

    def _tell(self, problem: Problem) -> None:
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)
        else:
            self._n_untold += 1

    def _take(self, record: Record) -> None:
        try:
            record = self._put(record)
        except BadRow as error:
            self._tell(Problem(record.line, str(error), error.hint))
            return
        fitting = recognised(record.values)
        self._format = self._format or fitting
        if fitting is None:
            self._tell(self._unrecognised(record))
            return
        try:
            row = fitting.convert(record.values, Context(self._stem, record.line, self._seed))
            if record.values.get("split") and fitting.name != "canonical":
                row = replace(row, split=split_of(record.values["split"]))
        except BadRow as error:
            self._tell(Problem(record.line, str(error), error.hint))
            return
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            what = f"does not look like {fitting.title}: {error or type(error).__name__}."
            self._tell(Problem(record.line, what, "Compare it with a row that was read."))
            return
        if any(is_escaped(text) for text in (*row.texts, row.id, *row.tags)):
            self._tell(Problem(record.line, "holds half of a character.", "Write whole characters, not \\ud800 to \\udfff."))
            return
        self._keep(record, row, fitting)

    def _put(self, record: Record) -> Record:
        if self._mapping is None:
            return record
        if self._format is None:
            checked_mapping(self._mapping, record.values)
        return Record(record.line, under_our_names(record.values, self._mapping))

    def _keep(self, record: Record, row: Demonstration, fitting: Format) -> None:
        texts = row.texts
        twin = self._lines.get(texts)
        if twin is not None:
            what = f"repeats line {twin}; it was set aside."
            self._tell(Problem(record.line, what, "Leave it out, or change it.", row))
            return
        if row.positive is not None and row.negative is not None and row.positive.strip() == row.negative.strip():
            what = "has the same text on both sides; it was set aside."
            self._tell(Problem(record.line, what, "A contrast needs two different texts: change one of them.", row))
            return
        self._lines[texts] = record.line
        if fitting.name == "retouch":
            for column in set(record.values) - OWN_COLUMNS:
                self._unknown.setdefault(column, record.line)
        has_split = bool(record.values.get("split")) or fitting.name == "canonical" and row.split != "fit"
        self._n_without_split += not has_split
        self._rows.append(row)
        self._n_text += sum(map(len, texts))

    def _unrecognised(self, record: Record) -> Problem:
        columns = ", ".join(sorted(name for name in record.values if name != BARE)) or "none"
        known = "; ".join(" + ".join(sorted(item.columns[0])) for item in FORMATS if BARE not in item.columns[0])
        if self._format is None and record.line <= 2:
            raise BadDemonstrations(
                f"{self._name} has the columns {columns}, which are those of no known layout.",
                f"Name a column prompt (and positive, negative …). Known: {known}.",
            )
        what = f"has no prompt; its columns are {columns}."
        return Problem(record.line, what, "Give it the columns of the other rows.")

    def _conclude(self) -> None:
        if self._n_untold:
            what = f"{self._n_untold} more lines have problems."
            self._problems.append(Problem(None, what, "Mend the first ones and read again."))
        for column, line in self._unknown.items():
            what = f"The column {column!r} is unknown and was left out (first on line {line})."
            self._problems.append(Problem(None, what, f"Use one of {', '.join(COLUMNS)}."))
        if len(self._rows) < 2:
            what = f"{self._name} has {len(self._rows)} usable rows."
            self._problems.append(Problem(None, what, "A fit needs at least two; mend the lines above or add rows."))

    def _with_splits(self) -> tuple[Demonstration, ...]:
        rows = tuple(self._rows)
        if self._n_without_split == 0:
            return rows
        if self._n_without_split < len(rows):
            what = f"{self._n_without_split} of {len(rows)} rows name no split; they went to fit."
            self._problems.append(Problem(None, what, "Fill the column split, or leave it out to have splits drawn."))
            return rows
        if self._split is not None:
            return tuple(replace(row, split=self._split) for row in rows)
        n_groups = len({groups_of(row)[0] for row in rows})
        if n_groups < MIN_GROUPS:
            what = f"Only {n_groups} different questions: all rows went to fit, nothing is held out."
            hint = f"Bring at least {MIN_GROUPS}, or a second file for the evaluation."
            self._problems.append(Problem(None, what, hint))
        return assigned(rows, self._seed)


def as_text(demonstrations: Demonstrations, layout: str = ".jsonl") -> str:
    """Return demonstrations as the text of a JSONL or CSV file; reading it gives equal rows."""
    rows = [{name: value for name, value in row.values().items() if value not in (None, "", ())} for row in demonstrations]
    if layout == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if layout != ".csv":
        message = f"Demonstrations are written as .jsonl or .csv, not {layout!r}."
        raise BadDemonstrations(message, "Choose one of the two.")
    buffer = io.StringIO(newline="")
    # Everything in quotes: a lone carriage return is otherwise written bare, and ends the row when read.
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for row in rows:
        filled = row | ({"tags": as_tags(row["tags"])} if "tags" in row else {})
        filled |= {"prompt": in_a_cell(read_prompt(row["prompt"]))} if "prompt" in row else {}
        writer.writerow([filled.get(column, "") for column in COLUMNS])
    return buffer.getvalue()


def as_tags(tags: tuple[str, ...]) -> str:
    """Tags in one cell of a table: with ; between, as a JSON list where one holds what would be read otherwise."""
    plain = all(tag and tag == tag.strip() and ";" not in tag and not tag.startswith("[") for tag in tags)
    return ";".join(tags) if plain else json.dumps(tags, ensure_ascii=False)


def write(demonstrations: Demonstrations, path: str | Path) -> Path:
    """Write demonstrations as JSONL or CSV, by the ending, whole or not at all.

    Raises:
        BadDemonstrations: some other ending.
        StorageFailed: the disk is full or read-only.
    """
    target = Path(path)
    text = as_text(demonstrations, target.suffix.lower())
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        hint = "Free some space, or name a folder you may write to."
        raise StorageFailed(f"{target} cannot be written: {error.strerror}.", hint) from error
    return target
