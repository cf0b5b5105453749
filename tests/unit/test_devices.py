"""Devices by name, quantised weights, folders with code of their own, and damaged folders: each a sentence, never a traceback."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from tests.family_checks import cache, heads, method, stream
from workbench.errors import BadSite, CorruptModel, ModelUnavailable
from workbench.models.catalog import load
from workbench.models.devices import checked_device, devices_here, quantised_here


@pytest.mark.parametrize(
    ("device", "says"),
    [("gpu", "There is no device"), ("xpu", "does not run on"), ("meta", "does not run on"), ("", "There is no device")],
)
def test_a_device_that_nobody_knows_is_named(device: str, says: str) -> None:
    with pytest.raises(ModelUnavailable, match=says) as refused:
        checked_device(device)
    assert "cpu" in refused.value.hint


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "auto", "mps"])
def test_a_device_that_this_machine_lacks_is_named_before_anything_is_read(
    device: str, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ModelUnavailable, match="GPU"):
        load(str(tiny_folders["gpt2"]), device=device)
    assert checked_device("cpu") == "cpu"


def test_a_gpu_beyond_the_last_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert checked_device("cuda:1") == "cuda:1"
    with pytest.raises(ModelUnavailable, match="2 GPUs"):
        checked_device("cuda:2")


@pytest.mark.parametrize(
    ("n", "mps", "here"), [(0, False, []), (0, True, ["mps"]), (1, False, ["cuda"]), (2, False, ["cuda:0", "cuda:1", "auto"])]
)
def test_the_devices_of_this_machine_are_those_that_can_be_chosen(
    n: int, mps: bool, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices_here() == ("cpu", *here) and all(checked_device(name) == name for name in devices_here())


@pytest.mark.parametrize("dtype", ["int8", "nf4"])
def test_activations_of_a_quantised_model_are_edited_and_its_weights_are_refused_by_reason(
    dtype: Any, tiny_folders: dict[str, Path]
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes quantises, and is not installed")
    model = load(str(tiny_folders["llama"]), dtype=dtype)
    assert model.info.dtype == model.info.quantised == dtype
    assert model.info.n_parameters == load(str(tiny_folders["llama"])).info.n_parameters
    assert stream(model) == heads(model) == cache(model) == method(model, "mean_difference") == "yes"
    assert dtype in method(model, "lora")
    with pytest.raises(BadSite, match=f"kept in {dtype}"):
        model.weight("w_in@0")
    assert load(str(tiny_folders["llama"])).weight("w_in@0").shape == (48, 32)


def test_a_quantising_without_its_package_is_named(tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: object())
    assert quantised_here() == ("int8", "nf4")
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert quantised_here() == ()
    with pytest.raises(ModelUnavailable, match="needs the package bitsandbytes") as refused:
        load(str(tiny_folders["llama"]), dtype="int8")
    (extra,) = re.findall(r"retouch\[(\w+)\]", refused.value.hint)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert [Requirement(line).name for line in project["optional-dependencies"][extra]] == ["bitsandbytes"]


def damaged(folder: Path, to: Path, name: str, text: str | None) -> Path:
    shutil.copytree(folder, to)
    if text is None:
        (to / name).unlink()
    else:
        (to / name).write_text(text)
    return to


def test_a_folder_that_brings_code_of_its_own_is_refused_and_the_code_not_run(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    config = json.loads((tiny_folders["llama"] / "config.json").read_text())
    own = {**config, "model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    folder = damaged(tiny_folders["llama"], tmp_path / "own", "config.json", json.dumps(own))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelUnavailable, match="program code of its own"):
        load(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("config.json", "{", ModelUnavailable),
        ("config.json", json.dumps({"model_type": "llama", "hidden_size": "wide"}), ModelUnavailable),
        ("config.json", json.dumps({"model_type": "t5"}), ModelUnavailable),
        ("model.safetensors", "not tensors", CorruptModel),
        ("model.safetensors", None, ModelUnavailable),
        ("tokenizer.json", "{", ModelUnavailable),
    ],
)
def test_a_damaged_folder_is_named(
    name: str, text: str | None, error: type[Exception], tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(error) as refused:
        load(str(damaged(tiny_folders["llama"], tmp_path / "damaged", name, text)))
    assert str(refused.value).strip()


def test_a_missing_shard_is_named(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = damaged(tiny_folders["llama"], tmp_path / "shards", "model.safetensors", None)
    AutoModelForCausalLM.from_pretrained(tiny_folders["llama"]).save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    load(str(folder))
    shards[-1].unlink()
    with pytest.raises(ModelUnavailable):
        load(str(folder))
