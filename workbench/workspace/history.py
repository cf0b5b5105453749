"""What was done, to go back to it: the settings of a recorded run, how two runs differ, and runs that hold a text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, cast

from workbench.conversations import read_prompt
from workbench.edits.lane import Lane, Named
from workbench.errors import Obstructed, StorageFailed
from workbench.sampling import Sampling
from workbench.settings import CompareSettings, EvaluateSettings
from workbench.workspace.packing import TEXT, unpacked
from workbench.workspace.runs import Run, Runs

# The records that kinds of runs come to, by name: the list of runs needs none of them.
_RESULTS: Mapping[str, str] = {
    "compare": "workbench.evaluate.comparison.Comparison",
    "evaluate": "workbench.evaluate.evaluation.Evaluation",
    "sweep": "workbench.evaluate.dose.DoseSweep",
    "equal damage": "workbench.evaluate.equal_damage.EqualDamage",
    "watch": "workbench.evaluate.watch.Watch",
    "influence": "workbench.evaluate.influence.Influence",
    "off target": "workbench.evaluate.off_target.OffTarget",
    "dose plane": "workbench.evaluate.dose_plane.DosePlane",
    "design": "workbench.evaluate.design.record.DesignSearch",
    "refit": "workbench.evaluate.benefit.Benefit",
    "protocol": "workbench.evaluate.protocol.scores.CanonicalSummary",
}
# Of these a run comes to several, as a tuple.
_SEVERAL = ("protocol",)
# Texts longer than this are no setting that a person compares by eye.
_MOST = 300


def compare_settings(run: Run) -> CompareSettings:
    """The settings of a recorded comparison: run again, they give the same texts, as long as the edits are there.

    Raises:
        Obstructed: it is a run of another kind, or was recorded by a version that kept too little.
    """
    told = run.inputs
    try:
        if run.kind != "compare":
            raise KeyError(run.kind)
        prompts = tuple(read_prompt(value) for value in told["prompts"])
        drawn: dict[str, Any] = {**told["sampling"], "stop": tuple(told["sampling"]["stop"])}
        sampling = Sampling(**drawn)
        forced = tuple(tuple(ids) for ids in told.get("forced", ()))
        how = (forced, tuple(told.get("frozen", ())), tuple(told.get("where", ())))
        return CompareSettings(prompts, tuple(map(_lane, told["lanes"])), sampling, *how)
    except (KeyError, TypeError, ValueError) as error:
        raise Obstructed(f"The run {run.id} ({run.kind}) holds no comparison that could be run again.", "Choose another run.") from error


def evaluate_settings(run: Run, source: str) -> EvaluateSettings:
    """The settings of a recorded evaluation on a set as it is called now.

    Raises:
        Obstructed: it is a run of another kind.
    """
    told = run.inputs
    if run.kind != "evaluate":
        raise Obstructed(f"The run {run.id} ({run.kind}) is no evaluation.", "Choose another run.")
    lanes, counts = recorded_lanes(run), {name: told[name] for name in ("n_placebos", "n_generations", "seconds") if name in told}
    return EvaluateSettings(
        lanes, source, told.get("split"), shuffled=bool(told.get("shuffled")), where=tuple(told.get("where", ())), **counts
    )


def recorded_lanes(run: Run) -> tuple[Lane, ...]:
    """The lanes of a run of any kind, their edits by the ids of their fits."""
    return lanes_read(run.inputs.get("lanes", ()))


def lanes_read(told: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[Lane, ...]:
    """Lanes as `recorder.lanes_told` wrote them."""
    return tuple(map(_lane, told))


def result_of(run: Run, runs: Runs) -> Any:
    """What a run came to, as it was; None where none is on record: of other kinds, and of runs of versions before 0.3.

    Raises:
        StorageFailed: it cannot be read.
    """
    home = _RESULTS.get(run.kind)
    if home is None or TEXT not in (arrays := runs.arrays(run.id)):
        return None
    module, _, name = home.rpartition(".")
    try:
        kind: Any = getattr(import_module(module), name)
        return unpacked(tuple[kind, ...] if run.kind in _SEVERAL else kind, arrays)
    except (KeyError, TypeError, ValueError) as error:
        what = f"The result of run {run.id} cannot be read: {error}."
        raise StorageFailed(what, "Another version wrote it, or its file was changed. Its settings are there: run it again.") from error


def _lane(parts: Sequence[Mapping[str, Any]]) -> Lane:
    edits = tuple(Named(part["edit"], part["dose"], part.get("where", "")) for part in parts if "edit" in part)
    said = next((Lane.parse(part["said"]).prompting for part in parts if "said" in part), None)
    return Lane(edits, said)


def differences(one: Run, other: Run) -> list[dict[str, Any]]:
    """One row for each setting, number or text in which two runs differ; None where one lacks it."""
    mine, theirs = dict(_flat(one)), dict(_flat(other))
    return [
        {"what": name, one.id: mine.get(name), other.id: theirs.get(name)}
        for name in dict.fromkeys([*mine, *theirs])
        if mine.get(name) != theirs.get(name)
    ]


def _flat(run: Run) -> Iterator[tuple[str, Any]]:
    """Everything that a run holds by dotted names; the texts of a comparison by prompt and lane."""
    told: dict[str, Any] = {"kind": run.kind, "model": run.model, "seed": run.seed, **run.versions}
    yield from told.items()
    yield from _leaves("", {key: value for key, value in run.inputs.items() if key != "person"})
    yield from _leaves("", run.metrics)
    for row in run.outputs.get("rows", ()):
        if isinstance(row, Mapping) and "text" in row:
            said = cast("Mapping[str, Any]", row)
            yield f"{said.get('prompt', '')} → {said.get('lane', '')}", str(said["text"])


def _leaves(before: str, value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[str, object]", value).items():
            yield from _leaves(f"{before}.{key}" if before else str(key), item)
        return
    if isinstance(value, list):
        value = json.dumps(value, ensure_ascii=False)
    yield before, value[:_MOST] if isinstance(value, str) else value


def found_in(runs: Sequence[Run], text: str) -> tuple[Run, ...]:
    """The runs whose title, note, kind, model, id or settings hold a text, in any case."""
    sought = text.strip().casefold()
    return tuple(run for run in runs if not sought or sought in _all_of(run).casefold())


def _all_of(run: Run) -> str:
    return " ".join([run.title, run.note, run.kind, run.model or "", run.id, json.dumps(run.inputs, ensure_ascii=False)])
