"""Which demonstrations an edit owes what it does to, the edit without some, and what edits do off target; recorded as runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from workbench import methods as registered
from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations, Source
from workbench.edits.base import Edit
from workbench.edits.labels import edits_of
from workbench.edits.lane import Lane
from workbench.errors import BadLane, Obstructed, UnknownName
from workbench.evaluate.benefit import benefit
from workbench.evaluate.dose_plane import DosePlane, dose_plane
from workbench.evaluate.influence import Influence, Refit, influence
from workbench.evaluate.off_target import OffTarget, off_target
from workbench.evaluate.watch import Watch, watch
from workbench.knobs import renamed
from workbench.models.base import LanguageModel
from workbench.progress import Progress, part_of_more, silent
from workbench.sampling import Sampling
from workbench.settings import DosePlaneSettings, FitSettings, InfluenceSettings, OffTargetSettings, RefitSettings
from workbench.workspace.fitting import Fitting
from workbench.workspace.measured import held_out
from workbench.workspace.recorder import data_told, lanes_told
from workbench.workspace.rendering import as_read, naming_rows


@final
@dataclass(frozen=True)
class Explaining:
    """Explanations of edits that `fitting` fits and keeps."""

    fitting: Fitting

    def influence(self, model: LanguageModel, settings: InfluenceSettings, progress: Progress | None) -> Influence:
        """What each demonstration does to each held-out row. Raises: as `Session.influence`."""
        edit, rows = self._fitted(settings.lane, settings.source)
        read = self._read(model, edit, rows)
        with naming_rows(model, read):
            found = influence(model, read, edit, split=settings.split, n_refits=settings.n_refits, progress=progress)
        inputs = {"lanes": lanes_told([Lane((edit,))]), **data_told(rows), "split": settings.split, "n_refits": settings.n_refits}
        outputs = {"way": found.way, "demonstrations": found.table(), "rows": found.victim_table()}
        self.fitting.recorder.run("influence", f"{found.edit} on {rows.name}", model.info.name, inputs, outputs=outputs, result=found)
        return found

    def refit(self, model: LanguageModel, settings: RefitSettings, progress: Progress | None) -> Refit:
        """Fit an edit again without some of its demonstrations. Raises: as `Session.refit_without`."""
        tell = progress or silent()
        edit, rows = self._fitted(settings.lane, settings.source)
        kept = _without(rows, settings.drop)
        head, known = edit.header, registered.get(edit.header.method)
        asked = FitSettings(head.method, kept, seed=head.seed, chat=bool(head.rendered) or None, system=head.system, place=edit.place)
        config = known.configure(renamed(known.config, head.config))
        with part_of_more():
            again = self.fitting.fit(model, asked, tell.part(0.0, 0.7), config).edit.dosed(edit.dose)
        read = self._read(model, edit, rows)
        measured = benefit(model, read, [Lane((edit,)), Lane((again,))], split=settings.split, progress=tell.part(0.7, 1.0))
        found = Refit(again, settings.drop, measured)
        inputs = {"lanes": lanes_told([Lane((edit,))]), **data_told(rows), "split": settings.split, "drop": settings.drop}
        outputs = {"edit": again.id, "metrics": {one.name: [value.estimate for value in one.values] for one in measured.metrics}}
        self.fitting.recorder.run(
            "refit", f"without {len(settings.drop)} of {rows.name}", model.info.name, inputs, outputs=outputs, result=measured
        )
        return found

    def off_target(self, model: LanguageModel, settings: OffTargetSettings, progress: Progress | None) -> OffTarget:
        """Edits against sets and against one another. Raises: as `Session.off_target`."""
        edits = [self._single(lane) for lane in settings.lanes]
        sets: dict[str, Demonstrations] = {}
        kept: list[str] = []
        for source in (*settings.sources, *settings.protected):
            rows = held_out(self.fitting.demos, source, settings.split, edits)
            name = rows.name if rows.name not in sets else f"{rows.name} ({len(sets) + 1})"
            sets[name] = as_read(model, rows, None, "", edits)
            kept += [name] if len(sets) > len(settings.sources) else []
        found = off_target(model, edits, sets, protected=kept, split=settings.split, stacks=settings.stacks, progress=progress)
        inputs = {"lanes": lanes_told([Lane((edit,)) for edit in edits]), "sets": list(sets), "protected": kept}
        inputs |= {"split": settings.split, "stacks": settings.stacks}
        outputs = {"cells": found.table(), "stacks": found.stack_table()}
        self.fitting.recorder.run(
            "off target", f"{len(edits)} edits on {len(sets)} sets", model.info.name, inputs, outputs=outputs, result=found
        )
        return found

    def dose_plane(self, model: LanguageModel, settings: DosePlaneSettings, progress: Progress | None) -> DosePlane:
        """Gain and damage over angle and length, and edits there. Raises: as `Session.dose_plane`."""
        edits = [self._single(lane) for lane in settings.lanes]
        rows = as_read(model, self.fitting.demos.resolve(settings.source), None, "", edits)
        how = {"split": settings.split, "n_rows": settings.n_rows}
        with naming_rows(model, rows):
            found = dose_plane(model, rows, settings.layer, edits, split=settings.split, n_rows=settings.n_rows, progress=progress)
        inputs = {"lanes": lanes_told([Lane((edit,)) for edit in edits]), **data_told(rows), "layer": settings.layer, **how}
        about, outputs = f"layer {settings.layer} on {rows.name}", {"points": found.table()}
        self.fitting.recorder.run("dose plane", about, model.info.name, inputs, outputs=outputs, result=found)
        return found

    def watch(
        self, model: LanguageModel, prompt: Prompt, lanes: Sequence[Lane], most: int, sampling: Sampling | None, progress: Progress | None
    ) -> Watch:
        """Lanes that write on from one prompt. Raises: as `Session.watch`."""
        found = watch(model, prompt, list(lanes), most, sampling, progress=progress)
        inputs = {"prompt": prompt, "lanes": lanes_told(lanes), "max_new_tokens": most, "sampling": sampling or Sampling()}
        self.fitting.recorder.run("watch", str(prompt)[:60], model.info.name, inputs, outputs={"rows": found.table()}, result=found)
        return found

    def _single(self, lane: Lane) -> Edit:
        stack = edits_of(self.fitting.shelf.lane(lane))
        if len(stack) != 1 or lane.prompting is not None:
            raise BadLane(f"{str(lane)!r} is no single edit.", "Name edits one by one, without prompts.")
        return stack[0]

    def _fitted(self, lane: Lane, source: Source) -> tuple[Edit, Demonstrations]:
        """The one edit of a lane, and the set, which must be that of its fit."""
        edit = self._single(lane)
        rows, head = self.fitting.demos.resolve(source), edit.header
        if not rows.is_data_of(head.data, head.system):
            what = f"{rows.name!r} is not the set that this {head.method} edit was fitted on."
            raise Obstructed(what, "Give the set of its fit, unchanged, or fit the edit again on this one.")
        return edit, rows

    def _read(self, model: LanguageModel, edit: Edit, rows: Demonstrations) -> Demonstrations:
        return as_read(model, rows, rows.is_chat or bool(edit.header.rendered), edit.header.system)


def _without(rows: Demonstrations, drop: Sequence[str]) -> Demonstrations:
    """The set without some rows to fit, each by its id or its prompt. Raises: UnknownName: there is none of that name."""
    fit = {name for row in rows.split("fit") for name in (row.id, str(row.prompt)) if name}
    for name in drop:
        if name not in fit:
            raise UnknownName("demonstration to fit", name, sorted(fit))
    gone = set(drop)
    kept = rows.where(lambda row: row.split != "fit" or not {row.id, str(row.prompt)} & gone)
    return replace(kept, name=f"{rows.name} without {len(rows) - len(kept)}")
