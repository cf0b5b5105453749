"""What a session measures: comparisons, evaluations, doses, the canonical-examples protocol. Each is recorded as a run."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Any, cast

from workbench.data.demonstrations import Demonstrations, Split
from workbench.decode import Sampling
from workbench.edits.base import Edit
from workbench.edits.labels import lane_label
from workbench.errors import Obstructed
from workbench.evaluate.comparison import Comparison, compare
from workbench.evaluate.dose import CoherentDose, DoseSweep, dose_sweep, max_coherent_dose
from workbench.evaluate.evaluation import Evaluation, evaluation
from workbench.evaluate.protocol.ensemble import EnsembleSummary, ensemble_protocol
from workbench.evaluate.protocol.rules import Rules
from workbench.evaluate.protocol.scores import CanonicalSummary, protocol
from workbench.knobs import as_json, configured
from workbench.models.backpack.model import BackpackModel
from workbench.models.base import LanguageModel
from workbench.progress import Progress
from workbench.workspace.edit_shelf import EditLike, EditShelf, StackLike
from workbench.workspace.measured import Source, capability_of, held_out, neutral_of
from workbench.workspace.recorder import Recorder, data_told, lanes_told
from workbench.workspace.shelf import Shelf


class Measuring(ABC):
    """The measuring half of `Session`: a model, the shelves that demonstrations and edits come from, and where runs are written."""

    model: LanguageModel
    demos: Shelf
    shelf: EditShelf
    recorder: Recorder

    def stack(self, stack: StackLike) -> tuple[Edit, ...]:
        """The edits of one lane. Raises: as `EditShelf.load`."""
        return self.shelf.stack(stack)

    def compare(
        self,
        prompts: str | Sequence[str],
        stacks: Sequence[StackLike],
        sampling: Sampling | None = None,
        *,
        progress: Progress | None = None,
    ) -> Comparison:
        """Base and stacks side by side, token by token. Errors: `evaluate.comparison.compare`."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        whole = [self.stack(stack) for stack in stacks]
        found = compare(self.model, texts, whole, sampling, progress=progress)
        inputs = {"prompts": texts, "lanes": lanes_told(whole), "sampling": found.sampling}
        outputs = {"rows": found.rows()}
        self.recorder.run("compare", texts[0][:60], found.model, inputs, outputs=outputs, seed=found.sampling.seed)
        return found

    def evaluate(
        self,
        stacks: StackLike | list[StackLike],
        demonstrations: Source,
        *,
        split: Split | None = "test",
        neutral: Source | None = None,
        n_placebos: int = 3,
        n_generations: int = 16,
        progress: Progress | None = None,
    ) -> Evaluation:
        """What stacks of edits gain on held-out rows and break on neutral text, beside placebos of equal size.

        Args:
            stacks: one stack, or several in a list.
            split: the rows that are scored; None for all.
            neutral: a set with neutral texts; the one that ships if None.
            n_placebos: how many random rotations of each stack are averaged into its placebo; 0 for none.

        Raises: as `evaluate.evaluation.evaluation`.
        """
        listed = cast(list[StackLike], stacks) if isinstance(stacks, list) else [stacks]
        whole = [self.stack(stack) for stack in listed]
        rows = held_out(self.demos, demonstrations, split, [edit for stack in whole for edit in stack])
        found = evaluation(
            self.model,
            rows,
            whole,
            split=split,
            neutral=neutral_of(self.demos, neutral, rows, self.model),
            capability=capability_of(self.demos, rows, self.model),
            n_placebos=n_placebos,
            n_generations=n_generations,
            progress=progress,
        )
        inputs = {"lanes": lanes_told(whole), **data_told(rows), "split": split}
        title, outputs = f"{lane_label(whole[0])} on {rows.name}", {"rows": found.rows()}
        self.recorder.run("evaluate", title, self.model.info.name, inputs, outputs=outputs, metrics=found.metrics())
        return found

    def sweep(
        self,
        edit: EditLike,
        demonstrations: Source,
        doses: Sequence[float] = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0),
        *,
        split: Split | None = "test",
        neutral: Source | None = None,
        progress: Progress | None = None,
    ) -> DoseSweep:
        """Benefit and side effects of one edit at several doses, beside a placebo. Raises: as `dose_sweep`."""
        one = self.shelf.edit(edit)
        rows = held_out(self.demos, demonstrations, split, [one])
        texts = neutral_of(self.demos, neutral, rows, self.model)
        found = dose_sweep(self.model, one, rows, texts, doses, split=split, progress=progress)
        inputs = {"lanes": lanes_told([[one]]), **data_told(rows), "doses": found.doses}
        metrics = {item.name: [value.estimate for value in item.values] for item in found.metrics}
        self.recorder.run("sweep", f"{found.edit} on {rows.name}", found.model, inputs, metrics=metrics)
        return found

    def protocol(
        self, demonstrations: Source, method: str, *, progress: Progress | None = None, **options: Any
    ) -> tuple[CanonicalSummary, ...]:
        """Run the canonical-examples protocol of one method on one set. Options and errors: `evaluate.canonical.protocol`.

        `rules` may be given as names and values: `{"compat": "official"}`.
        """
        rows = self.demos.resolve(demonstrations)
        rules = _rules(options.pop("rules", {}))
        found = protocol(self.model, rows, method, progress=progress, rules=rules, **options)
        outputs = {"rows": [item.row() for item in found]}
        inputs = {"method": method, **data_told(rows), **options, "rules": as_json(rules)}
        self.recorder.run("protocol", f"{method} on {rows.name}", self.model.info.name, inputs, outputs=outputs)
        return found

    def ensemble(
        self, demonstrations: Source, big: LanguageModel, *, progress: Progress | None = None, **options: Any
    ) -> tuple[tuple[EnsembleSummary, ...], tuple[CanonicalSummary, ...]]:
        """Fit senses of this Backpack by the protocol and lend each edit to a larger model. Options and errors: `ensemble_protocol`."""
        if not isinstance(self.model, BackpackModel):
            raise Obstructed(f"{self.model.info.name} is no Backpack.", "Load embedded-backpack, and name the larger model beside it.")
        rows = self.demos.resolve(demonstrations)
        rules = _rules(options.pop("rules", {}))
        found, alone = ensemble_protocol(big, self.model, rows, rules=rules, progress=progress, **options)
        outputs = {"rows": [item.row() for item in (*found, *alone)]}
        inputs = {"big": big.info.name, **data_told(rows), **options, "rules": as_json(rules)}
        self.recorder.run("protocol", f"ensemble with {big.info.name} on {rows.name}", self.model.info.name, inputs, outputs=outputs)
        return found, alone

    def coherent_dose(
        self, edit: EditLike, *, neutral: Source | None = None, progress: Progress | None = None, **options: Any
    ) -> CoherentDose:
        """The largest dose at which the model still speaks. Options and errors: `max_coherent_dose`."""
        texts = neutral_of(self.demos, neutral, Demonstrations(()), self.model)
        return max_coherent_dose(self.model, self.shelf.edit(edit), texts, progress=progress, **options)


def _rules(given: Any) -> Rules:
    return given if isinstance(given, Rules) else configured(Rules, given)
