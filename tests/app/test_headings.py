"""Headings of a page: one title, and no level skipped below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine
from tests.app.test_pages import PAGES, fitted

Run = Callable[..., AppTest]


def levels(test: AppTest) -> list[int]:
    """The levels of a page's headings, in the order in which they are drawn."""
    return [int(tag[1:]) for tag in (getattr(item, "tag", "") or "" for item in test.main) if str(tag)[:1] == "h"]


def test_no_level_of_headings_is_skipped_on_any_page(app: Run, fresh_backend: Any) -> None:
    test = fitted(app, fresh_backend)
    for page in PAGES:
        found = levels(fine(test.switch_page(f"pages/{page}.py").run()))
        assert found[:1] == [1] and found.count(1) == 1, page
        assert all(after <= before + 1 for before, after in zip(found, found[1:])), (page, found)
