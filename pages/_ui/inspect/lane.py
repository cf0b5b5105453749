"""Inspect: which lane of a result is drawn, or what it has more than the base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import streamlit as st

Found = TypeVar("Found", bound=Any)
CHANGE = "less the base"


class Labelled(Protocol):
    """A lane of a result."""

    @property
    def label(self) -> str: ...


@dataclass(frozen=True)
class Choice:
    """A lane of a result, or what it has more than the base."""

    lane: int = 0
    is_change: bool = False

    def of(self, found: Found, *arrays: str) -> Found:
        """The result as it is, or with the base's numbers taken from those of each lane: the first axis of these arrays is the lane."""
        if not self.is_change:
            return found
        less = {name: getattr(found, name) - getattr(found, name)[:1] for name in arrays}
        named = tuple(replace(lane, label=f"{lane.label} {CHANGE}") for lane in found.lanes)
        return replace(found, lanes=named, **less)


def lane_or_change(lanes: Sequence[Labelled], key: str) -> Choice:
    """Choose a lane, or the difference of one to the base, which is drawn in the same picture. Nothing is asked for the base alone."""
    if len(lanes) == 1:
        return Choice()
    n = len(lanes)
    names = [lane.label for lane in lanes] + [f"{lane.label} {CHANGE}" for lane in lanes[1:]]
    at = st.segmented_control("Lane", range(2 * n - 1), format_func=names.__getitem__, default=0, key=key, required=True) or 0
    return Choice(at) if at < n else Choice(at - n + 1, is_change=True)


def lane_choice(lanes: Sequence[Labelled], key: str) -> int:
    """Choose one of a result's lanes; nothing is drawn for the base alone."""
    if len(lanes) == 1:
        return 0
    return st.segmented_control("Lane", range(len(lanes)), format_func=lambda i: lanes[i].label, default=0, key=key, required=True) or 0
