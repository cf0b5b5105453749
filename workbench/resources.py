"""Where the app and the files it reads lie: beside `workbench/` in a checkout, inside it where a wheel was installed."""

from __future__ import annotations

from pathlib import Path

_INSTALLED = Path(__file__).resolve().parent / "_app"
ROOT = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1]

APP = ROOT / "app.py"
ASSETS = ROOT / "assets"
COMPONENTS, LESSONS, MODELS, SETS, STYLES = (ASSETS / name for name in ("components", "lessons", "models", "data", "styles"))
