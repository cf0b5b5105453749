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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from workbench import methods as registered
from workbench.data.checks import Check, checks
from workbench.data.demonstrations import Demonstrations, Split
from workbench.decode import Generated, Sampling, generate
from workbench.edits.base import Edit, ExportTarget
from workbench.edits.labels import lane_label
from workbench.errors import StorageFailed, UnknownName
from workbench.evaluate.comparison import Comparison, compare
from workbench.evaluate.dose import CoherentDose, DoseSweep, dose_sweep, max_coherent_dose
from workbench.evaluate.evaluation import Evaluation, evaluation
from workbench.evaluate.side_effects import neutral_texts
from workbench.methods.registry import FitReport, Fitted, Method, Notice, Obstacle, with_notices
from workbench.models import catalog
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.progress import Progress
from workbench.workspace.edit_shelf import EditLike, EditShelf, StackLike
from workbench.workspace.edits import EditInfo
from workbench.workspace.home import Workspace
from workbench.workspace.model_facts import capabilities, next_tokens
from workbench.workspace.plain import plain
from workbench.workspace.reports import record_fit
from workbench.workspace.shelf import Offer, Shelf

Source = str | Path | Demonstrations
_N_NEUTRAL = 64
# Lens → where it is. Modules are imported when a lens is first used: TransformerLens's tools are slow to import.
_LENSES = {
    "attention": "workbench.lenses.attention",
    "logit_lens": "workbench.lenses.logit_lens",
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
        self._home, self._records = workspace, records
        self._lock = threading.Lock()
        self.demos = Shelf(lambda: self.workspace)
        self.shelf = EditShelf(lambda: self.workspace)
        self.troubles: list[StorageFailed] = []
        """Runs that could not be recorded: the results were returned all the same."""

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
        chosen, rows = registered.get(method), self.demos.resolve(demonstrations)
        settings = config if isinstance(config, chosen.config) else chosen.configure(config or {}, preset)
        fitted = chosen.fit(self.model, rows, settings, seed=seed, progress=progress)
        return self._remembered(fitted, rows)

    def _remembered(self, fitted: Fitted, rows: Demonstrations) -> Fitted:
        run_id: str | None = None
        if self._records:
            try:
                n = len(rows.split("fit"))
                run_id = record_fit(self.workspace.runs, fitted, demonstrations=rows.name, n=n).id
            except StorageFailed as error:
                fitted = with_notices(fitted, Notice("warning", f"The run was not recorded: {error}", error.hint))
        self.shelf.remember(fitted, run_id)
        return fitted

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

    def export(self, edits: StackLike, target: ExportTarget, folder: str | Path) -> Any:
        """Take edits home: `checkpoint`, `peft`, `script` or `report`. Errors: `edits.export.export`."""
        export = importlib.import_module("workbench.edits.export").export
        return export(self.model, self.stack(edits), target, folder)

    # ── looking and measuring ──────────────────────────────────────────────────────────────────────────────────
    def lenses(self) -> tuple[str, ...]:
        """Names of the lenses."""
        return tuple(_LENSES)

    def look(self, lens: str, *args: Any, stacks: Sequence[StackLike] | None = None, **options: Any) -> Any:
        """Look through a lens; arguments, result and errors are those of the function of that name in `lenses/`."""
        if lens not in _LENSES:
            raise UnknownName("lens", lens, _LENSES)
        if stacks is not None:
            options["stacks"] = [self.stack(stack) for stack in stacks]
        return getattr(importlib.import_module(_LENSES[lens]), lens)(self.model, *args, **options)

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
        inputs = {"prompts": texts, "lanes": _told(whole), "sampling": found.sampling}
        self._record("compare", texts[0][:60], inputs, {"rows": found.rows()}, {}, found.sampling.seed)
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
        rows = self.held_out(demonstrations, split, [edit for stack in whole for edit in stack])
        found = evaluation(
            self.model,
            rows,
            whole,
            split=split,
            neutral=self._neutral(neutral, rows),
            n_placebos=n_placebos,
            n_generations=n_generations,
            progress=progress,
        )
        inputs = {"lanes": _told(whole), "demonstrations": rows.name, "data": rows.fingerprint, "split": split}
        self._record("evaluate", f"{lane_label(whole[0])} on {rows.name}", inputs, {"rows": found.rows()}, found.metrics())
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
        rows = self.held_out(demonstrations, split, [one])
        texts = self._neutral(neutral, rows)
        found = dose_sweep(self.model, one, rows, texts, doses, split=split, progress=progress)
        inputs = {"lanes": _told([[one]]), "demonstrations": rows.name, "data": rows.fingerprint, "doses": found.doses}
        metrics = {item.name: [value.estimate for value in item.values] for item in found.metrics}
        self._record("sweep", f"{found.edit} on {rows.name}", inputs, {}, metrics)
        return found

    def coherent_dose(
        self, edit: EditLike, *, neutral: Source | None = None, progress: Progress | None = None, **options: Any
    ) -> CoherentDose:
        """The largest dose at which the model still speaks. Options and errors: `max_coherent_dose`."""
        texts = self._neutral(neutral, Demonstrations(()))
        return max_coherent_dose(self.model, self.shelf.edit(edit), texts, progress=progress, **options)

    def held_out(self, source: Source, split: Split | None, edits: Sequence[Edit]) -> Demonstrations:
        """Rows to measure on. A file without splits counts as `split` whole, unless it is the one that an edit was fitted on:
        then the splits are those that the fit drew, and its test rows alone are held out."""
        drawn = self.demos.resolve(source)
        if split is None or any(edit.header.data == drawn.fingerprint for edit in edits):
            return drawn
        return self.demos.resolve(source, split)

    def _neutral(self, source: Source | None, rows: Demonstrations) -> tuple[str, ...]:
        """Texts to measure side effects on: those asked for, else the shipped ones that no fit reads, else the set's own."""
        if source is not None:
            return neutral_texts(self.demos.resolve(source, "test"))[:_N_NEUTRAL]
        if not any(offer.id == "neutral" for offer in self.demos.shipped()):
            return neutral_texts(rows)[:_N_NEUTRAL]
        texts = neutral_texts(self.demos.get("neutral").split("test"))[:_N_NEUTRAL]
        n_tokens = [len(ids) for ids in self.model.tokenizer(list(texts))["input_ids"]]
        return tuple(text for text, n in zip(texts, n_tokens) if n <= self.model.info.n_ctx)

    def _record(
        self,
        kind: str,
        title: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        metrics: Mapping[str, Any],
        seed: int | None = None,
    ) -> None:
        if not self._records:
            return
        runs, told = self.workspace.runs, {"inputs": plain(inputs), "outputs": plain(outputs), "metrics": plain(metrics)}
        try:
            runs.record(kind, title, **told, seed=seed, model=self.model.info.name)
        except StorageFailed as error:
            self.troubles.append(error)


def _told(stacks: Sequence[Sequence[Edit]]) -> list[list[dict[str, Any]]]:
    return [[{"edit": edit.id, "method": edit.header.method, "dose": edit.dose} for edit in stack] for stack in stacks]


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
