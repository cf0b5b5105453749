"""The numbers that `docs/methods` tell are those of the code: a constant that is changed alone makes its sentence untrue."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from workbench.evaluate import budget, dose, dose_plane, equal_damage, metrics, own_answers, side_effects, watch
from workbench.evaluate.design import bench, space, winners
from workbench.evaluate.protocol import scores
from workbench.methods import choice
from workbench.methods.shared import canonical_examples, discriminator, gating, ground, layers, neutral, places, sparing, starts

tasks = canonical_examples.TASK_THRESHOLDS
DOCS = Path(__file__).resolve().parents[2] / "docs" / "methods"
TOLD = re.sub(r"\s+", " ", " ".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))))


def short(value: float) -> str:
    """As the docs write it: .5, 2, 1e-5."""
    return f"{value:g}".replace("e-0", "e-").removeprefix("0") if value else "0"


def row(values: Sequence[float], last: str = ", ") -> str:
    told = [short(one) for one in values]
    return ", ".join(told[:-1]) + last + told[-1]


SENTENCES: dict[str, Callable[[], str]] = {
    "doses that are tried": lambda: f"each at doses {row(choice.DOSES, ' and ')}.",
    "a near tie": lambda: f"gains are compared in steps of {short(choice.NEAR_TIE)} nats",
    "chance of a choice": lambda: f"in at most {choice.CHANCE:.0%} of the flips".replace("%", " %"),
    "placebos of a choice": lambda: f"({ {2: 'two'}[choice.N_PLACEBOS]} rotations, §7)",
    "doses swept": lambda: f"at doses {row((0, *dose.SWEPT))} beside a placebo",
    "opening words": lambda: f"the texts' first {({6: 'six'})[side_effects._OPENING_WORDS]} words",
    "own answers": lambda: f"greedy answers, at most {own_answers.ANSWER_TOKENS} tokens each",
    "near the identity": lambda: f"is below {short(metrics.HARDLY_MOVES)} nats a token is said to be near the identity",
    "least that is measured": lambda: f"(at least {budget.LEAST_ROWS} rows and {budget.LEAST_TEXTS} texts)",
    "what is timed": lambda: f"{ {4: 'Four'}[budget.PROBED_ROWS]} rows and { {2: 'two'}[budget.PROBED_TEXTS]} neutral texts are measured",
    "time for rows": lambda: f"{ {0.6: 'six tenths'}[budget.SHARE_OF_ROWS]} of the time for rows",
    "small models": lambda: f"in models of fewer than {layers.SMALL // 10**6} million parameters",
    "depths of the grids": lambda: "at 1/3, 1/2, 2/3 and 5/6 of the depth" if layers.STARTS == (1 / 3, 1 / 2, 2 / 3, 5 / 6) else "",
    "the limit of equal damage": lambda: f"within one limit ({short(equal_damage.TAIL_NATS)} nats a token unless told otherwise)",
    "below that limit": lambda: f"the tail ends within {100 * equal_damage.CLOSE:g} % below the limit",
    "doses of designs": lambda: f"each at doses {row(space.DESIGN_DOSES, ' and ')} up to",
    "configurations of designs": lambda: f"or {space._N_CONFIGURATIONS} configurations that it `draws`",
    "damage that counts": lambda: f"Below {short(bench.LEAST_TAIL)} nats damage counts as none, and beyond {short(bench.MOST_TAIL)} nat",
    "limits of winners": lambda: f"for each limit of damage ({row(winners.LIMITS)} nats)",
    "the length of a watch": lambda: f"up to {watch.MOST_TOKENS:,} tokens or the context's end",
    "the window of repetition": lambda: f"among the last {watch._WINDOW} tokens",
    "a loop": lambda: f"once its last max(p, {watch.LEAST_REPEATED}) tokens are those p before them",
    "the safe region": lambda: f"the *safe* region has KL ≤ {short(dose_plane.SAFE_NATS)}",
    "tokens of a gate": lambda: f"most {gating.N_TOKENS:,} a side",
    "samples": lambda: f"else {neutral.N_SAMPLES} texts that the model writes itself",
    "neutral texts": lambda: f"if there are { {8: 'eight'}[neutral.MIN_TEXTS]} or more",
    "endings like a prompt's": lambda: f"the last { {3: 'three'}[neutral.LIKE_A_PROMPT]} tokens of a",
    "prompts of a bound": lambda: f"over the prompts of at most {sparing.N_PROMPTS} rows of `fit`",
    "rows of a start": lambda: f"Read are the first {starts.MOST_ROWS} texts a side",
    "layers of a start": lambda: f"at the layers below {short(starts.DEEPEST)} of the depth",
    "texts pushed": lambda: f"The push takes at most {starts.MOST_PUSHED} of those texts a side",
    "texts of a ground": lambda: (
        f"{ {12: 'twelve'}[ground.N_TEXTS]} of running text and, where it has a chat template, { {6: 'six'}[ground.N_CHATS]}"
    ),
    "least steps of a discriminator": lambda: f"at least {discriminator.MIN_STEPS} steps",
    "balls": lambda: "ε is {}, {} or {}.".format(*(f"{one:.0e}".replace("e-0", "e-") for one in scores.EPSILONS)),
    "thresholds of tasks": lambda: (
        f"(new companies p > {short(round(math.exp(-tasks['new-companies']), 4))}, "
        f"stereotypes p < {short(round(math.exp(tasks['stereotypes']), 4))})"
    ),
    "the push": lambda: f"‖ε v_l‖ = {short(places.PUSH)} · median ‖h_l‖",
}  # fmt: skip


@pytest.mark.parametrize("what", SENTENCES)
def test_a_number_is_told_as_it_is(what: str) -> None:
    sentence = SENTENCES[what]()
    assert sentence and sentence in TOLD


def test_a_constant_that_is_changed_alone_makes_its_sentence_untrue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "DOSES", (0.5, 3.0))
    monkeypatch.setattr(watch, "MOST_TOKENS", 999)
    assert all(SENTENCES[what]() not in TOLD for what in ("doses that are tried", "the length of a watch"))
