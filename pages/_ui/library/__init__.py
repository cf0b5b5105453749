"""Exports on the page Library."""
