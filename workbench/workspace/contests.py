"""Edits at equal damage, fitted here or at hand, beside prompts; recorded as a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from workbench import methods as registered
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.edits.labels import edits_of, lane_label
from workbench.edits.lane import Lane
from workbench.edits.prompting import Prompting
from workbench.errors import BadLane, RetouchError
from workbench.evaluate.equal_damage import Contestant, EqualDamage, equal_damage
from workbench.models.base import LanguageModel
from workbench.progress import Progress, part_of_more, silent
from workbench.settings import EqualDamageSettings, FitSettings
from workbench.workspace.fitting import Fitting
from workbench.workspace.measured import held_out, neutral_for
from workbench.workspace.recorder import data_told, lanes_told
from workbench.workspace.rendering import as_read, naming_rows, rendering_notes, shuffled_as_fitted


@final
@dataclass(frozen=True)
class Contests:
    """Contests between the edits that `fitting` fits and keeps."""

    fitting: Fitting

    def equal_damage(self, model: LanguageModel, settings: EqualDamageSettings, progress: Progress | None) -> EqualDamage:
        """Fit, put at equal damage, score on the split. Raises: as `Session.equal_damage`."""
        tell, shelf = progress or silent(), self.fitting.shelf
        self.fitting.demos.resolve(settings.source)  # a word that nobody knows is told before anything is fitted
        for name in settings.methods:
            registered.get(name)
        lanes = [shelf.lane(lane) for lane in settings.lanes]
        mine, said = _sorted(lanes)
        fitted, refused = self._fitted(model, settings, tell.part(0.0, 0.4))
        edits = [*mine, *fitted]
        if not edits:
            first = f" {refused[0][0]}: {refused[0][1]}" if refused else ""
            raise BadLane(f"There is no edit to put at a limit of damage.{first}", "Give methods to fit, or edits at hand.")
        rows = held_out(self.fitting.demos, settings.source, settings.split, edits)
        read = as_read(model, rows, settings.chat, settings.system, edits)
        neutral = neutral_for(self.fitting.demos, settings.neutral, rows, model, lanes)
        those = [Contestant(edit) for edit in edits]
        if settings.shuffled:
            part, n = tell.part(0.4, 0.6), len(edits)
            parts = (part.part(i / n, (i + 1) / n) for i in range(n))
            those = [Contestant(edit, _mixed(model, edit, rows, one)) for edit, one in zip(edits, parts)]
        with naming_rows(model, read):
            found = equal_damage(
                model, read, those, neutral, said=said, limit=settings.limit, split=settings.split, n_placebos=settings.n_placebos,
                progress=tell.part(0.6, 1.0),
            )  # fmt: skip
        notes = rendering_notes(model, read.prompts(), edits) + shelf.said_of(edits)
        found = replace(found, refused=refused, notes=notes + found.notes)
        inputs = {"lanes": lanes_told([*(Lane((edit,)) for edit in edits), *lanes]), **data_told(rows), "split": settings.split}
        inputs |= {"limit": settings.limit, "n_placebos": settings.n_placebos, "shuffled": settings.shuffled, "chat": read.is_chat}
        inputs |= {"methods": settings.methods, "asked": lanes_told(lanes)}
        self.fitting.recorder.run(
            "equal damage",
            f"{len(edits)} edits on {rows.name}",
            model.info.name,
            inputs,
            outputs={"rows": found.rows()},
            seed=settings.seed,
            result=found,
        )
        return found

    def _fitted(
        self, model: LanguageModel, settings: EqualDamageSettings, tell: Progress
    ) -> tuple[list[Edit], tuple[tuple[str, str], ...]]:
        """The methods' edits, and why others could not be fitted; those are told beside the table."""
        edits, refused, n = list[Edit](), list[tuple[str, str]](), len(settings.methods)
        for i, name in enumerate(settings.methods):
            asked = FitSettings(name, settings.source, seed=settings.seed, chat=settings.chat, system=settings.system)
            try:
                with part_of_more():
                    edits.append(self.fitting.fit(model, asked, tell.part(i / n, (i + 1) / n)).edit)
            except RetouchError as error:
                refused.append((name, f"{error} {error.hint}".strip()))
        return edits, tuple(refused)


def _mixed(model: LanguageModel, edit: Edit, rows: Demonstrations, tell: Progress) -> Edit | str:
    """The edit's method fitted on shuffled sides, or why not: an edit of another set does not end the contest."""
    try:
        return shuffled_as_fitted(model, edit, rows, progress=tell)
    except RetouchError as error:
        return str(error)


def _sorted(lanes: list[Lane]) -> tuple[list[Edit], list[Prompting]]:
    """The edits of lanes that are one edit, and what the others say."""
    edits, said = list[Edit](), list[Prompting]()
    for lane in lanes:
        stack = edits_of(lane)
        if len(stack) == 1 and lane.prompting is None:
            edits.append(stack[0])
        elif not stack and lane.prompting is not None:
            said.append(lane.prompting)
        else:
            what = f"{lane_label(lane)!r} is no single edit and no prompt alone."
            raise BadLane(what, "Give each edit and each prompt as a lane of its own: every edit also stands behind the first prompt.")
    return edits, said
