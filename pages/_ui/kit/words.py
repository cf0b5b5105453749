"""Numbers, times and names as people say them."""

from __future__ import annotations

import html
import math
import re
import time
from collections.abc import Sequence
from datetime import datetime

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>$:~])")


def number(value: float | None) -> str:
    """Three significant digits, without an exponent where people would not write one."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.3g}"


def interval(value: float, low: float, high: float, n: int) -> str:
    """`0.62 [0.55, 0.69]  n=200`"""
    return f"{value:.2f} [{low:.2f}, {high:.2f}]  n={n}"


def count(n: int, one: str, many: str = "") -> str:
    """`1 edit`, `3 edits`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def parameters(n: int) -> str:
    """`4.1 M` parameters."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.2g} {unit}" if n / size < 10 else f"{n / size:.0f} {unit}"
    return str(n)


def size(n_bytes: float) -> str:
    """`16.4 MB`."""
    for unit, limit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= limit:
            return f"{n_bytes / limit:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def seconds(value: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def ago(at: float) -> str:
    """`just now`, `5 minutes ago`, `3 hours ago`, then the day. `at` in seconds since 1970."""
    passed = time.time() - at
    if passed < 60:
        return "just now"
    for seconds_each, unit in ((60, "minute"), (3600, "hour")):
        n = int(passed // seconds_each)
        if n < (60 if unit == "minute" else 24):
            return f"{count(n, unit)} ago"
    return f"on {datetime.fromtimestamp(at):%d %b %Y}"


def plain(text: str) -> str:
    """Escape a text so that Markdown shows it as it is: for names that people typed, never for model output (use st.text or a strip)."""
    return _MARKDOWN.sub(r"\\\1", text.replace("\n", " "))


def safe(text: str) -> str:
    """Escape a text for our own HTML chips."""
    return html.escape(text, quote=True)


def token(text: str) -> str:
    """A token as people can see it: `␣` for a leading space, `⏎` for a newline."""
    shown = text.replace("\n", "⏎").replace("\t", "⇥")
    return "␣" + shown[1:] if shown.startswith(" ") else shown or "∅"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}" if names else ""


def provenance(**facts: object) -> str:
    """Where a number is from: `embedded · edit 3f2a… · seed 0 · n=40 · test`. None and empty are left out."""
    words = {"n": "n={}", "seed": "seed {}", "edit": "edit {}", "split": "split {}", "dose": "dose {}"}
    return " · ".join(words.get(key, "{}").format(value) for key, value in facts.items() if value not in (None, ""))


def markdown(text: str) -> str:
    """Our own Markdown with the signs that Streamlit would read as maths or as a colour made plain."""
    return text.replace("$", r"\$").replace("[", r"\[").replace("]", r"\]").replace("~", r"\~")
