"""Whether Retouch can be trusted with what people type: kills, full disks, inputs that nobody would write, many at once, large sets.

    python -m benchmarks.trust [kills disks imports edits knobs commands links pages crowd rows stream] [--scale 1.0] [--seed 0]

Each part raises at the first thing that is wrong, with the input that did it, and prints how many it did and how long it took. At scale 1:
300 kills and 100 full disks at points drawn from all renames, writes, flushes and statements; 60,000 files, 25,000 folders of edits, 8,000
sets of knobs, 5,000 command lines, 2,000 links read and 100 opened on a page; 1,000 generations in eight threads with activation, low-rank
and row edits, equal to those of each edit alone; a set of 100,000 rows opened, filtered and changed in one cell; a file of 1 GB. It runs in
a checkout, on the tests' own tools.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

Told = dict[str, Any]


def kills(n: int, seed: int, room: Path) -> Told:
    """`n` processes killed at a point of their work each; then the workspace is opened and looked at."""
    return _forced(n, seed, room, "kill")


def disks(n: int, seed: int, room: Path) -> Told:
    """The same with a disk that is full at that point."""
    return _forced(n, seed, room, "full")


def _forced(n: int, seed: int, room: Path, event: Any) -> Told:
    from tests.forced import forced

    low, high = 0, 4096  # how many points the work has
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if forced(room / f"probe {middle}", middle, event) else (middle + 1, high)
    draw = random.Random(seed)
    points = [*range(low)][:n] if n >= low else draw.sample(range(low), n)
    points += [draw.randrange(low) for _ in range(n - len(points))]
    for i, point in enumerate(points):
        forced(room / str(i), point, event)
    return {"points": low, "met": n}


def crowd(n: int, seed: int, room: Path) -> Told:
    """Generations in eight threads against each edit alone."""
    from tests.conftest import build_folder
    from tests.crowd import interleaved
    from workbench.models.catalog import load

    model = load(str(build_folder("gpt2", room / "gpt2")))
    return {"different": interleaved(model, n, seed=seed)}


def pages(n: int, seed: int, room: Path) -> Told:
    """Links opened on a page of the running app, with the embedded model."""
    from streamlit.testing.v1 import AppTest

    from pages._ui.kit.backend import backend
    from tests.fuzz import link_values
    from workbench.resources import APP

    backend().boot()
    thread = backend().thread
    if thread is not None:
        thread.join()
    draw = random.Random(seed)
    for _ in range(n):
        test = AppTest.from_file(str(APP), default_timeout=60)
        for name, value in (query := link_values(draw)).items():
            test.query_params[name] = value
        for page in (None, draw.choice(("edit", "compare", "evaluate", "library", "demonstrations"))):
            test = test.run() if page is None else test.switch_page(f"pages/{page}.py").run()
            foreign = [item.value for item in test.text if "did not foresee" in item.value]
            if test.exception or foreign:
                raise AssertionError(f"{query} on {page}: {test.exception} {[item.value for item in test.text]}")
    return {}


def rows(n: int, seed: int, room: Path) -> Told:
    """Seconds to open, filter and change a set of `n` rows, and what a change adds to the file."""
    from pages._ui.kit.rows import merged, places_of
    from workbench.data.demonstrations import Demonstration, Demonstrations
    from workbench.workspace.home import Workspace

    draw = random.Random(seed)
    texts = (" ".join(draw.choices(("owl", "sleeps", "under", "the", "roof", "at", "noon"), k=16)) for _ in range(n))
    whole = Demonstrations(
        tuple(Demonstration(f"{i} {text}", " yes", " no", tags=("role:train",), id=str(i)) for i, text in enumerate(texts))
    )
    key = Workspace(room).sets.save(whole).id
    size = (room / "retouch.sqlite").stat().st_size
    again = Workspace(room)
    listing, _ = _timed(again.sets.list)
    opening, found = _timed(lambda: again.sets.get(key))
    filtering, places = _timed(lambda: places_of(found, f"{n - 1} "))
    changes = {"edited_rows": {"0": {"positive": " perhaps"}}}
    changing, info = _timed(lambda: again.sets.save(merged(found, changes, places), key=key, onto=1))
    if again.sets.get(key)[places[0]] != replace(whole[places[0]], positive=" perhaps") or info.version != 2:
        raise AssertionError("the change is not what was saved")
    grown = (room / "retouch.sqlite").stat().st_size - size
    return {
        "list s": listing,
        "open s": opening,
        "filter s": filtering,
        "change s": changing,
        "file MB": size / 1e6,
        "grown MB": grown / 1e6,
    }


def stream(n: int, seed: int, room: Path) -> Told:
    """Read a JSONL file of `n` bytes by its path: seconds, and memory at its highest beyond that before, in MB."""
    import threading

    from workbench.data.sources import read

    path, line = room / "large.jsonl", json.dumps({"prompt": "w " * 2000, "positive": " y"})
    with path.open("w") as stream:
        for i in range(n // (len(line) + 12)):
            stream.write(line.replace("w w", f"{i} w", 1) + "\n")
    process, over = psutil.Process(), threading.Event()
    before = highest = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.02):
            highest = max(highest, process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    seconds, found = _timed(lambda: read(path))
    over.set()
    thread.join()
    return {"file MB": path.stat().st_size / 1e6, "rows": len(found.demonstrations), "s": seconds, "memory MB": (highest - before) / 1e6}


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of this process on the processor, whatever else runs on the machine."""
    began = time.process_time()
    found = call()
    return time.process_time() - began, found


def _fuzzed(name: str) -> Callable[[int, int, Path], Told]:
    def run(n: int, seed: int, room: Path) -> Told:
        from tests import fuzz

        with contextlib.chdir(room):  # options name files and folders too
            tally = fuzz.edit_folders(n, room, seed) if name == "edit_folders" else getattr(fuzz, name)(n, seed)
        return {"taken": tally.taken, "refused": tally.refused}

    return run


PARTS: dict[str, tuple[Callable[[int, int, Path], Told], int]] = {
    "kills": (kills, 300),
    "disks": (disks, 100),
    "imports": (_fuzzed("imports"), 60_000),
    "edits": (_fuzzed("edit_folders"), 25_000),
    "knobs": (_fuzzed("knobs"), 8_000),
    "commands": (_fuzzed("command_lines"), 5_000),
    "links": (_fuzzed("links"), 2_000),
    "pages": (pages, 100),
    "crowd": (crowd, 1_000),
    "rows": (rows, 100_000),
    "stream": (stream, 10**9),
}


def main() -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all if none is named")
    parser.add_argument("--scale", type=float, default=1.0, help="how many of each, against the numbers above")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args()
    found: dict[str, Told] = {}
    os.environ["HF_HUB_OFFLINE"] = "1"
    import streamlit.logger  # it sets its loggers' levels as it is imported

    streamlit.logger.set_log_level(logging.ERROR)  # links are read outside a page: a warning each
    for name in given.parts or PARTS:
        part, n = PARTS[name][0], max(1, round(PARTS[name][1] * given.scale))
        with tempfile.TemporaryDirectory() as room:
            os.environ["RETOUCH_HOME"] = str(Path(room) / "home")
            began = time.monotonic()
            told = part(n, given.seed, Path(room))
            seconds = time.monotonic() - began
        found[name] = {"n": n, "seconds": seconds, **told}
        found[name] = {key: round(value, 3) if isinstance(value, float) else value for key, value in found[name].items()}
        print(name, json.dumps(found[name]), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
