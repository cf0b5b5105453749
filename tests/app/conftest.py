"""Fixtures of the page tests: the app with a tiny random model in place of the embedded one, and a fresh workspace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.conftest import contrast_rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fresh_backend(tmp_path: Path, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The process's backend with a tiny GPT-2 as its first model, opened in this thread when the app boots."""
    from pages._ui.kit import backend
    from workbench import opening

    monkeypatch.setenv("RETOUCH_HOME", str(tmp_path / "home"))
    folder = str(tiny_folders["gpt2"])

    def opened(model: str, workspace: Any = None, **options: Any) -> Any:
        return opening.open_session(folder if model == backend.FIRST else model, workspace, **options)

    st.cache_resource.clear()
    monkeypatch.setattr(backend, "open_session", opened)
    monkeypatch.setattr(backend, "imports", lambda tell: None)
    one = backend.backend()
    yield one
    one.jobs.cancel_all()
    st.cache_resource.clear()


@pytest.fixture
def app(fresh_backend: Any) -> Callable[..., AppTest]:
    """Run the app on a page, the model being open."""

    def run(page: str = "start") -> AppTest:
        fresh_backend.boot()
        fresh_backend.thread.join(60)
        assert fresh_backend.error is None, fresh_backend.error
        test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
        if page != "start":
            test.switch_page(f"pages/{page}.py").run()
        return fine(test)

    return run


def another_tab(test: AppTest) -> AppTest:
    """A new tab of the same person, as a browser opens it: it brings the cookie."""
    from pages._ui.kit.person import WORD

    new = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    new.session_state[WORD] = test.session_state[WORD]  # AppTest brings no cookies
    return new


def fine(test: AppTest) -> AppTest:
    """The run, which must have raised nothing, neither to Streamlit nor to our own frame."""
    assert not test.exception, test.exception
    foreign = [item.value for item in test.text if "did not foresee" in item.value]
    assert not foreign, [item.value for item in test.text]
    return test


def evaluate_view(test: AppTest, view: str) -> AppTest:
    """The page Evaluate at one of its views, by way of the question that it answers."""
    questions = test.segmented_control(key="evaluate-question")
    for question in questions.options:
        fine(test.segmented_control(key="evaluate-question").set_value(question).run())
        if view in test.segmented_control(key="evaluate-view").options:
            return fine(test.segmented_control(key="evaluate-view").set_value(view).run())
    raise KeyError(view)


def settled(test: AppTest, limit_s: float = 60) -> AppTest:
    """Run again until no job runs: AppTest has no timers."""
    from pages._ui.kit.backend import backend

    until = time.monotonic() + limit_s
    while backend().jobs.active() and time.monotonic() < until:
        time.sleep(0.05)
    assert not backend().jobs.active()
    return fine(test.run())


def texts(test: AppTest) -> str:
    """Everything that the page says, in one string."""
    parts = [*test.title, *test.header, *test.subheader, *test.markdown, *test.caption, *test.text]
    return "\n".join(str(part.value) for part in parts)


def own_set(backend: Any, n: int = 24, rows: Callable[[int], Any] = contrast_rows) -> str:
    """Put a set of the tiny model's words into the workspace; return its id."""
    session = backend.sessions["embedded"]
    return session.demos.save(rows(n)).id


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The process's backend with the embedded model itself."""
    from pages._ui.edit import fitting
    from pages._ui.kit import backend

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETOUCH_HOME", str(tmp_path_factory.mktemp("walks")))
        patch.setattr(fitting, "VERDICT_S", 120.0)
        patch.setattr(fitting, "SHORT_FIT_S", 0.0)  # no lesson asks for the fit on shuffled sides
        st.cache_resource.clear()
        found = backend.backend()
        found.boot()
        assert found.thread is not None
        found.thread.join(120)
        assert found.error is None, found.error
        yield found
        found.jobs.cancel_all()
        st.cache_resource.clear()
