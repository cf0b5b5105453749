"""Before a fit: the layers that a method will be fitted at, what is to be expected there, and the sweep's scores with their intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.conftest import contrast_rows, taught_rows
from workbench.cli.main import app
from workbench.data.sources import write
from workbench.methods import get
from workbench.methods.shared.reading import fitted_at
from workbench.session import Session


@pytest.fixture
def run(tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: Session(tiny_gpt2, tmp_path / "home"))

    def called(*arguments: str) -> str:
        found = CliRunner().invoke(app, list(arguments))
        assert found.exit_code == 0, found.output
        return found.stdout

    return called


@pytest.mark.parametrize("method", ["mean_difference", "angular", "sea"])
@pytest.mark.parametrize("values", [{}, {"layers": (0, 2)}])
def test_a_config_says_before_the_fit_which_layers_it_will_be_fitted_at(tiny_gpt2: Any, method: str, values: Any) -> None:
    known = get(method)
    config = known.configure(values)
    edit = known.fit(tiny_gpt2, contrast_rows(40), config).edit
    told = fitted_at(config, tiny_gpt2.info)
    assert told is not None and told.read == "last" and told.layers
    assert told.layers == tuple(sorted({operation.site.layer for operation in edit.operations()}))


def test_a_method_whose_fit_chooses_says_nothing_until_layers_are_named(tiny_gpt2: Any) -> None:
    info = tiny_gpt2.info

    def layers(config: object) -> tuple[int, ...] | None:
        found = fitted_at(config, info)
        return found and found.layers

    for method, named in (("hpr", {"layers": (1, 99)}), ("refusal_direction", {"layer": 1})):
        assert layers(get(method).configure()) == ()
        assert layers(get(method).configure(named)) == (1,), "and none that the model does not have"
    assert layers(get("are").configure({"read_blocks": (2, 1)})) == (1, 2)
    assert layers(get("are").configure()) == tuple(sorted(get("are").configure().reads(info.n_layers)))
    assert fitted_at(get("tarot").configure(), info) is fitted_at(object(), info) is None


def test_what_a_fit_reads_is_told_where_it_is_one_reading_of_a_text(tiny_gpt2: Any) -> None:
    told = {read: fitted_at(get("sea").configure({"read": read}), tiny_gpt2.info) for read in ("auto", "last", "mean", "random")}
    assert {read: found and found.read for read, found in told.items()} == {"auto": "last", "last": "last", "mean": "mean", "random": None}


def test_the_command_foretells_a_method_at_its_own_layers(run: Any, tmp_path: Path) -> None:
    data = str(write(taught_rows(60), tmp_path / "pairs.jsonl"))
    told = json.loads(run("locate", data, "--method", "mean_difference", "--set", "layers=1", "--json"))
    assert told["method"]["says"].startswith("Mean difference is fitted at layer 1: there") and "Layer 1, " in told["method"]["detail"]
    lines = run("locate", data, "--method", "mean_difference", "--set", "layers=1").splitlines()
    assert lines[:4] == [told["method"]["says"], told["method"]["detail"], told["says"], told["detail"]]
    bare = json.loads(run("locate", data, "--json"))
    assert bare["says"] == told["says"] and bare["method"] == {"name": None, "says": "", "detail": ""}


def test_a_sweep_prints_no_score_without_its_interval(run: Any, tmp_path: Path) -> None:
    data = str(write(contrast_rows(60), tmp_path / "pairs.jsonl"))
    grid = ("sweep", "--method", "mean_difference", "--data", data, "--neutral", data, "--grid", "strength=1|9")
    rows, table = json.loads(run(*grid, "--json"))["rows"], run(*grid)
    assert [row["lane"].startswith("placebo") for row in rows] == [False, True, False, True], "each beside its placebo"
    weak, strong = rows[0], rows[2]
    assert weak["mc1_low"] < weak["mc1"] < weak["mc1_high"] and weak["mc1_n"] == weak["n"] and strong["kl_nats_n"] > 0
    assert f"{strong['mc1']:.3g} [{strong['mc1_low']:.3g}, {strong['mc1_high']:.3g}]" in table and "mc1_low" not in table
