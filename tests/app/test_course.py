"""The lessons that ship name what exists, ask what can be had, and use no technical word before it is explained."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.errors import BadLesson
from workbench.lessons.course import course
from workbench.lessons.lesson import PAGES, PLACE, Lesson, LessonStep
from workbench.lessons.reading import MOST_WORDS, STATE, read_lesson

ROOT = Path(__file__).resolve().parents[2]
COURSE = course()
LESSONS = list(COURSE.lessons.values())
REAL = "smollm2-135m"
PATHS = [(lesson.id, lesson) for lesson in LESSONS] + [(f"{lesson.id}-real", lesson.on(REAL)) for lesson in LESSONS if REAL in lesson.real]
STEPS = [pytest.param(step, id=f"{name}-{i + 1}") for name, lesson in PATHS for i, step in enumerate(lesson.steps)]


def texts_of(step: LessonStep) -> Iterator[str]:
    """Everything that a learner reads of a step."""
    yield from (step.task, step.idea, *step.hints, step.saw)
    if step.question is not None:
        yield step.question.ask
        for answer in step.question.answers:
            yield from (answer.say, answer.reply)


def sources() -> str:
    """Everything that can put a word on a page: the pages, their parts, the menu, the methods' titles, knobs and presets."""
    folders = [*(ROOT / "pages").rglob("*.py"), *(ROOT / "workbench" / "methods").rglob("*.py"), ROOT / "app.py"]
    return "\n".join(path.read_text(encoding="utf-8") for path in folders) + (ROOT / "assets/cards/truthful.json").read_text()


def is_said(name: str, source: str) -> bool:
    """Whether a control of this name stands in the source; `…` is a part that the page fills in."""
    pattern = r"[^\"]*".join(re.escape(part) for part in name.split("…"))
    return re.search(rf"[\"'*]{pattern}[\"'*]", source) is not None


def keys() -> list[re.Pattern[str]]:
    """The keys of all controls, as patterns: texts, and texts with parts that the page fills in."""
    found: set[str] = set()
    for path in (ROOT / "pages").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.escape(node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = [re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in node.values]
                if any(part != ".+" and len(part) > 2 for part in parts):
                    found.add("".join(parts))
    return [re.compile(pattern) for pattern in found if len(pattern) < 80]


KEYS = keys()


def is_key(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in KEYS)


def test_every_lesson_that_ships_can_be_read() -> None:
    assert COURSE.problems == () and LESSONS
    assert LESSONS[0].id == "tour" and LESSONS[0].minutes == 2
    assert all(5 <= lesson.minutes <= 15 for lesson in LESSONS[1:])


def test_a_lesson_has_a_path_on_the_real_model_or_says_why_it_is_done_on_its_own_alone() -> None:
    assert [lesson.id for lesson in LESSONS if (REAL in lesson.real) == bool(lesson.only)] == []
    both = lesson().replace("about: About.", f"about: About.\nreal: [{REAL}]\nonly: A reason.")
    with pytest.raises(BadLesson, match="line 7, only"):
        read_lesson(both, "x.yaml")


def test_the_pages_of_lessons_are_those_of_the_menu() -> None:
    tree = ast.parse((ROOT / "app.py").read_text(encoding="utf-8"))
    menu = next(node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MENU")
    assert tuple(title for title, _, _ in ast.literal_eval(menu)) == PAGES


@pytest.mark.parametrize("step", STEPS)
def test_a_step_names_a_set_a_method_and_controls_that_exist(step: LessonStep) -> None:
    from workbench.methods import names
    from workbench.workspace.shipped import ShippedSets

    shipped = {offer.id for offer in ShippedSets().offers()}
    starts = [start for start in (step.start, step.shown) if start is not None]
    assert all(start.set in ("", *shipped) and start.method in ("", *names()) for start in starts)
    named = [*(key for start in starts for key in start.controls), *(key.split("=")[0] for key in step.press)]
    assert [key for key in named if not is_key(key)] == []


def test_a_control_that_does_not_exist_would_be_seen() -> None:
    assert is_key("lens-run") and is_key("fit-dose-sea") and not is_key("elephant-walk")
    assert is_said("Fit edit", sources()) and is_said("Add … to scope", 'f"Add {what} to scope"')
    assert not is_said("Fit an elephant", sources())


@pytest.mark.parametrize("step", STEPS)
def test_the_controls_that_hints_name_exist(step: LessonStep) -> None:
    source = sources()
    named = [name for text in (*step.hints, step.task) for name in re.findall(r"\*([^*]+)\*", text)]
    assert [name for name in named if not is_said(name, source)] == []


@pytest.mark.parametrize("step", STEPS)
def test_a_text_is_short_and_an_idea_has_two_sentences(step: LessonStep) -> None:
    assert all(len(text.split()) <= MOST_WORDS for text in texts_of(step))
    assert len(re.findall(r"[.!?](?=\s|$)", step.idea)) == 2, step.idea


def numbers(step: LessonStep) -> list[str]:
    """Numbers that stand in what a step tells; conditions and hints are tried by the walk through every lesson."""
    answers = step.question.answers if step.question else ()
    told = [step.task, step.idea, step.saw, *(answer.reply for answer in answers)]
    return [found for text in told for found in re.findall(r"[0-9][0-9.]*", PLACE.sub("", text))]


@pytest.mark.parametrize("step", STEPS)
def test_every_number_that_a_step_tells_is_a_fact_of_the_learners_own_run(step: LessonStep) -> None:
    assert numbers(step) == []


def test_a_number_that_nobody_measured_would_be_seen() -> None:
    (step,) = read_lesson(lesson("0.42 of them"), "x.yaml").steps
    assert numbers(step) == ["0.42"]


def early(lessons: list[Lesson]) -> list[str]:
    """Technical words that stand in a step before any step has explained them."""
    from pages._ui.kit.glossary import terms_in

    explained: set[str] = set()
    found: list[str] = []
    for lesson in lessons:
        for i, step in enumerate(lesson.steps):
            explained |= set(step.explains)
            said = terms_in(*(PLACE.sub("", text) for text in texts_of(step)))
            found += [f"{lesson.id}-{i + 1}: {term}" for term in said if term not in explained]
            found += [f"{lesson.id}-{i + 1}: explains {term}, which it does not say" for term in step.explains if term not in said]
    return found


def test_no_technical_word_is_used_before_it_is_explained() -> None:
    assert early(LESSONS) == [] and early([lesson.on(REAL) for lesson in LESSONS]) == []


def test_a_step_on_a_real_model_is_the_step_but_for_what_it_says_itself() -> None:
    more = "    real: {start: {page: Model}, check: [lens.tokens >= 2]}\n"
    whole = read_lesson(lesson().replace("about: About.", f"about: About.\nreal: [{REAL}]") + more, "x.yaml")
    (plain,), (step,), (same,) = whole.steps, whole.on(REAL).steps, whole.on("embedded").steps
    assert (step.start.page, str(step.check[0])) == ("Model", "lens.tokens >= 2.0") and step.task == plain.task
    assert same is plain and plain.start.page == "Inspect" and whole.runs_on(REAL) and not read_lesson(lesson(), "x.yaml").runs_on(REAL)
    for bad, field in ((lesson() + more, "real"), (lesson() + more.replace("start", "begin"), "begin")):
        with pytest.raises(BadLesson, match=field):
            read_lesson(bad, "x.yaml")


PLAIN = """
id: x
title: X
minutes: 5
about: About.
can: do it.
steps:
  - task: Read the {word}.
    idea: One. Two.
    start: {{page: {page}}}
    press: [lens-run]
    hints: [a, b]
    check: [{check}]
"""


def lesson(word: str = "word", page: str = "Inspect", check: str = "lens.tokens >= 1") -> str:
    return PLAIN.format(word=word, page=page, check=check)


def asked(says: str) -> str:
    """The lesson with a question whose first answer says so."""
    answers = f"        - {{say: a, reply: b, {says}}}\n        - {{say: c, reply: d, right: true}}\n"
    return f"{lesson()}    question:\n      ask: Which?\n      answers:\n{answers}"


def started(control: str) -> str:
    """The lesson with a control in its start."""
    return lesson(page=f"Inspect, controls: {{{control}}}")


def test_a_word_that_is_too_early_would_be_seen() -> None:
    assert early([read_lesson(lesson(), "x.yaml")]) == []
    assert early([read_lesson(lesson("residual stream"), "x.yaml")]) == ["x-1: residual stream"]


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        (lesson(page="Elephant"), 10, "steps[1].start.page"),
        (lesson(check="lens.elephant >= 1"), 13, "steps[1].check[1]"),
        (lesson(check="lens.tokens"), 13, "steps[1].check[1]"),
        (lesson(check="lens.tokens >= many"), 13, "steps[1].check[1]"),
        (lesson(word="word " * 61), 8, "steps[1].task"),
        (lesson().replace("minutes: 5", "minutes: soon"), 4, "minutes"),
        (lesson().replace("hints: [a, b]", "hints: [a]"), 12, "steps[1].hints"),
        (lesson().replace("about: About.\n", "about: About.\nelephant: 1\n"), 6, "elephant"),
        (lesson().replace("id: x", "id: X 1"), 2, "id"),
        (lesson().replace("id: x", "id: 3"), 2, "id"),
        (lesson().replace("idea:", "task:"), 9, "task"),
        (asked("right: yes please"), 17, "answers[1].right"),
        (asked("right: 1"), 17, "answers[1].right"),
        (asked("right: 2026-13-45"), 17, "answers[1].right"),
        *(
            (started(f"inspect-prompt: {odd}"), 10, "controls.inspect-prompt")
            for odd in ("2026-13-45", "!!int x", "!!bool x", "!!timestamp x")
        ),
        (started("retouch: 1"), 10, "steps[1].start.controls"),
        ("[" * 5000, 0, "nested"),
        ("id: [", 1, "YAML"),
        ("- 1", 1, "needs fields"),
        ("", 0, "empty"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_field(text: str, line: int, field: str) -> None:
    with pytest.raises(BadLesson) as caught:
        read_lesson(text, "x.yaml")
    assert "x.yaml" in str(caught.value) and field in str(caught.value) and caught.value.hint
    assert not line or f"line {line}" in str(caught.value)


def test_what_is_refused_is_a_slip_of_what_is_read() -> None:
    (step,) = read_lesson(asked("right: false"), "x.yaml").steps
    assert step.question is not None and [answer.right for answer in step.question.answers] == [False, True]
    assert read_lesson(started("inspect-prompt: 3"), "x.yaml").steps[0].start.controls == {"inspect-prompt": 3}


def test_no_control_may_bear_the_key_of_what_a_tab_knows() -> None:
    from pages._ui.kit import state

    assert state._KEY == STATE


def test_files_that_are_none_are_told_and_a_second_of_the_same_id_too(tmp_path: Path) -> None:
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "good.yaml").write_text(lesson())
    (tmp_path / "lessons" / "twin.yml").write_text(lesson())
    (tmp_path / "lessons" / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    found = course(tmp_path)
    assert list(found.lessons)[-1] == "x" and list(COURSE.lessons) == list(found.lessons)[:-1]
    assert sorted(str(problem).partition(":")[0].partition(" ")[0] for problem in found.problems) == ["bytes.yaml", "twin.yml"]
