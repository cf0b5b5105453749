"""Damage where it happens: own answers, the tail over tokens, abilities that ship."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta, t

from tests.conftest import contrast_rows, words
from workbench.conversations import Conversation
from workbench.data import damage
from workbench.data.checks import length
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.passages import passages
from workbench.edits.engine import applied
from workbench.edits.lane import Lane
from workbench.edits.prompting import Prompting
from workbench.errors import BadDemonstrations
from workbench.evaluate.metrics import mean_metric, tail_metric
from workbench.evaluate.own_answers import ANSWER_TOKENS, answer_divergences, own_answers
from workbench.evaluate.side_effects import chance, side_effects
from workbench.methods.registry import get
from workbench.numerics.intervals import FEWEST_TEXTS, FEWEST_TOKENS, quantile_interval

PROMPTS = [words(*range(i, i + 3)) for i in range(10, 30)]


@pytest.fixture(scope="module")
def fitted(tiny_models: Any) -> Any:
    import workbench.methods  # noqa: F401 - registers

    return get("mean_difference").fit(tiny_models["gpt2"], contrast_rows()).edit


def tokens_of(draw: np.random.Generator, n_texts: int, alike: float, most: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Damage whose logarithm spreads by 1.5 as KL does, and the share `alike` of it by text."""
    texts = np.repeat(np.arange(n_texts), draw.integers(most // 2, most + 1, n_texts))
    spread = np.sqrt(alike) * draw.normal(size=n_texts)[texts] + np.sqrt(1 - alike) * draw.normal(size=len(texts))
    return np.exp(1.5 * spread), texts


@pytest.mark.parametrize("alike", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("n_texts", [FEWEST_TEXTS, 64])
def test_a_tail_is_covered_from_the_fewest_texts_on_whether_their_tokens_are_alike_or_not(n_texts: int, alike: float) -> None:
    draw, truth = np.random.default_rng(n_texts), float(np.exp(1.5 * 1.6448536))
    found = [quantile_interval(*tokens_of(draw, n_texts, alike)) for _ in range(2000)]
    assert np.mean([item.low <= truth <= item.high for item in found]) >= 0.93


def test_a_tail_over_few_short_texts_is_covered_too() -> None:
    draw, truth, hits = np.random.default_rng(0), float(np.exp(1.5 * 1.6448536)), list[bool]()
    while len(hits) < 2000:
        found = quantile_interval(*tokens_of(draw, FEWEST_TEXTS, 0.2, most=9))
        hits += [] if found.withheld else [found.low <= truth <= found.high]
    assert np.mean(hits) >= 0.93


def test_tokens_counted_as_if_each_were_a_text_are_not_covered() -> None:
    """Control: alike tokens of a text are not as many items."""
    draw, truth, hits = np.random.default_rng(0), float(np.exp(1.5 * 1.6448536)), list[bool]()
    for _ in range(300):
        values, _ = tokens_of(draw, 24, 0.5)
        found = quantile_interval(values, np.arange(len(values)))
        hits.append(found.low <= truth <= found.high)
    assert np.mean(hits) < 0.85


def test_a_tail_of_too_few_texts_or_tokens_is_withheld_and_of_equal_ones() -> None:
    values, texts = tokens_of(np.random.default_rng(1), FEWEST_TEXTS, 0.2)
    told = quantile_interval(values, texts)
    assert told.estimate == pytest.approx(np.quantile(values, 0.95)) and told.low < told.estimate < told.high and told.n == FEWEST_TEXTS
    few = quantile_interval(values[texts > 0], texts[texts > 0])
    assert few.bounds == (None, None) and "15 texts" in few.withheld
    short = np.arange(FEWEST_TEXTS).repeat(6)
    assert quantile_interval(np.arange(96.0), short).withheld and len(short) < FEWEST_TOKENS
    assert quantile_interval(np.zeros(200), np.arange(200) % 20).withheld == "all tokens are equal"


@pytest.mark.parametrize("level", [0.95, 0.5])
@pytest.mark.parametrize("n", [101, 400])
@pytest.mark.parametrize("heavy", [False, True])
def test_the_bounds_of_a_tail_are_those_of_their_formula(n: int, level: float, heavy: bool) -> None:
    draw, q = np.random.default_rng(n), 0.95
    texts = np.arange(n) % 20
    values = np.exp(draw.normal(size=n) + (3.0 * (texts == 3) if heavy else 0.0))
    found, cut = quantile_interval(values, texts, level=level), np.quantile(values, q)
    assert n != 101 or cut in values, "of 101 tokens the percentile is one of them, and it is not above itself"
    z = np.array([((values[texts == one] <= cut) - q).sum() / n for one in range(20)])
    spread = t.ppf(0.5 + level / 2, max(2.0, (z**2).sum() ** 2 / (z**4).sum() - 1))
    effective = min(n, q * (1 - q) / (20 / 19 * (z**2).sum())) * (t.ppf(0.5 + level / 2, n - 1) / spread) ** 2
    low = beta.ppf(0.5 - level / 2, effective * q, effective * (1 - q) + 1)
    high = beta.ppf(0.5 + level / 2, effective * q + 1, effective * (1 - q))
    assert (found.low, found.high) == (pytest.approx(np.quantile(values, low)), pytest.approx(np.quantile(values, high)))
    assert (found.estimate, found.n, found.method, found.withheld) == (cut, 20, "Korn-Graubard", "")


def test_seeds_of_a_placebo_give_all_their_tokens_to_its_tail() -> None:
    one, texts = tokens_of(np.random.default_rng(2), 20, 0.2)
    other, calm = 3 * one, np.zeros(len(one))
    metric = tail_metric("own_kl_p95_nats", "Tail", np.stack([calm, one, other]), texts, "nats/token")
    pooled = metric.pooled([[0], [1, 2]])
    assert pooled.values[1].estimate == pytest.approx(np.quantile(np.concatenate([one, other]), 0.95)) and pooled.n == 20
    assert pooled.values[1].estimate > metric.pooled([[0], [1]]).values[1].estimate
    assert pooled.changes == (None, pooled.values[1]) and metric.between(2, 1).withheld


def test_own_answers_are_greedy_and_every_token_of_them_counts(tiny_gpt2: Any, fitted: Any) -> None:
    said = own_answers(tiny_gpt2, PROMPTS)
    again = own_answers(tiny_gpt2, [*PROMPTS[3:], *PROMPTS[:3]])
    assert all(mine is known for mine, known in zip(again.ids, [*said.ids[3:], *said.ids[:3]], strict=True)), "each is generated once"
    assert len(said.ids) == len(PROMPTS) and max(map(len, said.ids)) <= ANSWER_TOKENS
    prefix = Prompting(words(40, 41))
    found = answer_divergences(tiny_gpt2, said, [Lane(), Lane((fitted,)), Lane((), prefix)])
    assert found.row.bincount().tolist() == [len(ids) for ids in said.ids] and float(found.kl[0].abs().max()) == 0.0
    for row in (0, 7):
        ids = torch.tensor([said.ids[row]])
        rows = [torch.cat([tiny_gpt2.tokens(text).ids, ids], 1) for text in (PROMPTS[row], PROMPTS[row], str(prefix.on(PROMPTS[row])))]
        log_p = []
        for at, whole in enumerate(rows):
            batch = tiny_gpt2.tokens(words(1))
            batch = type(batch).of([whole[0].tolist()], None, tiny_gpt2.device)
            with torch.no_grad(), applied(tiny_gpt2, *((fitted,) if at == 1 else ())):
                log_p.append(tiny_gpt2.logits(batch)[0, -ids.shape[1] - 1 : -1].double().log_softmax(-1))
        assert log_p[0].argmax(-1).tolist() == ids[0].tolist(), "what it answers is what it finds likeliest"
        for lane in (1, 2):
            expected = (log_p[0].exp() * (log_p[0] - log_p[lane])).sum(-1)
            torch.testing.assert_close(found.kl[lane][found.row == row], expected, atol=2e-5, rtol=0)


def test_side_effects_have_the_mean_and_the_tail_on_neutral_text_and_on_own_answers(tiny_gpt2: Any, fitted: Any) -> None:
    texts = [words(*range(i, i + 12)) for i in range(10, 30)]
    found = side_effects(tiny_gpt2, texts, [(fitted,)], own=PROMPTS, n_generations=0)
    assert [metric.name for metric in found.metrics] == ["kl_nats", "kl_p95_nats", "perplexity_ratio", "own_kl_nats", "own_kl_p95_nats"]
    for name in ("kl", "own_kl"):
        mean, tail = found.metric(f"{name}_nats").values[1], found.metric(f"{name}_p95_nats").values[1]
        assert 0 < mean.estimate < tail.estimate and not mean.withheld and not tail.withheld and mean.n == tail.n == 20
    assert "own_kl_nats" not in [metric.name for metric in side_effects(tiny_gpt2, texts, [(fitted,)], n_generations=0).metrics]


def test_abilities_that_ship_are_few_dozen_questions_whose_length_tells_nothing() -> None:
    asked = list[str]()
    for name in damage.ABILITIES:
        rows = damage.ability(name, chat=False)
        assert 24 <= len(rows) <= 48 and all(row.positive != row.negative for row in rows)
        assert length(rows.rows).severity == "fine", name
        asked += [str(row.prompt) for row in rows]
        chat = damage.ability(name, chat=True)
        assert all(isinstance(row.prompt, Conversation) and not str(row.positive).startswith(" ") for row in chat)
    assert len(set(asked)) == len(asked)
    sums = damage.ability("arithmetic", chat=False)
    signs = {"plus": "+", "minus": "-", "times": "*"}
    for row in sums:
        a, sign, b = str(row.prompt).split("What is ")[1].split("?")[0].split()
        assert str(eval(a + signs[sign] + b)) == str(row.positive).strip() != str(row.negative).strip()  # noqa: S307 - two shipped numbers


def test_prompts_for_own_answers_ship_and_are_not_what_a_choice_is_judged_on() -> None:
    for chat in (False, True):
        found = damage.prompts(chat=chat)
        assert len(set(found)) == len(found) >= FEWEST_TEXTS and all(isinstance(one, Conversation) == chat for one in found)
    shipped = {asked for asked, _ in passages().chats}
    assert not shipped & {one.asked for one in damage.prompts(chat=True) if isinstance(one, Conversation)}
    assert not any(text.startswith(str(one)) for text in passages().texts for one in damage.prompts(chat=False))


def test_damaged_files_are_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "DAMAGE", tmp_path)
    for line in ("no json", '{"ask": "a", "right": "b"}', '{"ask": "a", "right": "", "wrong": "c"}', "[1]"):
        (tmp_path / "broken.jsonl").write_text(line + "\n")
        with pytest.raises(BadDemonstrations, match="broken 1"):
            damage.ability.__wrapped__("broken", chat=True)
    (tmp_path / "prompts.txt").write_text("text\tfine\nsong\tla\n")
    with pytest.raises(BadDemonstrations, match="Line 2"):
        damage.prompts.__wrapped__(chat=True)


def test_an_ability_that_the_base_lacks_is_said_and_not_scored(tiny_gpt2: Any, fitted: Any) -> None:
    """Random networks know nothing; one that prefers what is asked for does."""
    texts = [words(*range(i, i + 12)) for i in range(10, 20)]
    lacking = Demonstrations(tuple(Demonstration(words(i, i + 1), f" w{i % 7}", f" w{i % 5 + 9}", split="test") for i in range(10, 40)))

    def right(row: Demonstration, *, first: bool) -> Demonstration:
        one, other = (row.positive, row.negative) if (benefit_of(tiny_gpt2, row) > 0) == first else (row.negative, row.positive)
        return Demonstration(row.prompt, one, other, split="test")

    able = lacking.with_rows(right(row, first=True) for row in lacking)
    half = lacking.with_rows(right(row, first=i % 2 == 0) for i, row in enumerate(lacking))
    found = side_effects(tiny_gpt2, texts, [(fitted,)], capability={"two words": able, "sums": half}, n_generations=0)
    assert [metric.name for metric in found.metrics if metric.name.endswith("mc1")] == ["two_words_mc1"]
    assert found.notes == ("Sums: without an edit 15 of 30 are right, no better than chance; no score is shown.",)
    assert chance(able) == 0.5
    tagged = Demonstrations(
        (Demonstration("a", " b", " c", tags=("false:d", "false:e")), Demonstration("x", label="one"), Demonstration("y", " z"))
    )
    assert chance(tagged) == pytest.approx((0.25 + 1.0 + 1.0) / 3)


def benefit_of(model: Any, row: Demonstration) -> float:
    from workbench.evaluate.benefit import benefit

    return float(benefit(model, Demonstrations((row,)), [], split=None).metric("margin_nats").per_item[0, 0])


def test_the_interval_of_a_mean_kl_does_not_reach_below_nothing() -> None:
    from workbench.evaluate.side_effects import _moved, _Moves

    kl = np.zeros((2, 20))
    kl[1, 3] = 1.0
    found, _ = _moved("kl", "KL", _Moves(kl, np.arange(20), kl, kl, np.ones(20)))
    plain = mean_metric("kl_nats", "KL", kl, "nats/token", "lower").values[1]
    assert plain.low < 0 and found.values[1] == replace(plain, low=0.0) and found.values[0].withheld
    assert np.isnan(found.values[0].low), "what is withheld stays so"
