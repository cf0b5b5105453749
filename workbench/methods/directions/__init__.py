"""Edits of one direction: mean difference and direction ablation."""

from workbench.methods.directions import ablation as ablation
from workbench.methods.directions import mean_difference as mean_difference
