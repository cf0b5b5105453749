"""Every lesson on the embedded model: *show me* presses what solves each step, and wrong attempts of each do not pass."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages._ui.learn.questions import is_right
from tests.app.conftest import fine, settled, texts
from tests.real_wheel import NAME, got_once
from workbench.lessons.attempt import Attempt
from workbench.lessons.course import course
from workbench.lessons.facts import met, value_of
from workbench.lessons.lesson import Lesson, LessonStep
from workbench.progress import silent
from workbench.resources import home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
LESSONS = course().lessons
PAIR = ("When Kate and David were at the theatre, David handed a mirror to",
        "When Kate and David were at the theatre, Kate handed a mirror to", " Kate", " David")  # fmt: skip


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The process's backend with the embedded model itself."""
    from pages._ui.edit import fitting
    from pages._ui.kit import backend

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETOUCH_HOME", str(tmp_path_factory.mktemp("walks")))
        patch.setattr(fitting, "VERDICT_S", 120.0)
        st.cache_resource.clear()
        found = backend.backend()
        found.boot()
        assert found.thread is not None
        found.thread.join(120)
        assert found.error is None, found.error
        yield found
        found.jobs.cancel_all()
        st.cache_resource.clear()


# They are opened in a browser; AppTest has what they hold on the page at once.
POPOVERS = ("contest-say",)


def _press(test: AppTest, key: str) -> AppTest:
    name, _, word = key.partition("=")
    if name in POPOVERS:
        return test
    return settled(fine(test.button(key=name).click().run()), 600)


def _answer(test: AppTest, lesson: Lesson, i: int) -> None:
    """Choose answers until one is right: exactly one is."""
    step = lesson.steps[i]
    if step.question is None:
        return
    for at in range(len(step.question.answers)):
        if f"lesson-answer-{lesson.id}-{i}" in {item.key for item in test.radio}:
            fine(test.radio(key=f"lesson-answer-{lesson.id}-{i}").set_value(at).run())
            assert "–" not in "".join(item.value for item in test.markdown if ":material/help:" in item.value), "a fact is not there"


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=lambda lesson: lesson.id)
def test_show_me_solves_every_step(one: Any, lesson: Lesson) -> None:
    _walk(one, lesson, "embedded")


@pytest.fixture(scope="module")
def real(one: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The real model, got into the workspace and open."""
    workspace, _ = got_once(tmp_path_factory)
    shutil.copytree(workspace / "models" / NAME, home() / "models" / NAME, copy_function=os.link)
    one.open(NAME, silent())
    return NAME


# Those whose looks and fits take a minute there are walked when asked: RETOUCH_ALL_LESSONS=1.
QUICK = tuple(LESSONS) if os.environ.get("RETOUCH_ALL_LESSONS") else ("stream", "lens", "heads")
REAL = [one for one in LESSONS.values() if NAME in one.real and one.id in QUICK]


@pytest.mark.parametrize("lesson", REAL, ids=lambda lesson: lesson.id)
def test_show_me_solves_every_step_on_the_real_model_too(one: Any, real: str, lesson: Lesson) -> None:
    _walk(one, lesson, real)


def _walk(one: Any, lesson: Lesson, model: str) -> None:
    """Begin a lesson in a tab that is on a model, and press what *show me* presses, step by step."""
    test = AppTest.from_file(str(Path(__file__).with_name("travelling.py")), default_timeout=120).run()
    test.session_state["retouch"].model = model
    lesson = lesson.on(model)
    test = settled(fine(fine(test.run()).button(key=f"learn-{lesson.id}").click().run()), 600)  # another model is loaded first
    for i, step in enumerate(lesson.steps):
        assert step.task in texts(test) and "by your own run" not in texts(test), "nothing was run for this step"
        fine(test.button(key="lesson-show").click().run())
        _, *keys = test.session_state["retouch"].tab.parts["Following"].shows
        for key in keys:
            test = _press(test, key)
        assert "by your own run" in texts(test), [item.value for item in test.markdown if "Not yet" in item.value]
        _answer(test, lesson, i)
        assert f"lesson-saw-{lesson.id}-{i}" in {item.key for item in test.text_area}, "no answer was right"
        if i + 1 < len(lesson.steps):
            fine(test.button(key="lesson-next").click().run())
    assert "Now you can:" in texts(test) and (test.session_state["retouch"].model == model or not lesson.runs_on(model))
    records = one.sessions["embedded"].workspace.learning.steps(test.session_state["retouch"].owner, lesson.id)
    assert len(records) == len(lesson.steps) and all(record.done for record in records)
    for step, record in zip(lesson.steps, records):
        told = Attempt(kept={name: value for name, value in (record.facts or {}).items() if value is not None})
        right = [answer.say for answer in step.question.answers if is_right(answer, told)] if step.question else [""]
        assert len(right) == 1, (step.task, right)


def passes(
    lesson: str, step: int, scope: tuple[str, ...] = (), edits: frozenset[str] = frozenset(), asked: Any = None, **results: Any
) -> bool:
    found = {name.replace("_", "-") if name in ("equal_damage", "dose_plane") else name: value for name, value in results.items()}
    return met(
        Attempt(found, {} if asked is None else dict.fromkeys(found, asked), found, scope, edits), LESSONS[lesson].steps[step - 1].check
    )


@pytest.mark.parametrize("step", [pytest.param(step, id=f"{one.id}-{i}") for one in LESSONS.values() for i, step in enumerate(one.steps)])
def test_nothing_done_passes_nothing(step: LessonStep) -> None:
    assert not met(Attempt(), step.check)
    assert all(value_of(Attempt(), reading) in (None, 0.0) for reading in step.readings)


def test_wrong_looks_on_the_real_model_pass_nothing(one: Any, real: str) -> None:
    look, steps = one.sessions[real].look, {name: LESSONS[name].on(real).steps for name in ("stream", "lens", "heads")}
    asked = "The capital of France is"
    france, moved, cat = (look("logit_lens", text) for text in (asked, f"Lyon it is. {asked}", "The cat"))
    carrots = look("logit_lens", "Question: What do carrots help most? Answer:")
    wrong = [("stream", 0, cat), ("stream", 0, carrots), ("stream", 1, france), ("lens", 0, cat), ("lens", 1, france), ("lens", 1, cat)]
    assert [(name, i) for name, i, found in wrong if met(Attempt({"logit_lens": found}), steps[name][i].check)] == []
    right = [("stream", 0, france), ("lens", 0, france), ("lens", 1, moved)]
    assert all(met(Attempt({"logit_lens": found}), steps[name][i].check) for name, i, found in right)
    swapped = {unit: look("direct_attribution", asked, " London", " Paris", unit=unit) for unit in ("component", "head")}
    assert not met(Attempt({"attribution": swapped}), steps["stream"][2].check)
    assert not met(Attempt({"attribution": swapped}), steps["heads"][1].check)
    assert not met(Attempt({"attention": look("attention", "Hello world")}), steps["heads"][0].check)


def test_wrong_looks_pass_nothing(one: Any) -> None:
    look = one.sessions["embedded"].look
    hello, cat, carrots = (look("logit_lens", text) for text in ("Hello world", "The cat", "Question: What do carrots help most? Answer:"))
    assert not passes("stream", 1, logit_lens=hello) and not passes("stream", 1, logit_lens=cat)
    assert not passes("stream", 2, logit_lens=cat) and not passes("stream", 2, attention=look("attention", "Hello world"))
    assert not passes("stream", 2, logit_lens=carrots), "signs are no pieces of a word"
    assert passes("stream", 2, logit_lens=look("logit_lens", "Yesterday Kate and Zora saw the"))
    assert not passes("lens", 1, logit_lens=hello) and not passes("lens", 2, logit_lens=carrots)
    # The known wrong passes: a prompt that repeats itself was ticked by any prompt at all.
    assert not passes("heads", 1, attention=look("attention", "Hello world")) and passes("heads", 1, attention=look("attention", "a b a b"))
    swapped = {unit: look("direct_attribution", PAIR[0], " David", " Kate", unit=unit) for unit in ("component", "head")}
    assert not passes("heads", 2, attribution=swapped) and not passes("stream", 3, attribution=swapped)
    heads = look("head_scores", n=8, seed=0)
    weakest = heads.scores[0, heads.kinds.index("induction")].argmin()
    other = "{}.{}".format(*divmod(int(weakest), heads.scores.shape[3]))
    assert not passes("induction", 1, attention=look("attention", "a b a b")) and not passes("induction", 2, scope=(other,), heads=heads)
    assert not passes("induction", 2, heads=heads) and not passes("induction", 2, scope=("3",), heads=heads)
    assert not passes("induction", 3, heads=heads)
    turned = (PAIR[1], PAIR[0], *PAIR[2:])
    for step in (1, 2):
        assert not passes("patching", step, patching=look("attribution_patching", *PAIR))
    assert not passes("patching", 1, patching=look("activation_patching", *turned))
    few, many = (look("circuit", *PAIR, n_edges=n) for n in (5, 20))
    assert not passes("circuit", 1, circuit=many) and not passes("circuit", 2, scope=few.heads, circuit=few)
    assert not passes("circuit", 2, scope=("0.0", "5.5", "9.9"), circuit=many) and passes("circuit", 2, scope=many.heads, circuit=many)


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


def elsewhere(outcome: Any) -> Any:
    """The same fit, as if it were on another set."""
    return replace(outcome, settings=replace(outcome.settings, source="bias"))


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
