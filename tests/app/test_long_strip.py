"""A strip of more tokens than anybody reads is shown a part at a time; its colours are those of the token that is picked now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each strip was given to draw, in order."""
    from pages._ui.kit import components

    seen: list[dict[str, Any]] = []

    def component(name: str, html: str) -> Callable[..., None]:
        return lambda data, **_: seen.append(data)

    monkeypatch.setattr(components, "_component", component)
    return seen


def page() -> None:
    import numpy as np
    import streamlit as st

    from pages._ui.inspect.looks import looks

    pattern = np.tri(1000) / np.arange(1, 1001)[:, None]
    st.text(f"from {looks([f't{j}' for j in range(1000)], pattern, key='long')}")


def test_a_thousand_tokens_are_shown_from_the_last_and_every_one_can_be_picked(drawn: list[dict[str, Any]]) -> None:
    test = fine(AppTest.from_function(page).run())
    assert drawn[-1]["offset"] == 600 and len(drawn[-1]["tokens"]) == 400 and drawn[-1]["tokens"][-1] == "t999"
    assert drawn[-1]["pinned"] is None and drawn[-1]["values"][-1] == pytest.approx(1 / 1000)
    fine(test.select_slider(key="long-query-from-1000").set_value(0).run())
    fine(test.selectbox(key="long-query-twin").set_value(3).run())
    assert drawn[-1]["tokens"][0] == "t0" and drawn[-1]["pinned"] == 3 and "from 3" in test.text[0].value
    assert drawn[-1]["values"][:5] == [0.25, 0.25, 0.25, 0.25, 0], "the colours are the picked token's at once"
    fine(test.select_slider(key="long-query-from-1000").set_value(400).run())
    assert "from 3" in test.text[0].value and drawn[-1]["pinned"] is None, "it looks on from out of sight"
    assert set(drawn[-1]["values"]) == {0}


def short() -> None:
    from pages._ui.kit.components import token_strip

    token_strip(["a", "b"], key="short")


def test_a_short_strip_has_no_parts(drawn: list[dict[str, Any]]) -> None:
    assert not fine(AppTest.from_function(short).run()).select_slider and drawn[-1]["tokens"] == ["a", "b"]
