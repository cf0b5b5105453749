"""Datasets in Hugging Face's format, of the hub by their id or in a folder, streamed: a row is read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.data.conditions import Condition, wanted
from workbench.data.demonstrations import Split
from workbench.data.reading import Problem, Record
from workbench.data.sources import Imported, read_records
from workbench.errors import BadDemonstrations, RetouchError
from workbench.progress import Cancelled, Progress

LIMIT = 2000
# So many rows are looked at for those that a condition asks for; a rare one would otherwise read a dataset of millions to its end.
SCANNED = 200_000


@dataclass(frozen=True)
class HubSource:
    """A dataset by its id or folder, one of its configurations (None: its only one), and one of its parts; the first `limit` rows of it
    that fulfil the conditions."""

    dataset: str
    config: str | None = None
    part: str = "train"
    where: tuple[Condition, ...] = ()
    limit: int = LIMIT

    @property
    def is_folder(self) -> bool:
        """Whether it lies on this machine."""
        return Path(self.dataset).is_dir()

    @property
    def name(self) -> str:
        """What a set made of it is called."""
        return Path(self.dataset).name if self.is_folder else self.dataset.replace("/", "-")


def configurations(dataset: str) -> tuple[str, ...]:
    """Names of a dataset's configurations. Raises: BadDemonstrations, as `read_hub`."""
    import datasets

    return tuple(_asked(HubSource(dataset), lambda: datasets.get_dataset_config_names(dataset)))


def parts(dataset: str, config: str | None = None) -> tuple[str, ...]:
    """Names of the parts (train, test …) of a configuration. Raises: BadDemonstrations, as `read_hub`."""
    import datasets

    if saved := _saved(HubSource(dataset)):
        return tuple(saved)
    return tuple(_asked(HubSource(dataset), lambda: datasets.get_dataset_split_names(dataset, config)))


def peek(source: HubSource, n: int = 5) -> tuple[Record, ...]:
    """The first rows as they are, whatever their columns. Raises: BadDemonstrations, as `read_hub`."""
    return tuple(record for _, record in zip(range(n), _rows(source)))


def read_hub(
    source: HubSource,
    *,
    seed: int = 0,
    split: Split | None = None,
    mapping: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Read a dataset; `seed`, `split` and `mapping` as `sources.read`.

    Raises:
        BadDemonstrations: no such dataset, configuration, part or column, no network, or columns of no known layout.
    """
    problems: list[Problem] = []
    found = wanted(_scanned(source, problems, progress or Progress()), source.where)
    taken = [record for _, record in zip(range(source.limit), found)]
    read = read_records(iter(taken), stem=source.name, name=source.dataset, seed=seed, split=split, mapping=mapping)
    return Imported(read.demonstrations, (*read.problems, *problems), read.format)


def _scanned(source: HubSource, problems: list[Problem], progress: Progress) -> Iterator[Record | Problem]:
    for record in _rows(source):
        if record.line > SCANNED:
            what = f"Only the first {SCANNED:,} rows of {source.dataset} were looked at."
            problems.append(Problem(None, what, "Ask for a part or configuration that holds what you need."))
            return
        if record.line % 100 == 1:
            progress(min(0.99, record.line / max(source.limit, 1)) if not source.where else record.line / SCANNED, f"Row {record.line:,}")
        yield record


def _rows(source: HubSource) -> Iterator[Record]:
    """Its rows under their numbers; a class is told by its name."""
    rows = _asked(source, lambda: _opened(source))
    names = _classes(rows)
    iterator = iter(rows)
    number = 0
    while True:
        row = _asked(source, lambda: next(iterator, None))
        if row is None:
            return
        number += 1
        yield Record(number, {str(key): names[key](value) if key in names and value is not None else value for key, value in row.items()})


def _classes(rows: Any) -> dict[str, Any]:
    """Columns that hold the number of a class, with what gives its name; -1 is a hidden one."""
    features: Any = getattr(rows, "features", None) or {}
    return {
        name: lambda value, kind=kind: kind.int2str(value) if isinstance(value, int) and value >= 0 else value
        for name, kind in features.items()
        if hasattr(kind, "int2str")
    }


def _opened(source: HubSource) -> Any:
    # Slow to import, and only needed here.
    import datasets
    import huggingface_hub

    if saved := _saved(source):
        if source.part not in saved:
            raise ValueError(f"it has no part {source.part!r}, only {', '.join(saved)}")
        return saved[source.part]
    if not source.is_folder:
        # One plain request first: without a network the streaming reader would retry for half a minute.
        huggingface_hub.HfApi().dataset_info(source.dataset, timeout=10)
    return datasets.load_dataset(source.dataset, source.config, split=source.part, streaming=True)


def _saved(source: HubSource) -> dict[str, Any]:
    """The parts of a folder that `save_to_disk` wrote; of any other nothing."""
    import datasets

    folder = Path(source.dataset)
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return {}
    found: Any = _asked(source, lambda: datasets.load_from_disk(str(folder)))
    return dict(found) if isinstance(found, dict) else {str(found.split or "train"): found}


def _asked(source: HubSource, what: Any) -> Any:
    try:
        return what()
    except (RetouchError, Cancelled):
        raise
    except Exception as error:  # its own errors, httpx's, requests', OSError: the library promises no common base
        raise _hub_error(source.dataset, error) from error


def _hub_error(dataset: str, error: Exception) -> BadDemonstrations:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    names = " ".join(type(item).__name__ for item in _chain(error))
    if any(word in names for word in ("Connect", "Offline", "Timeout", "gaierror", "LocalEntryNotFound")):
        return BadDemonstrations(
            f"The dataset {dataset!r} needs the network, and the hub did not answer.",
            "Connect, or download the file elsewhere and import it from disk.",
        )
    hint = "Check the name, configuration and part on its hub page."
    return BadDemonstrations(f"The dataset {dataset!r} cannot be read: {reason}", hint)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def hub_source(text: str, where: Sequence[Condition] = (), limit: int = LIMIT) -> HubSource:
    """Read `org/name[/config][@part]`, or a folder with `[@part]`."""
    name, _, part = text.partition("@")
    if Path(name).is_dir():
        return HubSource(name, None, part or "train", tuple(where), limit)
    pieces = name.split("/")
    return HubSource("/".join(pieces[:2]), "/".join(pieces[2:]) or None, part or "train", tuple(where), limit)
