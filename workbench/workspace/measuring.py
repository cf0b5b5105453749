"""What a session measures: comparisons, evaluations, doses, the canonical-examples protocol. Each is recorded as a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from workbench.data.demonstrations import Demonstrations, Source, Split
from workbench.edits.labels import edits_of, lane_label
from workbench.edits.lane import EditLike, Lane, LaneLike, LanesLike
from workbench.errors import BadLane, Obstructed
from workbench.evaluate.comparison import Comparison, compare
from workbench.evaluate.dose import CoherentDose, DoseSweep, dose_sweep, max_coherent_dose
from workbench.evaluate.evaluation import Evaluation, evaluation
from workbench.evaluate.moved import moved_rows
from workbench.evaluate.protocol.ensemble import EnsembleSummary, ensemble_protocol
from workbench.evaluate.protocol.rules import Rules
from workbench.evaluate.protocol.scores import CanonicalSummary, protocol
from workbench.knobs import as_json, configured
from workbench.models.backpack.model import BackpackModel
from workbench.models.base import LanguageModel
from workbench.progress import Progress, silent
from workbench.settings import CompareSettings, EvaluateSettings
from workbench.workspace.edit_shelf import EditShelf
from workbench.workspace.measured import capability_of, held_out, neutral_for, own_prompts
from workbench.workspace.recorder import Recorder, data_told, lanes_told
from workbench.workspace.rendering import as_read, naming_rows, rendering_notes, shuffled_as_fitted
from workbench.workspace.shelf import Shelf


@final
@dataclass(frozen=True)
class Measuring:
    """Measurements of a model's edits: the shelves that demonstrations and edits come from, and where runs are written."""

    demos: Shelf
    shelf: EditShelf
    recorder: Recorder

    def compare(self, model: LanguageModel, settings: CompareSettings, progress: Progress | None) -> Comparison:
        """Base and lanes side by side, token by token. Errors: `evaluate.comparison.compare`."""
        lanes, prompts = self._loaded(settings.lanes), list(settings.prompts)
        edits = [edit for lane in lanes for edit in edits_of(lane)]
        notes = rendering_notes(model, prompts, edits) + self.shelf.said_of(edits)
        placed = _placed(lanes, settings.where)
        how, forced, frozen = settings.sampling, settings.forced, settings.frozen
        found = replace(compare(model, prompts, placed, how, forced=forced, frozen=frozen, progress=progress), notes=notes)
        asked: dict[str, Any] = {"prompts": prompts, "lanes": lanes_told(lanes), "sampling": how}
        inputs: dict[str, Any] = asked | {"forced": forced, "frozen": frozen, "where": settings.where}
        outputs = {"rows": found.rows()}
        self.recorder.run("compare", str(prompts[0])[:60], found.model, inputs, outputs=outputs, seed=found.sampling.seed, result=found)
        return found

    def evaluate(self, model: LanguageModel, settings: EvaluateSettings, progress: Progress | None) -> Evaluation:
        """Gain and damage of lanes beside placebos. Raises: as `Session.evaluate`."""
        loaded = self._loaded(settings.lanes)
        lanes = _placed(loaded, settings.where)
        if not lanes:
            raise BadLane("There is no lane to evaluate.", "Give an edit, or several in a list; () is the untouched model.")
        edits = [edit for lane in lanes for edit in edits_of(lane)]
        rows = held_out(self.demos, settings.source, settings.split, edits)
        read = as_read(model, rows, settings.chat, settings.system, edits)
        tell = progress or silent()
        control = self._shuffled(model, lanes[0], rows, tell.part(0.0, 0.5)) if settings.shuffled else None
        neutral = neutral_for(self.demos, settings.neutral, rows, model, lanes)
        with naming_rows(model, read):
            found = evaluation(
                model,
                read,
                lanes,
                shuffled=control if isinstance(control, Lane) else None,
                split=settings.split,
                neutral=neutral,
                own=own_prompts(model, neutral),
                capability=capability_of(self.demos, rows, model),
                n_placebos=settings.n_placebos,
                n_generations=settings.n_generations,
                seconds=settings.seconds,
                progress=tell.part(0.5, 1.0) if control else progress,
            )
        refused = (control,) if isinstance(control, str) else ()
        notes = rendering_notes(model, read.prompts(), edits) + self.shelf.said_of(edits) + refused
        found = replace(found, notes=notes + found.notes)
        inputs = {"lanes": lanes_told(loaded), **data_told(rows), "split": settings.split, "chat": read.is_chat}
        inputs |= {
            "n_placebos": settings.n_placebos,
            "n_generations": settings.n_generations,
            "shuffled": settings.shuffled,
            "seconds": settings.seconds,
            "where": settings.where,
        }
        title = f"{lane_label(lanes[0])} on {rows.name}"
        told = {"sentence": found.verdict.sentence, "detail": found.verdict.detail}
        outputs = {"rows": found.rows(), "verdict": told, "moved": moved_rows(found.benefit, 1) if len(found.lanes) > 1 else []}
        self.recorder.run("evaluate", title, model.info.name, inputs, outputs=outputs, metrics=found.metrics(), result=found)
        return found

    def _shuffled(self, model: LanguageModel, lane: Lane, rows: Demonstrations, progress: Progress) -> Lane | str:
        """The lane with its edit fitted again on shuffled sides, or in words why that was refused."""
        stack = edits_of(lane)
        if len(stack) != 1:
            raise BadLane(
                f"{lane_label(lane)} is {len(stack)} edits; the shuffled control is of one.", "Measure one edit, or leave it out."
            )
        found = shuffled_as_fitted(model, stack[0], rows, progress=progress)
        return found if isinstance(found, str) else Lane((found,), lane.prompting)

    def _loaded(self, lanes: Sequence[Lane]) -> list[Lane]:
        return [self.shelf.lane(lane) for lane in lanes]

    def sweep(
        self,
        model: LanguageModel,
        lane: LaneLike,
        source: Source,
        doses: Sequence[float],
        split: Split | None,
        neutral: Source | None,
        beside: LanesLike,
        rendering: tuple[bool | None, str],
        progress: Progress | None,
    ) -> DoseSweep:
        """Benefit and side effects of one edit at several doses, beside a placebo. Raises: as `Session.sweep`."""
        swept, others = self.shelf.lane(lane), [one for one in self.shelf.lanes(beside) if one != Lane()]
        if len(swept.edits) != 1:
            raise BadLane(f"{str(swept)!r} is {len(swept.edits)} edits; a sweep is of one.", "Name one edit, perhaps with a prompt.")
        (one,) = edits_of(swept)
        every = [swept, *others]
        edits = [edit for each in every for edit in edits_of(each)]
        rows = held_out(self.demos, source, split, edits)
        texts, said = neutral_for(self.demos, neutral, rows, model, every), swept.prompting
        read = as_read(model, rows, *rendering, edits)
        found = dose_sweep(model, one, read, texts, doses, split=split, said=said, beside=others, progress=progress)
        found = replace(found, notes=rendering_notes(model, read.prompts(), edits) + self.shelf.said_of(edits))
        inputs = {"lanes": lanes_told(every), **data_told(rows), "split": split, "doses": found.doses, "chat": read.is_chat}
        metrics = {item.name: [value.estimate for value in item.values] for item in found.metrics}
        self.recorder.run("sweep", f"{found.edit} on {rows.name}", found.model, inputs, metrics=metrics, result=found)
        return found

    def protocol(
        self, model: LanguageModel, source: Source, method: str, progress: Progress | None, options: dict[str, Any]
    ) -> tuple[CanonicalSummary, ...]:
        """The canonical-examples protocol of one method on one set. Raises: as `Session.protocol`."""
        rows, rules = self.demos.resolve(source), _rules(options.pop("rules", {}))
        found = protocol(model, rows, method, progress=progress, rules=rules, **options)
        outputs = {"rows": [item.row() for item in found]}
        inputs = {"method": method, **data_told(rows), **options, "rules": as_json(rules)}
        self.recorder.run("protocol", f"{method} on {rows.name}", model.info.name, inputs, outputs=outputs, result=found)
        return found

    def ensemble(
        self,
        model: LanguageModel,
        source: Source,
        big: LanguageModel,
        method: str | None,
        progress: Progress | None,
        options: dict[str, Any],
    ) -> tuple[tuple[EnsembleSummary, ...], tuple[CanonicalSummary, ...]]:
        """Senses of a Backpack lent to a larger model. Raises: as `Session.ensemble`."""
        if not isinstance(model, BackpackModel):
            raise Obstructed(f"{model.info.name} is no Backpack.", "Load embedded-backpack, and name the larger model beside it.")
        rows, rules = self.demos.resolve(source), _rules(options.pop("rules", {}))
        found, alone = ensemble_protocol(big, model, rows, method, rules=rules, progress=progress, **options)
        outputs = {"rows": [item.row() for item in (*found, *alone)]}
        inputs = {"big": big.info.name, **data_told(rows), **options, "rules": as_json(rules)}
        self.recorder.run("ensemble", f"{rows.name} with {big.info.name}", model.info.name, inputs, outputs=outputs)
        return found, alone

    def coherent_dose(
        self, model: LanguageModel, edit: EditLike, neutral: Source | None, progress: Progress | None, options: dict[str, Any]
    ) -> CoherentDose:
        """The largest dose at which the model still speaks. Raises: as `Session.coherent_dose`."""
        texts = neutral_for(self.demos, neutral, Demonstrations(()), model)
        return max_coherent_dose(model, self.shelf.edit(edit), texts, progress=progress, **options)


def _placed(lanes: Sequence[Lane], rules: Sequence[str]) -> list[Lane]:
    """Each lane with its edits acting where its place says; no places: where they act by themselves."""
    pairs = zip(lanes, rules or ("",) * len(lanes), strict=True)
    return [replace(lane, edits=tuple(edit.acting(rule or edit.where) for edit in edits_of(lane))) for lane, rule in pairs]


def _rules(given: Any) -> Rules:
    return given if isinstance(given, Rules) else configured(Rules, given)
