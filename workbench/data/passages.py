"""Two hundred passages of everyday English that ship, for measuring what an edit breaks in a model that reads English.

Written for Retouch; none comes from the embedded world. A file line is `text`, `code` or `chat`, a tab, and the passage, or a question, a
tab, and its answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from workbench.errors import BadDemonstrations
from workbench.resources import BATTERY


@dataclass(frozen=True)
class Passages:
    """Running text (some of it code), and questions with an answer."""

    texts: tuple[str, ...]
    chats: tuple[tuple[str, str], ...]

    @property
    def held(self) -> tuple[str, ...]:
        """Every fourth text: edits are measured on these, and no choice of an edit reads them."""
        return self.texts[::4]

    @property
    def read(self) -> tuple[str, ...]:
        """The other texts, for choices."""
        return tuple(text for i, text in enumerate(self.texts) if i % 4)


@lru_cache(maxsize=1)
def passages() -> Passages:
    """The passages that ship.

    Raises:
        BadDemonstrations: a line of the file is of no known kind.
    """
    texts: list[str] = []
    chats: list[tuple[str, str]] = []
    for number, line in enumerate((BATTERY / "neutral.txt").read_text(encoding="utf-8").splitlines(), 1):
        kind, *parts = line.split("\t")
        if kind in ("text", "code") and len(parts) == 1:
            texts.append(parts[0].replace("\\n", "\n"))
        elif kind == "chat" and len(parts) == 2:
            chats.append((parts[0], parts[1]))
        else:
            raise BadDemonstrations(f"Line {number} of neutral.txt is no passage: {line[:40]!r}.", "Restore the file from a copy.")
    return Passages(tuple(texts), tuple(chats))
