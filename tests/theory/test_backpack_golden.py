"""The Backpack's forward pass against numbers of an independent float64 reference. Ref: docs/methods/senses.md §2.3, §6."""

from __future__ import annotations

import torch
from tiny_backpack import GENERAL, PREFIX, Y1, Y2

PRINTED = 5e-9  # the reference is printed to 8 decimals


def nlls(network, prefix, suffix):
    ids = torch.tensor([prefix + suffix])
    log_p = network(ids)[0, :-1].log_softmax(-1)
    return -log_p.gather(1, ids[0, 1:, None])[len(prefix) - 1 :, 0]


def assert_printed(got, expected):
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=PRINTED)


def test_the_tiny_network_has_4160_parameters(network):
    assert sum(parameter.numel() for parameter in network.parameters()) == 4160


def test_contextualisation_weights_equal_the_reference(network):
    alpha = network.contextualisation(torch.tensor([PREFIX + Y1]))
    assert alpha.shape == (1, 4, 6, 6)
    assert_printed(alpha[0, 1, 5], [0.02335294, 0.25919889, 0.02354189, 0.35065092, 0.01172170, 0.33153366])


def test_sense_vectors_equal_the_reference(network):
    expected = [-4.26378480, -5.25151228, -5.52847221, -5.05717936, -3.90142101, -2.21762362, -0.23368129, 1.78188871]
    assert_printed(network.senses(torch.tensor(12))[2], expected)


def test_logits_equal_the_reference(network):
    expected = [-3.00857724, 2.19023910, -1.29987412, 0.36676230, 0.57841064, -1.50456233]
    assert_printed(network(torch.tensor([PREFIX + Y1]))[0, 5, :6], expected)


def test_suffix_losses_equal_the_reference(network):
    assert_printed(nlls(network, PREFIX, Y1), [14.83212683, 12.70082142])
    assert_printed(nlls(network, PREFIX, Y2), [7.27695451, 2.33840164])


def test_general_loss_equals_the_reference(network):
    losses = torch.cat([nlls(network, chunk[:1], chunk[1:]) for chunk in GENERAL])
    assert_printed(losses.mean(), 5.54511230)


def test_without_the_inverse_layer_scale_the_reference_is_missed(network):
    """Negative control: the golden logits do depend on the scale that is easiest to forget."""
    attention = network.backpack.gpt2_model.h[1].attn
    before = attention.scale
    attention.scale = 2 * before
    try:
        wrong = network(torch.tensor([PREFIX + Y1]))[0, 5, 0]
    finally:
        attention.scale = before
    assert abs(wrong + 3.00857724) > 1e-3
