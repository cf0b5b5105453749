"""What a model of every family promises: it loads and does what its facts say, or is refused by a sentence.

In the ordinary suite one family of each structure; `make families` runs all that transformers and TransformerLens know (FAMILIES=all).
"""

from __future__ import annotations

import os

import pytest

from tests import family_checks, family_table
from tests.families import NOT_BUILT, architectures
from workbench.models.base import LanguageModel

# One family of each structure: what it stands for, and its model type.
STRUCTURES = {
    "dense": "gpt2",
    "fused q, k and v": "gpt_bigcode",
    "fused gate": "phi3",
    "parallel": "gptj",
    "grouped queries": "gemma2",
    "mixture of experts": "mixtral",
    "state space": "mamba",
    "hybrid": "qwen3_next",
    "MLP without a module": "opt",
    "latent attention": "deepseek_v3",
    "reads padding": "rwkv",
    "positions that TransformerLens looks for elsewhere": "codegen",
}
ALL = {model_type for name, model_type in architectures().items() if name not in NOT_BUILT}
TRIED = sorted(ALL if os.environ.get("FAMILIES") == "all" else STRUCTURES.values())


# `--dist loadgroup` keeps the tests of a family together, and their model with them.
@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in TRIED])
def tried(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, LanguageModel | str]:
    return request.param, family_checks.opened(request.param, tmp_path_factory.mktemp("family") / request.param)


def test_every_family_is_tried_or_the_reason_stands(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(STRUCTURES.values()) <= ALL
    assert not set(NOT_BUILT) - set(architectures()), "a reason for a family that is not there"
    assert all(NOT_BUILT.values())


def test_it_loads_with_hugging_faces_logits_or_is_refused_by_a_sentence(tried: tuple[str, LanguageModel | str]) -> None:
    name, model = tried
    told = family_table.rows()[name]
    if isinstance(model, str):
        assert model.endswith(".") and told["loads"] == family_table.cell(f"no: {model}")
    else:
        assert told["loads"] == "yes"


@pytest.mark.parametrize("check", family_checks.CHECKS)
def test_it_does_what_the_table_says(tried: tuple[str, LanguageModel | str], check: str) -> None:
    name, model = tried
    if isinstance(model, str):
        assert check not in family_table.rows()[name], "nothing is said of what a refused model can do"
        return
    assert family_table.cell(family_checks.CHECKS[check](model)) == family_table.rows()[name][check]


def test_the_page_of_families_says_what_was_measured_and_no_raw_exception() -> None:
    page = family_table.PAGE.read_text()
    assert page == family_table.written(family_table.rows()), "run `make families_table`"
    assert not any(word in page for word in ("KeyError", "AttributeError", "TypeError", "IndexError", "Traceback"))
