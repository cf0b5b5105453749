"""A lens over several prompts is the mean and the spread of what it says of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.conftest import contrast_rows
from tests.made_edits import shift
from workbench.errors import NotEnoughData
from workbench.lenses.ablation import head_ablation
from workbench.lenses.attribution import direct_attribution
from workbench.lenses.heads import name_movers
from workbench.lenses.logit_lens import logit_lens
from workbench.lenses.over_rows import over_rows


def test_mean_and_spread_are_those_of_each_row_by_itself_in_every_lane(tiny_gpt2: Any) -> None:
    rows, edit = contrast_rows(12), shift(tiny_gpt2, layer=0)
    for what in ("component", "head"):
        found = over_rows(tiny_gpt2, rows, [(), (edit,)], what=what, most=10)
        each = [direct_attribution(tiny_gpt2, r.prompt, r.positive, r.negative, [(), (edit,)], unit=what).values for r in rows.rows[:10]]
        np.testing.assert_allclose(found.mean, np.mean(each, 0), atol=1e-6)
        np.testing.assert_allclose(found.spread, np.std(each, 0, ddof=1), atol=1e-6)
        assert (
            found.n == 10 and found.left_out == 0 and (found.low <= found.mean)[:, :-1].all() and (found.high >= found.mean)[:, :-1].all()
        )
    lens = over_rows(tiny_gpt2, rows, what="layers", most=4)
    wanted = []
    for row in rows.rows[:4]:
        one = logit_lens(tiny_gpt2, row.prompt, targets=[row.positive, row.negative]).target_log_probs[0, :, -1]
        wanted.append(one[:, 0] - one[:, 1])
    np.testing.assert_allclose(lens.mean[0], np.mean(wanted, 0), atol=1e-5)
    assert np.isnan(lens.low).all() and lens.rows()[0]["low"] is None, "four rows have no interval"


def test_of_heads_attention_to_the_good_answer_and_what_is_lost_without_them_are_those_of_each_row(tiny_gpt2: Any) -> None:
    edit = shift(tiny_gpt2, layer=0)
    rows = contrast_rows(8)
    named = rows.with_rows([replace(row, positive=" " + str(row.prompt).split()[i % 2]) if i < 6 else row for i, row in enumerate(rows)])
    stacks: list[Any] = [(), (edit,)]
    looks, lost = (over_rows(tiny_gpt2, named, stacks, what=what) for what in ("looks", "lost"))
    assert looks.n == 6 and looks.left_out == 2, "two prompts do not name their good answer"
    each = np.stack([name_movers(tiny_gpt2, r.prompt, str(r.positive), str(r.negative), stacks).attention for r in named.rows[:6]])
    np.testing.assert_allclose(looks.mean, each.mean(0).reshape(2, -1), atol=1e-6)
    assert lost.n == 8 and lost.labels == looks.labels and lost.labels[5] == "L1H1"
    each = np.stack([-head_ablation(tiny_gpt2, r.prompt, str(r.positive), str(r.negative), stacks).change for r in named])
    np.testing.assert_allclose(lost.mean, each.mean(0).reshape(2, -1), atol=1e-6)
    np.testing.assert_allclose(lost.spread, each.std(0, ddof=1).reshape(2, -1), atol=1e-6)
    with pytest.raises(NotEnoughData, match="0 of 8 rows .* name the good one"):
        over_rows(tiny_gpt2, rows, what="looks")


def test_rows_of_several_tokens_are_left_out_and_too_few_are_refused(tiny_gpt2: Any) -> None:
    rows = contrast_rows(8)
    mixed = rows.with_rows([replace(row, positive=" w1 w2") if i < 3 else row for i, row in enumerate(rows)])
    found = over_rows(tiny_gpt2, mixed)
    assert found.n == 5 and found.left_out == 3
    with pytest.raises(NotEnoughData, match="2 of 8 rows"):
        over_rows(tiny_gpt2, rows.with_rows([replace(row, positive=" w1 w2") if i < 6 else row for i, row in enumerate(rows)]))
