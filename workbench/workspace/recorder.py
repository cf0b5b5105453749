"""Write what was done into the workspace; a workspace that refuses never costs a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.data.demonstrations import Demonstrations
from workbench.edits.labels import edits_of
from workbench.edits.lane import Lane
from workbench.errors import NewerSchema, StorageFailed
from workbench.methods.registry import Fitted, Notice, with_notices
from workbench.workspace.home import Workspace
from workbench.workspace.packing import packed
from workbench.workspace.reports import record_fit

Trouble = StorageFailed | NewerSchema


class Recorder:
    """Records runs of one session; `troubles` holds why some could not be."""

    def __init__(self, workspace: Callable[[], Workspace], is_on: bool) -> None:
        self._workspace, self._is_on = workspace, is_on
        self.troubles: list[Trouble] = []

    def fit(self, fitted: Fitted, rows: Demonstrations) -> tuple[Fitted, str | None]:
        """Record a fit; return it, with a notice if that failed, and the run's id."""
        if not self._is_on:
            return fitted, None
        try:
            return fitted, record_fit(self._workspace().runs, fitted, demonstrations=rows.name, n=len(rows.split("fit"))).id
        except (StorageFailed, NewerSchema) as error:
            self.troubles.append(error)
            return with_notices(fitted, Notice("warning", f"The run was not recorded: {error}", error.hint)), None

    def run(
        self,
        kind: str,
        title: str,
        model: str,
        inputs: Mapping[str, Any],
        *,
        outputs: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        seed: int | None = None,
        result: object = None,
    ) -> None:
        """Record a run of any other kind; `result` is what it came to, whole, for `history.result_of` to read back."""
        if not self._is_on:
            return
        arrays = None if result is None else packed(result)
        try:
            self._workspace().runs.record(
                kind, title, inputs=inputs, outputs=outputs, metrics=metrics, arrays=arrays, seed=seed, model=model
            )
        except (StorageFailed, NewerSchema) as error:
            self.troubles.append(error)

    def keep_draft(self, key: str, value: Any) -> None:
        """Store what long work has so far, so that it can go on."""
        if not self._is_on:
            return
        try:
            self._workspace().keep_draft(key, value)
        except (StorageFailed, NewerSchema) as error:
            self.troubles.append(error)

    def draft(self, key: str, default: Any) -> Any:
        """What was stored last under a key."""
        if not self._is_on:
            return default
        try:
            return self._workspace().draft(key, default)
        except (StorageFailed, NewerSchema) as error:
            self.troubles.append(error)
            return default


def lanes_told(lanes: Sequence[Lane]) -> list[list[dict[str, Any]]]:
    """Loaded lanes as a record holds them: from the ids and doses the controls can be restored."""
    return [
        [
            *(
                {"edit": edit.id, "method": edit.header.method, "dose": edit.dose, **({"where": edit.where} if edit.where else {})}
                for edit in edits_of(lane)
            ),
            *([{"said": str(lane.prompting)}] if lane.prompting else []),
        ]
        for lane in lanes
    ]


def data_told(rows: Demonstrations) -> dict[str, str]:
    """Demonstrations as a record holds them."""
    return {"demonstrations": rows.name, "data": rows.fingerprint}
