"""Sense finetuning of Backpacks, arXiv 2402.06155."""

from workbench.methods.senses import fit as fit
