"""Invariants of sense edits, each with a negative control. Ref: docs/methods/senses.md §6."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_backpack import GENERAL, PREFIX, Y1, Y2
from torch.nn import functional as F

from workbench.models.backpack.reading import read_texts
from workbench.numerics.canonical_loop import LoopSettings, descend, seeded_schedule
from workbench.numerics.canonical_losses import LOSS_KINDS, loss_slopes, loss_value, needs, succeeds, success_rate
from workbench.numerics.sense_affine import SenseSelection, affine, ensemble_logits, kl_rows, nll_rows
from workbench.numerics.sense_importance import background, pair_importance, picks, raw_importance
from workbench.numerics.sense_training import SenseExample, SenseObjective, neutral_loss

ROUNDING = 1e-11  # float64, sums in another order
SELECTION = SenseSelection.of([(12, 2), (5, 0), (7, 1), (7, 3), (22, 0)])  # 22 occurs in no text here
SUFFIX_ROWS = range(3, 5)


@pytest.fixture(scope="module")
def pair(network):
    return read_texts(network, [(PREFIX + Y1, SUFFIX_ROWS), (PREFIX + Y2, SUFFIX_ROWS)])


@pytest.fixture(scope="module")
def chunks(network):
    return read_texts(network, [(chunk, range(len(chunk))) for chunk in GENERAL], with_neutral=True)


def random_delta(seed, scale=0.3):
    return scale * torch.randn(len(SELECTION), 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def edited_logits(network, ids, delta):
    """The dense route: run the network and add the table to its sense tensor."""
    ids = torch.tensor([ids])
    senses = network.senses(ids)
    for i, (token, sense) in enumerate(SELECTION.pairs()):
        senses = senses + (ids == token)[..., None, None] * F.one_hot(torch.tensor(sense), 4)[:, None] * delta[i]
    return network.unembedded(network.mix(network.contextualisation(ids), senses))[0]


def dense_loss(network, kind, delta, chunk=None, direction="p0_to_p"):
    means = []
    for suffix in (Y1, Y2):
        log_p = edited_logits(network, PREFIX + suffix, delta).log_softmax(-1)
        means.append(-sum(log_p[3 + i, token] for i, token in enumerate(suffix)) / len(suffix))
    good, bad = means
    loss = {"good": good, "bad": -bad, "balance": (good - bad).abs(), "good-v-bad": good - bad}[kind]
    if chunk is not None:
        log_p, log_p0 = (edited_logits(network, chunk, table).log_softmax(-1) for table in (delta, 0 * delta))
        left, right = (log_p0, log_p) if direction == "p0_to_p" else (log_p, log_p0)
        loss = loss + 0.3 * (left.exp() * (left - right)).sum()
    return loss


def objective(E, pair, chunks, kind, direction="p0_to_p"):
    reads = needs(kind)
    sides = [affine(text, SELECTION) if wanted else None for text, wanted in zip(pair, reads)]
    touched = [affine(chunk, SELECTION, touched_only=True) for chunk in chunks]
    return SenseObjective(E, [SenseExample(kind, *sides)], touched, [0.3] * 3, direction)


def test_logits_are_affine_in_the_table(network, E, pair):
    """I2, and the affine form equals the dense route."""
    one, two = random_delta(1), random_delta(2)
    base, first, second, both = (edited_logits(network, PREFIX + Y1, d) for d in (0 * one, one, two, one + two))
    torch.testing.assert_close(both - base, (first - base) + (second - base), rtol=0, atol=ROUNDING)
    text = affine(pair[0], SELECTION)
    torch.testing.assert_close(text.h(one) @ E.T, first[3:5], rtol=0, atol=ROUNDING)
    # Negative control: probabilities are not affine.
    p = [logits.softmax(-1) for logits in (base, first, second, both)]
    assert (p[3] - p[0] - (p[1] - p[0]) - (p[2] - p[0])).abs().max() > 1e-3


def test_a_table_of_zeros_leaves_every_loss_bit_equal(E, pair):
    """I4."""
    zero = torch.zeros(len(SELECTION), 8, dtype=torch.float64)
    bare = nll_rows([affine(pair[0], SenseSelection.of([]))], zero[:0], E)[0]
    assert torch.equal(nll_rows([affine(pair[0], SELECTION)], zero, E)[0], bare)
    assert not torch.equal(nll_rows([affine(pair[0], SELECTION)], zero + 1e-6, E)[0], bare)


def test_the_ensemble_with_nothing_to_lend_is_the_big_model(E, pair):
    """I4."""
    text, delta = affine(pair[0], SELECTION), random_delta(3)
    big = torch.randn(2, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shift = text.h(delta) - text.h0
    assert torch.equal(ensemble_logits(big, shift, E, 0.0, 20), big[:, :20])
    assert torch.equal(ensemble_logits(big, 0 * shift, E, 1.0, 20), big[:, :20])
    assert (ensemble_logits(big, shift, E, 0.5, 20) - big[:, :20]).abs().max() > 1e-3


def test_the_ensemble_of_raw_logits_equals_that_of_log_probabilities(E, pair):
    """I4, and D14: normalising over padded logits before the cut changes nothing."""
    text, delta = affine(pair[0], SELECTION), random_delta(3)
    big = torch.randn(2, 23, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = ensemble_logits(big, text.h(delta) - text.h0, E, 0.7, 20).log_softmax(-1)
    lent = (text.h(delta) @ E.T).log_softmax(-1) - (text.h0 @ E.T).log_softmax(-1)
    theirs = (big[:, :20].log_softmax(-1) + 0.7 * lent[:, :20]).log_softmax(-1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("direction", ["p0_to_p", "p_to_p0"])
@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_the_analytic_gradient_equals_autograd_through_the_network(network, E, pair, chunks, kind, direction):
    """I5."""
    delta = random_delta(4).requires_grad_()
    (expected,) = torch.autograd.grad(dense_loss(network, kind, delta, GENERAL[2], direction), delta)
    got = objective(E, pair, chunks, kind, direction).gradient(delta.detach(), [(0, 2)])
    torch.testing.assert_close(got, expected, rtol=0, atol=ROUNDING)
    assert (got[SELECTION.pairs().index((22, 0))] == 0).all() and (got[SELECTION.pairs().index((12, 2))] != 0).any()


def test_the_analytic_gradient_equals_finite_differences(E, pair, chunks):
    """I5."""
    goal, delta, step = objective(E, pair, chunks, "good-v-bad"), random_delta(5), 1e-5
    got = goal.gradient(delta, [(0, 1)])

    def value(table):
        # Only chunk 1 was drawn.
        drawn = SenseObjective(E, goal.examples, goal.chunks[1:2], [0.3])
        return drawn.mean_loss(table) + 0.3 * drawn.kl(table)

    for i, j in ((0, 0), (1, 5), (2, 7)):
        bump = torch.zeros_like(delta)
        bump[i, j] = step
        # Central differences err by O(step²) ~ 1e-10 times the third derivative, and by 1e-16/step.
        assert got[i, j].item() == pytest.approx((value(delta + bump) - value(delta - bump)) / (2 * step), abs=1e-8)


def test_a_group_gives_the_sum_of_its_members_gradients(E, pair, chunks):
    goal, delta = objective(E, pair, chunks, "balance"), random_delta(6)
    alone = goal.gradient(delta, [(0, 0)]) + goal.gradient(delta, [(0, 1)])
    torch.testing.assert_close(goal.gradient(delta, [(0, 0), (0, 1)]), alone, rtol=0, atol=ROUNDING)


def test_importance_sums_to_the_rows_for_each_sense(pair):
    """I6."""
    torch.testing.assert_close(raw_importance(pair[0]).mass.sum(0), torch.full((4,), 2.0, dtype=torch.float64), rtol=0, atol=ROUNDING)
    for gvb, total in (("add", 4.0), ("subtract", 0.0)):
        mass = pair_importance(*pair, True, gvb).mass.sum(0)
        torch.testing.assert_close(mass, torch.full((4,), total, dtype=torch.float64), rtol=0, atol=ROUNDING)


def test_picks_are_bounded_and_a_higher_price_never_raises_a_score(pair, chunks):
    """I6."""
    neutral = background(chunks, 23)
    raw = raw_importance(pair[0])
    assert len(picks(raw, neutral, 3, 2.0, 23)) == 3
    assert len(picks(raw, neutral, 500, 2.0, 23)) == int((raw.mass > 0).sum()) < 500
    cheap, dear = ({(p.token, p.sense): p.score for p in picks(raw, neutral, 500, price, 23)} for price in (1.0, 9.0))
    assert all(dear[where] <= cheap[where] for where in cheap) and dear != cheap
    by_raw = [p.raw for p in picks(raw, neutral, 500, 0.0, 23)]
    assert by_raw == sorted(by_raw, reverse=True)


def test_padding_rows_of_the_vocabulary_are_never_picked_and_unread_senses_only_on_request(pair, chunks):
    neutral, raw = background(chunks, 23), raw_importance(pair[0])
    assert all(pick.token < 9 for pick in picks(raw, neutral, 500, 0.0, 9))
    assert any(pick.token >= 9 for pick in picks(raw, neutral, 500, 0.0, 23))
    n_read = int((raw.mass > 0).sum())
    filled = picks(raw, neutral, n_read + 2, 0.0, 23, pick_ineligible=True)
    assert [(pick.token, pick.sense, pick.raw) for pick in filled[n_read:]] == [(0, 0, 0.0), (0, 1, 0.0)]


def test_ties_go_to_the_smaller_token_then_the_smaller_sense(pair, chunks):
    raw = raw_importance(pair[0])
    flat = type(raw)(raw.types, torch.ones_like(raw.mass))
    found = picks(flat, background(chunks, 23), 5, 0.0, 23)
    assert [(pick.token, pick.sense) for pick in found] == [(1, 0), (1, 1), (1, 2), (1, 3), (3, 0)]


@pytest.mark.parametrize(("good", "bad"), [(2.0, 3.5), (3.5, 2.0), (1.0, 1.0)])
def test_losses_mirror_each_other(good, bad):
    """I7."""
    assert loss_value("bad", good, bad) == -loss_value("good", bad, good)
    assert loss_value("balance", good, bad) == loss_value("balance", bad, good) >= 0
    assert loss_value("good-v-bad", good, bad) == -loss_value("good-v-bad", bad, good)
    for kind in LOSS_KINDS:
        step, slopes = 1e-6, loss_slopes(kind, good, bad)
        for side, slope in enumerate(slopes):
            up, down = ((good + s * (side == 0), bad + s * (side == 1)) for s in (step, -step))
            assert slope == pytest.approx((loss_value(kind, *up) - loss_value(kind, *down)) / (2 * step), abs=1e-6)


def test_right_padding_changes_no_row(network, pair):
    """I8: a batch with a longer text in it reads this one as it reads it alone."""
    together = read_texts(network, [(list(range(16)), range(15)), (PREFIX + Y1, SUFFIX_ROWS)])[1]
    torch.testing.assert_close(together.h0, pair[0].h0, rtol=0, atol=ROUNDING)
    assert len(together.targets) == len(Y1) and together.targets.tolist() == Y1


def test_success_of_good_is_a_bound_on_the_product_of_probabilities():
    """I9."""
    for p, expected in ((0.05, True), (0.0499, False)):
        assert succeeds(-math.log(p), -math.log(0.05)) is expected
    for wrong in (math.nan, math.inf, -math.inf):
        assert not succeeds(wrong, 1.0)
    assert success_rate([0.5, 2.0, math.nan, -math.inf], 1.0) == 0.25


def test_kl_to_oneself_is_zero_with_zero_gradient_and_second_order_nearby(E, chunks, pair):
    """I11."""
    zero, direction = torch.zeros(len(SELECTION), 8, dtype=torch.float64), random_delta(7)
    text = affine(chunks[2], SELECTION)
    assert kl_rows(text, zero, E).abs().max() < 1e-15
    goal = SenseObjective(E, [], [text], [1.0])
    small, smaller = (goal.kl(scale * direction) for scale in (2e-3, 1e-3))
    assert small / smaller == pytest.approx(4.0, rel=0.02)  # the third-order term is of relative size ~1e-3
    pull = objective(E, pair, chunks, "good").gradient(zero, [(0, 2)]) - objective(E, pair, chunks, "good").gradient(zero, [(0, 0)])
    assert pull.abs().max() < ROUNDING  # the KL terms of both chunks vanish, the losses cancel


def test_adam_on_the_sparse_table_equals_adam_on_the_dense_one(network, E, pair, chunks):
    """I12."""
    goal = objective(E, pair, chunks, "good-v-bad")
    sparse = torch.zeros(len(SELECTION), 8, dtype=torch.float64)
    draws = [(0, 0), (0, 1), (0, 2), (0, 2), (0, 0), (0, 1), (0, 1)]
    settings = LoopSettings(0.05, epochs=3)
    for _ in descend([sparse], lambda d: [goal.gradient(sparse, d)], lambda _: draws, settings):
        pass

    dense = torch.zeros(23, 4, 8, dtype=torch.float64)
    selector = torch.zeros(23, 4, 1, dtype=torch.float64)
    selector[SELECTION.token_ids, SELECTION.sense_ids] = 1

    def dense_gradient(drawn):
        table = dense.clone().requires_grad_()
        delta = (selector * table)[SELECTION.token_ids, SELECTION.sense_ids]
        loss = sum(dense_loss(network, "good-v-bad", delta, GENERAL[chunk]) for _, chunk in drawn)
        return torch.autograd.grad(loss, [table])

    for _ in descend([dense], dense_gradient, lambda _: draws, settings):
        pass
    torch.testing.assert_close(dense[SELECTION.token_ids, SELECTION.sense_ids], sparse, rtol=0, atol=ROUNDING)
    assert sparse.abs().max() > 0.05 and (dense * (1 - selector) == 0).all()


def test_the_general_loss_of_an_untouched_chunk_is_bit_identical(E, chunks):
    """I13."""
    only_first = SenseSelection.of([(5, 0), (5, 1)])  # 5 is the last token of the first chunk, so no row reads it
    delta = torch.full((2, 8), 3.0, dtype=torch.float64)
    base = nll_rows([affine(chunk.predicting(), SenseSelection.of([])) for chunk in chunks], delta[:0], E)
    untouched = neutral_loss(chunks, base, only_first)
    assert untouched.ratio(delta, E) == 1.0 and not untouched.touched
    touched = neutral_loss(chunks, base, SenseSelection.of([(4, 0), (4, 1)]))
    assert touched.ratio(delta, E) != 1.0 and len(touched.touched) == 1


def test_the_general_loss_by_touched_rows_equals_the_whole_computation(E, chunks):
    delta = random_delta(8)
    base = nll_rows([affine(chunk.predicting(), SenseSelection.of([])) for chunk in chunks], delta[:0], E)
    whole = torch.cat(nll_rows([affine(chunk.predicting(), SELECTION) for chunk in chunks], delta, E)).mean()
    assert neutral_loss(chunks, base, SELECTION).mean(delta, E) == pytest.approx(whole.item(), abs=ROUNDING)


def test_the_learning_rate_follows_the_cosine_of_the_specification():
    settings = LoopSettings(1.0)
    printed = [1, 0.976, 0.905, 0.794, 0.655, 0.5, 0.345, 0.206, 0.095, 0.024]
    assert [settings.lr_in(epoch) for epoch in range(1, 11)] == pytest.approx(printed, abs=6e-4)


@pytest.mark.parametrize(("accumulate", "m", "n_steps"), [("official", 119, 23), ("fixed", 119, 24), ("official", 4, 0), ("fixed", 4, 1)])
def test_steps_per_epoch_follow_the_accumulation(accumulate, m, n_steps):
    """119 examples: released code steps 23 times and never with fewer than five; ours uses every example."""
    seen = []

    def gradient(draws):
        seen.append(list(draws))
        return [torch.ones(1)]

    settings = LoopSettings(1e-3, epochs=1, accumulate=accumulate)
    for _ in descend([torch.zeros(1)], gradient, lambda _: [(i, 0) for i in range(m)], settings):
        pass
    assert len(seen) == n_steps
    assert len({draw for draws in seen for draw in draws}) == (n_steps if accumulate == "official" else m)


def test_the_same_seed_draws_the_same_schedule_and_shuffles_each_epoch():
    first, same, other = (seeded_schedule(20, 7, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    epochs = [first(1), first(2)]
    assert epochs == [same(1), same(2)] and epochs[0] != epochs[1] and epochs[0] != other(1)
    assert sorted(example for example, _ in epochs[0]) == list(range(20))
    assert {chunk for _, chunk in epochs[0]} <= set(range(7))
