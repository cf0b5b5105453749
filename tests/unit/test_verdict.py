"""The verdict says of every kind of outcome what it is, in whole sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from workbench.edits.labels import LaneLabel
from workbench.edits.prompting import Prompting
from workbench.evaluate.benefit import Benefit
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.metrics import HARDLY_MOVES, Better, Metric, mean_metric, share_metric
from workbench.evaluate.rivals import rival_sentences
from workbench.evaluate.side_effects import SideEffects
from workbench.evaluate.verdict import Verdict, verdict

# Lanes: base, edit, another edit, placebo of the edit, placebo of the other.
BASE, EDIT, OTHER, PLACEBO = 0, 1, 2, 3
LANES = (LaneLabel("base"), LaneLabel("a", ("1",)), LaneLabel("b", ("2",)), LaneLabel("placebo of a"), LaneLabel("placebo of b"))


def spread(*means: float, n: int = 20) -> np.ndarray:
    """Items of every lane: the means, each with the same even spread, and noise of its own that the pairing keeps."""
    noise = np.random.default_rng(0).normal(0, 0.002, (len(means), n))
    return np.array(means)[:, None] + np.linspace(-0.05, 0.05, n) + noise - noise.mean(1, keepdims=True)


def gain(*means: float, better: Better = "higher", n: int = 20, name: str = "mc2") -> Metric:
    return mean_metric(name, "P(truth)", spread(*means, n=n), "", better)


def judged(*metrics: Metric, side: SideEffects | None = None, placebo: int | None = PLACEBO, edit: int = EDIT) -> Verdict:
    n = metrics[0].n if metrics else 0
    return verdict(Benefit("m", LANES, "set", "test", n, metrics, ()), side, edit, placebo)


def test_the_sentence_counts_rows_and_the_numbers_follow() -> None:
    shares = np.zeros((5, 20), dtype=bool)
    shares[BASE, :4], shares[EDIT, 1:18], shares[PLACEBO, :6] = True, True, True
    found = judged(share_metric("mc1", "Best answer ahead (MC1)", shares, "higher"))
    assert found.kind == "does it" and found.beats_placebo
    assert found.plain == (
        "14 of 20 rows turn right and 1 turn wrong; noise of that size: 2 and 0. "
        "It does what was asked, beyond chance and beyond noise of that size. "
        "Best answer ahead (MC1): 0.85 [0.62, 0.97] with the edit, 0.20 [0.06, 0.44] without, 20 rows of split test. "
        "A random edit of equal size gives 0.30 [0.12, 0.54]."
    )
    assert "**It does what was asked**" in found.sentence and "**0.85 [0.62, 0.97]** with the edit" in found.detail


@pytest.mark.parametrize(
    ("base", "edit", "placebo", "better", "kind"),
    [
        (0.2, 0.8, 0.2, "higher", "does it"),
        (0.8, 0.2, 0.8, "lower", "does it"),
        (0.2, 0.8, 0.8, "higher", "no more than noise"),
        (0.8, 0.2, 0.2, "lower", "no more than noise"),
        (0.2, 0.5, 0.8, "higher", "no more than noise"),
        (0.8, 0.5, 0.2, "lower", "no more than noise"),
        (0.8, 0.2, 0.5, "higher", "does harm"),
        (0.2, 0.8, 0.5, "lower", "does harm"),
        (0.8, 0.2, 0.1, "higher", "does harm"),
        (0.4, 0.4, 0.4, "higher", "does nothing"),
        (0.4, 0.4, 0.1, "higher", "does nothing"),
        (0.2, 0.8, 0.2, "neither", "changes it"),
        (0.4, 0.4, 0.4, "neither", "does nothing"),
    ],
)
def test_an_edit_is_weighed_against_base_and_placebo(base: float, edit: float, placebo: float, better: Any, kind: str) -> None:
    found = judged(gain(base, edit, 0.5, placebo, base, better=better))
    assert found.kind == kind and found.beats_placebo is (kind == "does it")
    says = {
        "does it": " **It does what was asked**, beyond chance and beyond noise of that size.",
        "no more than noise": " **It does no more than noise of that size**: a random edit moves as much within chance.",
        "does harm": " **It does the opposite** of what was asked, beyond chance.",
        "does nothing": " **It does nothing** that these rows could show.",
        "changes it": " **It changes this**, beyond chance.",
    }
    assert [name for name, words in says.items() if found.sentence.endswith(words)] == [kind]


def test_the_faults_that_were_told_as_success_are_not_any_more() -> None:
    hits = lambda share: np.arange(100) < 100 * share  # noqa: E731
    rng = np.random.default_rng(1)
    rows = [hits(0.20), rng.permutation(hits(0.24)), hits(0), rng.permutation(hits(0.23)), hits(0)]
    assert judged(share_metric("mc1", "MC1", np.stack(rows), "higher")).kind == "does nothing"
    worse = [hits(0.20), hits(0.30), hits(0), hits(0.35), hits(0)]
    assert judged(share_metric("mc1", "MC1", np.stack(worse), "higher")).kind == "no more than noise"


def test_rows_that_noise_turns_are_counted_a_random_edit_not_over_all_of_them() -> None:
    shares = np.zeros((5, 20))
    shares[BASE, :8], shares[EDIT] = 1.0, 1.0
    shares[PLACEBO] = shares[BASE]
    shares[PLACEBO, 8:14] = 0.5  # each of two random edits turns three of these six
    shares[PLACEBO, :2] = 0.5
    assert "noise of that size: 3 and 1." in judged(share_metric("mc1", "MC1", shares, "higher")).plain


def test_without_a_placebo_noise_is_not_ruled_out() -> None:
    found = judged(gain(0.2, 0.8, 0.5, 0.2, 0.2), placebo=None)
    assert found.kind == "no more than noise" and "random edit" not in found.plain
    assert found.sentence == (
        "20 of 20 rows get better and 0 get worse. "
        "It moves the right way, beyond chance; **whether noise of that size would too** was not measured."
    )


def test_what_is_neither_good_nor_bad_rises_and_falls() -> None:
    found = judged(gain(0.2, 0.8, 0.5, 0.2, 0.2, better="neither"))
    assert found.sentence == "20 of 20 rows rise and 0 fall. **It changes this**, beyond chance."


def test_few_rows_are_told_instead_of_judged() -> None:
    found = judged(gain(0.2, 0.8, 0.5, 0.2, 0.2, n=5), placebo=None)
    assert found.kind == "not told"
    assert found.text == (
        "5 of 5 rows get better and 0 get worse. Whether that is more than chance cannot be told: 5 items by weight, fewer than 8. "
        "P(truth): **0.80** with the edit, **0.20** without, 5 rows of split test."
    )
    assert "1 row of split" in judged(gain(0.2, 0.8, 0.5, 0.2, 0.2, n=1)).text


def test_nothing_scored_and_nothing_edited_are_told() -> None:
    assert judged() == Verdict("not told", "Nothing on this set could be scored.", "")
    untouched = judged(gain(0.2, 0.2, 0.5, 0.3, 0.2), edit=0)
    assert (untouched.kind, untouched.sentence) == (
        "not told",
        "No edit was measured.",
    ) and "A random edit of equal size gives 0.30" in untouched.plain


def test_rows_that_were_fitted_on_are_said_to_be_left_out_and_none_otherwise() -> None:
    metric = gain(0.2, 0.8, 0.5, 0.2, 0.2)
    made = Benefit("m", LANES, "set", "test", metric.n, (metric,), ())
    with_them = replace(made, left_out=("row 3",), why="1 row was fitted on and is left out.")
    assert (
        verdict(with_them, None, EDIT, PLACEBO).detail
        == verdict(made, None, EDIT, PLACEBO).detail + " 1 row was fitted on and is left out."
    )
    fitted = verdict(replace(with_them, split="fit"), None, EDIT, PLACEBO)
    assert fitted.kind == "not told" and fitted.sentence.endswith(
        " These are rows for fitting, so they cannot show what it does to others."
    )
    assert fitted.detail.endswith("gives 0.20 [0.19, 0.21].")


_AS_MUCH, _MORE = ": **as much, within chance**.", ": **more than the edit**."


@pytest.mark.parametrize(
    ("better", "edit", "shuffled", "end"),
    [
        ("higher", 0.8, 0.8, _AS_MUCH), ("higher", 0.8, 0.3, "."), ("higher", 0.3, 0.8, _MORE),
        ("lower", 0.2, 0.2, _AS_MUCH), ("lower", 0.2, 0.7, "."), ("lower", 0.7, 0.2, _MORE),
        ("neither", 0.8, 0.8, "."), ("neither", 0.8, 0.3, "."), ("neither", 0.3, 0.8, "."),
    ],
)  # fmt: skip
def test_a_fit_on_shuffled_sides_is_told_and_said_to_do_as_much_where_it_does(
    better: Better, edit: float, shuffled: float, end: str
) -> None:
    metric = gain(0.5, edit, shuffled, 0.5, 0.5, better=better)
    made = Benefit("m", LANES, "set", "test", metric.n, (metric,), ())
    value = metric.values[OTHER]
    told = f" Fitted on shuffled sides it gives {value.estimate:.2f} [{value.low:.2f}, {value.high:.2f}]"
    assert verdict(made, None, EDIT, PLACEBO, OTHER).detail == verdict(made, None, EDIT, PLACEBO).detail + told + end


def test_of_few_rows_nothing_is_said_of_a_fit_on_shuffled_sides_but_its_score() -> None:
    metric = gain(0.5, 0.8, 0.8, 0.5, 0.5, n=5)
    made = Benefit("m", LANES, "set", "test", metric.n, (metric,), ())
    assert verdict(made, None, EDIT, PLACEBO, OTHER).detail.endswith(" Fitted on shuffled sides it gives 0.80.")


@pytest.mark.parametrize("where", ["benefit", "side effects"])
def test_an_edit_whose_probabilities_are_no_numbers_breaks_the_model_and_is_not_near_the_identity(where: str) -> None:
    for broken, number in ((EDIT, np.nan), (EDIT, np.inf), (OTHER, np.nan)):
        rows, kl = spread(0.2, 0.8, 0.5, 0.2, 0.2), spread(0, 0, 0, 0, 0) * 0
        (rows if where == "benefit" else kl)[broken, 3] = number
        right = share_metric("mc1", "MC1", rows > 0.4, "higher")
        side = SideEffects("m", LANES, 20, 400, (mean_metric("kl_nats", "KL", kl, "nats/token", "lower"),), {})
        found = judged(right, mean_metric("margin_nats", "Margin", rows, "nats", "higher"), side=side)
        told = Verdict("does harm", "**It breaks the model**: some of its probabilities are no numbers.", "Lower the dose.")
        assert (found == told) is (broken == EDIT) and (found.kind == "does it") is (broken == OTHER)


def test_where_the_unedited_model_has_no_numbers_the_edit_is_not_blamed() -> None:
    rows = spread(0.2, 0.8, 0.5, 0.2, 0.2)
    rows[:, 3] = np.nan
    found = judged(mean_metric("margin_nats", "Margin", rows, "nats", "higher"))
    what = "Some probabilities of the unedited model are no numbers, so nothing can be said of the edit."
    assert found == Verdict("not told", what, "Load it in float32.")
    rows = spread(0.2, 0.8, 0.5, 0.2, 0.2)
    rows[PLACEBO, 3] = np.nan
    by_noise = judged(mean_metric("margin_nats", "Margin", rows, "nats", "higher"))
    assert by_noise.kind == "not told" and by_noise.detail.endswith("A random edit of equal size gives nan.")


def test_rows_left_out_are_told_where_nothing_else_is() -> None:
    rows = spread(0.2, 0.8, 0.5, 0.2, 0.2)
    rows[EDIT, 3] = np.nan
    made = Benefit(
        "m", LANES, "set", "test", 20, (mean_metric("margin_nats", "Margin", rows, "nats", "higher"),), (), why="1 row is left out."
    )
    assert verdict(made, None, EDIT, PLACEBO).detail.endswith(" 1 row is left out.")
    assert verdict(made, None, 0, None).detail.endswith(" 1 row is left out.")


@pytest.mark.parametrize("n", [1, 5, 20])
def test_an_edit_that_leaves_every_score_as_it_was_does_nothing_however_few_the_rows(n: int) -> None:
    same = np.tile(np.linspace(0.1, 0.9, n), (5, 1))
    same[PLACEBO] += 0.1
    same[EDIT] += 1e-6 * np.linspace(0.5, 1, n)  # what rounding does
    assert judged(mean_metric("log_prob_nats", "Log-probability", same, "nats", "higher")).sentence == (
        f"0 of {n} rows get better and 0 get worse; noise of that size: {n} and 0. **It does nothing** that these rows could show."
    )


def test_noise_that_cannot_be_weighed_is_not_said_to_do_as_much() -> None:
    shares = np.zeros((5, 20))
    shares[EDIT], shares[PLACEBO] = 1.0, 0.5  # one of two random edits turns every row
    found = judged(share_metric("mc1", "MC1", shares, "higher"))
    assert found.kind == "not told" and found.sentence.endswith(
        " It moves the right way, beyond chance; **whether noise of that size would too** cannot be told: all items are equal."
    )


def test_rows_that_have_no_such_score_are_not_counted_as_evidence() -> None:
    metric = gain(0.2, 0.8, 0.5, 0.2, 0.2)
    made = Benefit("m", LANES, "set", "test", 100, (metric,), ())
    assert "without, 20 of 100 rows of split test." in verdict(made, None, EDIT, PLACEBO).plain
    assert "without, 20 rows of split test (drawn from 50)." in verdict(replace(made, n=20, n_of=50), None, EDIT, PLACEBO).plain


def test_a_prompt_alone_is_judged_by_its_name_and_has_no_noise_of_its_size() -> None:
    lanes = (LaneLabel("base"), LaneLabel("“Be right.”", (), (), Prompting(prefix="Be right.")))
    made = Benefit("m", lanes, "set", "test", 20, (gain(0.2, 0.8),), ())
    found = Evaluation(made, None, (None, None), 0).verdict
    assert found == verdict(made, None, 1, None) and found.kind == "changes it"
    assert found.plain == (
        "20 of 20 rows get better and 0 get worse. It moves the right way, beyond chance; a prompt has no noise of its size to be weighed "
        "against. P(truth): 0.80 [0.79, 0.81] with the prompt, 0.20 [0.19, 0.21] without, 20 rows of split test."
    )
    both = replace(made, lanes=(LANES[0], LaneLabel("a", ("1",), (1.0,), Prompting(prefix="Be right."))))
    assert verdict(both, None, 1, None).kind == "no more than noise" and "with the edit" in verdict(both, None, 1, None).plain
    worse = Evaluation(replace(made, metrics=(gain(0.8, 0.2),)), None, (None, None), 0).verdict
    assert worse.kind == "does harm" and "with the prompt" in worse.detail


def test_who_was_harmed_is_told_where_rows_were_kept() -> None:
    metric = gain(0.2, 0.8, 0.5, 0.2, 0.2)
    items = [
        {"id": str(i), "prompt": "p", "lane": lane, "margin_nats": margin, "mc1": margin > 0}
        for i in range(20)
        for lane, margin in (("base", 0.0), ("a", -1.0 if i < 5 else 1.0))
    ]
    made = Benefit("m", LANES, "set", "test", metric.n, (metric,), ())
    found = verdict(replace(made, items=tuple(items)), None, EDIT, PLACEBO).detail
    assert found.startswith(verdict(made, None, EDIT, PLACEBO).detail + " 25% [") and " of 20 rows move the wrong way" in found


def test_an_edit_near_the_identity_is_said_to_be_one() -> None:
    def with_kl(kl: float, edit: float, name: str = "kl_nats", more: tuple[Metric, ...] = ()) -> Verdict:
        moved = mean_metric(name, "KL on neutral text", spread(0.0, kl, 0, 0, 0) * 0 + kl, "nats/token", "lower")
        moved = replace(moved, values=tuple(replace(value, estimate=kl) for value in moved.values))  # as given, without rounding
        side = SideEffects("m", LANES, 20, 400, (moved, *more), {})
        return judged(gain(0.4, edit, 0.5, 0.4, 0.4), side=side)

    said = " It is near the identity: it hardly moves the model at all."
    assert with_kl(1e-7, 0.4).sentence.endswith(f"**It does nothing** that these rows could show.{said}")
    for kl, edit in ((HARDLY_MOVES, 0.4), (0.01, 0.4), (1e-7, 0.9)):
        assert "near the identity" not in with_kl(kl, edit).plain
    assert with_kl(1e-7, 0.4, "own_kl_nats").sentence.endswith(said), "by what is known"
    own = mean_metric("own_kl_nats", "KL on own answers", spread(0.0, 0.01, 0, 0, 0), "nats/token", "lower")
    assert "near the identity" not in with_kl(1e-7, 0.4, more=(own,)).plain, "its answers are moved"


def test_costs_and_what_is_kept_follow_each_in_its_own_numbers() -> None:
    side = SideEffects(
        "m", LANES, 20, 400,
        (
            mean_metric("perplexity_ratio", "Perplexity ratio", spread(1.0, 1.7, 1, 1, 1), "", "lower"),
            mean_metric("kl_nats", "KL on neutral text", spread(0.0, 0.0314, 0.9, 0.8, 0.7), "nats/token", "lower"),
            gain(0.75, 0.5, 0.1, 0.2, 0.3, name="facts_mc2"),
            gain(0.65, 0.6, 0.1, 0.2, 0.3, name="safe_sums_mc2"),
        ),
        {name: Benefit("m", LANES, name, "all", 20, (), ()) for name in ("facts", "safe sums")},
    )  # fmt: skip
    answers = mean_metric("p_answer", "Probability of a true answer", spread(0.0123, 0.456, 0, 0, 0), "", "higher")
    kl = side.metric("kl_nats").values[EDIT]
    assert kl.words.startswith("0.0314 [0.") and kl.n == 20
    text = judged(gain(0.2, 0.8, 0.5, 0.3, 0.1), answers, side=side).text
    assert text.endswith(
        f" A random edit of equal size gives 0.30 [0.29, 0.31]. On neutral text it moves the model by {kl.words} nats/token (20 texts)."
        f" A true answer gets {answers.values[EDIT].words} of all probability, {answers.values[BASE].words} without."
        " P(truth): 0.50 [0.49, 0.51] with it, 0.75 [0.74, 0.76] without, 20 rows."
        " P(truth): 0.60 [0.59, 0.61] with it, 0.65 [0.64, 0.66] without, 20 rows."
    )
    own = [
        mean_metric("own_kl_nats", "KL on own answers", spread(0.0, 0.0271, 0.9, 0.8, 0.7), "nats/token", "lower"),
        mean_metric("own_kl_p95_nats", "its 95th percentile", spread(0.0, 0.112, 0.9, 0.8, 0.7), "nats/token", "lower"),
    ]
    there = judged(gain(0.2, 0.8, 0.5, 0.3, 0.1), side=replace(side, metrics=(side.metrics[1], *own), capability={})).text
    assert there.endswith(
        f" On neutral text it moves the model by {kl.words} nats/token (20 texts)."
        f" On the model's own answers by {own[0].values[EDIT].words}, by at most "
        f"{own[1].values[EDIT].words} at nineteen tokens in twenty (20 answers)."
    )
    for one in own:
        half = judged(gain(0.2, 0.8, 0.5, 0.3, 0.1), side=replace(side, metrics=(side.metrics[1], one), capability={})).text
        assert half.endswith(" nats/token (20 texts)."), "the mean without the tail is not told, nor the tail alone"
    bare = replace(side, metrics=side.metrics[:1], capability={})
    alone = judged(gain(0.2, 0.8, 0.5, 0.3, 0.1), side=bare).text
    assert alone.endswith("gives 0.30 [0.29, 0.31].") and "neutral" not in alone and "true answer" not in alone


def test_an_evaluation_judges_its_first_edit_beside_that_edits_placebo() -> None:
    benefit = Benefit("m", LANES, "set", "test", 20, (gain(0.2, 0.8, 0.5, 0.3, 0.1),), ())
    found = Evaluation(benefit, None, (None, None, None, 1, 2), 1)
    assert found.verdict == verdict(benefit, None, EDIT, PLACEBO)
    assert Evaluation(benefit, None, (None, None, None, 2, 1), 1).verdict == verdict(benefit, None, EDIT, 4)
    bare = replace(benefit, lanes=LANES[:3])
    assert Evaluation(bare, None, (None, None, None), 0).verdict == verdict(benefit, None, EDIT, None)
    base = replace(benefit, lanes=LANES[:1], metrics=(gain(0.2),))
    assert "No edit was measured." in Evaluation(base, None, (None,), 0).verdict.text


def test_the_edit_alone_is_judged_wherever_it_stands_among_prompts() -> None:
    said, random = Prompting(prefix="Be right."), replace(LANES[PLACEBO], control="placebo", edit_ids=("1",))
    metric = gain(0.2, 0.3, 0.4, 0.8, 0.2)
    both, alone = LaneLabel("both", ("1",), (1.0,), said), LaneLabel("a", ("1",), (1.0,))
    made = Benefit("m", (LANES[0], LaneLabel("said", (), (), said), both, alone, random), "set", "test", 20, (metric,), ())
    assert Evaluation(made, None, (None, None, None, None, 3), 1).verdict == verdict(made, None, 3, 4)
    without = replace(made, lanes=(*made.lanes[:3], replace(random, label="placebo of both")), metrics=(gain(0.2, 0.3, 0.8, 0.2),))
    assert Evaluation(without, None, (None, None, None, 2), 1).verdict == verdict(without, None, 2, 3)
    assert Evaluation(made, None, (None,) * 5, 0).rivals == rival_sentences(made, None, 3) != ()
