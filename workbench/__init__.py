"""Retouch's headless package: everything that a page can do, this package can do without a page."""
