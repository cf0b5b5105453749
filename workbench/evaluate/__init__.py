"""Measuring edits on held-out rows: benefit, side effects, placebos, doses, the canonical-examples protocol."""
