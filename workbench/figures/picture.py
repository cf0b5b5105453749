"""A figure with the words and numbers that belong to it, as a page shows it and a report file holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go


@dataclass(frozen=True)
class Picture:
    """One figure.

    `says` is the takeaway in one sentence, `look_for` tells somebody who sees such a figure for the first time where to look, `rows` are
    the numbers behind it, `name` is a slug for keys and file names.
    """

    name: str
    figure: go.Figure
    rows: Sequence[Mapping[str, Any]]
    says: str = ""
    look_for: str = ""
