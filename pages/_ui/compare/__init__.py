"""Lanes and the concept meter of the page Compare."""
