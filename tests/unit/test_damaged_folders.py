"""A model's folder with a damaged file: one sentence that names the file, before any weight is read where that can be known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import words
from workbench.conversations import as_chat
from workbench.decode import Sampling, generate
from workbench.errors import BadPrompt, CorruptModel, ModelUnavailable, RetouchError
from workbench.models.catalog import load

CONFIG, GENERATION, INDEX = "config.json", "generation_config.json", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything: a config for generation, a template, weights in several files with an index."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("damaged") / "whole"
    shutil.copytree(tiny_folders["llama"], folder)
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(tiny_folders["llama"]).save_pretrained(folder, max_shard_size="20KB")
    (folder / "chat_template.jinja").write_text("{% for turn in messages %}{{ turn['content'] }} {% endfor %}")
    (folder / GENERATION).write_text(json.dumps({"eos_token_id": [99], "suppress_tokens": [3]}))
    return folder


def damaged(whole: Path, to: Path, name: str, change: Callable[[bytes], bytes] | None) -> Path:
    """A copy with one file changed or, without a change, missing."""
    shutil.copytree(whole, to)
    if change is None:
        (to / name).unlink()
    else:
        (to / name).write_bytes(change((to / name).read_bytes()))
    return to


def text(said: str) -> Callable[[bytes], bytes]:
    return lambda _: said.encode()


def with_values(**values: Any) -> Callable[[bytes], bytes]:
    return lambda before: json.dumps({**json.loads(before), **values}).encode()


def binary(_: bytes) -> bytes:
    return b"\xff\xfe\x00"


SHARD = "model-00002-of-00007.safetensors"
CASES: dict[str, tuple[str, Callable[[bytes], bytes] | None, type[RetouchError], str]] = {
    "config that is cut": (CONFIG, lambda x: x[:-3], CorruptModel, CONFIG),
    "config that is empty": (CONFIG, text(""), CorruptModel, CONFIG),
    "config that is no object": (CONFIG, text("[]"), CorruptModel, "needed is a JSON object"),
    "config in another encoding": (CONFIG, binary, CorruptModel, CONFIG),
    "config without layers": (CONFIG, with_values(num_hidden_layers=0), RetouchError, "no layers"),
    "config with fewer than no layers": (CONFIG, with_values(num_hidden_layers=-1), RetouchError, "no layers"),
    "config without heads": (CONFIG, with_values(num_attention_heads=0), ModelUnavailable, "cannot|can build"),
    "config with heads that do not divide": (CONFIG, with_values(num_attention_heads=3), ModelUnavailable, "can build"),
    "config with fewer words": (CONFIG, with_values(vocab_size=5), ModelUnavailable, "can build"),
    "config with a wide text": (CONFIG, with_values(hidden_size="wide"), ModelUnavailable, "can build"),
    "config with more layers than weights": (CONFIG, with_values(num_hidden_layers=9), CorruptModel, "lack"),
    "config with a million layers": (CONFIG, with_values(num_hidden_layers=10**6), CorruptModel, "1,000,000 as num_hidden_layers"),
    "config of an unknown activation": (CONFIG, with_values(hidden_act="zelu"), ModelUnavailable, "there is no 'zelu'"),
    "config with other heads of keys": (CONFIG, with_values(num_key_value_heads=4), CorruptModel, "other shapes|lack"),
    "config of no number": (CONFIG, with_values(rms_norm_eps=float("nan")), ModelUnavailable, "not finite"),
    "config of no number type": (CONFIG, with_values(dtype="float3"), ModelUnavailable, "can build"),
    "generation config that is cut": (GENERATION, lambda x: x[:-3], CorruptModel, GENERATION),
    "generation config that is no object": (GENERATION, text("[]"), CorruptModel, GENERATION),
    "end that is no token": (GENERATION, with_values(eos_token_id="x"), CorruptModel, "eos_token_id"),
    "ends that are no tokens": (GENERATION, with_values(eos_token_id=[1.5, None]), CorruptModel, "eos_token_id"),
    "temperature that is no number": (GENERATION, with_values(temperature="hot"), CorruptModel, "temperature"),
    "penalty below 0": (GENERATION, with_values(repetition_penalty=-1), CorruptModel, "repetition_penalty"),
    "top k that is no number": (GENERATION, with_values(top_k="many"), CorruptModel, "top_k"),
    "top p above 1": (GENERATION, with_values(top_p=2.0), CorruptModel, "top_p"),
    "sampling that is a word": (GENERATION, with_values(do_sample="yes"), CorruptModel, "do_sample"),
    "suppressed token beyond the vocabulary": (GENERATION, with_values(suppress_tokens=[100_000]), CorruptModel, "suppress_tokens"),
    "tokenizer that is cut": ("tokenizer.json", lambda x: x[:-3], CorruptModel, "tokenizer.json"),
    "tokenizer without a vocabulary": ("tokenizer.json", text("{}"), ModelUnavailable, "tokenizer"),
    "tokenizer that is missing": ("tokenizer.json", None, ModelUnavailable, "tokenizer"),
    "tokenizer config that is no object": ("tokenizer_config.json", text("[]"), CorruptModel, "tokenizer_config.json"),
    "template that is a number": ("tokenizer_config.json", with_values(chat_template=5), CorruptModel, "chat_template"),
    "template in another encoding": ("chat_template.jinja", binary, CorruptModel, "chat_template.jinja"),
    "index that is cut": (INDEX, lambda x: x[:-3], CorruptModel, INDEX),
    "index that is no object": (INDEX, text("[]"), CorruptModel, INDEX),
    "index without a map": (INDEX, text("{}"), CorruptModel, "weight_map"),
    "index of other files": (INDEX, with_values(weight_map={"a": "other.safetensors"}), CorruptModel, "lacks 1 of 1 files"),
    "index that is missing": (INDEX, None, ModelUnavailable, "no file named"),
    "shard that is missing": (SHARD, None, CorruptModel, SHARD),
    "shard that is cut": (SHARD, lambda x: x[:-200], CorruptModel, "weights"),
    "shard that is a pointer": (SHARD, text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), CorruptModel, "Git LFS"),
    "shard that is text": (SHARD, text("not tensors"), CorruptModel, "weights"),
}


def test_the_folder_itself_loads_and_speaks(whole: Path) -> None:
    assert (whole / SHARD).is_file() and (whole / INDEX).is_file()
    model = load(str(whole))
    assert model.generation.end_ids == (99,) and generate(model, [words(1, 2)], [()], Sampling(3))
    assert model.tokens(as_chat("w1 w2")).ids.tolist()[0][:2] == [1, 2]


@pytest.mark.parametrize("what", CASES)
def test_damage_is_named(what: str, whole: Path, tmp_path: Path) -> None:
    name, change, error, says = CASES[what]
    with pytest.raises(error, match=says) as refused:
        load(str(damaged(whole, tmp_path / "folder", name, change)))
    assert refused.value.hint and "\n" not in str(refused.value)


def test_weights_that_are_not_finite_are_named(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def not_a_number(_: bytes) -> bytes:
        weights = load_file(tiny_folders["llama"] / "model.safetensors")
        weights["model.norm.weight"][0] = float("nan")
        save_file(weights, tmp_path / "made", metadata={"format": "pt"})
        return (tmp_path / "made").read_bytes()

    with pytest.raises(CorruptModel, match="not finite .first: model.norm.weight"):
        load(str(damaged(tiny_folders["llama"], tmp_path / "folder", "model.safetensors", not_a_number)))


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ messages[9].content.x }}", "no element 9"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages | nosuch }}", "No filter named 'nosuch'.$"),
    ],
)
def test_a_template_that_fails_while_it_renders_is_named(template: str, says: str, whole: Path, tmp_path: Path) -> None:
    model = load(str(damaged(whole, tmp_path / "folder", "chat_template.jinja", text(template))))
    with pytest.raises(BadPrompt, match=says) as refused:
        model.tokens(as_chat("w1 w2"))
    assert refused.value.hint and model.tokens("w1 w2").ids.tolist() == [[1, 2]]


def test_a_folder_that_writes_minus_one_for_no_top_k_is_taken_so(whole: Path, tmp_path: Path) -> None:
    model = load(str(damaged(whole, tmp_path / "folder", GENERATION, with_values(do_sample=True, top_k=-1))))
    assert model.generation.sampling().top_k is None


def test_a_template_with_a_mistake_is_named_where_it_is_used_and_text_goes_without(whole: Path, tmp_path: Path) -> None:
    model = load(str(damaged(whole, tmp_path / "folder", "chat_template.jinja", text("a\n{% for turn in messages %}{{ turn"))))
    assert model.tokens("w1 w2").ids.tolist() == [[1, 2]]
    with pytest.raises(BadPrompt, match="template is damaged at its line 2") as refused:
        model.tokens(as_chat("w1 w2"))
    assert "chat_template.jinja" in refused.value.hint
