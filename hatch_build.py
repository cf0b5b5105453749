"""Put what lies beside the package in a checkout inside it in a wheel. `workbench/resources.py` finds both."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BESIDE = ("app.py", "pages", "assets", ".streamlit/config.toml")


class AppInside(BuildHookInterface):
    """An editable install refers to the checkout, where nothing has to be moved."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the app's files to what the wheel includes."""
        if version != "editable":
            build_data["force_include"] |= {name: f"workbench/_app/{name}" for name in BESIDE}
