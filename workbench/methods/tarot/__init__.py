"""TaRot: task-aware rotation of attention heads, arXiv 2410.04277."""

from workbench.methods.tarot import fit as fit
