"""The rows of a version, in pieces that versions share: a set of 100,000 rows of which one was changed takes one more piece.

A piece ends behind a row whose own text says so, so that a row put in or taken out moves no border but its own piece's.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator

from workbench.data.demonstrations import Demonstration, Demonstrations

_ROWS_A_PIECE = 256
"""On average."""


def keep_pieces(db: sqlite3.Connection, demonstrations: Demonstrations) -> str:
    """Put the pieces of a set into the database that are not there yet, or not as they were; return their names as a JSON list, in the
    order of the rows."""
    named = [(_name(text), text) for text in _cut(demonstrations)]
    db.executemany(
        "INSERT INTO pieces (name, rows) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET rows = excluded.rows WHERE rows != excluded.rows",
        named,
    )
    return json.dumps([name for name, _ in named])


def read_pieces(db: sqlite3.Connection, names: str) -> tuple[Demonstration, ...]:
    """The rows that `keep_pieces` named.

    Raises:
        ValueError, TypeError, KeyError, BadPrompt: a piece is missing or damaged.
    """
    found = dict(db.execute("SELECT name, rows FROM pieces WHERE name IN (SELECT value FROM json_each(?))", (names,)).fetchall())
    rows: list[Demonstration] = []
    for name in json.loads(names):
        if name not in found or _name(found[name]) != name:
            raise ValueError(f"the rows from {len(rows) + 1} on are {'altered' if name in found else 'missing'}")
        rows += Demonstration.of_lines(found[name].split("\n"))
    return tuple(rows)


def roles_in(demonstrations: Demonstrations) -> str:
    """How many rows have each role, as a JSON object: what lists of sets say without reading a row."""
    return json.dumps(Counter(tag for row in demonstrations for tag in row.tags if tag.startswith("role:")))


def drop_unused(db: sqlite3.Connection) -> None:
    """Remove the pieces that no version names."""
    db.execute("DELETE FROM pieces WHERE name NOT IN (SELECT value FROM set_versions, json_each(set_versions.pieces))")


def _cut(demonstrations: Demonstrations) -> Iterator[str]:
    lines: list[str] = []
    for row in demonstrations:
        lines.append(row.line)
        if zlib.crc32(row.line.encode()) % _ROWS_A_PIECE == 0:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
