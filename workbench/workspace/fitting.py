"""What a session fits: edits, searches that go on, choices by validation. Each fit is remembered and recorded as a run."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

from workbench import methods as registered
from workbench.data.demonstrations import Demonstrations, Source
from workbench.errors import Obstructed
from workbench.methods.choice import Choice, chosen
from workbench.methods.registry import Fitted
from workbench.models.base import LanguageModel
from workbench.progress import Cancelled, Progress, silent
from workbench.settings import ChoiceSettings, FitSettings
from workbench.workspace.edit_shelf import EditShelf
from workbench.workspace.recorder import Recorder
from workbench.workspace.shelf import Shelf


@final
@dataclass(frozen=True)
class Fitting:
    """Fits on the demonstrations of one shelf, kept on another."""

    demos: Shelf
    shelf: EditShelf
    recorder: Recorder

    def fit(self, model: LanguageModel, settings: FitSettings, progress: Progress | None, made: object | None = None) -> Fitted:
        """Fit an edit on the rows marked fit; the model is left as it was. `made`: a whole config. Raises: as `Session.fit`."""
        known, rows = registered.get(settings.method), self.demos.resolve(settings.source)
        config = made if isinstance(made, known.config) else known.configure(settings.config, settings.preset)
        with self._kept_if_cancelled(rows):
            fitted = known.fit(model, rows, config, seed=settings.seed, progress=progress)
        return self._kept(fitted, rows)

    def choose(self, model: LanguageModel, settings: ChoiceSettings, progress: Progress | None, **options: Any) -> Choice:
        """Let validation rows choose the free knobs and the dose. Raises: as `Session.choose`."""
        rows = self.demos.resolve(settings.source)
        told: dict[str, Any] = {"preset": settings.preset, "max_damage": settings.max_damage, "seed": settings.seed, **options}
        with self._kept_if_cancelled(rows):
            found = chosen(model, settings.method, rows, settings.config, progress=progress, **told)
        return replace(found, fitted=self._kept(found.fitted, rows))

    def proceed(self, model: LanguageModel, edit: str, source: Source, budget: int, progress: Progress | None) -> Fitted:
        """Go on with the search that found an edit. Raises: as `Session.proceed`."""
        found, rows, report = self.shelf.load(edit), self.demos.resolve(source), self.shelf.report(edit)
        known = registered.get(found.header.method)
        if known.proceed is None:
            raise Obstructed(f"{known.title} is no search, so there is nothing to go on with.", "Fit it again with other knobs.")
        if report is None:
            raise Obstructed(f"The trials of edit {edit} were not kept.", "Fit it again; an edit of the workspace keeps its trials.")
        if rows.fingerprint != found.header.data:
            what = f"The search of edit {edit} ran on data {found.header.data[:6]}; {rows.name} is {rows.fingerprint[:6]}."
            raise Obstructed(what, "Give the set and version that it was fitted on.")
        config = known.configure({**found.header.config, "budget": budget})
        with self._kept_if_cancelled(rows):
            fitted = known.proceed(model, rows, config, report, seed=found.header.seed, progress=progress or silent())
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
