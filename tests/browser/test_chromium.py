"""Without a browser these tests are skipped for a person, and fail in CI."""

from __future__ import annotations

import pytest

from tests.browser import conftest


@pytest.mark.parametrize(("ci", "outcome"), [("1", pytest.fail.Exception), (None, pytest.skip.Exception)])
def test_a_missing_chromium_is_skipped_by_a_person_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str | None, outcome: type[BaseException]
) -> None:
    monkeypatch.setattr(conftest, "chromium", lambda: None)
    if ci is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="make test"):
        conftest.needed_chromium()


def test_a_chromium_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "chromium", lambda: "/usr/bin/chromium")
    assert conftest.needed_chromium() == "/usr/bin/chromium"
