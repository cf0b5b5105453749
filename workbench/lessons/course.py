"""The lessons that ship, in their order, and a teacher's own in the workspace; a broken file is named and breaks nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from workbench.errors import BadLesson
from workbench.lessons.lesson import Lesson
from workbench.lessons.reading import read_lesson
from workbench.resources import LESSONS

OWN = "lessons"
"""The folder of a workspace in which a teacher's own lessons lie."""
_MOST_BYTES = 200_000


@dataclass(frozen=True)
class Course:
    """Lessons by id: those that ship by the names of their files, then the workspace's; and what is wrong with files that are none."""

    lessons: dict[str, Lesson]
    problems: tuple[BadLesson, ...] = ()

    def after(self, lesson: str) -> Lesson | None:
        """The lesson that comes next."""
        names = list(self.lessons)
        at = names.index(lesson) + 1 if lesson in names else len(names)
        return self.lessons[names[at]] if at < len(names) else None


def course(workspace: Path | None = None, shipped: Path = LESSONS) -> Course:
    """Every lesson that can be read, and why others cannot; a file is read again once it has changed."""
    lessons: dict[str, Lesson] = {}
    problems: list[BadLesson] = []
    for folder in (shipped, *([workspace / OWN] if workspace is not None else [])):
        for path in sorted(folder.glob("*.y*ml")):
            try:
                status = path.stat()
                lesson = _read(path, status.st_mtime_ns, status.st_size)
                if lesson.id in lessons:
                    raise BadLesson(f"{path.name}: a lesson {lesson.id!r} is there already.", "Give it another id.")
            except BadLesson as error:
                problems.append(error)
            except OSError as error:
                problems.append(BadLesson(f"{path.name} cannot be read: {error.strerror}.", "Make the file readable, or remove it."))
            else:
                lessons[lesson.id] = lesson
    return Course(lessons, tuple(problems))


@cache
def _kept(path: Path, changed: int, size: int) -> Lesson | BadLesson:
    try:
        if size > _MOST_BYTES:
            raise BadLesson(f"{path.name} has {size:,} bytes; a lesson has at most {_MOST_BYTES:,}.", "Shorten it, or split it.")
        return read_lesson(path.read_text(encoding="utf-8"), path.name)
    except UnicodeDecodeError as error:
        return BadLesson(f"{path.name} is no UTF-8 text: {error.reason} at byte {error.start}.", "Save it as UTF-8.")
    except BadLesson as error:
        return error


def _read(path: Path, changed: int, size: int) -> Lesson:
    found = _kept(path, changed, size)
    if isinstance(found, BadLesson):
        raise BadLesson(str(found), found.hint)
    return found
