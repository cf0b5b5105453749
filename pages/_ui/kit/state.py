"""What one browser tab chose, typed; and its part in the URL.

Everything here is small: names, ids and settings. Results are frozen records that a job made; they stay until the same slot is run again.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast
from weakref import WeakSet

import streamlit as st

from pages._ui.kit.person import is_open, person, tab
from workbench.edits.lane import Lane, Named, read_lanes, write_lanes
from workbench.errors import BadLane, RetouchError
from workbench.workspace.people import act_as

FIRST = "embedded"
"""The model that is there from the start."""
LOAD = "load"
"""The slot of a tab in which a model is loaded; the result is its key."""
MAX_LANES = 5
_KEY = "retouch"
# Values of forms that speak of one model's layers, heads and edits; prompts are the person's and go along to the next model.
_FORMS = (
    "knob-",
    "preset-",
    "fit-dose-",
    "fit-place-",
    "compare-edits",
    "spectra-edits",
    "evaluate-edits",
    "dose-",
    "strip-edit",
    "model-prompt",
)
Settings = TypeVar("Settings")
Result = TypeVar("Result")
Part = TypeVar("Part")


@dataclass(frozen=True)
class Kept(Generic[Settings, Result]):
    """A result with the settings that it came from; `is_partial` if the job was cancelled and this is the best it had.

    `at` is when the tab received it, in seconds; `asked` when its job was asked for, in seconds since 1970.
    """

    value: Result
    settings: Settings | None = None
    is_partial: bool = False
    at: float = field(default_factory=time.monotonic)
    asked: float = field(default_factory=time.time)


@dataclass(eq=False)
class Bench:
    """What a tab has at work on one model; the tab itself has one for what belongs to no model.

    `slots` maps the name of a place on a page to the id of the job that runs for it; `kept` holds its last result, `failed` its last error
    (None: cancelled). `parts` holds what parts of pages remember, by the name of their record (`part`). `forms` holds the values of the
    forms while another model is chosen, `doses` the dose at which an edit that was fitted here was judged, `fit_s` the seconds of its fit.
    """

    lanes: tuple[Lane, ...] = ()
    edit: str = ""
    layer: int | None = None
    head: str = ""
    slots: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Kept[Any, Any]] = field(default_factory=dict)
    failed: dict[str, Exception | None] = field(default_factory=dict)
    parts: dict[str, object] = field(default_factory=dict)
    forms: dict[str, Any] = field(default_factory=dict)
    doses: dict[str, float] = field(default_factory=dict)
    fit_s: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class State:
    """The choices of a tab and of its person, `owner`. Lanes, edit, layer, jobs and results are those on its model, which has a bench each.

    `bad_link` is what was wrong with the URL; `is_unread` as long as nobody has looked whether the edits that it names are there;
    `connection` the name under which the tab is connected; `lesson` the one that travels along; `classroom` the class whose link it was.
    """

    model: str = FIRST
    set_name: str = ""
    method: str = ""
    owner: str = field(default_factory=person)
    benches: dict[str, Bench] = field(default_factory=dict)
    tab: Bench = field(default_factory=Bench)
    bad_link: RetouchError | None = None
    is_unread: bool = True
    connection: str = ""
    lesson: str = ""
    classroom: str = ""

    @property
    def bench(self) -> Bench:
        """What is at work on this tab's model."""
        return self.benches.setdefault(self.model, Bench())

    @property
    def lanes(self) -> tuple[Lane, ...]:
        return self.bench.lanes

    @lanes.setter
    def lanes(self, lanes: tuple[Lane, ...]) -> None:
        # One lane for the same edits and words: its sliders move it to another dose. The last one stays.
        self.bench.lanes = tuple({option(lane): lane for lane in lanes}.values())

    @property
    def edit(self) -> str:
        return self.bench.edit

    @edit.setter
    def edit(self, edit: str) -> None:
        self.bench.edit = edit

    @property
    def layer(self) -> int | None:
        return self.bench.layer

    @layer.setter
    def layer(self, layer: int | None) -> None:
        self.bench.layer = layer

    @property
    def head(self) -> str:
        """The head whose card was opened last, as `3.5`."""
        return self.bench.head

    @head.setter
    def head(self, head: str) -> None:
        self.bench.head = head

    @property
    def slots(self) -> dict[str, str]:
        return self.bench.slots

    @property
    def kept(self) -> dict[str, Kept[Any, Any]]:
        return self.bench.kept

    @property
    def failed(self) -> dict[str, Exception | None]:
        return self.bench.failed

    @property
    def parts(self) -> dict[str, object]:
        return self.bench.parts

    def is_on(self, edit: str) -> bool:
        return any(lane.keys == (edit,) for lane in self.lanes)

    def turn_on(self, edit: str, dose: float = 1.0) -> None:
        """Add an edit as the next lane, unless it is on or all lanes are taken; the oldest goes then."""
        if not self.is_on(edit):
            self.lanes = (*self.lanes, Lane((Named(edit, dose),)))[-MAX_LANES:]

    def turn_off(self, edit: str) -> None:
        """Take every lane off that the edit is part of."""
        self.lanes = tuple(lane for lane in self.lanes if edit not in lane.keys)


def option(lane: Lane) -> tuple[str, ...]:
    """What a lane is chosen by: its edits and what it says, whatever the doses."""
    return (*lane.keys, str(lane.prompting)) if lane.prompting else lane.keys


_tabs: WeakSet[State] = WeakSet()
_tabs_lock = threading.Lock()


def state() -> State:
    """This tab's state; on the tab's first run it is read from the URL."""
    if _KEY not in st.session_state:
        st.session_state[_KEY] = _from_url()
    found = cast(State, st.session_state[_KEY])
    found.connection = tab() or ""
    with _tabs_lock:
        _tabs.add(found)
    act_as(found.owner)  # a page's thread is one tab's
    return found


def models_in_use(person: str = "") -> set[str]:
    """The models that anybody's tabs are on, for minutes after they were closed too, since a reload brings them back; or that one person's
    open tabs are on."""
    with _tabs_lock:
        tabs = list(_tabs)
    return {one.model for one in tabs if not person or one.owner == person and is_open(one.connection)}


def turn_to(model: str) -> None:
    """Put the tab on another model: that one's lanes, results and forms come back, this one's wait. Call it before the page is drawn."""
    now = state()
    now.tab.failed.pop(LOAD, None)  # a model that did not load is no news on another
    if model == now.model:
        return
    told = cast("dict[str, Any]", st.session_state)
    now.bench.forms = {key: told[key] for key in list(told) if str(key).startswith(_FORMS)}
    for key in now.bench.forms:
        del told[key]
    now.model = model
    told.update(now.bench.forms)


def part(kind: type[Part]) -> Part:
    """What a part of a page remembers in this tab: its own record, made when it is first asked for.

    It belongs to the tab's model, unless its class says `of_tab`.
    """
    bench = state().tab if getattr(kind, "of_tab", False) else state().bench
    return cast(Part, bench.parts.setdefault(kind.__name__, kind()))


def keep_url() -> None:
    """Write the state into the URL; called once at the end of each run."""
    wanted = as_url(state())
    if dict(st.query_params) != wanted:
        st.query_params.from_dict(wanted)


def as_url(now: State) -> dict[str, str]:
    """The part of a state that a URL holds: names, ids, doses; never a prompt."""
    told = {
        "model": "" if now.model == FIRST else now.model,
        "set": now.set_name,
        "method": now.method,
        "edit": now.edit,
        "layer": "" if now.layer is None else str(now.layer),
        "head": now.head,
        "on": write_lanes([lane for lane in now.lanes if lane.prompting is None]),
        "jobs": _write_jobs(now.bench),
        "tab": _write_jobs(now.tab),
        "lesson": now.lesson,
        "class": now.classroom,
    }
    return {name: value for name, value in told.items() if value}


def _write_jobs(bench: Bench) -> str:
    return ",".join(f"{slot}:{job}" for slot, job in bench.slots.items())


def _from_url() -> State:
    """Read what a URL may say. It names things; it never loads a path or starts work (a model that is not open is offered, not loaded)."""
    given = st.query_params
    new = State(given.get("model", "") or FIRST, given.get("set", ""), given.get("method", ""))
    new.edit = given.get("edit", "")
    # Names alone: whether there is such a lesson or class is seen when the panel is drawn.
    new.lesson, new.classroom = given.get("lesson", "")[:80], given.get("class", "")[:80]
    try:
        asked = read_lanes(given.get("on", ""))
        new.lanes = asked[:MAX_LANES]
        if len(new.lanes) < len(asked) or any(len(set(lane.keys)) < len(lane.keys) for lane in asked):
            new.lanes = tuple(lane for lane in new.lanes if len(set(lane.keys)) == len(lane.keys))
            new.bad_link = BadLane(
                f"The link has an edit twice, or more than {MAX_LANES} lanes; what is shown is what is left.",
                "Each edit has one lane with a dose of its own; the slider moves it.",
            )
    except RetouchError as error:  # a link that somebody wrote by hand; the page says so
        new.bad_link = error
    if re.fullmatch("[0-9]{1,4}", given.get("layer", "")):
        new.layer = int(given["layer"])
    if re.fullmatch("[0-9]{1,4}[.][0-9]{1,4}", given.get("head", "")):
        new.head = given["head"]
    for name, bench in (("jobs", new.bench), ("tab", new.tab)):
        for told in given.get(name, "").split(","):
            slot, _, job = told.partition(":")
            if slot and job:
                bench.slots[slot] = job
    return new
