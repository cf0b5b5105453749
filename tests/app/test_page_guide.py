"""The guide to pages says what exists: its example is a page that runs, and every name it gives can be imported."""

from __future__ import annotations

import importlib
import re
import textwrap
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import pages._ui
from pages._ui.kit import frame
from tests.app.conftest import fine, settled, texts

GUIDE = pages._ui.__doc__ or ""
EXAMPLE = textwrap.dedent(re.search(r"(?ms)^    .*^        main\(opened\)$", GUIDE).group(0))  # type: ignore[union-attr]
NAMES = sorted(set(re.findall(r"`(kit[a-zA-Z_.]*)`", GUIDE)))


def there(name: str) -> bool:
    """Whether a dotted name under `pages._ui` is a package, a module, or something in one."""
    parent, _, last = f"pages._ui.{name}".rpartition(".")
    try:
        return hasattr(importlib.import_module(parent), last) or importlib.import_module(f"{parent}.{last}") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_guide_exists(name: str) -> None:
    assert there(name)


def test_a_name_that_does_not_exist_would_be_seen() -> None:
    assert len(NAMES) > 10 and not there("kit.frame.need_model") and not there("kit.nothing")


def test_the_example_is_a_page_that_runs(fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame._drawn, "is_set", lambda: True)  # pyright: ignore[reportPrivateUsage] - no app around it
    fresh_backend.boot()
    fresh_backend.thread.join(60)
    test = fine(AppTest.from_string(EXAMPLE, default_timeout=60).run())
    assert "How does the model cut this prompt?" in texts(test) and "will stand here" in texts(test)
    fine(test.text_area(key="cut-prompt").set_value("w3 w4").run())
    done = settled(fine(test.button(key="cut-run").click().run()))
    assert "2 tokens" in texts(done) and "From earlier settings" not in texts(done)
    assert "From earlier settings" in texts(fine(test.text_area(key="cut-prompt").set_value("w3 w4 w5").run()))
