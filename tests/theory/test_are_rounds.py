"""Invariants of docs/methods/are.md §6, 8 to 17: the game between discriminator and adapters, each with its negative control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.concepts import concept_rows, meaningless_rows
from tests.conftest import words
from tests.contest import CLOSE, TEXTS, config, contest_on, fitted, weights_of
from workbench.edits.engine import applied
from workbench.errors import FitFailed
from workbench.methods import get
from workbench.methods.are.fit import fit, kept_round, stop_reason, worth
from workbench.methods.are.rounds import Contest, Round
from workbench.methods.registry import header
from workbench.methods.shared.adapters import AdapterEdit, matrix_of
from workbench.methods.shared.concept import concept_of
from workbench.methods.shared.discriminator import Discriminator, train_discriminator
from workbench.progress import silent
from workbench.score import text_scores


@pytest.fixture(scope="module")
def edit(tiny_models: dict[str, Any]) -> AdapterEdit:
    made = fitted(tiny_models["gpt2"]).edit
    assert isinstance(made, AdapterEdit)
    return made


def test_8_the_discriminator_is_bit_frozen_while_the_model_moves_and_the_adapters_while_it_learns(tiny_gpt2: Any) -> None:
    contest = contest_on(tiny_gpt2)
    contest.open()
    base, s = weights_of(tiny_gpt2), [p.clone() for p in contest.discriminator.parameters()]
    fresh = contest.adapters.factors()
    contest.move(1, silent())
    assert all(torch.equal(one, other) for one, other in zip(s, contest.discriminator.parameters()))
    assert all(p.grad is None for p in contest.discriminator.parameters())
    moved = contest.adapters.factors()
    assert any(not torch.equal(fresh[site].b, low.b) for site, low in moved.items())
    old = contest.discriminator
    contest.relearn(1, torch.randn(16, s[0].shape[1], generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(moved[site].b, low.b) for site, low in contest.adapters.factors().items())
    assert contest.discriminator is not old
    assert all(torch.equal(base[name], p) for name, p in tiny_gpt2.network.named_parameters())


def mean_loss(contest: Contest, discriminator: Discriminator) -> float:
    with torch.no_grad():
        return float(contest.generator_loss(discriminator, slice(0, 16)))


def test_9_moving_the_model_lowers_its_loss_unless_there_is_nothing_to_gain(tiny_gpt2: Any) -> None:
    contest = contest_on(tiny_gpt2)
    contest.open()
    before = mean_loss(contest, contest.discriminator)
    contest.move(1, silent())
    assert mean_loss(contest, contest.discriminator) < 0.7 * before

    content = contest_on(tiny_gpt2)
    content.open()
    with torch.no_grad():
        last = content.discriminator.layers[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([-40.0, 40.0]))  # everything is called target already
    content.move(1, silent())
    assert mean_loss(content, content.discriminator) < 1e-6
    assert all(low.b.abs().max() == 0 for low in content.adapters.factors().values())


def test_10_swapping_goal_labels_and_output_rows_together_gives_the_same_losses(tiny_gpt2: Any) -> None:
    toward, away = contest_on(tiny_gpt2), contest_on(tiny_gpt2, direction="away")
    toward.open()
    away.open()
    last = away.discriminator.layers[-1]
    unswapped = away.move(1, silent())
    away = contest_on(tiny_gpt2, direction="away")
    away.open()
    last = away.discriminator.layers[-1]
    with torch.no_grad():
        last.weight.copy_(last.weight.flip(0))
        last.bias.copy_(last.bias.flip(0))
    torch.testing.assert_close(torch.tensor(toward.move(1, silent())), torch.tensor(away.move(1, silent())), atol=CLOSE, rtol=1e-3)
    assert abs(unswapped[0] - toward.generator_loss(toward.discriminator, slice(0, 1)).item()) > 1e-3


def test_11_each_round_draws_another_discriminator_and_a_seed_draws_it_again(tiny_gpt2: Any) -> None:
    def first_weight(seed: int, index: int) -> torch.Tensor:
        contest = contest_on(tiny_gpt2, seed=seed, epochs_d=1, batch_d=16, lr_d=1e-6)
        contest.open()
        contest.relearn(index, torch.zeros(16, 64))
        return contest.discriminator.layers[0].weight.detach().clone()

    assert torch.equal(first_weight(0, 1), first_weight(0, 1))
    assert not torch.equal(first_weight(0, 1), first_weight(0, 2))
    assert not torch.equal(first_weight(0, 1), first_weight(1, 1))


def rounds_with(base: Round, **columns: Sequence[float]) -> list[Round]:
    n = len(next(iter(columns.values())))
    made = [replace(base, index=0, wanted=np.zeros(20))]
    for i in range(n):
        values: dict[str, Any] = {name: column[i] for name, column in columns.items() if name not in ("kl", "wanted")}
        if "wanted" in columns:
            values["wanted"] = np.full(20, columns["wanted"][i])
        kl = columns.get("kl", [0.01] * n)[i]
        made.append(replace(base, index=i + 1, damage=replace(base.damage, kl=kl), **values))
    return made


@pytest.fixture(scope="module")
def opening(tiny_models: dict[str, Any]) -> Round:
    return contest_on(tiny_models["gpt2"]).open()


@pytest.mark.parametrize(("accuracy", "stops"), [(0.45, False), (0.4501, True), (0.6999, True), (0.70, False), (0.2, False), (1.0, False)])
def test_12_only_the_open_window_stops(opening: Round, accuracy: float, stops: bool) -> None:
    found = stop_reason(rounds_with(opening, accuracy=[accuracy]), config(keep="window"))
    assert found == ("window" if stops else None)


def test_12_guard_and_patience_stop_and_the_kept_round_is_inside_the_guard(opening: Round) -> None:
    rounds = rounds_with(opening, accuracy=[0.6] * 3, wanted=[0.5, 0.9, 0.8], kl=[0.01, 0.05, 0.4])
    guarded = config(keep="last", max_retention_kl=0.1, stop_low=0.65)
    assert stop_reason(rounds, guarded) == "guard"
    assert stop_reason(rounds[:3], guarded) is None
    assert kept_round(rounds, guarded).index == 2
    assert kept_round(rounds, config(keep="last")).index == 3
    assert stop_reason(rounds, config(patience=1)) == "no further gain"
    assert stop_reason(rounds, config(patience=2)) is None, "the window does not stop what validation judges"
    assert stop_reason(rounds, config(patience=1, keep="window")) == "window"
    with pytest.raises(FitFailed, match="first round"):
        kept_round(rounds, config(max_retention_kl=0.001))


def test_retention_holds_on_to_other_text_than_damage_is_measured_on(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.methods.are import retention, rounds

    how, rows = config(retention_kl=1.0), concept_rows()
    retained, measured = tiny_gpt2.tokens([words(60, 61)]), tiny_gpt2.tokens([words(60, 61, 62, 63, 64)])
    made = header("are", tiny_gpt2, rows, how, 0)
    contest = Contest(tiny_gpt2, concept_of(tiny_gpt2, rows, n_prompts=how.n_prompts), (retained, measured), how, made, 0)
    lengths: dict[str, set[int]] = {"retained": set(), "measured": set()}

    def told(name: str) -> Any:
        kl = retention.kl_per_token
        return lambda base, edited, mask: lengths[name].add(mask.shape[1]) or kl(base, edited, mask)

    monkeypatch.setattr(rounds, "kl_per_token", told("retained"))
    monkeypatch.setattr(retention, "kl_per_token", told("measured"))
    contest.open()
    contest.play(1, silent())
    assert lengths == {"retained": {retained.ids.shape[1]}, "measured": {measured.ids.shape[1]}}


def test_a_later_round_is_kept_while_its_gain_outruns_its_damage(opening: Round) -> None:
    wanted, gentle, harsh = [0.65, 0.94, 0.98], [0.002, 0.004, 0.006], [0.002, 0.004, 0.1]
    assert kept_round(rounds_with(opening, wanted=wanted, kl=gentle), config()).index == 3
    assert kept_round(rounds_with(opening, wanted=wanted, kl=harsh), config()).index == 2
    assert kept_round(rounds_with(opening, wanted=wanted, kl=harsh), config(keep="last")).index == 3
    rounds = rounds_with(opening, wanted=wanted, kl=harsh)
    assert worth(rounds[2]) == pytest.approx(0.94 - 5.0 * 0.004)
    assert stop_reason(rounds, config(patience=1)) == "no further gain", "what is gained costs more than it is worth"
    assert stop_reason(rounds_with(opening, wanted=wanted, kl=gentle), config(patience=1)) is None


def test_13_the_first_step_of_adam_is_lr_g_over_g_plus_epsilon() -> None:
    draw = torch.Generator().manual_seed(0)
    b, g = nn.Parameter(torch.zeros(6, 2)), torch.randn(6, 2, generator=draw) * 0.01
    b.grad = g.clone()
    torch.optim.Adam([b], lr=1e-4, eps=1e-2).step()
    wanted = -1e-4 * g / (g.abs() + 1e-2)
    torch.testing.assert_close(b.detach(), wanted, rtol=1e-4, atol=1e-10)  # Adam's bias correction rounds in float32
    assert not torch.allclose(b.detach(), -1e-4 * g.sign(), rtol=1e-2), "with a small epsilon it would be the sign"


def test_14_sides_without_meaning_are_refused_and_with_the_check_off_stop_at_once(tiny_gpt2: Any) -> None:
    with pytest.raises(FitFailed, match="not represented") as caught:
        get("are").fit(tiny_gpt2, meaningless_rows(), config(), seed=0)
    assert "min_accuracy" in caught.value.hint
    opened = contest_on(tiny_gpt2, meaningless_rows()).open()
    assert 0.2 < opened.accuracy < 0.7, "16 validation prompts: chance is 0.5 ± 0.125"
    assert contest_on(tiny_gpt2).open().accuracy > 0.8, "a concept that is there"
    unchecked = config(min_accuracy=0.0, keep="window", max_rounds=2, stop_low=0.2, stop_high=0.8)
    report = get("are").fit(tiny_gpt2, meaningless_rows(), unchecked, seed=0).report
    assert report.scalars["rounds"] == 1.0
    assert "(window)" in report.notices[0].text


def test_15_the_discriminator_has_the_published_number_of_parameters() -> None:
    def count(kind: Any, width: int) -> int:
        return sum(p.numel() for p in Discriminator(width, kind, 512, torch.Generator()).parameters())

    assert count("mlp", 20_480) == 10_487_298 == 20_480 * 512 + 512 + 1024 + 2
    assert count("linear", 64) == 130
    # Weights and biases begin uniform between ∓ 1/√width, as torch begins them.
    for drawn in Discriminator(1024, "mlp", 512, torch.Generator().manual_seed(0)).parameters():
        bound = (1024 if drawn.shape[0] == 512 else 512) ** -0.5
        ends = (float(drawn.detach().min()) / bound, float(drawn.detach().max()) / bound)
        assert max(map(abs, ends)) <= 1 and (drawn.numel() < 100 or (ends[0] < -0.9 and ends[1] > 0.9))


@pytest.mark.parametrize(("eps", "share"), [(1e-8, 1.0), (1e6, 0.0)])
def test_the_first_step_of_a_discriminator_moves_every_weight_that_counts_by_its_rate(eps: float, share: float) -> None:
    draw = torch.Generator().manual_seed(0)
    made, r = Discriminator(8, "linear", 4, draw), torch.randn(40, 8, generator=draw)
    before = [p.detach().clone() for p in made.parameters()]
    train_discriminator(made, r, r[:, 0] > 0, lr=0.01, eps=eps, epochs=1, batch_size=40, generator=draw, min_steps=1)
    moved = torch.cat([(p.detach() - old).abs().flatten() for p, old in zip(made.parameters(), before)])
    assert torch.allclose(moved, torch.full_like(moved, 0.01 * share), atol=1e-4), "Adam, one step of a whole batch"


def test_16_weights_are_linear_in_the_dose_and_dose_zero_is_bit_identical(tiny_gpt2: Any, edit: AdapterEdit) -> None:
    batch = tiny_gpt2.tokens(TEXTS)
    with torch.no_grad():
        base = tiny_gpt2.logits(batch)
        with applied(tiny_gpt2, edit.scaled(0.0)):
            assert torch.equal(tiny_gpt2.logits(batch), base)
        with applied(tiny_gpt2, edit):
            assert not torch.equal(tiny_gpt2.logits(batch), base)
    for half, one in zip(edit.scaled(0.5).folded(tiny_gpt2), edit.folded(tiny_gpt2)):
        assert half.site == one.site
        torch.testing.assert_close(half.delta.dense(), 0.5 * one.delta.dense(), rtol=1e-6, atol=1e-12)  # type: ignore[union-attr]
        assert one.delta.shape == tuple(matrix_of(tiny_gpt2.weight(one.site)).shape)  # type: ignore[union-attr]


def test_17_the_same_seed_gives_the_same_tensors_and_another_seed_does_not(tiny_gpt2: Any, edit: AdapterEdit) -> None:
    again, other = fitted(tiny_gpt2).edit, fitted(tiny_gpt2, seed=1).edit
    assert all(torch.equal(tensor, again.tensors()[name]) for name, tensor in edit.tensors().items())
    assert any(not torch.equal(tensor, other.tensors()[name]) for name, tensor in edit.tensors().items())


def test_moving_toward_and_away_takes_prompts_to_opposite_sides(tiny_gpt2: Any) -> None:
    for direction in ("toward", "away"):
        contest = contest_on(tiny_gpt2, direction=direction)
        opened = contest.open()
        played = contest.play(1, silent())
        assert played.goal_before < 0.75 < played.goal_after, direction
        # Nobody is happier for a fooled discriminator: sides without answers are judged by which of their texts are likelier.
        assert _ahead(contest, (contest.edit(played.factors, 1),), direction) == pytest.approx(played.benefit)
        assert _ahead(contest, (), direction) == pytest.approx(opened.benefit) and opened.benefit != played.benefit


def _ahead(contest: Contest, stack: tuple[AdapterEdit, ...], direction: str) -> float:
    """How often, by hand, the goal's validation text is the likelier of a pair, a token."""
    prompts, model = contest._concept.validation, contest._model  # pyright: ignore[reportPrivateUsage]
    scores = text_scores(model, [str(text) for text in prompts.texts], [stack]).mean[0].tolist()
    sides = [[one for one, side in zip(scores, prompts.sides) if side == wanted] for wanted in ("target", "anti_target")]
    goal, other = sides if direction == "toward" else sides[::-1]
    return sum(one > two for one in goal for two in other) / (len(goal) * len(other))


def test_the_retention_term_lowers_the_divergence_on_neutral_text(tiny_gpt2: Any) -> None:
    kl: list[float] = []
    for weight in (0.0, 30.0):
        contest = contest_on(tiny_gpt2, retention_kl=weight)
        contest.open()
        kl.append(contest.play(1, silent()).damage.kl)
    assert kl[1] < 0.6 * kl[0]


def test_fit_is_the_registered_function() -> None:
    assert get("are").run is fit


def test_as_released_each_discriminator_is_trained_thirty_epochs_and_ours_longer_where_prompts_are_few(tiny_gpt2: Any) -> None:
    released = dict(get("are").presets["official-compat"])
    r = torch.randn(32, 24, generator=torch.Generator().manual_seed(0))
    for values, epochs in ((released, 30), ({**released, "min_steps_d": 120}, 120), ({}, 120)):
        contest = contest_on(tiny_gpt2, **values)
        contest._is_target = torch.arange(32) % 2 == 0
        assert len(contest.relearn(0, r)) == epochs and contest._config.epochs_d == 30
