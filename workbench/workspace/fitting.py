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
from workbench.methods.shared.placed import check_place
from workbench.models.base import LanguageModel
from workbench.progress import Cancelled, Progress, silent
from workbench.settings import ChoiceSettings, FitSettings
from workbench.workspace.edit_shelf import EditShelf
from workbench.workspace.recorder import Recorder
from workbench.workspace.rendering import as_read, naming_rows
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
        read = as_read(model, rows, settings.chat, settings.system)
        check_place(known, model, settings.place)
        with self._kept_if_cancelled(rows, settings.system, settings.place), naming_rows(model, read):
            fitted = known.fit(model, read, config, seed=settings.seed, progress=progress)
        return self.kept(fitted, rows, settings.system, settings.place)

    def choose(self, model: LanguageModel, settings: ChoiceSettings, progress: Progress | None, **options: Any) -> Choice:
        """Let validation rows choose the free knobs and the dose. Raises: as `Session.choose`."""
        rows = self.demos.resolve(settings.source)
        read = as_read(model, rows, settings.chat, settings.system)
        told: dict[str, Any] = {"preset": settings.preset, "max_damage": settings.max_damage, "seed": settings.seed, **options}
        told["place"] = settings.place
        with self._kept_if_cancelled(rows, settings.system, settings.place), naming_rows(model, read):
            found = chosen(model, settings.method, read, settings.config, progress=progress, **told)
        return replace(found, fitted=self.kept(found.fitted, rows, settings.system, settings.place))

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
        read, system = as_read(model, rows, bool(found.header.rendered), found.header.system), found.header.system
        with self._kept_if_cancelled(rows, system, found.place), naming_rows(model, read):
            fitted = known.proceed(model, read, config, report, seed=found.header.seed, progress=progress or silent())
        return self.kept(fitted, rows, system, found.place)

    def kept(self, fitted: Fitted, rows: Demonstrations, system: str, place: str = "") -> Fitted:
        """Remember and record a fit; its data are the rows as they are kept, however they were rendered. Raises: as `Edit.placed`."""
        fitted = replace(fitted, edit=fitted.edit.placed(place))
        head = fitted.edit.header
        facts = {**head.facts, "system": system} if system else head.facts
        if head.data != rows.fingerprint or system:
            fitted = replace(fitted, edit=replace(fitted.edit, header=replace(head, data=rows.fingerprint, facts=facts)))
        fitted, run_id = self.recorder.fit(fitted, rows)
        self.shelf.remember(fitted, run_id)
        return fitted

    @contextmanager
    def _kept_if_cancelled(self, rows: Demonstrations, system: str, place: str) -> Generator[None]:
        """What a cancelled fit or choice had is kept like a finished one, and handed on."""
        try:
            yield
        except Cancelled as cancelled:
            best = cancelled.best
            if isinstance(best, Fitted):
                raise Cancelled(self.kept(best, rows, system, place)) from None
            if isinstance(best, Choice):
                raise Cancelled(replace(best, fitted=self.kept(best.fitted, rows, system, place))) from None
            raise
