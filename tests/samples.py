"""Small invented files, and what was read of them."""

from __future__ import annotations

import json

from workbench.data.demonstrations import Demonstration
from workbench.data.sources import Imported


def jsonl(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def only(imported: Imported) -> Demonstration:
    assert len(imported.demonstrations) == 1, imported.problems
    return imported.demonstrations[0]
