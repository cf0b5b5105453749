"""Every lesson on the embedded model: *show me* presses what solves each step, and wrong attempts of each do not pass."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.learn.questions import is_right
from tests.app.conftest import fine, settled, texts
from tests.app.lesson_checks import LESSONS, passes
from tests.real_wheel import NAME, got_once
from workbench.lessons.attempt import Attempt
from workbench.lessons.facts import met, value_of
from workbench.lessons.lesson import Lesson, LessonStep
from workbench.progress import silent
from workbench.resources import home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PAIR = ("When Kate and David were at the theatre, David handed a mirror to",
        "When Kate and David were at the theatre, Kate handed a mirror to", " Kate", " David")  # fmt: skip


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


@pytest.mark.parametrize("step", [pytest.param(step, id=f"{one.id}-{i}") for one in LESSONS.values() for i, step in enumerate(one.steps)])
def test_nothing_done_passes_nothing(step: LessonStep) -> None:
    assert not met(Attempt(), step.check)
    assert all(value_of(Attempt(), reading) in (None, 0.0) for reading in step.readings)


def test_a_sink_is_as_long_as_the_lesson_says_where_its_edits_act(one: Any, real: str) -> None:
    from workbench.models.sinks import sinks

    texts = ["Question: What is the capital of France? Answer:", "The old harbour was quiet, and nobody came before noon."]
    for name in ("embedded-sink", real):
        (layer,) = LESSONS["sink"].on(name).steps[2].start.knobs["layers"]
        found = sinks(one.open(name, silent()).model, texts)
        assert 50 < found.layers[layer].largest / found.layers[layer].median < 200, "a hundred times as long as elsewhere"
        assert {position for _, position, _ in found.tokens} == {0} and "hundred times" in LESSONS["sink"].on(name).steps[1].idea
    assert sinks(one.sessions["embedded"].model, texts).bounds == {}, "control: a model that has none"


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
