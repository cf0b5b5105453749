"""The error tree: what was got, what was needed, and in `hint` what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RetouchError(Exception):
    """Base of every error that a user or a file can cause.

    `str(error)` says what was got and what was needed; `hint` says what to do.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(spelled_out(message))
        self.hint = spelled_out(hint)


def spelled_out(text: str) -> str:
    """The text with halves of characters spelled out: what a file or a name brought along can then be printed, sent and written."""
    return text.encode("utf-8", "backslashreplace").decode()


class UnknownName(RetouchError):
    """A name that is not among the known ones; the message lists them and the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(name, names, n=1)
        listed = ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
        guess = f"Did you mean {near[0]!r}?" if near else f"Choose one of the known {kind}s." if names else f"There is no {kind} yet."
        super().__init__(f"No {kind} {name!r}. Known: {listed or 'none'}.", guess)


class UnknownSite(UnknownName):
    """A site that this model does not have."""

    def __init__(self, site: str, known: Iterable[str]) -> None:
        super().__init__("site", site, known)


class UnknownMethod(UnknownName):
    """A method that nobody registered."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__("method", name, known)


class UnknownKnob(UnknownName):
    """A knob that the method does not have."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__("knob", name, known)


class BadKnob(RetouchError):
    """A knob's value of the wrong type, out of its bounds, or not among its choices."""


class BadLane(RetouchError):
    """What was given for a lane is none: no edit, text or tuple of these, or a text outside the grammar."""


class BadDose(RetouchError):
    """A dose that is NaN or outside the range that all sliders and commands have."""


class BadPlace(RetouchError):
    """A text that names no place where an edit may act, or a place that this model cannot tell."""


class BadSite(RetouchError):
    """A text that is not an address of a site."""


class ModelMismatch(RetouchError):
    """An edit that was fitted on another model, dtype or processing mode."""


class ShapeMismatch(RetouchError):
    """A tensor whose shape does not fit the site or the file it belongs to."""


class NotFinite(RetouchError):
    """NaN or infinite values where numbers were needed."""


class NotEnoughData(RetouchError):
    """Too few demonstrations, or only one class of them."""


class FittedRows(NotEnoughData):
    """Every row that was to be scored was fitted on: nothing held out is left."""


class BadDemonstrations(RetouchError):
    """A demonstrations file that cannot be read as one."""


class BadLesson(RetouchError):
    """A lesson's file that cannot be read as one; the message names file, line and field."""


class BadPrompt(RetouchError):
    """A prompt that is empty, too long for the context, or holds an unknown token id."""


class ModelUnavailable(RetouchError):
    """A model that cannot be loaded: no such name or folder, no network, gated, corrupt, unsupported or too large."""


class CorruptModel(ModelUnavailable):
    """Model weights that are missing, unexpected, of the wrong shape, or in conflict."""


class NotEnoughMemory(ModelUnavailable):
    """A model that needs more memory than is free; the message names both numbers."""


class Obstructed(RetouchError):
    """A method that cannot run here; the message names the obstacles."""


class FitFailed(RetouchError):
    """A fit whose data cannot support an edit (probe at chance, concept not represented, nothing to separate)."""


class NoEffect(RetouchError):
    """A choice among settings none of which is better than the unedited model, or than a random edit, beyond chance."""


class CorruptEdit(RetouchError):
    """An edit folder that is incomplete or altered."""


class NewerSchema(RetouchError):
    """A file written by a newer version of Retouch."""


class UnsupportedExport(RetouchError):
    """An export that would not be exact; the message says why."""


class StorageFailed(RetouchError):
    """The disk is full, read-only, or the workspace database is locked."""


class ChangedMeanwhile(RetouchError):
    """A set that another tab or program has changed since it was read. Both are kept: `kept` is the id of what was to be saved."""

    def __init__(self, message: str, hint: str, kept: str) -> None:
        super().__init__(message, hint)
        self.kept = kept


class Unexpected(RetouchError):
    """A fault of Retouch itself; `report_id` names the file under the workspace's `reports` that tells what happened."""

    def __init__(self, doing: str, report_id: str) -> None:
        super().__init__(
            f"Something unexpected stopped: {doing}. Report {report_id}.",
            f"Try again; if it stops again, send the file reports/{report_id}.txt of the workspace.",
        )
        self.report_id = report_id


class Busy(RetouchError):
    """As much runs, waits or is open for one person as one person may have."""
