"""Where the app and the files it reads lie: beside `workbench/` in a checkout, inside it where a wheel was installed."""

from __future__ import annotations

import os
from pathlib import Path

_INSTALLED = Path(__file__).resolve().parent / "_app"
ROOT = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1]

APP = ROOT / "app.py"
ASSETS = ROOT / "assets"
COMPONENTS, LESSONS, MODELS, SETS, STYLES = (ASSETS / name for name in ("components", "lessons", "models", "data", "styles"))
BATTERY, DAMAGE = ASSETS / "battery", ASSETS / "damage"
CARDS = ASSETS / "cards"
GLOSSARY = ASSETS / "glossary.yaml"
FOUND = BATTERY / "found.json"
RECOMMENDED = MODELS / "recommended.json"
EMBEDDED = {"embedded": MODELS / "retouch-gpt", "embedded-backpack": MODELS / "retouch-backpack"}
"""The models that ship, by name."""
PLANTED, SINK = "embedded-sink", MODELS / "sink.safetensors"
"""The name of the embedded model with an attention sink planted in it, and what is added to its weights for that."""

HOME = "RETOUCH_HOME"
# Where only this machine answers.
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def home(folder: str | Path | None = None) -> Path:
    """The workspace's folder: the argument, else the environment's RETOUCH_HOME, else ~/.retouch."""
    return Path(folder or os.environ.get(HOME) or Path.home() / ".retouch").expanduser()


def models_of(folder: str | Path | None = None) -> Path:
    """Where a workspace keeps the models that were fetched into it."""
    return home(folder) / "models"
