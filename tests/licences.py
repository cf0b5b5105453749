"""Write docs/licences.md: what Retouch needs to run, down to the last package, and under which licence. `make licences` runs it."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
_HEAD = """# Licences

Retouch is under Apache-2.0 ([LICENSE](../LICENSE)). It needs these packages, each under its own licence, as its own metadata states it; the
versions are those of `requirements.lock`. Licences of models stand with the models (`retouch models`).

`make licences` writes this list. `make audit` checks that the installed packages fit each other (`pip check`) and, with a network, asks for
known vulnerabilities of the locked versions (`pip-audit`, which it installs beside the project in an environment of its own).

| package | version | licence |
|---|---|---|
"""
# Full texts in place of a name, and names that do not say which.
_SAYS = {
    "Apache Software License": "Apache-2.0", "Apache": "Apache-2.0", "Apache 2.0": "Apache-2.0", "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0", "Apache License, Version 2.0": "Apache-2.0", "MIT License": "MIT", "BSD License": "BSD",
    "3-Clause BSD License": "BSD-3-Clause", "ISC License": "ISC", "Python Software Foundation License": "PSF-2.0",
}  # fmt: skip


def needed() -> dict[str, Distribution]:
    """Every installed package that Retouch needs, by name, whatever needs it."""
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    asked, found = [Requirement(line) for line in lines if line], dict[str, Distribution]()
    while asked:
        one = asked.pop()
        name = canonicalize_name(one.name)
        if name in found:
            continue
        try:
            found[name] = distribution(one.name)
        except PackageNotFoundError:  # of another platform, or of an extra that was not asked for
            continue
        more = (Requirement(text) for text in found[name].requires or ())
        asked += [item for item in more if item.marker is None or item.marker.evaluate({"extra": ""})]
    return dict(sorted(found.items()))


def licence(package: Distribution) -> str:
    """The licence that a package states: an SPDX expression, its short text, or its classifiers."""
    told = package.metadata
    for name, most in (("License-Expression", 400), ("License", 60)):
        text = str(told.get(name) or "").strip()
        if text and len(text) < most and "\n" not in text:
            return _SAYS.get(text, text)
    classifiers = [item.rpartition(" :: ")[2] for item in told.get_all("Classifier") or () if item.startswith("License ::")]
    if classifiers:
        return " or ".join(_SAYS.get(item, item) for item in classifiers)
    first = re.search(r"(Apache License|MIT License|BSD [23]-Clause|BSD)", str(told.get("License") or ""))
    return {"Apache License": "Apache-2.0", "MIT License": "MIT"}.get(first[1], first[1]) if first else ""


def page() -> str:
    """The text of the page."""
    rows = (f"| {name} | {package.version.partition('+')[0]} | {licence(package)} |\n" for name, package in needed().items())
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
