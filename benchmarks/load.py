"""Seconds and memory of loading a model, and what of it the look before its first use takes.

    python -m benchmarks.load smollm2-135m [--workspace FOLDER] [--dtypes float32 bfloat16 int8]

Each number type in a process of its own. Processor seconds are those of all threads. Memory is the resident size of the process beyond that
before the load: when it is done, and at its highest. The look (`models.load_check`) compares streams, padding, cache and TransformerLens's
tree with the network itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from typing import Any

import psutil

_LOOK = ("first_look", "cache_fault", "bridge_hooks")
_MAXRSS = 1 if sys.platform == "darwin" else 1024  # getrusage counts in bytes there, in KiB elsewhere


def timed(owner: Any, name: str, spent: list[float]) -> None:
    """Let a function note how long its calls take."""
    call = getattr(owner, name)

    def noting(*args: Any, **more: Any) -> Any:
        began = time.process_time()
        try:
            return call(*args, **more)
        finally:
            spent.append(time.process_time() - began)

    setattr(owner, name, noting)


def measured(name: str, dtype: str, workspace: Path | None) -> dict[str, Any]:
    """Load in this process; seconds and megabytes."""
    from workbench.models import bridge
    from workbench.models.catalog import load
    from workbench.resources import models_of

    spent: list[float] = []
    for part in _LOOK:
        timed(bridge, part, spent)
    before, began, busy = psutil.Process().memory_info().rss, time.perf_counter(), time.process_time()
    model = load(name, dtype=dtype, models=models_of(workspace))  # pyright: ignore[reportArgumentType] - load refuses others by name
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    after, peak = psutil.Process().memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS
    sizes = {"grew by, MB": round((after - before) / 1e6), "at most, MB": round((peak - before) / 1e6)}
    times = {"seconds": round(seconds, 2), "processor s": round(busy, 2), "look, processor s": round(sum(spent), 2)}
    return {"dtype": dtype, "parameters": model.info.n_parameters, **times, **sizes}


def main() -> None:
    """Print one line a number type."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    asked = parser.parse_args()
    for dtype in asked.dtypes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(json.dumps(pool.apply(measured, (asked.model, dtype, asked.workspace))), flush=True)


if __name__ == "__main__":
    main()
