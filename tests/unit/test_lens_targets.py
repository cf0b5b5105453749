"""What a lens follows is one token, or is refused with its tokens by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import words
from workbench.errors import BadPrompt
from workbench.lenses.attribution import direct_attribution
from workbench.lenses.logit_lens import logit_lens
from workbench.models.catalog import load
from workbench.models.token_texts import one_token, token_ids


def test_one_token_is_its_id_and_several_are_refused_by_name(tiny_gpt2: Any) -> None:
    single, double = words(1), words(1, 2)
    assert [one_token(tiny_gpt2, single)] == token_ids(tiny_gpt2, single)
    with pytest.raises(BadPrompt, match="is 2 tokens here") as told:
        one_token(tiny_gpt2, double)
    assert "'w1'" in told.value.hint
    with pytest.raises(BadPrompt, match="holds no token"):
        one_token(tiny_gpt2, "")


def test_the_word_that_would_be_one_with_its_space_is_offered() -> None:
    """Names of the embedded model: pieces without their leading space, one token with it."""
    embedded = load("embedded")
    with pytest.raises(BadPrompt) as told:
        one_token(embedded, "Anna")
    assert "' Anna', with a leading space: that is one token" in told.value.hint
    assert one_token(embedded, " Anna") == token_ids(embedded, " Anna")[0]


@pytest.mark.parametrize("at", [0, 1])
def test_no_lens_takes_the_first_token_for_the_whole(tiny_gpt2: Any, at: int) -> None:
    asked = [words(3), words(4)]
    asked[at] = words(3, 4)
    with pytest.raises(BadPrompt, match="a lens follows one"):
        direct_attribution(tiny_gpt2, words(1, 2), *asked)
    with pytest.raises(BadPrompt, match="a lens follows one"):
        logit_lens(tiny_gpt2, words(1, 2), targets=asked)
