"""ARE: adversarial representation engineering, arXiv 2404.13752."""

from workbench.methods.are import fit as fit
