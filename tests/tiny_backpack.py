"""The tiny Backpack of docs/methods/senses.md §6: 4160 parameters by formula, so that golden numbers can be recomputed."""

from __future__ import annotations

import torch

from workbench.models.backpack.network import BackpackConfig, BackpackNetwork

PREFIX, Y1, Y2 = [3, 7, 1, 12], [5, 9], [6, 10]
GENERAL = [[1, 2, 3, 4, 5], [7, 7, 8, 1], [20, 3, 12, 12, 6, 2]]
CONFIG = BackpackConfig(vocab_size=23, num_senses=4, n_positions=16, n_embd=8, n_layer=2, n_head=2)


def parameter_order() -> list[str]:
    """Return the names in the order in which the formula counts them."""
    pairs = lambda *names: [f"{name}.{part}" for name in names for part in ("weight", "bias")]  # noqa: E731
    body = ["wte.weight", "wpe.weight"]
    for layer in range(CONFIG.n_layer):
        body += pairs(*(f"h.{layer}.{part}" for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")))
    body += pairs("ln_f")
    senses = pairs("ln", "block.ln_1", "block.ln_2", "block.mlp.c_fc", "block.mlp.c_proj", "final_mlp.c_fc", "final_mlp.c_proj")
    return (
        [f"backpack.gpt2_model.{name}" for name in body]
        + [f"backpack.sense_network.{name}" for name in senses]
        + [f"backpack.sense_weight_net.{name}" for name in pairs("c_attn")]
    )


def tiny_backpack() -> BackpackNetwork:
    """Return the float64 network: w = sin(0.37(i+1)+1.7p); 1+0.1w in norm weights, 0.05w in biases, 0.5w elsewhere."""
    network = BackpackNetwork(CONFIG).double()
    parameters = dict(network.named_parameters())
    order = parameter_order()
    assert sorted(order) == sorted(parameters)
    with torch.no_grad():
        for p, name in enumerate(order):
            parameter = parameters[name]
            i = torch.arange(parameter.numel(), dtype=torch.float64)
            w = torch.sin(0.37 * (i + 1) + 1.7 * p).view_as(parameter)
            is_norm = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.1 * w if is_norm else 0.05 * w if name.endswith("bias") else 0.5 * w)
    return network.requires_grad_(False).eval()
