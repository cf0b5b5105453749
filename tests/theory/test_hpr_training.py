"""Training of probes and angle networks: layers are independent, toy data are learned, shuffled labels are not (docs/methods/hpr.md §6)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from workbench.numerics.angle_nets import AngleNets
from workbench.numerics.angle_training import PairRows, Trained, Training, evaluated, train_angles
from workbench.numerics.householder import angle_between

D = 16
HOW = Training(lr=5e-3, n_steps=150, batch_pairs=32)


def toy(n: int, seed: int, n_layers: int = 2, shift: float = 1.5) -> PairRows:
    """Pairs around a common activation, the good one shifted along a direction of the layer; neutral tokens as the good ones."""
    draw = torch.Generator().manual_seed(seed)
    ways = torch.randn(n_layers, 1, D, generator=torch.Generator().manual_seed(99))
    base = torch.randn(n_layers, n, D, generator=draw)
    good, bad = base + shift * ways, base - shift * ways
    return PairRows(good, bad, good.flip(1) * 0.9, torch.ones(n_layers, n, dtype=torch.bool))


def shuffled(rows: PairRows, seed: int) -> PairRows:
    swap = (torch.rand(rows.n_pairs, generator=torch.Generator().manual_seed(seed)) < 0.5)[None, :, None]
    return replace(rows, positive=torch.where(swap, rows.negative, rows.positive), negative=torch.where(swap, rows.positive, rows.negative))


def run(rows: PairRows, held: PairRows, how: Training = HOW, layers: tuple[int, ...] = (0, 1), seed: int = 0) -> Trained:
    return train_angles(rows, held, layers, how, n_mlp=3, width=None, seed=seed, tell=lambda *_: None)


@pytest.fixture(scope="module")
def learned() -> Trained:
    return run(toy(200, 0), toy(80, 1))


def test_separable_pairs_are_learned_and_shuffled_ones_are_not(learned: Trained) -> None:
    held = toy(80, 1)
    assert float(learned.accuracy.max(0).values.min()) > 0.95
    free = replace(HOW, neutral_weight=0.0)
    noise = run(shuffled(toy(200, 0), 5), shuffled(held, 6), free)
    assert float(noise.accuracy.mean()) < 0.65
    angles = noise.nets.angles(held.negative)
    target = angle_between(held.negative, held.positive)
    assert float(angles.std()) < float(target.std()) + 0.35  # near one angle for all: nothing to tell them apart by


def test_predicted_angles_are_large_on_bad_tokens_and_small_on_good_and_neutral_ones(learned: Trained) -> None:
    held = toy(80, 1)
    bad, good, calm = (float(learned.nets.angles(x).mean()) for x in (held.negative, held.positive, held.neutral))
    assert bad > good + 0.5 and bad > calm + 0.5


def test_protection_keeps_neutral_tokens_on_the_positive_side_and_without_it_some_are_not() -> None:
    rows = toy(200, 0)
    odd = replace(rows, neutral=-0.3 * rows.positive + 3.0)  # ordinary text that the pairs alone would put anywhere
    held = replace(toy(80, 1), neutral=odd.neutral[:, :50])

    def gated(weight: float) -> float:
        probes = run(odd, held, replace(HOW, neutral_weight=weight)).probes
        return float((torch.einsum("lnd,ld->ln", held.neutral, probes) <= 0).float().mean())

    assert gated(1.0) < 0.05
    assert gated(0.0) > 0.2


def test_a_layer_trained_alone_equals_it_trained_with_others() -> None:
    rows, held = toy(60, 0), toy(30, 1)
    how = replace(HOW, n_steps=40)

    def one(x: PairRows) -> PairRows:
        return PairRows(x.positive[1:], x.negative[1:], x.neutral[1:], x.used[1:])

    together, alone = run(rows, held, how), run(one(rows), one(held), how, layers=(1,))
    assert torch.allclose(together.probes[1], alone.probes[0], atol=1e-6)
    for mine, theirs in zip(together.nets.parameters(), alone.nets.parameters()):
        assert torch.allclose(mine[1], theirs[0], atol=1e-6)
    joint = replace(how, is_joint=True, checkpoint="joint_probe_accuracy", clip_norm=0.01)
    assert not torch.allclose(run(rows, held, joint).probes[1], run(one(rows), one(held), joint, layers=(1,)).probes[0], atol=1e-6)


def test_probes_do_not_depend_on_the_networks() -> None:
    rows, held, how = toy(60, 0), toy(30, 1), replace(HOW, n_steps=30)
    deep = train_angles(rows, held, (0, 1), how, n_mlp=4, width=None, seed=0, tell=lambda *_: None)
    assert torch.allclose(deep.probes, run(rows, held, how).probes, atol=1e-6)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    rows, held, how = toy(60, 0), toy(30, 1), replace(HOW, n_steps=20)
    assert torch.equal(run(rows, held, how).probes, run(rows, held, how).probes)
    assert not torch.equal(run(rows, held, how, seed=1).probes, run(rows, held, how).probes)


def test_losses_do_not_depend_on_the_order_of_rows_and_skipped_pairs_do_not_count(learned: Trained) -> None:
    held, order = toy(40, 3), torch.randperm(40, generator=torch.Generator().manual_seed(0))
    mixed = PairRows(held.positive[:, order], held.negative[:, order], held.neutral, held.used[:, order])
    plain = replace(HOW, neutral_weight=0.0)
    for one, other in zip(evaluated(learned.probes, learned.nets, held, plain), evaluated(learned.probes, learned.nets, mixed, plain)):
        assert torch.allclose(one, other, atol=1e-5)
    spoiled = replace(held, negative=held.negative.clone(), used=held.used.clone())
    spoiled.negative[:, 0] = 5 * held.positive[:, 0]
    with_it = evaluated(learned.probes, learned.nets, spoiled, plain)
    spoiled.used[:, 0] = False
    without_it = evaluated(learned.probes, learned.nets, spoiled, plain)
    rest = evaluated(
        learned.probes, learned.nets, PairRows(*(x[:, 1:] for x in (held.positive, held.negative, held.neutral, held.used))), plain
    )
    assert torch.allclose(without_it[1], rest[1], atol=1e-5) and not torch.allclose(with_it[1], rest[1], atol=1e-3)


def test_the_checkpoint_kept_is_the_best_that_was_seen(learned: Trained) -> None:
    found = evaluated(learned.probes, learned.nets, toy(80, 1), HOW)
    assert torch.allclose(found[0], learned.accuracy.max(0).values, atol=1e-6)
    assert torch.allclose(found[2], learned.angle_loss.min(0).values, atol=1e-5)


def test_initial_weights_are_within_the_bounds_of_linear_layers() -> None:
    net = AngleNets.drawn(64, 3, None, [4], 0)
    for weight in net.weights:
        bound = 1 / math.sqrt(weight.shape[-1])
        assert float(weight.abs().max()) <= bound and float(weight.abs().max()) > 0.5 * bound
