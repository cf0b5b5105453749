"""What one browser tab chose, typed; and its part in the URL.

Everything here is small: names, ids and settings. Results are frozen records that a job made; they stay until the same slot is run again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast
from uuid import uuid4

import streamlit as st

from workbench.edits.lane import Lane, Named, read_lanes, write_lanes
from workbench.errors import RetouchError

MAX_LANES = 5
_KEY = "retouch"
Settings = TypeVar("Settings")
Result = TypeVar("Result")
Part = TypeVar("Part")


@dataclass(frozen=True)
class Kept(Generic[Settings, Result]):
    """A result with the settings that it came from; `is_partial` if the job was cancelled and this is the best it had."""

    value: Result
    settings: Settings | None = None
    is_partial: bool = False


@dataclass
class State:
    """The tab's choices.

    `slots` maps the name of a place on a page to the id of the job that runs for it; `kept` holds its last result, `failed` its last error
    (None: cancelled). `parts` holds what parts of pages remember, by the name of their record (`part`). `bad_link` is what was wrong with
    the URL.
    """

    model: str = "embedded"
    lanes: tuple[Lane, ...] = ()
    set_name: str = ""
    method: str = ""
    edit: str = ""
    layer: int | None = None
    owner: str = field(default_factory=lambda: uuid4().hex)
    slots: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Kept[Any, Any]] = field(default_factory=dict)
    failed: dict[str, Exception | None] = field(default_factory=dict)
    parts: dict[str, object] = field(default_factory=dict)
    bad_link: RetouchError | None = None

    def is_on(self, edit: str) -> bool:
        return any(lane.keys == (edit,) for lane in self.lanes)

    def turn_on(self, edit: str, dose: float = 1.0) -> None:
        """Add an edit as the next lane, unless it is on or all lanes are taken; the oldest goes then."""
        if not self.is_on(edit):
            self.lanes = (*self.lanes, Lane((Named(edit, dose),)))[-MAX_LANES:]

    def turn_off(self, edit: str) -> None:
        """Take every lane off that the edit is part of."""
        self.lanes = tuple(lane for lane in self.lanes if edit not in lane.keys)


def state() -> State:
    """This tab's state; on the tab's first run it is read from the URL."""
    if _KEY not in st.session_state:
        st.session_state[_KEY] = _from_url()
    return cast(State, st.session_state[_KEY])


def part(kind: type[Part]) -> Part:
    """What a part of a page remembers in this tab: its own record, made when it is first asked for."""
    return cast(Part, state().parts.setdefault(kind.__name__, kind()))


def keep_url() -> None:
    """Write the state into the URL; called once at the end of each run."""
    wanted = as_url(state())
    if dict(st.query_params) != wanted:
        st.query_params.from_dict(wanted)


def as_url(now: State) -> dict[str, str]:
    """The part of a state that a URL holds: names, ids, doses; never a prompt."""
    told = {
        "model": "" if now.model == "embedded" else now.model,
        "set": now.set_name,
        "method": now.method,
        "edit": now.edit,
        "layer": "" if now.layer is None else str(now.layer),
        "on": write_lanes(now.lanes),
        "jobs": ",".join(f"{slot}:{job}" for slot, job in now.slots.items()),
    }
    return {name: value for name, value in told.items() if value}


def _from_url() -> State:
    """Read what a URL may say. It names things; it never loads a path or starts work (a model of the URL is offered, not loaded)."""
    given = st.query_params
    new = State(set_name=given.get("set", ""), method=given.get("method", ""), edit=given.get("edit", ""))
    try:
        new.lanes = read_lanes(given.get("on", ""))[:MAX_LANES]
    except RetouchError as error:  # a link that somebody wrote by hand; the page says so
        new.bad_link = error
    if given.get("layer", "").isdigit():
        new.layer = int(given["layer"])
    for part in given.get("jobs", "").split(","):
        slot, _, job = part.partition(":")
        if slot and job:
            new.slots[slot] = job
    return new
