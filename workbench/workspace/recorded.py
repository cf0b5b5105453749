"""What a recorded measurement asked for, as settings: with them the controls of its page stand as they did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.edits.lane import Lane
from workbench.settings import DesignSettings, DosePlaneSettings, EqualDamageSettings, InfluenceSettings, OffTargetSettings, RefitSettings
from workbench.workspace.history import lanes_read, recorded_lanes
from workbench.workspace.runs import Run

Recorded = DesignSettings | DosePlaneSettings | EqualDamageSettings | InfluenceSettings | OffTargetSettings | RefitSettings


def settings_of(run: Run, here: Callable[[Lane], Lane], called: Callable[[str], str]) -> Recorded | None:
    """What a run asked for: a design search, edits at equal damage or off target, a dose plane, influence or a fit without some rows.

    None for a run of another kind, and for one of a version that kept too little.

    Args:
        here: a lane of the record as it is at hand now. called: what a set of the record is called now, empty where it is gone.
    """
    read = _READ.get(run.kind)
    try:
        return None if read is None else read(run, tuple(here(lane) for lane in recorded_lanes(run)), here, called)
    except (KeyError, IndexError):  # what an older version recorded
        return None


def _design(run: Run, _: Any, __: Any, called: Callable[[str], str]) -> Recorded:
    told = run.inputs
    methods = tuple(told["methods"])
    return DesignSettings(called(told["demonstrations"]), methods, told["trials"], told["control"], seed=run.seed or 0)


def _plane(run: Run, lanes: tuple[Lane, ...], _: Any, called: Callable[[str], str]) -> Recorded:
    told = run.inputs
    return DosePlaneSettings(called(told["demonstrations"]), told["layer"], lanes, told["split"], told["n_rows"])


def _equal_damage(run: Run, _: Any, here: Callable[[Lane], Lane], called: Callable[[str], str]) -> Recorded:
    told = run.inputs
    asked = tuple(here(lane) for lane in lanes_read(told["asked"]))
    return EqualDamageSettings(
        called(told["demonstrations"]), tuple(told["methods"]), asked, told["limit"], told["split"], shuffled=told["shuffled"],
        n_placebos=told["n_placebos"], seed=run.seed or 0,
    )  # fmt: skip


def _influence(run: Run, lanes: tuple[Lane, ...], _: Any, called: Callable[[str], str]) -> Recorded:
    told = run.inputs
    return InfluenceSettings(lanes[0], called(told["demonstrations"]), told["split"], told["n_refits"])


def _refit(run: Run, lanes: tuple[Lane, ...], _: Any, called: Callable[[str], str]) -> Recorded:
    told = run.inputs
    return RefitSettings(lanes[0], called(told["demonstrations"]), tuple(told["drop"]), told["split"])


def _off_target(run: Run, lanes: tuple[Lane, ...], _: Any, called: Callable[[str], str]) -> Recorded:
    told = run.inputs
    kept = tuple(map(called, told["protected"]))
    sets = tuple(called(name) for name in told["sets"] if name not in told["protected"])
    return OffTargetSettings(lanes, sets, kept, told["split"], told["stacks"])


_READ: dict[str, Callable[[Run, tuple[Lane, ...], Callable[[Lane], Lane], Callable[[str], str]], Recorded]] = {
    "design": _design,
    "dose plane": _plane,
    "equal damage": _equal_damage,
    "influence": _influence,
    "refit": _refit,
    "off target": _off_target,
}
