"""Text between two marks of a page: what a script writes there anew, and the rest of the page as it was."""

from __future__ import annotations

from pathlib import Path


def between(page: Path, begin: str, end: str, text: str) -> str:
    """A page with `text` between the lines `begin` and `end`.

    Raises:
        ValueError: the page lacks one of them, so what is to be replaced cannot be told.
    """
    head, began, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ended, tail = rest.partition(end)
    if not (began and ended):
        raise ValueError(f"{page.name} has no line {end if began else begin}; put both where the text is to stand.")
    return f"{head}{begin}\n{text}\n{end}{tail}"


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put text between the marks of a page. Raises: as `between`."""
    page.write_text(between(page, begin, end, text), encoding="utf-8")
