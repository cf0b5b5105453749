"""Inspect: why a lens cannot look at this model, said in place of its button: before the click, in the words of `retouch models NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pages._ui.kit import frame, words

if TYPE_CHECKING:
    from workbench.session import Session


def blocked(session: Session, lens: str) -> bool:
    """Draw what stands in the way of a lens, if anything does; return whether it does."""
    found = session.lens_obstacles(lens)
    if found:
        reasons, hints = (
            " ".join(dict.fromkeys(words.plain(text) for text in texts)) for texts in zip(*((o.reason, o.hint) for o in found))
        )
        frame.empty(reasons, hints, key=f"blocked-{lens.replace('_', '-')}")
    return bool(found)
