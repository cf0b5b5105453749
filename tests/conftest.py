"""Fixtures that all tests share: tiny random models of seven families, saved as real Hugging Face folders."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.shape_checks import check_while_importing

# Types and shapes of every call within the package are checked while tests run, and only then: the app pays nothing for its annotations.
# `make families` goes without: a family of each structure has them in the suite, and for all of them they cost twice what is done.
if os.environ.get("FAMILIES") != "all":
    check_while_importing("workbench")

FAMILIES = ("gpt2", "neox", "llama", "qwen2", "qwen3", "gemma", "mistral")
N_WORDS = 99


def _config(family: str) -> Any:
    import transformers as hf

    common: dict[str, Any] = dict(
        vocab_size=N_WORDS + 1, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=64, bos_token_id=N_WORDS, eos_token_id=N_WORDS, pad_token_id=N_WORDS,
    )  # fmt: skip
    gqa = {**common, "num_key_value_heads": 2}
    return {
        "gpt2": lambda: hf.GPT2Config(
            vocab_size=N_WORDS + 1,
            n_embd=32,
            n_layer=3,
            n_head=4,
            n_positions=64,
            bos_token_id=N_WORDS,
            eos_token_id=N_WORDS,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
        ),
        "neox": lambda: hf.GPTNeoXConfig(**common),
        "llama": lambda: hf.LlamaConfig(**gqa),
        "qwen2": lambda: hf.Qwen2Config(**gqa),
        "qwen3": lambda: hf.Qwen3Config(**gqa, head_dim=16),
        "gemma": lambda: hf.GemmaConfig(**{**common, "num_key_value_heads": 1}, head_dim=16),
        "mistral": lambda: hf.MistralConfig(**gqa),
    }[family]()


def _backpack() -> Any:
    from workbench.models.backpack.network import BackpackConfig, BackpackNetwork

    # Four words more than the tokenizer knows: released Backpacks pad their vocabulary.
    return BackpackNetwork(BackpackConfig(vocab_size=N_WORDS + 5, num_senses=4, n_positions=64, n_embd=32, n_layer=3, n_head=4))


def word_tokenizer() -> Any:
    """A word-level tokenizer: words w0 … w98, BOS = EOS = pad = <e>."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(N_WORDS)} | {"<e>": N_WORDS}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<e>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", bos_token="<e>", pad_token="<e>", unk_token="<e>")


def build_folder(family: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Save a tiny random model with the tests' tokenizer."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(len(family) * 7 + 1)
    model = _backpack() if family == "backpack" else AutoModelForCausalLM.from_config(_config(family))
    with torch.no_grad():  # the default initialisation is so small that edits hardly show
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.15)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
    save = model.to(dtype).save_folder if family == "backpack" else model.to(dtype).save_pretrained
    save(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {family: build_folder(family, root / family) for family in FAMILIES}


@pytest.fixture(scope="session")
def tiny_models(tiny_folders: dict[str, Path]) -> dict[str, Any]:
    """All seven families, loaded once; tests must leave them as they found them."""
    from workbench.models.catalog import load

    return {family: load(str(folder)) for family, folder in tiny_folders.items()}


@pytest.fixture(scope="session")
def tiny_backpack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_folder("backpack", tmp_path_factory.mktemp("tiny") / "backpack")


@pytest.fixture(scope="session")
def tiny_backpack_model(tiny_backpack_folder: Path) -> Any:
    """A tiny random Backpack with a padded vocabulary, loaded through the catalog."""
    from workbench.models.catalog import load

    return load(str(tiny_backpack_folder))


@pytest.fixture(params=FAMILIES)
def tiny(request: pytest.FixtureRequest, tiny_models: dict[str, Any]) -> Any:
    """One tiny random model a family: the test runs seven times."""
    return tiny_models[request.param]


@pytest.fixture
def tiny_gpt2(tiny_models: dict[str, Any]) -> Any:
    return tiny_models["gpt2"]


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """A test that draws a part of a page by itself acts as a tab's person in this thread; the next one begins as nobody."""
    from workbench.workspace.people import acting_as

    with acting_as(""):
        yield


def words(*numbers: int) -> str:
    """A text of the tiny models' words."""
    return " ".join(f"w{number}" for number in numbers)


def contrast_rows(n: int = 24, seed: int = 0) -> Any:
    """Random contrast demonstrations in the tiny models' words: positives end in w1…w9, negatives in w50…w58."""
    from workbench.data.demonstrations import Demonstration, Demonstrations

    draw = torch.Generator().manual_seed(seed)
    rows = []
    for i in range(n):
        prompt = words(*torch.randint(10, 50, (3 + i % 4,), generator=draw).tolist())
        good, bad = (int(torch.randint(low, low + 9, (1,), generator=draw)) for low in (1, 50))
        split = ("fit", "fit", "fit", "validation", "test")[i % 5]
        rows.append(
            Demonstration(
                prompt, f" w{good}", f" w{bad}", neutral=words(*range(60 + i % 9, 72)), label=f" w{good}", split=split, id=f"row-{i}"
            )
        )
    return Demonstrations(tuple(rows), "random words")


def taught_rows(n: int = 30, seed: int = 0) -> Any:
    """`contrast_rows` with one good and one bad answer to all: what a mean difference learns there also shows on the held-out prompts."""
    from dataclasses import replace

    rows = contrast_rows(n, seed)
    return rows.with_rows([replace(row, positive=" w3", negative=" w52") for row in rows])
