"""Every edit within reach: fitted by this process, saved in the workspace, or in a folder of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from workbench.edits.base import Edit, Stack
from workbench.edits.labels import edits_of, stack_of
from workbench.edits.lane import EditLike, Lane, LaneLike, LanesLike, Named, lane_of, lanes_of, valid_dose
from workbench.edits.prompting import Prompting
from workbench.edits.store import load_edit, save
from workbench.errors import BadLane, NewerSchema, StorageFailed, UnknownName
from workbench.methods.registry import FitReport, Fitted, Notice
from workbench.models.base import Fingerprint
from workbench.place import read_place
from workbench.workspace.edits import EditInfo
from workbench.workspace.home import Workspace
from workbench.workspace.people import acting
from workbench.workspace.reports import report_of
from workbench.workspace.share import share
from workbench.workspace.shelf import Shelf

# Fits that a person has not saved stay at hand until this many newer ones.
_MAX_FITTED = 50


class EditShelf:
    """Edits by id, name or folder, and lanes of them."""

    def __init__(self, workspace: Callable[[], Workspace], demos: Shelf) -> None:
        self._workspace, self._demos = workspace, demos
        self._lock = threading.Lock()
        # By person, then by id: two who fit the same have one each.
        self._fitted: dict[tuple[str, str], Fitted] = {}
        self._run_of: dict[tuple[str, str], str] = {}
        self._models: dict[tuple[str, str], Fingerprint] = {}

    def knows(self, model: Fingerprint) -> None:
        """Note a model that was loaded: its edits of older versions, which know it by a sample of its weights, get the hash of all.

        Only those that name it: another model may have the same sample, as its export with one row edited has.
        """
        self._models[model.name, model.sampled] = model

    def remember(self, fitted: Fitted, run_id: str | None) -> None:
        """Keep a fit at hand for the person who works here, and the run that recorded it."""
        key = acting(), fitted.edit.id
        with self._lock:
            self._fitted.pop(key, None)
            self._fitted[key] = fitted
            if run_id is not None:
                self._run_of[key] = run_id
            for old in self._beyond_share():
                del self._fitted[old]
                self._run_of.pop(old, None)

    def draft(self, edit: Edit) -> None:
        """Keep at hand an edit that was not fitted, and so has neither a report nor a run."""
        self.remember(Fitted(edit, FitReport()), None)

    def _beyond_share(self) -> list[tuple[str, str]]:
        """The oldest fits of the person who works here, as far as they are more than one person may have; never the newest."""
        mine = [key for key in self._fitted if key[0] == acting()]
        sizes = [sum(tensor.nbytes for tensor in self._fitted[key].edit.tensors().values()) for key in mine]
        limit = share().n_bytes
        n = max(0, len(mine) - _MAX_FITTED)
        while limit is not None and n < len(mine) - 1 and sum(sizes[n:]) > limit:
            n += 1
        return mine[:n]

    def fitted(self) -> tuple[Fitted, ...]:
        """The fits at hand of the person who works here, the newest first."""
        with self._lock:
            return tuple(fitted for (person, _), fitted in reversed(self._fitted.items()) if person == acting())

    def _at_hand(self, key: str | Path) -> Fitted | None:
        return self._fitted.get((acting(), str(key)))

    def lanes(self, given: LanesLike) -> tuple[Lane, ...]:
        """The lanes that something means, their edits loaded. Raises: as `lane`."""
        return tuple(self.lane(lane) for lane in lanes_of(given, self._is_name))

    def lane(self, given: LaneLike) -> Lane:
        """The lane that something means, its edits loaded and its shots read.

        Raises:
            BadLane: it means none, or the set of its shots has too few. BadDose: a dose is NaN or out of range. Others: as `load`.
        """
        found = lane_of(given, self._is_name).loaded(self._loaded, self._shown)
        for edit in found.edits:
            valid_dose(edit.written_dose or 0.0)
        return replace(found, edits=tuple(map(self._called, edits_of(found))))

    def read(self, text: str) -> Lane:
        """The lane of a text, its edits named; names that hold marks of the grammar are known. Raises: as `Lane.parse`."""
        return Lane.parse(text, self._is_name)

    def edit(self, given: EditLike) -> Edit:
        """The one edit that something means, at its dose. Raises: as `lane`; BadLane for a stack."""
        stack = stack_of(self.lane(given))
        if len(stack) != 1:
            raise BadLane(f"{given!r} is {len(stack)} edits; one is needed.", "Name one edit: an id, a name or a folder, perhaps as ID:2.")
        return stack[0]

    def stack(self, given: LaneLike) -> Stack:
        """The edits of a lane. Raises: as `lane`."""
        return stack_of(self.lane(given))

    def load(self, key: str | Path) -> Edit:
        """An edit by id, name or folder, at the dose it was saved at.

        Raises:
            UnknownName: there is none. CorruptEdit, NewerSchema: as `edits.store.load_edit`.
        """
        kept = self._at_hand(key)
        if kept is not None:
            return kept.edit
        if Path(key).is_dir():
            return self._upgraded(load_edit(key))
        saved = self._workspace().edits
        known = saved.known()
        if str(key) not in known:
            raise UnknownName("edit or edit folder", str(key), known | {one.edit.id for one in self.fitted()})
        found = saved.load(str(key))
        if (better := self._upgraded(found)) is not found:
            info = saved.info(str(key))
            # It is the same edit either way: where it cannot be written, it is upgraded again the next time.
            with contextlib.suppress(StorageFailed):
                saved.save(better, info.name, verdict=info.verdict, run_id=info.run_id)
        return better

    def _upgraded(self, edit: Edit) -> Edit:
        head = edit.header
        model = None if head.model.sampled else self._models.get((head.model.name, head.model.weights))
        if model is None or not head.model.same_model(model):
            return edit
        return replace(edit, header=replace(head, model=replace(head.model, weights=model.weights, sampled=model.sampled)))

    def _loaded(self, edit: Named) -> Edit:
        found = self._called(self.load(edit.name), edit.name)
        found = found if edit.dose is None else found.dosed(edit.dose)
        return found.acting(edit.where) if edit.where else found

    def _called(self, edit: Edit, key: str = "") -> Edit:
        """The edit under the name that it has in the workspace now, where it is saved and was not named by another of its doses.

        key: what it was asked for by; its id, which takes a look at all its tensors, where it was given as itself.
        """
        if edit.called:
            return edit
        try:
            saved = self._workspace().edits
            known = saved.known()
            return replace(edit, called=saved.info(key or edit.id).name) if known and (key or edit.id) in known else edit
        except (StorageFailed, NewerSchema):  # a workspace that refuses costs no result
            return edit

    def _shown(self, said: Prompting) -> Prompting:
        """The shots of a lane from their set."""
        shots = said.shots
        if shots is None:
            return said
        rows = self._demos.resolve(shots.source).split("fit").having("prompt", "positive").rows[: shots.n]
        if len(rows) < shots.n:
            raise BadLane(f"{shots.source!r} has {len(rows)} answered rows of split fit; {shots.n} shots are asked.", "Ask for fewer.")
        marks = tuple(sorted({mark for row in rows for mark in row.marks}))
        return replace(said, examples=tuple((row.prompt, row.positive or "") for row in rows), marks=marks)

    def _is_name(self, text: str) -> bool:
        """Whether a text names an edit as it stands; only texts with marks of the lanes' grammar are looked up."""
        if not set(text) & set('+:@,"'):
            return False
        return Path(text).is_dir() or text in self._workspace().edits.known()

    def save(self, edit: EditLike, name: str, verdict: str = "") -> EditInfo:
        """Keep an edit in the workspace at its dose, with the report of its fit; the place of its lane becomes its own.

        Raises: StorageFailed.
        """
        one, fitted = self.own(edit), self.edit(edit).id
        return self._workspace().edits.save(one, name, verdict=verdict, run_id=self._run_of.get((acting(), fitted)))

    def write(self, edit: EditLike, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write an edit at its dose into a folder of its own; the place of its lane becomes its own. Raises: StorageFailed."""
        return save(self.own(edit), folder, overwrite=overwrite)

    def keep_placed(self, edit: EditLike) -> str:
        """Keep at hand the edit with the place of its lane as its own, under a name that says so, with the report of its fit; its id.

        Raises: as `edit`.
        """
        given, name = self.edit(edit), self.name(edit.key if isinstance(edit, Named) else self.edit(edit).id)
        one = replace(self.own(edit), called=f"{name}, {read_place(given.acts_at).label}" if given.acts_at else name)
        self.remember(Fitted(one, self.report(given.id) or FitReport()), self._run_of.get((acting(), given.id)))
        return one.id

    def own(self, edit: EditLike) -> Edit:
        """The one edit that something means, with the place of its lane as its own: as it is kept. Raises: as `edit`."""
        one = self.edit(edit)
        return one.placed(one.where) if one.where else one

    def said_of(self, edits: Sequence[Edit]) -> tuple[str, ...]:
        """What the fits of some edits said of them that whoever measures them says again: that they are near the identity."""
        return tuple(
            f"The fit of {edit.header.method} said: {notice.text}"
            for edit in edits
            for notice in self._notices(edit.id)
            if notice.is_identity
        )

    def _notices(self, edit: str) -> tuple[Notice, ...]:
        try:
            is_known = self._at_hand(edit) is not None or edit in self._workspace().edits.known()
            report = self.report(edit) if is_known else None
        except (StorageFailed, NewerSchema):  # a workspace that refuses costs no result
            return ()
        return report.notices if report else ()

    def name(self, key: str) -> str:
        """What to call an edit: its saved name, else its method and the start of its id."""
        for info in self._workspace().edits.list():
            if key in (info.id, info.name):
                return info.name
        return f"{self.load(key).header.method} {key[:4]}"

    def report(self, key: str) -> FitReport | None:
        """The report of an edit's fit, made here or kept with the saved edit; None for an edit brought from elsewhere."""
        one = load_edit(key).id if self._at_hand(key) is None and Path(key).is_dir() else key
        kept = self._at_hand(one)
        if kept is not None:
            return kept.report
        workspace = self._workspace()
        if one != key and one not in workspace.edits.known():
            return None
        run_id = workspace.edits.info(one).run_id
        if run_id is None:
            return None
        return report_of(workspace.runs.get(run_id), workspace.runs.arrays(run_id))
