"""HPR as released, by the same operations: bit-equal down to the hyperplane, in the layers of a network, and in training.

Ref: docs/methods/hpr.md §5. The reference below is written from the formulas: batched, with the mirror as a matrix, the angle by
the clamped cosine, and the gate by diagonal matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import words
from tests.theory.test_hpr_model import HPR, ROWS
from tests.theory.test_hpr_training import HOW, toy
from workbench.edits.engine import applied
from workbench.methods.hpr.edit import HouseholderEdit, LayerTurn
from workbench.methods.registry import header
from workbench.numerics import angle_training
from workbench.numerics.angle_nets import AngleNets
from workbench.numerics.angle_training import _loss, _schedule, _targets
from workbench.numerics.householder import Formula, clamped_angle, pseudo_rotation, rotated_in_plane

D = 32
ALMOST_ONE = 1 - 1e-7


def released_angle(a: Tensor, b: Tensor) -> Tensor:
    cosine = torch.sum(a * b, dim=-1, keepdim=True) / (a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True))
    return torch.arccos(torch.clamp(cosine, -ALMOST_ONE, ALMOST_ONE))


def released_rotation(x: Tensor, w: Tensor, gamma1: Tensor) -> Tensor:
    """x (batch, pos, d), w (1, d), gamma1 (batch, pos, 1)."""
    mirror = torch.eye(w.shape[-1]) - 2 * torch.matmul(w.T, w) / (torch.norm(w, dim=-1) ** 2)
    mirrored = torch.matmul(x, mirror)
    gamma2 = released_angle(x, mirrored)
    return torch.sin(gamma1) / torch.sin(gamma2) * mirrored + torch.sin(gamma2 - gamma1) / torch.sin(gamma2) * x


def released_edit(x: Tensor, w: Tensor, angles: Callable[[Tensor], Tensor], alpha: float = 1.0) -> Tensor:
    """As `released_rotation` for tokens of rounded probability 0; the others pass."""
    n_batch, n_pos, width = x.shape
    positive = torch.sigmoid(torch.nn.functional.linear(x, w)).round()
    turned = released_rotation(x, w, angles(x) * alpha)
    keep = torch.diag_embed(positive.squeeze(-1).reshape(n_pos, n_batch))
    turn = torch.diag_embed((1 - positive).squeeze(-1).reshape(n_pos, n_batch))
    shape = (n_pos, n_batch, width)
    return (torch.matmul(keep, x.reshape(shape)) + torch.matmul(turn, turned.reshape(shape))).reshape(x.shape)


def near_the_plane(cosine: float, n: int = 200) -> tuple[Tensor, Tensor]:
    """Tokens of lengths 1 to 100 whose cosine with the normal is −|cosine|, as far as float32 can hold it."""
    draw = torch.Generator().manual_seed(7)
    w = torch.randn(D, generator=draw, dtype=torch.float64)
    u = w / w.norm()
    flat = torch.randn(n, D, generator=draw, dtype=torch.float64)
    flat -= (flat @ u)[:, None] * u
    flat /= flat.norm(dim=1, keepdim=True)
    length = 10 ** (2 * torch.rand(n, 1, generator=draw, dtype=torch.float64))
    return (length * ((1 - cosine**2) ** 0.5 * flat - cosine * u)).float(), w.float()


def steady(angle: float) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.full(x.shape[:-1], angle)


@pytest.mark.parametrize("cosine", [0.5, 0.1, 1e-2, 1e-3, 1e-4, 3e-5, 1e-5])
def test_the_formula_is_bit_equal_to_the_released_one_and_by_the_exact_angle_it_is_not(cosine: float) -> None:
    x, w = near_the_plane(cosine)
    angle = torch.linspace(0.05, 3.0, len(x))
    theirs = released_rotation(x[None], w[None], angle[None, :, None])[0]
    assert torch.equal(rotated_in_plane(x, w, angle, "official"), theirs)
    gated = released_edit(x[None], w[None], lambda _: angle[None, :, None])
    assert torch.equal(pseudo_rotation(w, lambda _: angle, formula="official")(x[None]), gated)
    exact = (rotated_in_plane(x, w, angle, "arcsin") - theirs).norm(dim=1) / theirs.norm(dim=1)
    if cosine <= 1e-4:
        assert float(exact.max()) > 0.5
    elif cosine >= 0.1:
        assert float(exact.max()) < 1e-4


def test_near_the_plane_the_released_formula_loses_length_and_the_closed_form_does_not() -> None:
    x, w = near_the_plane(1e-5)
    angle = torch.full((len(x),), 1.3)
    length = rotated_in_plane(x, w, angle, "official").norm(dim=1) / x.norm(dim=1)
    assert float(length.max()) < math.cos(1.3) + 0.05 and float(length.min()) > 0.8 * math.cos(1.3)
    assert torch.allclose(rotated_in_plane(x, w, angle).norm(dim=1), x.norm(dim=1), rtol=1e-5)
    far, w = near_the_plane(0.1)
    assert torch.allclose(rotated_in_plane(far, w, angle, "official").norm(dim=1), far.norm(dim=1), rtol=1e-4)


def test_a_positive_token_whose_probability_rounds_to_a_half_is_turned_as_released_and_not_by_us() -> None:
    w = torch.zeros(D)
    w[0] = 1.0
    x = torch.zeros(1, 2, D)
    x[0, :, 1], x[0, 0, 0], x[0, 1, 0] = 1.0, 1e-8, 1e-3
    theirs = released_edit(x, w[None], lambda x: torch.full((*x.shape[:-1], 1), 0.7))
    found = pseudo_rotation(w, steady(0.7), formula="official")(x)
    assert torch.equal(found, theirs) and not torch.equal(found[0, 0], x[0, 0]) and torch.equal(found[0, 1], x[0, 1])
    assert torch.equal(pseudo_rotation(w, steady(0.7))(x), x)


@contextmanager
def released_layers(model: Any, edit: HouseholderEdit, seen: list[Tensor]) -> Iterator[None]:
    """The reference as hooks on the blocks of the network itself; notes the cosine of every token that a block turns."""

    def hook(turn: LayerTurn) -> Callable[..., Any]:
        w = turn.probe[None]

        def angles(x: Tensor) -> Tensor:
            for i, (weight, bias) in enumerate(zip(turn.weights, turn.biases)):
                x = torch.nn.functional.linear(x if i == 0 else torch.nn.functional.gelu(x), weight, bias)
            return math.pi * torch.sigmoid(x)

        def after(module: Any, args: Any, output: Any) -> Any:
            x = output[0] if isinstance(output, tuple) else output
            out = released_edit(x, w, angles)
            cosine = torch.nn.functional.cosine_similarity(x, w[None], dim=-1).abs()
            seen.append(cosine[(out != x).any(-1)])
            return (out, *output[1:]) if isinstance(output, tuple) else out

        return after

    hooks = [model.network.transformer.h[layer].register_forward_hook(hook(turn)) for layer, turn in edit.turns.items()]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def on_the_plane(model: Any, formula: Formula = "official") -> HouseholderEdit:
    """An edit of two blocks whose probes are all but orthogonal to what the first texts have there."""
    draw = torch.Generator().manual_seed(3)
    turns: dict[int, LayerTurn] = {}
    from workbench.record import activations
    from workbench.sites import Site

    x = activations(model, model.tokens(TEXTS), [Site("resid_post", 0)])[Site("resid_post", 0)].flatten(0, 1)
    for layer in (0, 1):
        w = torch.randn(model.info.d_model, generator=draw)
        if layer == 0:  # orthogonal to twelve tokens, but for rounding
            basis = torch.linalg.qr(x[:12].double().T)[0]
            w = (w.double() - basis @ (basis.T @ w.double())).float()
        turns[layer] = LayerTurn.of(w, AngleNets.drawn(model.info.d_model, 2, None, [layer], 0))
    facts = {"layers": [0, 1], "n_mlp": 2, "formula": formula, "clamp_angle": False, "angle": "arccos"}
    return HouseholderEdit(header("hpr", model, ROWS, HPR.configure(preset="official-compat"), 0, facts), turns)


TEXTS = [words(*range(i, i + 8)) for i in range(1, 90, 8)]


def test_in_the_layers_of_a_network_both_agree_ill_conditioned_tokens_too(tiny_gpt2: Any) -> None:
    batch, seen = tiny_gpt2.tokens(TEXTS), list[Tensor]()
    edit = on_the_plane(tiny_gpt2)
    with torch.no_grad():
        with released_layers(tiny_gpt2, edit, seen):
            theirs = tiny_gpt2.network(input_ids=batch.ids).logits
        with applied(tiny_gpt2, edit):
            ours = tiny_gpt2.logits(batch)
        with applied(tiny_gpt2, on_the_plane(tiny_gpt2, "closed_form")):
            closed = tiny_gpt2.logits(batch)
    turned = torch.cat(seen)
    assert len(turned) > 60 and int((turned < 2.4e-4).sum()) >= 5  # ill-conditioned: the angle to the mirror image is clamped
    assert torch.equal(ours, theirs)
    assert float((closed - theirs).abs().max()) > 0.1


def test_edits_saved_before_keep_the_angle_they_were_saved_with(tiny_gpt2: Any) -> None:
    edit = on_the_plane(tiny_gpt2)
    older = {name: value for name, value in edit.header.facts.items() if name != "angle"}
    assert edit.formula == "official" and HouseholderEdit(replace(edit.header, facts=older), edit.turns).formula == "arcsin"


def test_targets_are_the_clamped_angles_and_those_of_positives_are_not_zero() -> None:
    rows, how = toy(60, 0), replace(HOW, clamps_target=True, neutral_weight=0.0)
    own, target = _targets(rows, how)
    stacked, partner = torch.cat([rows.positive, rows.negative], 1), torch.cat([rows.positive, rows.positive], 1)
    assert torch.equal(torch.cat([own, target], 1), released_angle(stacked, partner)[..., 0])
    assert float(own.min()) > 4.8e-4 and float(own.min()) < 5e-4 and float(own.max()) < 1.5e-3
    assert float(_targets(rows, replace(how, clamps_target=False))[0].abs().max()) == 0.0
    assert torch.equal(clamped_angle(rows.negative, rows.positive), target)


def test_the_loss_is_the_released_one_on_the_same_batch() -> None:
    rows, how = toy(40, 0, n_layers=1), replace(HOW, clamps_target=True, neutral_weight=0.0)
    probes, net = torch.randn(1, 16, generator=torch.Generator().manual_seed(0)), AngleNets.drawn(16, 3, None, [0], 0)
    picked = torch.arange(12)
    ours = _loss(probes, net, rows, _targets(rows, how), picked, picked[:0], how)
    good, bad = rows.positive[0, :12], rows.negative[0, :12]
    x = torch.cat([good, bad])
    labels = torch.cat([torch.ones(12, 1), torch.zeros(12, 1)])
    bce = torch.nn.functional.binary_cross_entropy(torch.sigmoid(torch.nn.functional.linear(x, probes)), labels)
    mse = torch.nn.functional.mse_loss(net.angles(x[None])[0][:, None], released_angle(x, torch.cat([good, good])))
    assert float(ours[0]) == pytest.approx(float(bce + mse), rel=1e-5)


@pytest.mark.parametrize(("n_steps", "ratio"), [(300, 0.05), (311, 0.05), (7, 0.3), (10, 0.0)])
def test_the_warm_up_is_the_trainers(n_steps: int, ratio: float) -> None:
    from transformers import get_linear_schedule_with_warmup

    how = replace(HOW, lr=1.0, n_steps=n_steps, warmup_ratio=ratio, warm_up="from_zero")
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    warm = math.ceil(n_steps * ratio)
    schedule = get_linear_schedule_with_warmup(optimizer, warm, n_steps)
    for step in range(n_steps):
        assert _schedule(step, how) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()
    assert (_schedule(0, how) == 0.0) is (ratio > 0) and _schedule(0, replace(how, warm_up="from_first_step")) > 0


def test_the_preset_trains_and_turns_as_released(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[angle_training.Training] = []
    honest = angle_training.train_angles

    def noted(rows: Any, held: Any, layers: Any, how: Any, **more: Any) -> Any:
        asked.append(how)
        return honest(rows, held, layers, how, **more)

    monkeypatch.setattr("workbench.methods.hpr.fit.train_angles", noted)
    quick = {"epochs": 2, "n_mlp": 2}
    for preset, released in (("official-compat", True), ("paper", False)):
        fit = HPR.fit(tiny_gpt2, ROWS, HPR.configure(quick, preset))
        assert isinstance(fit.edit, HouseholderEdit) and (fit.edit.formula == "official") is released
        how = asked[-1]
        assert (how.clamps_target, how.is_joint, how.warm_up == "from_zero") == (released, released, released)
