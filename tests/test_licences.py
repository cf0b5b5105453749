"""The list of licences is what is installed; the packages fit each other."""

from __future__ import annotations

import re
import subprocess
import sys
from email.message import Message
from types import SimpleNamespace
from typing import Any

from tests import licences

# Parts of SPDX expressions under which a program may ship beside Apache-2.0 without conditions on its own code.
FREE = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-CMU",
    "MPL-2.0", "PSF-2.0", "Python-2.0", "Zlib",
}  # fmt: skip


def test_every_package_that_is_needed_is_listed_with_its_licence() -> None:
    found = licences.needed()
    listed = dict(re.findall(r"^\| (\S+) \| \S+ \| (.+) \|$", licences.PAGE.read_text(), re.MULTILINE)[1:])
    of_gpus = {name for name in found if name.startswith(("nvidia", "cuda", "triton"))}  # torch brings them where it is built for GPUs
    assert {"torch", "transformer-lens", "streamlit"} <= set(found) <= set(listed) | of_gpus
    for name, text in listed.items():
        told = set(re.split(r" AND | OR | or | WITH [\w-]+|[()]", text)) - {""}
        assert told and told <= FREE, (name, text)
    said = {name: licences.licence(package) for name, package in found.items() if name in listed}
    assert said == {name: listed[name] for name in said}


def test_a_package_that_states_nothing_has_no_licence() -> None:
    silent: Any = SimpleNamespace(metadata=Message())
    assert licences.licence(silent) == ""
    silent.metadata["Classifier"] = "License :: OSI Approved :: MIT License"
    assert licences.licence(silent) == "MIT"


def test_the_installed_packages_fit_each_other() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
