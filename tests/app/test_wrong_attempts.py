"""Fits, contests and teaching that are not what a step of a lesson asks for do not pass it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.app.lesson_checks import passes
from tests.real_wheel import NAME
from workbench.progress import silent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_wrong_fits_pass_nothing_and_a_comparison_needs_ones_own_edit(one: Any) -> None:
    from workbench.edits.lane import Lane
    from workbench.edits.prompting import Prompting

    session = one.sessions["embedded"]
    good, bad = _fit(session, "mean_difference", {"layers": [2]}, 2.0), _fit(session, "mean_difference", {"layers": [3]}, 4.0)
    bare, centred = (
        _fit(session, "sea", {"center": "none", "keep": 0.95}, 1.0),
        _fit(session, "sea", {"center": "grand", "gate": "hard"}, 2.0),
    )
    assert not passes("placebo", 1, fit=bad) and not passes("placebo", 1, fit=centred)
    assert not passes("noise", 1, fit=good) and not passes("noise", 2, fit=bad)
    assert not passes("sea", 1, fit=centred) and not passes("sea", 1, fit=good) and not passes("sea", 2, fit=bare)
    carrots, own = "Question: What do carrots help most? Answer:", frozenset({good.edit})
    lane = session.lane(good.fitted.edit.scaled(2.0))
    right = session.compare(carrots, [lane])
    assert passes("placebo", 2, edits=own, compare=right)
    # The known wrong pass: any comparison of two lanes was one about carrots.
    assert not passes("placebo", 2, edits=own, compare=session.compare("The cat", [lane]))
    assert not passes("placebo", 2, compare=right) and not passes("placebo", 2, edits=frozenset({bad.edit}), compare=right)
    assert not passes("placebo", 2, edits=own, compare=session.compare(carrots, []))
    told = session.compare(carrots, [Lane(lane.edits, Prompting(prefix="A careful speaker answers."))])
    assert not passes("placebo", 2, edits=own, compare=told), "a sentence stands beside the edit"


def test_wrong_fits_on_the_real_path_of_the_placebo_pass_nothing(one: Any) -> None:
    session, real = one.sessions["embedded"], {"on": NAME}
    good, noise = (
        elsewhere(_fit(session, "mean_difference", *told), "everyday-gloom") for told in (({"layers": [2]}, 2.0), ({"layers": [3]}, 4.0))
    )
    assert passes("placebo", 1, fit=good, **real) and not passes("placebo", 1, fit=noise, **real)
    assert not passes("placebo", 1, fit=elsewhere(good, "truthfulness"), **real), "the embedded set"
    own, lane = frozenset({good.edit}), session.lane(good.fitted.edit.scaled(2.0))
    carrots = session.compare("Question: What do carrots help most? Answer:", [lane])
    fair = replace(carrots, prompts=("Tell me about the village fair.",))
    assert passes("placebo", 2, edits=own, compare=fair, **real) and not passes("placebo", 2, edits=own, compare=carrots, **real)
    assert not passes("placebo", 2, compare=fair, **real), "an edit that was there before"


def elsewhere(outcome: Any, source: str = "bias") -> Any:
    """The same fit, as if it were on another set."""
    return replace(outcome, settings=replace(outcome.settings, source=source))


def test_lessons_on_truthfulness_take_no_other_set(one: Any) -> None:
    from workbench.settings import Rivals

    session, careful, careless = one.sessions["embedded"], "A careful speaker answers.", "Here speaks a careless person."
    good, noise = _fit(session, "mean_difference", {"layers": [2]}, 1.0), _fit(session, "mean_difference", {"layers": [3]}, 4.0)
    loud = _fit(session, "mean_difference", {"layers": [2]}, 5.0)
    sea = _fit(session, "sea", {"center": "grand", "gate": "hard"}, 2.0, Rivals(careful, careless))
    steps = {("tour", 3): good, ("placebo", 1): good, ("noise", 1): noise, ("noise", 2): good, ("contest", 1): sea, ("contest", 3): sea,
             ("damage", 1): loud}  # fmt: skip
    assert [(step, passes(*step, fit=fit)) for step, fit in steps.items()] == [(step, True) for step in steps]
    assert [step for step, fit in steps.items() if passes(*step, fit=elsewhere(fit))] == []
    assert not passes("noise", 2, fit=sea), "the same method is asked for"


_FITS: dict[tuple[Any, ...], Any] = {}


def _fit(
    session: Any, name: str, knobs: dict[str, Any], dose: float, rivals: Any = None, of: str = "truthfulness", measured: bool = True
) -> Any:
    """What *Fit edit* gives; the same fit is made once for all tests of this module."""
    from pages._ui.edit import fitting
    from workbench.settings import Rivals

    asked = (session.model.info.name, name, repr(knobs), dose, rivals, of, measured)
    if asked not in _FITS:
        settings = fitting.fit_settings(of, session.demos(of), name, knobs, 0, dose, rivals=rivals or Rivals())
        if measured:
            _FITS[asked] = fitting.fit(session, settings, silent())
        else:
            _FITS[asked] = fitting._unmeasured(session.run(settings), settings)
    return _FITS[asked]


def test_wrong_contests_and_doses_pass_nothing(one: Any) -> None:
    from workbench.edits.lane import Lane
    from workbench.edits.prompting import Prompting
    from workbench.settings import Rivals

    session, careful = one.sessions["embedded"], "A careful speaker answers."
    small, opposed = (
        _fit(session, "mean_difference", {"layers": [2]}, dose, rivals)
        for dose, rivals in ((1.0, None), (1.0, Rivals(careful, "Here speaks a careless person.")))
    )
    silly = _fit(session, "mean_difference", {"layers": [3]}, 4.0, Rivals(careful))
    # No sentence beside it; an edit that is no more than noise beside a good sentence.
    assert not passes("contest", 1, fit=small) and not passes("contest", 1, fit=silly)
    assert not passes("contest", 3, fit=small) and not passes("contest", 3, fit=silly)
    assert passes("contest", 3, fit=opposed) == opposed.evaluation.verdict.beats_placebo
    assert not passes("damage", 1, fit=small) and not passes("damage", 1, fit=opposed)
    # Mean difference falls below the untouched model at this damage.
    poor = session.equal_damage("truthfulness", ["mean_difference"], [Lane((), Prompting(prefix=careful))], n_placebos=1)
    assert not passes("contest", 2, equal_damage=poor), "no edit gains"
    assert not passes("contest", 2, equal_damage=replace(poor, standings=(poor.standings[0], poor.standings[-1]))), "a sentence alone"
    fine_ones = replace(
        poor, standings=(replace(poor.standings[0], gain=replace(poor.standings[0].gain, estimate=0.0)), *poor.standings[1:])
    )
    assert passes("contest", 2, equal_damage=fine_ones) and not passes("contest", 2, equal_damage=replace(fine_ones, data="bias"))
    assert not passes("contest", 2, equal_damage=replace(fine_ones, better="lower")), "the score is better the lower it is"
    assert not passes("damage", 2, equal_damage=poor), "no edit does it"
    done = tuple(replace(one, shows="does it") for one in poor.standings)
    assert passes("damage", 2, equal_damage=replace(poor, standings=done))
    assert not passes("damage", 2, equal_damage=replace(poor, standings=done, limit=0.5)), "beyond the limit"
    assert not passes("damage", 2, equal_damage=replace(poor, standings=done, data="bias")), "another set"
    assert not passes("damage", 3, equal_damage=poor), "the limit is where it was"
    assert not passes("damage", 3, equal_damage=replace(poor, limit=0.02, standings=(poor.standings[0], poor.standings[-1])))


def test_wrong_planes_pass_nothing(one: Any) -> None:
    from workbench.edits.lane import Lane, Named
    from workbench.settings import DosePlaneSettings

    session = one.sessions["embedded"]
    other = _fit(session, "mean_difference", {"layers": [2]}, 1.0)
    assert not passes("hpr", 1, fit=other) and not passes("hpr", 1, fit=_fit(session, "sea", {"center": "grand", "gate": "hard"}, 2.0))
    plane = session.run(DosePlaneSettings("truthfulness", 2, (Lane((Named(other.edit, 1.0),)),), n_rows=8))
    assert not passes("hpr", 2, dose_plane=plane), "no edit of HPR"
    assert not passes("hpr", 2, dose_plane=replace(plane, placed=()))
    still = replace(plane.placed[0], label=replace(plane.placed[0].label, label="hpr"), angles=(0.0, 0.0, 0.0))
    own = frozenset({other.edit})
    assert not passes("hpr", 2, edits=own, dose_plane=replace(plane, placed=(still,))), "behind a layer that it leaves as it is"
    turns = replace(still, angles=(1.0, 2.0, 4.0))
    assert passes("hpr", 2, edits=own, dose_plane=replace(plane, placed=(turns,)))
    assert not passes("hpr", 2, dose_plane=replace(plane, placed=(turns,))), "an edit that was there before"
    assert not passes("hpr", 2, edits=frozenset({"another"}), dose_plane=replace(plane, placed=(turns,)))
    assert passes("hpr", 3, dose_plane=plane)
    assert not passes("hpr", 3, dose_plane=replace(plane, layer=3)) and not passes("hpr", 3, dose_plane=replace(plane, data="bias"))


def test_wrong_searches_pass_nothing(one: Any) -> None:
    session = one.sessions["embedded"]
    quick = {"budget": 12, "n_init": 6, "n_train": 6, "n_val": 4, "shots": "zero"}
    luck, learns = (_fit(session, "tarot", {**quick, "optimizer": name}, 1.0, of="sentiment", measured=False) for name in ("random", "es"))
    other = _fit(session, "mean_difference", {"layers": [2]}, 1.0)
    assert not passes("tarot", 1, fit=other) and not passes("tarot", 1, fit=learns)
    assert passes("tarot", 1, fit=luck) and not passes("tarot", 1, fit=elsewhere(luck))
    assert not passes("tarot", 2, fit=other) and not passes("tarot", 2, fit=luck) and not passes("tarot", 2, fit=learns)


def test_wrong_sensors_pass_nothing(one: Any) -> None:
    session = one.sessions["embedded"]
    other = _fit(session, "mean_difference", {"layers": [2]}, 1.0)
    assert not passes("are", 1, fit=other) and not passes("are", 2, fit=other)
    few = {"max_rounds": 1, "n_prompts": 16, "epochs_g": 1, "min_accuracy": 0.0, "sample_every": 0}
    frozen = _fit(session, "are", {**few, "adversary": "frozen"}, 1.0, of="careful", measured=False)
    trained = _fit(session, "are", few, 1.0, of="careful", measured=False)
    assert not passes("are", 1, fit=frozen), "the sensor was never trained anew"
    assert not passes("are", 2, fit=trained), "a new sensor was trained"


def test_wrong_mendings_and_sinks_pass_nothing(one: Any) -> None:
    session = one.open("embedded-sink", silent())
    look, all_of_them = session.look, {"center": "grand", "layers": [2], "spare": "none"}
    moved, left = (_fit(session, "sea", all_of_them | {"spare": spare}, 1.0) for spare in ("none", "sinks"))
    added = _fit(session, "mean_difference", {"layers": [2], "spare": "sinks"}, 1.0)
    assert passes("sink", 1, attention=look("attention", "Question: What do carrots help most? Answer:"))
    assert not passes("sink", 1, attention=look("attention", "Hello world"))
    assert not passes("sink", 1, logit_lens=look("logit_lens", "carrots"))
    for lesson, step, wrong in (("sink", 2, left), ("sink", 3, moved), ("debug", 3, moved)):
        right = left if wrong is moved else moved
        assert passes(lesson, step, fit=right) and not passes(lesson, step, fit=wrong)
        assert not passes(lesson, step, fit=elsewhere(right)) and not passes(lesson, step, fit=added), "another set, another method"
    plain = _fit(one.sessions["embedded"], "sea", all_of_them | {"spare": "sinks"}, 1.0)
    assert not passes("sink", 3, fit=plain) and not passes("debug", 3, fit=plain), "a model without a sink has none to spare"


def test_wrong_readings_and_leaks_pass_nothing(one: Any) -> None:
    from workbench.edits.lane import Lane, Named
    from workbench.settings import EvaluateSettings

    session = one.open("embedded-sink", silent())
    last, mean = (_fit(session, "mean_difference", {"layers": [2], "read": read}, 1.0, of="mood") for read in ("last", "mean"))
    assert passes("debug", 1, fit=mean) and not passes("debug", 1, fit=last)
    assert not passes("debug", 1, fit=elsewhere(mean)) and not passes("debug", 1, fit=replace(mean, evaluation=None))
    own, lanes = frozenset({mean.edit}), (Lane((Named(mean.edit, 1.0),)),)
    held, leaks = (session.run(EvaluateSettings(lanes, "mood", split, n_placebos=1)) for split in ("test", "fit"))
    assert passes("debug", 2, edits=own, evaluate=held) and not passes("debug", 2, edits=own, evaluate=leaks)
    assert not passes("debug", 2, evaluate=held) and not passes("debug", 2, edits=frozenset({last.edit}), evaluate=held)


def test_wrong_teaching_passes_nothing(one: Any) -> None:
    from types import SimpleNamespace

    from workbench.lenses.senses import taught_example

    model = one.open("embedded-backpack", silent()).model
    asked = ["Question: What is the capital of Ulavia? Answer:", "The capital of Finland is"]

    def taught(prompt: str, answer: str, questions: list[str], **config: Any) -> Any:
        return taught_example(model, prompt, answer, questions, method="senses", config=config)

    other = taught("The capital of Finland is", " Fenwick", asked[:1], epochs=1)
    assert not passes("senses", 1, teach=other), "of another country"
    right = taught("The capital of Ulavia is", " Fenwick", asked)
    assert passes("senses", 1, teach=right)
    unasked = replace(right, questions=right.questions[:2])
    assert not passes("senses", 1, teach=unasked), "never asked of another country"
    assert not passes("senses", 1, teach=replace(right, likeliest_after=right.likeliest_before)), "nothing newly said in other words"
    again = replace(right, questions=(right.questions[0], f"{right.questions[0]} ", right.questions[2]))
    assert not passes("senses", 1, teach=again), "the taught sentence itself is none in other words"
    assert not passes("senses", 1, teach=replace(again, questions=(right.questions[0], f"Yes. {right.questions[0]}", right.questions[2])))
    wanted = SimpleNamespace(unwanted="he")
    assert not passes("senses", 2, asked=wanted, teach=right)
    she = replace(right, questions=("The doctor said that",), answer=" she", before=(0.1,), after=(0.4,))
    assert passes("senses", 2, asked=wanted, teach=she)
    assert not passes("senses", 2, asked=SimpleNamespace(unwanted=""), teach=she), "nothing unwanted was named"
    assert not passes("senses", 2, asked=wanted, teach=replace(she, after=(0.05,)))


def test_wrong_fits_on_the_real_paths_of_noise_contest_and_damage_pass_nothing(one: Any) -> None:
    from workbench.settings import Rivals

    session, real, careful, careless = (
        one.sessions["embedded"],
        {"on": NAME},
        "A careful speaker answers.",
        "Here speaks a careless person.",
    )
    silly, loud = (_fit(session, "mean_difference", {"layers": [layer]}, dose, Rivals(careful)) for layer, dose in ((3, 4.0), (2, 5.0)))
    opposed = _fit(session, "mean_difference", {"layers": [2]}, 1.0, Rivals(careful, careless))
    small, slight = (_fit(session, "mean_difference", {"layers": [2]}, dose) for dose in (1.0, 0.5))
    quiet = _fit(session, "mean_difference", {"layers": [2]}, 0.25, Rivals(careful))
    right = {("contest", 1): opposed, ("contest", 2): quiet, ("contest", 3): opposed, ("damage", 1): loud, ("damage", 2): small,
             ("damage", 3): slight}  # fmt: skip

    def gloomy(step: tuple[str, int], fit: Any) -> bool:
        return passes(*step, fit=elsewhere(fit, "everyday-gloom"), **real)

    assert [step for step, fit in right.items() if not gloomy(step, fit)] == []
    assert [step for step, fit in right.items() if passes(*step, fit=fit, **real)] == [], "the embedded set"
    # No sentence beside it, or louder than it; no opposite; too quiet, or beyond the limit; no more than noise, or more; too little.
    wrong = {("contest", 1): (small, silly), ("contest", 2): (small, loud), ("contest", 3): (small, loud), ("damage", 1): (small, slight),
             ("damage", 2): (loud, silly), ("damage", 3): (loud, silly),
             ("noise", 1): (small, loud), ("noise", 2): (slight, silly)}  # fmt: skip
    told = [
        (step, i)
        for step, fits in wrong.items()
        for i, fit in enumerate(fits)
        if passes(*step, fit=elsewhere(fit, "everyday-gloom"), **real)
    ]
    assert told == []
