"""Where a generated answer ends: a model that is not stopped goes on to the next question, and that is not what was judged."""

from __future__ import annotations

import re

# A full stop behind a capital alone (J. Smith), a title, or before a digit or small letter ends nothing.
_END = re.compile(
    r"""(?<!\b[A-Z])(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bSt)(?<!\be\.g)(?<!\bi\.e)[.!?…]+["'”’)\]]*(?=\s+[^a-z\s]|\s*$|\n)|\n"""
)


def first_sentence(text: str) -> str:
    """The text up to the end of its first sentence or line, all of it where neither ends; spaces before it stay."""
    start = len(text) - len(text.lstrip())
    found = _END.search(text, start)
    return (text if found is None else text[: found.end()]).rstrip()
