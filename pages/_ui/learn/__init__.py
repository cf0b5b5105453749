"""Lessons on the page Learn."""
