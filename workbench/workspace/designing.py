"""Design searches: their trials are stored as they are measured, their winners are kept as fits, and each is recorded as a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from workbench import __version__
from workbench.data.demonstrations import Demonstrations
from workbench.evaluate.design.bench import DesignTrial
from workbench.evaluate.design.record import DesignSearch
from workbench.evaluate.design.search import design_search
from workbench.models.base import LanguageModel
from workbench.progress import Progress
from workbench.settings import DesignSettings
from workbench.workspace.fitting import Fitting
from workbench.workspace.measured import neutral_for
from workbench.workspace.people import acting
from workbench.workspace.recorder import data_told
from workbench.workspace.rendering import as_read, naming_rows
from workbench.workspace.sweeping import DESIGN_DRAFTS


@final
@dataclass(frozen=True)
class Designing:
    """Searches among the edits that `fitting` fits and keeps."""

    fitting: Fitting

    def search(self, model: LanguageModel, settings: DesignSettings, progress: Progress | None) -> DesignSearch:
        """Search, or go on with the trials that are stored of the same settings. Raises: as `Session.design_search`."""
        demos, recorder = self.fitting.demos, self.fitting.recorder
        rows = demos.resolve(settings.source)
        read = as_read(model, rows, settings.chat, settings.system)
        neutral, key = neutral_for(demos, settings.neutral, rows, model), _key(model, read, settings)
        known = [DesignTrial.of(one) for one in recorder.draft(key, [])]

        def keep(trials: Sequence[DesignTrial]) -> None:
            recorder.keep_draft(key, [one.told() for one in trials])

        with naming_rows(model, read):
            found = design_search(
                model, read, settings.methods, neutral, trials=settings.trials, control=settings.control, seed=settings.seed,
                known=known, keep=keep, progress=progress,
            )  # fmt: skip
        fits = tuple(self.fitting.kept(one, rows, settings.system) for one in found.fits)
        winners = tuple(replace(one, edit_id=fit.edit.id) for one, fit in zip(found.winners, fits, strict=True))
        found = replace(found, winners=winners, fits=fits)
        inputs = {**data_told(rows), "methods": found.methods, "trials": settings.trials, "control": settings.control}
        recorder.run(
            "design", f"{len(found.trials)} trials on {rows.name}", model.info.name, inputs | {"chat": read.is_chat},
            outputs={"rows": found.rows(), "winners": found.winner_rows()}, seed=settings.seed,
            result=replace(found, fits=()),
        )  # fmt: skip
        return found


def _key(model: LanguageModel, read: Demonstrations, settings: DesignSettings) -> str:
    """Under which name the trials of some settings lie: those of a search of more trials, or without control, are the same."""
    told = [__version__, acting(), *model.fingerprint.as_json().values(), read.fingerprint, settings.system, settings.seed]
    return DESIGN_DRAFTS + hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]
