"""Every line of DESIGN §4 once more, on a Backpack, and its own addresses: single senses and the virtual sense table."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.contract.test_engine import *  # noqa: F403 - its tests run here with this module's `tiny`
from tests.made_edits import CLOSE, batch_of, dense, draw, logits, made, real, rows, under
from workbench.decode import Sampling, generate
from workbench.edits.engine import lanes
from workbench.errors import ShapeMismatch
from workbench.models.tokens import TokenBatch
from workbench.operations import AddToWeight, Rows, TransformAt
from workbench.sites import Site


@pytest.fixture
def tiny(tiny_backpack_model: Any) -> Any:
    return tiny_backpack_model


def test_where_and_gate_select_positions(tiny: Any) -> None:
    """In place of the test of that name: the first position reads itself alone, so nothing in the body can move its logits."""
    site, d = Site("resid_post", tiny.info.n_layers - 1), tiny.info.d_model
    batch = tiny.tokens([words(12, 13, 14)], [words(15, 16)])
    base = logits(tiny, batch)
    changed: dict[str, list[bool]] = {}
    for where in ("all", "prompt", "generated", "last"):
        edit = made(tiny, lambda dose, where=where: (TransformAt(site, lambda x: x + 1 + x.roll(1, -1), d, where),))
        changed[where] = [not torch.equal(a, b) for a, b in zip(under(tiny, edit, batch=batch)[0], base[0])]
    assert changed["all"] == [False, True, True, True, True]
    assert changed["last"] == [False, False, False, False, True]
    # Weights read keys of earlier positions, so a change at one position reaches the later ones.
    assert changed["prompt"] == [False, True, True, True, True]
    assert changed["generated"] == [False, False, True, True, True]


def zero_sense(model: Any, sense: int):
    return made(model, lambda dose: (TransformAt(Site("sense", sense), lambda x: (1 - dose) * x, model.info.d_model),))


def table_edit(model: Any, token: int, sense: int, seed: int = 0):
    d = model.info.d_model
    values = torch.zeros(1, model.n_senses * d)
    values[0, sense * d : (sense + 1) * d] = 0.3 * draw(d, seed=seed)
    return made(model, lambda dose: (AddToWeight(Site("sense_table"), Rows(torch.tensor([token]), dose * values)),))


def test_removing_a_sense_equals_mixing_without_it(tiny: Any) -> None:
    batch = batch_of(tiny)
    network = tiny.network
    senses = network.senses(batch.ids).clone()
    senses[:, :, 2] = 0
    expected = network.unembedded(network.mix(network.contextualisation(batch.ids, batch.mask), senses))
    torch.testing.assert_close(real(tiny, under(tiny, zero_sense(tiny, 2))), real(tiny, expected), atol=CLOSE, rtol=1e-4)
    assert not torch.allclose(real(tiny, under(tiny, zero_sense(tiny, 1))), real(tiny, expected), atol=1e-4)


def test_one_sense_and_all_senses_keep_their_order(tiny: Any) -> None:
    whole = Site("sense")
    double = made(tiny, lambda dose: (TransformAt(whole, lambda x: 2 * x, tiny.width(whole)),))
    add = made(tiny, lambda dose: (TransformAt(Site("sense", 1), lambda x: x + 0.3, tiny.info.d_model),))
    assert not torch.allclose(under(tiny, double, add), under(tiny, add, double), atol=1e-4)


def test_a_row_of_the_sense_table_changes_the_rows_that_read_its_word_and_no_other(tiny: Any) -> None:
    base, edited = logits(tiny), under(tiny, table_edit(tiny, 12, 2))
    batch = batch_of(tiny)
    seen = (batch.ids == 12).cumsum(1) > 0
    assert torch.equal(edited[~seen & batch.mask], base[~seen & batch.mask])
    assert not torch.isclose(edited, base, atol=1e-5).all(-1)[seen].any()


def test_sense_edits_in_lanes_equal_each_alone_and_edits_of_the_embedding_too(tiny: Any) -> None:
    edits = [table_edit(tiny, 12, 2), zero_sense(tiny, 0), rows(tiny), dense(tiny, "w_out")]
    stacks = [(), *((edit,) for edit in edits), tuple(edits)]
    batch = batch_of(tiny)
    with lanes(tiny, stacks):
        together = logits(tiny, batch.repeat(len(stacks)))
    for i, stack in enumerate(stacks):
        mine = together[i * len(batch) : (i + 1) * len(batch)]
        torch.testing.assert_close(real(tiny, mine), real(tiny, under(tiny, *stack)), atol=CLOSE, rtol=1e-4)


def test_cached_decoding_under_sense_edits_equals_growing_the_prompt(tiny: Any) -> None:
    stacks = [(), (table_edit(tiny, 12, 2),), (zero_sense(tiny, 1),), (rows(tiny),)]
    found = generate(tiny, [words(12, 13, 14)], stacks, Sampling(max_new_tokens=4))
    for lane, stack in enumerate(stacks):
        ids = tiny.tokens([words(12, 13, 14)]).ids[0].tolist()
        for token in found[lane][0].ids:
            whole = TokenBatch.of([ids], None)
            assert int(under(tiny, *stack, batch=whole)[0, -1].argmax()) == token
            ids.append(token)


def test_a_row_of_the_wrong_width_is_refused(tiny: Any) -> None:
    edit = made(tiny, lambda dose: (AddToWeight(Site("sense_table"), Rows(torch.tensor([1]), torch.ones(1, 32))),))
    with pytest.raises(ShapeMismatch, match="sense_table"):
        under(tiny, edit)


def test_the_catalog_estimates_and_names_a_backpack(tiny: Any, tiny_backpack_folder: Any) -> None:
    from workbench.models.catalog import estimate

    assert estimate(str(tiny_backpack_folder)).n_parameters == tiny.info.n_parameters
    assert tiny.info.architecture == "BackpackGPT2LMHeadModel" and tiny.info.has_senses
    assert tiny.n_tokens == 100 and tiny.info.d_vocab == 104
