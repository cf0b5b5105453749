"""Every demonstration set within reach: those that ship with Retouch, and those of the workspace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from workbench.data.demonstrations import Demonstrations, Split, joined
from workbench.data.hub import hub_source, read_hub
from workbench.data.sources import Imported, read
from workbench.errors import BadDemonstrations, UnknownName
from workbench.workspace.home import Workspace
from workbench.workspace.sets import SetInfo, SetVersion
from workbench.workspace.shipped import Offer, ShippedSets

HUB = "hf:"


class Shelf:
    """Sets by id or name. A set that ships is never changed: saving it makes a copy in the workspace."""

    def __init__(self, workspace: Callable[[], Workspace], shipped: ShippedSets | None = None) -> None:
        self._workspace, self._shipped = workspace, shipped or ShippedSets()

    def shipped(self) -> tuple[Offer, ...]:
        """The sets that ship, in their order."""
        return self._shipped.offers()

    def called(self, name: str) -> str:
        """The id of the set that has an id or a title, as runs tell it; empty without one."""
        return next((offer.id for offer in self.list() if name in (offer.id, offer.title)), "")

    def _shipped_ids(self) -> set[str]:
        return {offer.id for offer in self.shipped()}

    def _is_set(self, text: str) -> bool:
        return text in self._shipped_ids() or any(text in (info.id, info.name) for info in self._workspace().sets.list())

    def list(self) -> tuple[Offer, ...]:
        """Every set: the workspace's, the last changed first, then those that ship."""
        return (*(self._offer(info) for info in self._workspace().sets.list()), *self.shipped())

    def _offer(self, info: SetInfo) -> Offer:
        return Offer(info.id, info.name, info.note, "yours", info.n, roles=info.roles, saved=info)

    def n_split(self, key: str) -> Mapping[str, int]:
        """How many rows of a set are in each split. Raises: as `get`."""
        return Counter(row.split for row in self.get(key))

    def info(self, key: str) -> Offer:
        """One set by id or name.

        Raises:
            UnknownName: there is none; the message lists all.
        """
        for offer in self.shipped():
            if offer.id == key:
                return offer
        for info in self._workspace().sets.list():
            if key in (info.id, info.name):
                return self._offer(info)
        known = [offer.id if offer.is_shipped else offer.title for offer in self.list()]
        raise UnknownName("demonstration set", key, known)

    def get(self, key: str, version: int | None = None) -> Demonstrations:
        """The rows of a set.

        Raises:
            UnknownName: there is none. BadDemonstrations: its rows, or a shipped file, are damaged.
        """
        if key in self._shipped_ids():
            return self._shipped.get(key)
        self.info(key)
        return self._workspace().sets.get(key, version)

    def __call__(self, key: str) -> Demonstrations:
        """The rows of a set: `session.demos("truthfulness")`. Raises: as `get`."""
        return self.get(key)

    def resolve(self, source: str | Path | Demonstrations, split: Split | None = None) -> Demonstrations:
        """Demonstrations from whatever names them: themselves, a set, a file, `hf:org/name[/config][@part]`, or several with + between.

        Args:
            split: the split of every row of a file that names none; None draws splits.

        Raises:
            UnknownName: neither a set nor a file. BadDemonstrations: as `read`, or no row is usable.
        """
        if isinstance(source, Demonstrations):
            return source
        text = str(source)
        if not isinstance(source, Path) and self._is_set(text):
            return self.get(text)
        if "+" in text and not Path(text).exists():
            return joined(self.resolve(part.strip(), split) for part in text.split("+"))
        if text.startswith(HUB):
            return _usable(read_hub(hub_source(text.removeprefix(HUB)), split=split))
        if isinstance(source, Path) or "/" in text or Path(text).suffix:
            return _usable(read(source, split=split))
        return self.get(text)

    def save(self, demonstrations: Demonstrations, *, key: str | None = None, onto: int | None = None, note: str = "") -> SetInfo:
        """Write a new version of a set of the workspace, or a new set; of a set that ships, a copy. `onto`: as `DemonstrationSets.save`.

        Raises:
            ChangedMeanwhile: the current version is another than `onto`. StorageFailed: nothing was written.
        """
        sets = self._workspace().sets
        if key is None or key in self._shipped_ids():
            return sets.save(demonstrations, note=note or (f"copy of {key}" if key else ""), taken=self._shipped_ids())
        return sets.save(demonstrations, key=key, onto=onto, note=note, taken=self._shipped_ids())

    def change(self, key: str, how: Callable[[Demonstrations], Demonstrations], *, note: str = "") -> SetInfo:
        """Write what `how` makes of the current rows of a set of the workspace; nobody else changes it in between."""
        return self._workspace().sets.change(key, how, note=note)

    def import_file(self, content: str | Path | bytes, name: str | None = None, *, seed: int = 0) -> tuple[Imported, SetInfo | None]:
        """Read a file and keep its good rows as a new set; return what was read, and the set unless no row was good.

        Raises:
            BadDemonstrations: as `read`. StorageFailed: nothing was written.
        """
        return self.import_files([(content, name)], seed=seed)

    def import_files(self, files: Files, *, seed: int = 0) -> tuple[Imported, SetInfo | None]:
        """Read files into one new set, as `read_files`, and keep it.

        Raises:
            BadDemonstrations: as `read`, of any of them. StorageFailed: nothing was written.
        """
        whole = read_files(files, seed=seed)
        return whole, self.keep(whole, ", ".join(Path(name or str(content)).name for content, name in files))

    def keep(self, imported: Imported, origin: str, name: str = "") -> SetInfo | None:
        """Keep the good rows of what was read as a new set, unless there are none; `origin` is told as its first version's note.

        Raises:
            StorageFailed: nothing was written.
        """
        if not len(imported.demonstrations):
            return None
        rows = Demonstrations(imported.demonstrations.rows, name.strip() or imported.demonstrations.name)
        return self._workspace().sets.save(rows, note=f"imported {origin}", taken=self._shipped_ids())

    def new(self, name: str) -> SetInfo:
        """A set without rows, to be typed into. Raises: StorageFailed: nothing was written."""
        return self.save(Demonstrations((), name), note="begun empty")

    def duplicate(self, key: str) -> SetInfo:
        """A copy of a set as it is now, one that ships too; it keeps nothing of the versions before. Raises: as `get` and `save`."""
        offer = self.info(key)
        rows = Demonstrations(self.get(key).rows, f"{offer.title} copy")
        return self.save(rows, note=f"copy of {offer.title}")

    def merge(self, keys: Sequence[str], name: str = "") -> SetInfo:
        """The rows of several sets as a new one, each text once: of rows that differ in nothing but id, tags and split the first is kept.

        Raises:
            BadDemonstrations: fewer than two sets. UnknownName: one of them is unknown. StorageFailed: nothing was written.
        """
        if len(set(keys)) < 2:
            raise BadDemonstrations(f"Got {len(set(keys))} set to merge.", "Choose two or more.")
        titles = [self.info(key).title for key in keys]
        whole = joined(Demonstrations(self.get(key).rows, title) for key, title in zip(keys, titles))
        distinct = {row.texts: row for row in reversed(whole.rows)}
        rows = tuple(row for row in whole if distinct[row.texts] is row)
        return self.save(Demonstrations(rows, name.strip() or whole.name), note=f"merged {', '.join(titles)}")

    def undo(self, key: str) -> SetInfo:
        """Go back one version."""
        return self._workspace().sets.undo(key)

    def redo(self, key: str) -> SetInfo:
        """Go forward one version."""
        return self._workspace().sets.redo(key)

    def history(self, key: str) -> tuple[SetVersion, ...]:
        """Every version of a set of the workspace; a set that ships has none."""
        return () if self.info(key).is_shipped else self._workspace().sets.history(key)

    def n_opened(self, key: str) -> int:
        """How many runs have scored edits on the test rows of a set, in any of its versions: a test that was looked at decides no more."""
        is_shipped = self.info(key).is_shipped
        data = {self.get(key).fingerprint} if is_shipped else self._workspace().sets.fingerprints(key)
        return self._workspace().runs.n_opened(data)

    def go_to(self, key: str, version: int) -> SetInfo:
        """Make any version of a set of the workspace the current one."""
        return self._workspace().sets.go_to(key, version)

    def rename(self, key: str, name: str) -> SetInfo:
        """Give a set of the workspace another name."""
        return self._workspace().sets.rename(key, name, self._shipped_ids())

    def delete(self, key: str) -> None:
        """Put a set of the workspace into the bin; `restore` takes it out."""
        self._workspace().sets.delete(key)

    def restore(self, set_id: str) -> SetInfo:
        """Take a set out of the bin; a name that another set has by now gets a number."""
        return self._workspace().sets.restore(set_id, self._shipped_ids())


Files = Sequence[tuple[str | Path | bytes, str | None]]
"""Each content, as a path or as bytes, with its name."""


def read_files(files: Files, *, seed: int = 0, mapping: Mapping[str, str] | None = None) -> Imported:
    """Read files as one, as a concept told by two files of prompts; nothing is kept. `mapping`: as `sources.read`, of all of them.

    Raises:
        BadDemonstrations: as `read`, of any of them.
    """
    read_all = [read(content, name=name, seed=seed, mapping=mapping) for content, name in files]
    if len(read_all) == 1:
        return read_all[0]
    problems = (replace(item, what=f"{one.demonstrations.name}: {item.what}") for one in read_all for item in one.problems)
    formats = " and ".join(dict.fromkeys(one.format for one in read_all))
    return Imported(joined(one.demonstrations for one in read_all), tuple(problems), formats)


def _usable(imported: Imported) -> Demonstrations:
    if not len(imported.demonstrations):
        first = next((problem for problem in imported.problems), None)
        raise BadDemonstrations(
            f"{imported.demonstrations.name} has no usable row{f': {first}' if first else '.'}",
            first.hint if first else "Write one row a line with a prompt.",
        )
    return imported.demonstrations
