"""HPR on live models: positions, caching, selection, refusals (docs/methods/hpr.md §6)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows, words
from workbench import methods
from workbench.decode import Sampling, generate
from workbench.edits.engine import applied
from workbench.errors import BadKnob, NoEffect, UnsupportedExport
from workbench.methods.hpr.rows import pairs_of
from workbench.methods.hpr.select import by_accuracy
from workbench.methods.shared.neutral import neutral_of
from workbench.record import activations
from workbench.sites import Site

HPR = methods.get("hpr")
ROWS = contrast_rows()
QUICK = {"min_steps": 8, "epochs": 1, "n_mlp": 2}


def fitted(model: Any, preset: str = "paper", **values: Any) -> methods.Fitted:
    return HPR.fit(model, ROWS, HPR.configure({**QUICK, **values}, preset))


def test_every_architecture_fits_and_cached_decoding_equals_one_by_one(tiny: Any) -> None:
    edit, prompts = fitted(tiny, layers=(1, 2)).edit, [words(11, 12, 13), words(20, 21)]
    (together,) = generate(tiny, prompts, [(edit,)], Sampling(max_new_tokens=5))
    for prompt, answer in zip(prompts, together):
        ((alone,),) = generate(tiny, [prompt], [(edit,)], Sampling(max_new_tokens=5))
        assert alone.ids == answer.ids
        assert torch.allclose(torch.tensor(alone.log_probs), torch.tensor(answer.log_probs), atol=1e-3)
    batch = tiny.tokens(prompts)
    base = tiny.logits(batch)
    with applied(tiny, edit):
        assert not torch.allclose(tiny.logits(batch), base, atol=1e-3)
    with applied(tiny, edit.scaled(0.0)):
        assert torch.equal(tiny.logits(batch), base)


def test_position_last_moves_the_last_token_only(tiny_gpt2: Any) -> None:
    # many rows, so that the probe calls some early token bad
    site, batch = Site("resid_post", 1), tiny_gpt2.tokens([words(*range(i, i + 4)) for i in range(1, 90, 4)])
    base = activations(tiny_gpt2, batch, [site])[site]
    for positions, only_last in (("last", True), ("all", False)):
        with applied(tiny_gpt2, fitted(tiny_gpt2, layers=(1,), positions=positions).edit):
            found = activations(tiny_gpt2, batch, [site])[site]
        assert torch.equal(found[:, :-1], base[:, :-1]) == only_last


def test_released_positions_are_all_when_scoring_and_the_last_when_generating(tiny_gpt2: Any) -> None:
    site, prompt, answer = Site("resid_post", 1), words(11, 12, 13, 14), " " + words(50, 51)
    released, everywhere = (fitted(tiny_gpt2, layers=(1,), positions=how).edit for how in ("released", "all"))

    def at(edit: Any, batch: Any) -> torch.Tensor:
        with applied(tiny_gpt2, edit):
            return activations(tiny_gpt2, batch, [site])[site]

    prompts = [prompt, *(words(*range(i, i + 4)) for i in range(1, 90, 4))]
    scored, asked = tiny_gpt2.tokens(prompt, answer), tiny_gpt2.tokens(prompts)
    assert torch.equal(at(released, scored), at(everywhere, scored))
    plain = activations(tiny_gpt2, asked, [site])[site]
    assert torch.equal(at(released, asked)[:, :-1], plain[:, :-1])
    assert not torch.equal(at(everywhere, asked)[:, :-1], plain[:, :-1])


def test_nothing_folds(tiny_gpt2: Any) -> None:
    edit = fitted(tiny_gpt2, layers=(1,)).edit
    with pytest.raises(UnsupportedExport, match="token by token"):
        edit.folded(tiny_gpt2)
    assert {name: type(can).__name__ for name, can in edit.exports().items()}["script"] == "Possible"


def test_selection_by_accuracy_takes_the_best_and_ties_go_low() -> None:
    accuracy = {0: 0.6, 1: 0.9, 2: 0.9, 3: 0.95}
    assert by_accuracy(accuracy, 2, None) == (1, 3)
    assert by_accuracy(accuracy, 9, 0.9) == (1, 2, 3)
    assert by_accuracy(accuracy, 9, 0.99) == (3,)


def test_selection_by_benefit_stays_within_the_damage_limit_or_hands_back_nothing(tiny_gpt2: Any) -> None:
    report = fitted(tiny_gpt2, "protected", max_damage=10.0).report
    assert report.tables["prefixes"] and 1 <= int(report.arrays["selected"].sum()) <= 3
    with pytest.raises(NoEffect, match="No choice of layers stays within KL 0 .* nothing is handed back"):
        fitted(tiny_gpt2, "protected", max_damage=0.0, neutral_weight=0.0)


def test_chance_probes_are_named(tiny_gpt2: Any) -> None:
    notices = fitted(tiny_gpt2, layers=(0,)).report.notices
    assert any("chance" in notice.text for notice in notices)
    assert any("fewer than 50" in notice.text for notice in notices)


def test_layers_that_do_not_exist_are_refused(tiny_gpt2: Any) -> None:
    with pytest.raises(BadKnob, match="layers 0 to 2"):
        fitted(tiny_gpt2, layers=(5,))


def test_references_make_all_pairs_and_without_them_one_a_row() -> None:
    import dataclasses

    row = dataclasses.replace(ROWS[0], tags=("true:w1 w2", "false:w50", "false:w51"))
    rows = ROWS.with_rows([row])
    assert len(pairs_of(rows, True, 100, 0)) == 2 * len({row.negative, " w50", " w51"})
    assert len(pairs_of(rows, False, 100, 0)) == 1 and len(pairs_of(rows, True, 3, 0)) == 3


def test_neutral_text_comes_from_the_set_or_from_samples(tiny_gpt2: Any) -> None:
    import dataclasses

    assert neutral_of(tiny_gpt2, ROWS, 0).source == "the demonstrations"
    bare = ROWS.with_rows(dataclasses.replace(row, neutral=None) for row in ROWS)
    drawn = neutral_of(tiny_gpt2, bare, 0)
    assert drawn.source == "the model's own samples" and len(drawn.fit) >= 4 and not set(drawn.fit) & set(drawn.held)
