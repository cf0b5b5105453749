"""Optimisers over the unit cube that know no model: random, evolution, Bayesian, trust region, embedding."""

from workbench.search.config import OPTIMIZERS, SearchConfig
from workbench.search.run import Objective, ask, maximise, told
from workbench.search.trials import Found, Health, Trial, Trials, health

__all__ = [
    "OPTIMIZERS",
    "Found",
    "Health",
    "Objective",
    "SearchConfig",
    "Trial",
    "Trials",
    "ask",
    "health",
    "maximise",
    "told",
]
