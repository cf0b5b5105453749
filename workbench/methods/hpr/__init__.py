"""HPR: householder pseudo-rotation, arXiv 2409.10053."""

from workbench.methods.hpr import fit as fit
