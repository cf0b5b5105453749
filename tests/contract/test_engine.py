"""Every line of DESIGN §4, on tiny random models of seven families."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import words
from tests.made_edits import CLOSE, MadeEdit, batch_of, dense, logits, made, real, several, shift, under
from workbench.decode import Sampling, decode, generate
from workbench.edits.base import Edit, Header
from workbench.edits.engine import applied, lanes
from workbench.errors import ModelMismatch, NotFinite, ShapeMismatch, UnknownSite
from workbench.models.base import Fingerprint, LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.operations import AddToWeight, Gate, TransformAt
from workbench.sites import Site


def test_no_edits_and_dose_zero_are_bit_identical_and_dose_one_is_not(tiny: LanguageModel) -> None:
    base = logits(tiny)
    assert torch.equal(under(tiny), base)
    for edit in several(tiny):
        assert torch.equal(under(tiny, edit.scaled(0.0)), base)
        assert not torch.allclose(real(tiny, under(tiny, edit)), real(tiny, base), atol=1e-4)


def test_lanes_equal_single_runs(tiny: LanguageModel) -> None:
    edits = several(tiny)
    stacks: list[tuple[Edit, ...]] = [(), *((edit,) for edit in edits), tuple(edits[:3]), tuple(edits[4:])]
    batch = batch_of(tiny)
    with lanes(tiny, stacks):
        together = logits(tiny, batch.repeat(len(stacks)))
    for i, stack in enumerate(stacks):
        mine = together[i * len(batch) : (i + 1) * len(batch)]
        torch.testing.assert_close(real(tiny, mine), real(tiny, under(tiny, *stack)), atol=CLOSE, rtol=1e-4)
    # negative control: lanes really differ
    assert not torch.allclose(real(tiny, together[:3]), real(tiny, together[3:6]), atol=1e-3)


def test_edits_apply_in_the_order_given_and_nesting_equals_listing(tiny: LanguageModel) -> None:
    site, d = Site("resid_post", 1), tiny.info.d_model
    double = made(tiny, lambda dose: (TransformAt(site, lambda x: 2 * x, d),))
    add = shift(tiny)
    first = under(tiny, double, add)
    assert not torch.allclose(first, under(tiny, add, double), atol=1e-4)
    with applied(tiny, double), applied(tiny, add):
        assert torch.equal(logits(tiny), first)


def test_one_head_and_its_whole_layer_keep_their_order(tiny: LanguageModel) -> None:
    whole = Site("head_z", 1)
    width = tiny.width(whole)
    double = made(tiny, lambda dose: (TransformAt(whole, lambda x: 2 * x, width),))
    head = shift(tiny, "head_z", 1, 0)
    assert not torch.allclose(under(tiny, double, head), under(tiny, head, double), atol=1e-5)


def test_two_deltas_of_one_weight_add_up(tiny: LanguageModel) -> None:
    one, two = dense(tiny, "w_out", 2), dense(tiny, "w_out", 3)
    delta = one.tensors()["delta0"] + two.tensors()["delta0"]
    both = made(tiny, lambda dose: (AddToWeight(Site("w_out", 0), delta),))
    torch.testing.assert_close(under(tiny, one, two), under(tiny, both), atol=CLOSE, rtol=1e-4)


@pytest.mark.parametrize("kind", ["w_q", "w_k", "w_v", "w_o", "w_in", "w_out"])
def test_a_delta_as_an_added_term_equals_changing_the_weight(tiny: LanguageModel, kind: str) -> None:
    edit = dense(tiny, kind)
    wanted = under(tiny, edit)
    slot, delta = tiny.weight(Site(kind, 0)), edit.tensors()["delta0"]
    before = slot.parameter.detach().clone()
    try:
        with torch.no_grad():
            stored = slot.parameter.T if slot.is_transposed else slot.parameter
            index = torch.arange(stored.shape[0]) if slot.columns is None else slot.columns
            stored[index] += delta
        torch.testing.assert_close(logits(tiny), wanted, atol=CLOSE, rtol=1e-4)
    finally:
        with torch.no_grad():
            slot.parameter.copy_(before)


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])
def test_everything_is_restored_after_an_exception_of_any_kind(tiny: LanguageModel, stop: type[BaseException]) -> None:
    base, hooks = logits(tiny), tiny.hook_count()
    with pytest.raises(stop), applied(tiny, *several(tiny)):
        logits(tiny)
        raise stop
    assert tiny.hook_count() == hooks
    assert torch.equal(logits(tiny), base)


def test_everything_is_restored_after_streamlits_own_stop(tiny_gpt2: LanguageModel) -> None:
    from streamlit.runtime.scriptrunner_utils.exceptions import StopException

    base, hooks = logits(tiny_gpt2), tiny_gpt2.hook_count()
    with pytest.raises(StopException), applied(tiny_gpt2, *several(tiny_gpt2)):
        raise StopException
    assert tiny_gpt2.hook_count() == hooks
    assert torch.equal(logits(tiny_gpt2), base)


def test_an_exception_inside_a_forward_leaves_nothing_behind(tiny: LanguageModel) -> None:
    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("inside")

    base, hooks = logits(tiny), tiny.hook_count()
    broken = made(tiny, lambda dose: (TransformAt(Site("resid_post", 1), fail, tiny.info.d_model),))
    with pytest.raises(RuntimeError, match="inside"):
        under(tiny, broken)
    assert tiny.hook_count() == hooks
    assert torch.equal(logits(tiny), base)


def test_weights_stay_bit_equal(tiny: LanguageModel) -> None:
    before = {name: p.detach().clone() for name, p in tiny.network.named_parameters()}
    under(tiny, *several(tiny))
    generate(tiny, [words(12, 13)], [(), tuple(several(tiny))], Sampling(max_new_tokens=3))
    assert all(torch.equal(p, before[name]) for name, p in tiny.network.named_parameters())


def test_a_cached_forward_equals_a_full_one_under_every_edit(tiny: LanguageModel) -> None:
    batch = batch_of(tiny)
    for edit in several(tiny):
        full = under(tiny, edit, batch=batch)
        with torch.no_grad(), applied(tiny, edit):
            short = TokenBatch(batch.ids[:, :-1], batch.mask[:, :-1], batch.n_prompt)
            _, cache = tiny.step(short, tiny.new_cache(), 0)
            last, _ = tiny.step(batch, cache, batch.ids.shape[1] - 1)
        torch.testing.assert_close(last, full[:, -1], atol=CLOSE, rtol=1e-4)


def test_padding_on_the_left_changes_nothing(tiny: LanguageModel) -> None:
    texts = [words(12, 13, 14, 15), words(20, 12)]
    together = logits(tiny, tiny.tokens(texts))
    alone = logits(tiny, tiny.tokens(texts[1]))
    torch.testing.assert_close(together[1, -2:], alone[0], atol=CLOSE, rtol=1e-4)


def test_where_and_gate_select_positions(tiny: LanguageModel) -> None:
    batch = tiny.tokens([words(12, 13, 14)], [words(15, 16)])
    site, d = Site("resid_post", tiny.info.n_layers - 1), tiny.info.d_model
    base = logits(tiny, batch)
    changed: dict[str, list[bool]] = {}
    for where in ("all", "prompt", "generated", "last", "first 1"):
        edit = made(tiny, lambda dose, where=where: (TransformAt(site, lambda x: x + 1 + x.roll(1, -1), d, where),))
        changed[where] = [not torch.equal(a, b) for a, b in zip(under(tiny, edit, batch=batch)[0], base[0])]
    assert changed["all"] == [True] * 5
    assert changed["prompt"] == [True, True, True, False, False]
    assert changed["generated"] == [False, False, True, True, True]
    assert changed["last"] == [False, False, False, False, True]
    assert changed["first 1"] == [False, False, True, False, False]
    for bias, acts in ((-1e9, False), (1e9, True)):
        gate = Gate(torch.zeros(d), torch.tensor(bias))
        gated = shift(tiny).gated({Site("resid_post", 1): gate})
        assert torch.equal(under(tiny, gated, batch=batch), base) is not acts


def test_wrong_edits_are_refused_before_anything_is_touched(tiny: LanguageModel) -> None:
    hooks, base = tiny.hook_count(), logits(tiny)
    d = tiny.info.d_model
    foreign = MadeEdit(Header("made", {}, Fingerprint("x", "", "float32", "raw", "0"), "", 0, {}))
    nowhere = made(tiny, lambda dose: (TransformAt(Site("resid_post", 99), lambda x: x, d),))
    narrow = made(tiny, lambda dose: (TransformAt(Site("resid_post", 0), lambda x: x, d - 1),))
    misfit = made(tiny, lambda dose: (AddToWeight(Site("w_out", 0), torch.zeros(3, 3)),))
    broken = made(tiny, lambda dose: (AddToWeight(Site("w_out", 0), torch.full(tiny.weight(Site("w_out", 0)).shape, torch.nan)),))
    for edit, error in (
        (foreign, ModelMismatch),
        (nowhere, UnknownSite),
        (narrow, ShapeMismatch),
        (misfit, ShapeMismatch),
        (broken, NotFinite),
    ):
        with pytest.raises(error) as told, applied(tiny, shift(tiny), edit):
            pass
        assert told.value.hint
    assert tiny.hook_count() == hooks
    assert torch.equal(logits(tiny), base)


def test_rows_that_do_not_divide_into_lanes_are_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(ShapeMismatch, match="3 rows"), lanes(tiny_gpt2, [(), (shift(tiny_gpt2),)]):
        logits(tiny_gpt2)


def test_threads_with_different_edits_never_see_each_other(tiny: LanguageModel) -> None:
    edits = [shift(tiny, seed=i) for i in range(4)]
    alone = [under(tiny, edit) for edit in edits]
    base, wrong = logits(tiny), []

    def work(i: int) -> None:
        for _ in range(15):
            if not torch.equal(under(tiny, edits[i]), alone[i]) or not torch.equal(logits(tiny), base):
                wrong.append(i)

    hooks = tiny.hook_count()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert tiny.hook_count() == hooks


def test_a_suspended_decoding_edits_nobody_elses_forward(tiny: LanguageModel) -> None:
    base, hooks = logits(tiny), tiny.hook_count()
    running = decode(tiny, [words(12, 13)], [(shift(tiny),)], Sampling(max_new_tokens=4))
    next(running)
    assert torch.equal(logits(tiny), base)
    assert tiny.hook_count() == hooks
    running.close()


def test_lanes_equal_single_runs_in_float64_by_eight_orders(tiny_folders: Any) -> None:
    from workbench.models.catalog import load

    model = load(str(tiny_folders["llama"]), dtype="float64")
    edit = shift(model)
    batch = batch_of(model)
    with lanes(model, [(), (edit,)]):
        both = logits(model, batch.repeat(2))
    torch.testing.assert_close(both[3:], under(model, edit), atol=1e-13, rtol=1e-12)
