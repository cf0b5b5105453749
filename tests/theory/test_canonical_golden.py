"""All golden numbers of sense finetuning: importance, gradients, KL, ensemble and the loop. Ref: docs/methods/senses.md §6."""

from __future__ import annotations

import pytest
import torch
from tiny_backpack import GENERAL, PREFIX, Y1, Y2

from workbench.models.backpack.reading import read_texts
from workbench.numerics.canonical_loop import LoopSettings, descend
from workbench.numerics.canonical_losses import loss_value
from workbench.numerics.sense_affine import SenseSelection, affine, ensemble_logits, kl_rows, nll_rows
from workbench.numerics.sense_importance import background, pair_importance, picks
from workbench.numerics.sense_training import SenseExample, SenseObjective, neutral_loss

PRINTED = 5.1e-9  # the reference is printed to 8 decimals
EMPTY = SenseSelection.of([])


def rows_of(prefix, suffix):
    return prefix + suffix, range(len(prefix) - 1, len(prefix) + len(suffix) - 1)


@pytest.fixture(scope="module")
def chunks(network):
    return read_texts(network, [(chunk, range(len(chunk))) for chunk in GENERAL])


@pytest.fixture(scope="module")
def pair(network):
    return read_texts(network, [rows_of(PREFIX, Y1), rows_of(PREFIX, Y2)])


def general_loss(chunks, selection, E):
    none = torch.zeros(0, 8, dtype=torch.float64)
    return neutral_loss(chunks, nll_rows([affine(chunk.predicting(), EMPTY) for chunk in chunks], none, E), selection)


def test_training_and_evaluation_values_equal_the_reference(pair, E):
    good, bad = nll_rows([affine(text, EMPTY) for text in pair], torch.zeros(0, 8, dtype=torch.float64), E)
    assert good.sum().item() == pytest.approx(27.53294825, abs=PRINTED)
    assert good.mean().item() == pytest.approx(13.76647413, abs=PRINTED)
    assert bad.sum().item() == pytest.approx(9.61535616, abs=PRINTED)
    assert bad.mean().item() == pytest.approx(4.80767808, abs=PRINTED)
    for kind in ("balance", "good-v-bad"):
        assert loss_value(kind, good.mean().item(), bad.mean().item()) == pytest.approx(8.95879605, abs=PRINTED)
        assert loss_value(kind, good.sum().item(), bad.sum().item()) == pytest.approx(17.91759209, abs=PRINTED)


FIVES = [((5, 1), 0.83358347), ((5, 2), 0.81584696), ((5, 0), 0.74909783)]
IMPORTANCE = [
    ("good", 0, [((12, 3), 0.94295036), ((12, 0), 0.88996847), ((5, 1), 0.83358347)]),
    ("balance", 0, [((12, 0), 2.33020889), ((7, 2), 1.70595440), ((12, 1), 1.61027319)]),
    ("subtract", 0, FIVES),
    ("good", 2, FIVES),
    ("subtract", 2, FIVES),
    ("balance", 2, [((12, 0), 1.50411516), *FIVES[:2]]),
]


@pytest.mark.parametrize(("kind", "penalty", "expected"), IMPORTANCE)
def test_the_three_most_important_senses_equal_the_reference(pair, chunks, kind, penalty, expected):
    neutral = background(chunks, 23)
    good, bad = pair[0], None if kind == "good" else pair[1]
    raw = pair_importance(good, bad, kind == "subtract", "subtract" if kind == "subtract" else "add")
    found = picks(raw, neutral, 3, penalty, 23)
    assert [(pick.token, pick.sense) for pick in found] == [where for where, _ in expected]
    assert [pick.score for pick in found] == pytest.approx([score for _, score in expected], abs=PRINTED)


@pytest.fixture(scope="module")
def edited(pair, chunks, E):
    """The edit of the golden vectors: −0.5 of each sense's own gradient at (12,2) and (5,0)."""
    selection = SenseSelection.of([(12, 2), (5, 0)])
    objective = SenseObjective(E, [SenseExample("good", affine(pair[0], selection), None)], [], [])
    gradient = objective.gradient(torch.zeros(2, 8, dtype=torch.float64), [(0, 0)])
    return selection, gradient, -0.5 * gradient


def test_the_gradient_of_a_sense_equals_the_reference(edited):
    expected = [-0.05667640, -0.04364875, -0.02471344, -0.00243329, 0.02017620, 0.04005493, 0.05451242, 0.06159190]
    row = edited[0].pairs().index((12, 2))
    assert edited[1][row].tolist() == pytest.approx(expected, abs=PRINTED)


def test_a_small_edit_moves_both_losses_as_the_reference(edited, pair, chunks, E):
    selection, _, delta = edited
    assert nll_rows([affine(pair[0], selection)], delta, E)[0].mean().item() == pytest.approx(13.61361151, abs=PRINTED)
    loss = general_loss(chunks, selection, E)
    assert loss.mean(delta, E) == pytest.approx(5.54919366, abs=PRINTED)
    assert loss.ratio(delta, E) - 1 == pytest.approx(7.36028e-4, abs=5e-10)


def test_both_directions_of_the_kl_equal_the_reference(edited, chunks, E):
    selection, _, delta = edited
    last = affine(chunks[2], selection)
    assert kl_rows(last, delta, E).sum().item() == pytest.approx(2.3871562e-4, abs=5e-12)
    assert kl_rows(last, delta, E, reverse=True).sum().item() == pytest.approx(2.3926921e-4, abs=5e-12)


def test_the_ensemble_equals_the_reference(edited, pair, E):
    selection, _, delta = edited
    text = affine(pair[0], selection)
    t, v = pair[0].rows[:, None].double(), torch.arange(23, dtype=torch.float64)[None]
    big = 1.5 * torch.sin(0.9 * (23 * t + v + 1))
    logits = ensemble_logits(big, text.h(delta) - text.h0, E, 0.7, 23)
    nll = torch.nn.functional.cross_entropy(logits, text.targets, reduction="none")
    assert nll.tolist() == pytest.approx([5.17658268, 4.54348650], abs=PRINTED)


UNION = [
    (4, 0),
    (4, 1),
    (4, 2),
    (4, 3),
    (8, 2),
    (10, 0),
    (13, 0),
    (13, 1),
    (14, 0),
    (15, 1),
    (15, 2),
    (17, 1),
    (17, 2),
    (17, 3),
]
LOOPS = {
    "official": (
        [(7.61027468, 0.00362530, 0.00040162), (7.56954038, 0.00715989, 0.00151536)],
        [0.09873997, 0.09870238, 0.09868444],
        0.48315751,
    ),
    "fixed": (
        [(7.27784279, 0.00124520, 0.04771900), (6.97638059, 0.00365471, 0.14586175)],
        [0.17933800, 0.17449175, 0.17285907],
        1.60639408,
    ),
}


@pytest.fixture(scope="module")
def loop_texts(network):
    examples = [rows_of([(3 * i + 1) % 23, (5 * i + 2) % 23, (7 * i + 3) % 23], [(11 * i + 4) % 23, (2 * i + 5) % 23]) for i in range(6)]
    return read_texts(network, examples)


def test_the_union_of_selected_senses_equals_the_reference(loop_texts, chunks):
    neutral = background(chunks, 23)
    chosen = [pick for text in loop_texts for pick in picks(pair_importance(text, None, False), neutral, 3, 2.0, 23)]
    assert SenseSelection.of((pick.token, pick.sense) for pick in chosen).pairs() == UNION


@pytest.mark.parametrize("accumulate", ["official", "fixed"])
def test_two_epochs_of_the_loop_equal_the_reference(loop_texts, chunks, E, accumulate):
    selection = SenseSelection.of(UNION)
    examples = [SenseExample("good", affine(text, selection), None) for text in loop_texts]
    touched = [affine(chunk, selection, touched_only=True) for chunk in chunks]
    objective = SenseObjective(E, examples, touched, [0.3] * 3)
    whole = SenseObjective(E, examples, [affine(chunk, selection) for chunk in chunks], [0.3] * 3)
    loss = general_loss(chunks, selection, E)
    delta = torch.zeros(len(selection), 8, dtype=torch.float64)
    settings = LoopSettings(0.05, epochs=2, accumulate=accumulate, cosine_epochs=10)
    schedule = lambda epoch: [(i, ((epoch - 1) * 6 + i) % 3) for i in range(6)]  # noqa: E731
    expected, first, norm = LOOPS[accumulate]
    for epoch in descend([delta], lambda draws: [objective.gradient(delta, draws)], schedule, settings):
        if epoch == 0:
            assert objective.mean_loss(delta) == pytest.approx(7.65411905, abs=PRINTED)
            continue
        mean, rise, kl = expected[epoch - 1]
        assert objective.mean_loss(delta) == pytest.approx(mean, abs=PRINTED)
        assert loss.ratio(delta, E) - 1 == pytest.approx(rise, abs=PRINTED)
        assert objective.kl(delta) == pytest.approx(kl, abs=PRINTED)
        assert whole.kl(delta) == pytest.approx(kl, abs=PRINTED)
    assert delta[UNION.index((13, 0)), :3].tolist() == pytest.approx(first, abs=PRINTED)
    assert delta.norm().item() == pytest.approx(norm, abs=PRINTED)
