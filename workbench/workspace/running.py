"""Which part of the workspace does what some settings say."""

from __future__ import annotations

from workbench.models.base import LanguageModel
from workbench.progress import Progress
from workbench.settings import (
    CompareSettings,
    DesignSettings,
    DosePlaneSettings,
    EqualDamageSettings,
    EvaluateSettings,
    FitSettings,
    InfluenceSettings,
    OffTargetSettings,
    RefitSettings,
    Runnable,
)
from workbench.workspace.contests import Contests
from workbench.workspace.designing import Designing
from workbench.workspace.explaining import Explaining
from workbench.workspace.fitting import Fitting
from workbench.workspace.measuring import Measuring


def run_settings(
    settings: Runnable[object], model: LanguageModel, fitting: Fitting, measuring: Measuring, progress: Progress | None
) -> object:
    """Do what settings say on a model. Raises: as the session's method of that name; TypeError for a record of another kind."""
    if isinstance(settings, FitSettings):
        return fitting.fit(model, settings, progress)
    if isinstance(settings, CompareSettings):
        return measuring.compare(model, settings, progress)
    if isinstance(settings, EvaluateSettings):
        return measuring.evaluate(model, settings, progress)
    if isinstance(settings, EqualDamageSettings):
        return Contests(fitting).equal_damage(model, settings, progress)
    if isinstance(settings, DesignSettings):
        return Designing(fitting).search(model, settings, progress)
    if isinstance(settings, InfluenceSettings):
        return Explaining(fitting).influence(model, settings, progress)
    if isinstance(settings, RefitSettings):
        return Explaining(fitting).refit(model, settings, progress)
    if isinstance(settings, OffTargetSettings):
        return Explaining(fitting).off_target(model, settings, progress)
    if isinstance(settings, DosePlaneSettings):
        return Explaining(fitting).dose_plane(model, settings, progress)
    raise TypeError(f"{type(settings).__name__} is nothing that a session runs.")
