"""The headless façade: what a page, a notebook and the command line call.

    session = open_session()
    fitted = session.fit("sea", "truthfulness", {"keep": 0.99}, seed=0)
    session.compare(["Question: …"], [fitted.edit])

Demonstrations are given as themselves, as the name of a set, or as a file; edits as themselves, by id or name, as a folder,
or as (edit, dose). Every method that takes time takes `progress`. What is done is recorded in the workspace as runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from workbench import methods as registered
from workbench.data.checks import Check, checks
from workbench.data.demonstrations import Demonstrations
from workbench.decode import Generated, Sampling, generate
from workbench.edits.base import Edit, ExportTarget
from workbench.edits.export import ExportReport, export
from workbench.errors import Obstructed
from workbench.lenses import registry as lens_registry
from workbench.methods.choice import Choice, chosen
from workbench.methods.registry import FitReport, Fitted, Method, Obstacle
from workbench.models import catalog
from workbench.models.base import LanguageModel
from workbench.models.token_texts import token_texts
from workbench.progress import Cancelled, Progress, silent
from workbench.resources import models_of
from workbench.workspace.edit_shelf import EditLike, EditShelf, StackLike
from workbench.workspace.edits import EditInfo
from workbench.workspace.home import Workspace
from workbench.workspace.measured import Source
from workbench.workspace.measuring import Measuring
from workbench.workspace.model_facts import capabilities, next_tokens
from workbench.workspace.recorder import Recorder
from workbench.workspace.shelf import Offer, Shelf


@dataclass(frozen=True)
class Offered:
    """A method with why it cannot run here, if it cannot."""

    method: Method
    obstacles: tuple[Obstacle, ...]


@final
class Session(Measuring):
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
        self.model = catalog.load(name, models=self._models, progress=progress, **options)
        return self.model

    def catalog(self) -> tuple[catalog.Entry, ...]:
        """The models that can be chosen without typing anything."""
        return catalog.entries(self._models)

    def estimate(self, name: str, **options: Any) -> catalog.MemoryEstimate:
        """What a model would need, before it is loaded. Options and errors: `catalog.estimate`."""
        return catalog.estimate(name, models=self._models, **options)

    def get_model(self, name: str, *, progress: Progress | None = None) -> Path:
        """Fetch a recommended model into this workspace and return its folder. Errors: `fetching.fetch`."""
        return catalog.get(name, self._models, progress=progress)

    def model_note(self, name: str) -> str:
        """What to know of a model's files before trusting its numbers. Errors: `catalog.note`."""
        return catalog.note(name, self._models)

    @property
    def _models(self) -> Path:
        return models_of(self._home.folder if isinstance(self._home, Workspace) else self._home)

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
        with self._kept_if_cancelled(rows):
            fitted = known.fit(self.model, rows, settings, seed=seed, progress=progress)
        return self._kept(fitted, rows)

    def proceed(self, edit: str, demonstrations: Source, budget: int, *, progress: Progress | None = None) -> Fitted:
        """Go on with the search that found an edit, on the same demonstrations, until `budget` calls were made in all.

        Raises:
            Obstructed: the method is no search, nothing of the search is kept, or the demonstrations are not those it ran on.
            BadKnob: the budget is used up already. Others: as `load_edit` and `fit`.
        """
        found, rows, report = self.load_edit(edit), self.demos.resolve(demonstrations), self.report(edit)
        known = registered.get(found.header.method)
        if known.proceed is None:
            raise Obstructed(f"{known.title} is no search, so there is nothing to go on with.", "Fit it again with other knobs.")
        if report is None:
            raise Obstructed(f"The trials of edit {edit} were not kept.", "Fit it again; an edit of the workspace keeps its trials.")
        if rows.fingerprint != found.header.data:
            what = f"The search of edit {edit} ran on data {found.header.data[:6]}; {rows.name} is {rows.fingerprint[:6]}."
            raise Obstructed(what, "Give the set and version that it was fitted on.")
        settings = known.configure({**found.header.config, "budget": budget})
        with self._kept_if_cancelled(rows):
            fitted = known.proceed(self.model, rows, settings, report, seed=found.header.seed, progress=progress or silent())
        return self._kept(fitted, rows)

    def _kept(self, fitted: Fitted, rows: Demonstrations) -> Fitted:
        fitted, run_id = self.recorder.fit(fitted, rows)
        self.shelf.remember(fitted, run_id)
        return fitted

    @contextmanager
    def _kept_if_cancelled(self, rows: Demonstrations) -> Generator[None]:
        """What a cancelled fit or choice had is kept like a finished one, and handed on."""
        try:
            yield
        except Cancelled as cancelled:
            best = cancelled.best
            if isinstance(best, Fitted):
                raise Cancelled(self._kept(best, rows)) from None
            if isinstance(best, Choice):
                raise Cancelled(replace(best, fitted=self._kept(best.fitted, rows))) from None
            raise

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
        """Fit with the knobs and the dose that gain most on validation rows within a damage limit. Options and errors: `choice.chosen`.

        The edit that is remembered has dose 1; `best.dose` is the dose to use it at, `edit` is it at that dose.
        """
        rows = self.demos.resolve(demonstrations)
        with self._kept_if_cancelled(rows):
            found = chosen(self.model, method, rows, config, preset=preset, max_damage=max_damage, seed=seed, progress=progress, **options)
        return replace(found, fitted=self._kept(found.fitted, rows))

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

    def edit_name(self, key: str) -> str:
        """What to call an edit: its saved name, else its method and the start of its id."""
        return self.shelf.name(key)

    def report(self, key: str) -> FitReport | None:
        """The report of an edit's fit, made here or kept with the saved edit; None if it was brought from elsewhere."""
        return self.shelf.report(key)

    def export(self, edits: StackLike, target: ExportTarget, folder: str | Path, **options: Any) -> ExportReport:
        """Take edits home: `checkpoint`, `peft`, `script` or `report`. Options and errors: `edits.export.export`."""
        return export(self.model, self.stack(edits), target, folder, **options)

    # ── looking; what is measured is in `Measuring` ────────────────────────────────────────────────────────────
    def lenses(self) -> tuple[str, ...]:
        """Names of the lenses."""
        return lens_registry.names()

    def lens(self, name: str) -> Callable[..., Any]:
        """The function behind a lens; its first argument is the model. Raises: UnknownName."""
        return lens_registry.lens(name)

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
    models = models_of(workspace.folder if isinstance(workspace, Workspace) else workspace)
    return Session(catalog.load(model, models=models, progress=progress, **options), workspace, records=records)
