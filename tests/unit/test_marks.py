"""What scripts write between two marks of a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.marks import write_between


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("head\n<!-- a -->\nold\n<!-- end -->\ntail <!-- end -->\n")
    for _ in range(2):
        write_between(page, "<!-- a -->", "<!-- end -->", "new")
        assert page.read_text() == "head\n<!-- a -->\nnew\n<!-- end -->\ntail <!-- end -->\n"


@pytest.mark.parametrize("lost", ["<!-- a -->", "<!-- end -->"])
def test_a_page_without_a_mark_loses_nothing(tmp_path: Path, lost: str) -> None:
    page = tmp_path / "README.md"
    before = "head\n<!-- a -->\nold\n<!-- end -->\ntail\n".replace(lost, "")
    page.write_text(before)
    with pytest.raises(ValueError, match=f"no line {lost}"):
        write_between(page, "<!-- a -->", "<!-- end -->", "new")
    assert page.read_text() == before
