"""The headless façade: what a page, a notebook and the command line call.

    session = open_session()
    fitted = session.fit("sea", "truthfulness", {"keep": 0.99}, seed=0)
    session.compare(["Question: …"], [fitted.edit])

Demonstrations are given as themselves, as the name of a set, or as a file; edits as themselves, by id or name, as a folder,
or as (edit, dose). Every method that takes time takes `progress`. What is done is recorded in the workspace as runs.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from workbench import methods as registered
from workbench.data.checks import Check, checks
from workbench.data.demonstrations import Demonstrations, Split
from workbench.decode import Generated, Sampling, generate
from workbench.edits.base import Edit, ExportTarget
from workbench.edits.export import ExportReport, export
from workbench.edits.labels import lane_label
from workbench.errors import UnknownName
from workbench.evaluate.canonical import CanonicalSummary, protocol
from workbench.evaluate.comparison import Comparison, compare
from workbench.evaluate.dose import CoherentDose, DoseSweep, dose_sweep, max_coherent_dose
from workbench.evaluate.evaluation import Evaluation, evaluation
from workbench.methods.choice import Choice, chosen
from workbench.methods.registry import FitReport, Fitted, Method, Obstacle
from workbench.models import catalog
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.progress import Progress
from workbench.workspace.edit_shelf import EditLike, EditShelf, StackLike
from workbench.workspace.edits import EditInfo
from workbench.workspace.home import Workspace
from workbench.workspace.measured import Source, held_out, neutral_of
from workbench.workspace.model_facts import capabilities, next_tokens
from workbench.workspace.recorder import Recorder, data_told, lanes_told
from workbench.workspace.shelf import Offer, Shelf

# Lens → where it is. Modules are imported when a lens is first used: TransformerLens's tools are slow to import.
_LENSES = {
    "attention": "workbench.lenses.attention",
    "logit_lens": "workbench.lenses.logit_lens",
    "direct_attribution": "workbench.lenses.attribution",
    "activation_patching": "workbench.lenses.patching",
    "attribution_patching": "workbench.lenses.patching",
    "head_scores": "workbench.lenses.heads",
    "name_movers": "workbench.lenses.heads",
    "concept_meter": "workbench.lenses.concept_meter",
    "senses": "workbench.lenses.senses",
    "sense_reading": "workbench.lenses.senses",
}


@dataclass(frozen=True)
class Offered:
    """A method with why it cannot run here, if it cannot."""

    method: Method
    obstacles: tuple[Obstacle, ...]


class Session:
    """One model and one workspace. Safe to call from several threads."""

    def __init__(self, model: LanguageModel, workspace: Workspace | str | Path | None = None, *, records: bool = True):
        """Wrap a loaded model; the workspace is opened when it is first needed.

        Args:
            records: whether fits, comparisons and evaluations are written into the workspace as runs.
        """
        self.model = model
        self._home = workspace
        self._lock = threading.Lock()
        self.demos = Shelf(lambda: self.workspace)
        self.shelf = EditShelf(lambda: self.workspace)
        self.recorder = Recorder(lambda: self.workspace, records)

    @property
    def workspace(self) -> Workspace:
        """The workspace.

        Raises:
            StorageFailed: its folder cannot be written. NewerSchema: a newer version wrote it.
        """
        with self._lock:
            if not isinstance(self._home, Workspace):
                self._home = Workspace(self._home)
            return self._home

    # ── the model ──────────────────────────────────────────────────────────────────────────────────────────────
    def load(self, name: str, *, progress: Progress | None = None, **options: Any) -> LanguageModel:
        """Load another model in place of this one; if that fails, this one stays. Options and errors: `catalog.load`."""
        self.model = catalog.load(name, progress=progress, **options)
        return self.model

    def catalog(self) -> tuple[catalog.Entry, ...]:
        """The models that can be chosen without typing anything."""
        return catalog.entries()

    def estimate(self, name: str, **options: Any) -> catalog.MemoryEstimate:
        """What a model would need, before it is loaded. Options and errors: `catalog.estimate`."""
        return catalog.estimate(name, **options)

    def capabilities(self) -> list[dict[str, str]]:
        """What works on this model and what does not, as table rows."""
        return capabilities(self.model, self.lenses())

    def next_tokens(self, prompt: str, k: int = 10, edits: StackLike = ()) -> list[tuple[str, float]]:
        """The k likeliest next tokens with their probabilities, under a stack of edits."""
        return next_tokens(self.model, prompt, k, self.stack(edits))

    def token_texts(self, prompt: str, continuation: str | None = None) -> tuple[tuple[str, ...], int]:
        """The tokens of a prompt and its continuation, and how many of them are the prompt's."""
        batch = self.model.tokens(prompt, continuation)
        return token_texts(self.model.tokenizer, batch.ids[0]), int(batch.n_prompt[0])

    # ── demonstrations ─────────────────────────────────────────────────────────────────────────────────────────
    def demo_sets(self) -> tuple[Offer, ...]:
        """Every demonstration set: the workspace's, then those that ship."""
        return self.demos.list()

    def checks(self, demonstrations: Source) -> tuple[Check, ...]:
        """What a set teaches besides what was meant, in this model's tokens."""

        def tokens(text: str) -> list[int]:
            return self.model.tokenizer(text, add_special_tokens=False)["input_ids"]

        return checks(self.demos.resolve(demonstrations), tokens)

    # ── fitting ────────────────────────────────────────────────────────────────────────────────────────────────
    def methods(self, demonstrations: Source | None = None) -> tuple[Offered, ...]:
        """Every method, with its obstacles on this model and these demonstrations."""
        rows = None if demonstrations is None else self.demos.resolve(demonstrations)
        found = (registered.get(name) for name in registered.names())
        return tuple(Offered(item, () if rows is None else item.obstacles(self.model, rows)) for item in found)

    def fit(
        self,
        method: str,
        demonstrations: Source,
        config: Any = None,
        *,
        preset: str | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Fitted:
        """Fit an edit on the rows marked fit; the model is left as it was.

        Args:
            config: the method's config, or values for some of its knobs on top of the preset or the defaults.

        Raises:
            UnknownMethod, UnknownKnob, BadKnob, UnknownName: a word that is not known. Obstructed: it cannot run here.
        """
        known, rows = registered.get(method), self.demos.resolve(demonstrations)
        settings = config if isinstance(config, known.config) else known.configure(config or {}, preset)
        fitted = known.fit(self.model, rows, settings, seed=seed, progress=progress)
        fitted, run_id = self.recorder.fit(fitted, rows)
        self.shelf.remember(fitted, run_id)
        return fitted

    def choose(
        self,
        method: str,
        demonstrations: Source,
        config: Mapping[str, object] | None = None,
        *,
        preset: str | None = None,
        max_damage: float = 0.02,
        seed: int = 0,
        progress: Progress | None = None,
        **options: Any,
    ) -> Choice:
        """Fit with the knobs and the dose that gain most on validation rows within a damage limit. Options and errors: `choice.chosen`."""
        rows = self.demos.resolve(demonstrations)
        found = chosen(self.model, method, rows, config, preset=preset, max_damage=max_damage, seed=seed, progress=progress, **options)
        fitted, run_id = self.recorder.fit(found.fitted, rows)
        self.shelf.remember(fitted, run_id)
        return replace(found, fitted=fitted)

    # ── edits ──────────────────────────────────────────────────────────────────────────────────────────────────
    def edits(self) -> tuple[EditInfo, ...]:
        """The saved edits of this workspace, of any model."""
        return self.workspace.edits.list()

    def save_edit(self, edit: EditLike, name: str, *, verdict: str = "") -> EditInfo:
        """Keep an edit in the workspace, with the report of its fit. Raises: StorageFailed."""
        return self.shelf.save(edit, name, verdict)

    def load_edit(self, key: str | Path) -> Edit:
        """An edit fitted here, saved in the workspace, or in a folder. Raises: as `EditShelf.load`."""
        return self.shelf.load(key)

    def stack(self, stack: StackLike) -> tuple[Edit, ...]:
        """The edits of one lane. Raises: as `EditShelf.load`."""
        return self.shelf.stack(stack)

    def edit_name(self, key: str) -> str:
        """What to call an edit: its saved name, else its method and the start of its id."""
        return self.shelf.name(key)

    def report(self, key: str) -> FitReport | None:
        """The report of an edit's fit, made here or kept with the saved edit; None if it was brought from elsewhere."""
        return self.shelf.report(key)

    def export(self, edits: StackLike, target: ExportTarget, folder: str | Path, **options: Any) -> ExportReport:
        """Take edits home: `checkpoint`, `peft`, `script` or `report`. Options and errors: `edits.export.export`."""
        return export(self.model, self.stack(edits), target, folder, **options)

    # ── looking and measuring ──────────────────────────────────────────────────────────────────────────────────
    def lenses(self) -> tuple[str, ...]:
        """Names of the lenses."""
        return tuple(_LENSES)

    def lens(self, name: str) -> Callable[..., Any]:
        """The function behind a lens; its first argument is the model.

        Raises:
            UnknownName: there is no such lens.
        """
        if name not in _LENSES:
            raise UnknownName("lens", name, _LENSES)
        return getattr(importlib.import_module(_LENSES[name]), name)

    def look(self, lens: str, *args: Any, stacks: Sequence[StackLike] | None = None, **options: Any) -> Any:
        """Look through a lens; arguments, result and errors are those of the function of that name in `lenses/`."""
        if stacks is not None:
            options["stacks"] = [self.stack(stack) for stack in stacks]
        return self.lens(lens)(self.model, *args, **options)

    def generate(
        self,
        prompts: str | Sequence[str],
        stacks: Sequence[StackLike] = ((),),
        sampling: Sampling | None = None,
        *,
        progress: Progress | None = None,
    ) -> tuple[tuple[Generated, ...], ...]:
        """Continue prompts under each stack; one tuple of continuations a lane. Errors: `decode.generate`."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        return generate(self.model, texts, [self.stack(stack) for stack in stacks], sampling, progress=progress)

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
        """Run the canonical-examples protocol of one method on one set. Options and errors: `evaluate.canonical.protocol`."""
        rows = self.demos.resolve(demonstrations)
        found = protocol(self.model, rows, method, progress=progress, **options)
        outputs = {"rows": [item.row() for item in found]}
        inputs = {"method": method, **data_told(rows), **options}
        self.recorder.run("protocol", f"{method} on {rows.name}", self.model.info.name, inputs, outputs=outputs)
        return found

    def coherent_dose(
        self, edit: EditLike, *, neutral: Source | None = None, progress: Progress | None = None, **options: Any
    ) -> CoherentDose:
        """The largest dose at which the model still speaks. Options and errors: `max_coherent_dose`."""
        texts = neutral_of(self.demos, neutral, Demonstrations(()), self.model)
        return max_coherent_dose(self.model, self.shelf.edit(edit), texts, progress=progress, **options)


def open_session(
    model: str = "embedded",
    workspace: Workspace | str | Path | None = None,
    *,
    records: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Session:
    """Load a model and open a session on it.

    Args:
        model: embedded, embedded-backpack, a local Hugging Face folder, or a hub id.
        workspace: its folder; RETOUCH_HOME or ~/.retouch if None. It is opened when it is first needed.
        records: whether what is done is written into the workspace as runs.
        options: dtype, device, revision, as for `catalog.load`.

    Raises: as `catalog.load`.
    """
    return Session(catalog.load(model, progress=progress, **options), workspace, records=records)
