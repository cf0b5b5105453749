"""Verdicts and the protocol on the page Evaluate."""
