"""The methods; importing this package registers them all. The list below is the only place outside its own folder that names one."""

from workbench.methods import angular as angular
from workbench.methods import are as are
from workbench.methods import canonical as canonical
from workbench.methods import directions as directions
from workbench.methods import hpr as hpr
from workbench.methods import sea as sea
from workbench.methods import senses as senses
from workbench.methods import tarot as tarot
from workbench.methods.registry import FitReport, Fitted, Method, get, names, ordered

__all__ = ["FitReport", "Fitted", "Method", "get", "names", "ordered"]
