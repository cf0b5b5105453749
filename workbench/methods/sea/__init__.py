"""SEA: spectral editing of activations, arXiv 2405.09719."""

from workbench.methods.sea import fit as fit
