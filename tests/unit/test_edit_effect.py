"""What an edit does is taken apart exactly: parts sum to the change, free they are direct attribution's, kept nothing moves by looking."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conftest import words
from tests.made_edits import low_rank, shift
from workbench.errors import BadLane
from workbench.lenses.attribution import direct_attribution
from workbench.lenses.edit_effect import edit_effect

PROMPT = words(12, 13, 14, 15, 12, 13)
CLOSE = 2e-5


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_parts_sum_to_the_change_and_free_are_the_differences_of_direct_attribution(tiny_models: Any, family: str) -> None:
    model = tiny_models[family]
    edit, queries = shift(model, layer=0), low_rank(model, "w_q")
    found = edit_effect(model, PROMPT, " w1", " w2", [(), (edit,), (edit, queries)])
    assert [len(lane.edit_ids) for lane in found.lanes] == [1, 2]
    np.testing.assert_allclose(found.parts.sum(-1), found.after - found.before, atol=1e-9)
    for unit in ("component", "head"):
        told = direct_attribution(model, PROMPT, " w1", " w2", [(), (edit,), (edit, queries)], unit=unit)
        np.testing.assert_allclose(found.before, told.difference[0], atol=CLOSE)
        np.testing.assert_allclose(found.after[:, 0], told.difference[1:], atol=CLOSE)
        for k in range(2):
            wanted = dict(zip(told.labels, told.values[k + 1] - told.values[0]))
            if unit == "head":
                got = {f"L{i}H{j}": x for (i, j), x in np.ndenumerate(found.heads[k, 0])}
            else:
                got = dict(zip(found.labels, found.parts[k, 0]))
                wanted["embed"] += wanted.pop("pos_embed", 0.0)
            assert all(abs(x - wanted[name]) < CLOSE for name, x in got.items() if name != "constant"), unit


def test_an_edit_of_queries_does_nothing_where_heads_look_as_before_and_one_of_the_stream_does(tiny_gpt2: Any) -> None:
    queries, stream, last = low_rank(tiny_gpt2, "w_q"), shift(tiny_gpt2, layer=0), shift(tiny_gpt2, layer=tiny_gpt2.info.n_layers - 1)
    found = edit_effect(tiny_gpt2, PROMPT, " w1", " w2", [(queries,), (stream,), (last,)])
    assert np.abs(found.parts[0, 0]).max() > 100 * CLOSE and np.abs(found.parts[0, 1]).max() < CLOSE
    assert np.abs(found.parts[1, 1]).max() > 100 * CLOSE and np.abs(found.parts[1, 0] - found.parts[1, 1]).max() > CLOSE
    rest = found.labels.index("rest")
    assert np.abs(found.heads[2]).max() < np.abs(found.parts[2, 0, rest]), "behind all heads, what it adds speaks itself"
    np.testing.assert_allclose(found.parts[2, 0], found.parts[2, 1], atol=CLOSE)
    layer, head, most = found.strongest(1, 1)[0]
    assert abs(most) == np.abs(found.heads[1, 0]).max() and found.heads[1, 0, layer, head] == most
    rows = found.rows()
    assert len(rows) == 3 * (len(found.labels) + found.heads[0, 0].size)
    assert rows[0]["by_looking_elsewhere"] == pytest.approx(rows[0]["effect"] - rows[0]["attention_kept"])


def test_without_an_edit_there_is_nothing_to_take_apart(tiny_gpt2: Any) -> None:
    with pytest.raises(BadLane, match="No edit is on"):
        edit_effect(tiny_gpt2, PROMPT, " w1")
