"""The methods. Importing this package registers every one of them."""

from workbench.methods import are as are
from workbench.methods import finetuning as finetuning
from workbench.methods import hpr as hpr
from workbench.methods import lora as lora
from workbench.methods import mean_difference as mean_difference
from workbench.methods import refusal_direction as refusal_direction
from workbench.methods import sea as sea
from workbench.methods import senses as senses
from workbench.methods import tarot as tarot
from workbench.methods.registry import FitReport, Fitted, Method, get, names

__all__ = ["FitReport", "Fitted", "Method", "get", "names"]
