"""How often a tab looks at jobs: a young one often, one that waits or has run for long seldom."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pages._ui.kit.jobs import POLL_LATER_S, POLL_S, POLL_WAITING_S, looks_every_s


def _shot(state: str, elapsed_s: float) -> Any:
    return SimpleNamespace(state=state, elapsed_s=elapsed_s)


@pytest.mark.parametrize(
    ("shots", "every"),
    [
        ([], POLL_S),
        ([_shot("running", 1)], POLL_S),
        ([_shot("running", 60)], POLL_LATER_S),
        ([_shot("queued", 1)], POLL_WAITING_S),
        ([_shot("queued", 60), _shot("running", 60)], POLL_LATER_S),
        ([_shot("running", 60), _shot("running", 1)], POLL_S),
    ],
)
def test_the_job_that_wants_it_most_says_how_often_a_tab_looks(shots: list[Any], every: float) -> None:
    assert looks_every_s(shots) == every


def test_a_shipped_set_is_read_once_for_all_people(tmp_path: Any) -> None:
    from workbench.workspace.home import Workspace
    from workbench.workspace.shelf import Shelf

    one, other = (Shelf(lambda: Workspace(tmp_path)) for _ in range(2))
    assert one("facts") is other("facts")


def test_what_knobs_a_config_has_is_found_once() -> None:
    from workbench.knobs import compat_of, knobs
    from workbench.methods import get

    config = get("sea").config
    assert knobs(config) is knobs(config) and compat_of(config) is compat_of(config)
