"""The command line: every command answers in JSON, and every mistake is a sentence and a hint with exit code 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import contrast_rows, taught_rows, words
from typer.testing import CliRunner

from tests.theory.test_canonical_protocol import canonical_rows
from workbench.cli.main import app
from workbench.data.sources import read, write
from workbench.edits.store import load_edit
from workbench.session import Session

PROMPT = words(11, 12, 13)


class Line:
    """The command line on one tiny model and one workspace, loaded once."""

    def __init__(self, model: Any, folder: Path) -> None:
        self.model, self.folder, self.home = model, folder, folder / "home"

    def __call__(self, *arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    def json(self, *arguments: str) -> Any:
        result = self(*arguments, "--json")
        return json.loads(result.stdout)

    def refused(self, *arguments: str) -> tuple[str, str]:
        """What a mistake prints: the sentence and the hint, on stderr alone."""
        result = self(*arguments, code=2)
        assert result.stdout == ""
        sentence, hint = result.stderr.strip().split("\n")
        return sentence, hint


@pytest.fixture
def line(tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    one = Line(tiny_gpt2, tmp_path)
    monkeypatch.setenv("RETOUCH_HOME", str(one.home))
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: Session(tiny_gpt2, one.home))
    return one


@pytest.fixture
def pairs(line: Line) -> str:
    return str(write(contrast_rows(), line.folder / "pairs.jsonl"))


@pytest.fixture
def fitted(line: Line, pairs: str) -> str:
    out = str(line.folder / "runs" / "md")
    line("fit", "mean_difference", "--data", pairs, "--set", "strength=20", "--set", "layers=0,1", "--out", out)
    return out


# ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fit_writes_a_folder_that_holds_the_knobs_that_were_set(line: Line, pairs: str) -> None:
    out = line.folder / "md"
    told = line.json(
        "fit", "mean_difference", "--data", pairs, "--set", "strength=3", "--set", "layers=0,1", "--seed", "5", "--out", str(out)
    )
    edit = load_edit(out)
    assert told["edit"] == edit.id and told["folder"] == str(out) and told["seed"] == edit.header.seed == 5
    assert edit.header.config["strength"] == 3.0 and edit.header.config["layers"] == [0, 1]
    assert told["n_rows"] == {"fit": 15, "validation": 5, "test": 4}
    assert (
        line.json("fit", "mean_difference", "--data", pairs, "--set", "strength=3", "--set", "layers=0,1", "--seed", "5")["edit"] == edit.id
    )


def test_fit_lets_validation_choose_what_was_not_set(line: Line) -> None:
    out, pairs = line.folder / "chosen", str(write(taught_rows(), line.folder / "taught.jsonl"))
    command = ["fit", "mean_difference", "--data", pairs, "--set", "layers=1", "--set", "gate=none", "--choose", "--max-damage", "50"]
    told = line.json(*command, "--out", str(out))
    assert told["config"]["layers"] == [1] and told["config"]["strength"] in (2.0, 4.0) and told["dose"] == load_edit(out).dose
    assert "were chosen among 12 settings on 6 validation rows" in line(*command).stdout


def test_fit_goes_on_with_a_saved_search(line: Line, pairs: str) -> None:
    knobs = {"optimizer": "es", "n_init": 4, "n_train": 6, "n_val": 4, "shots": "zero", "budget": 10}
    command = ["fit", "tarot", "--data", pairs, "--name", "search", *(part for k, v in knobs.items() for part in ("--set", f"{k}={v}"))]
    line.json(*command)
    told = line.json("fit", "tarot", "--data", pairs, "--resume", "search", "--set", "budget=14")
    assert told["scalars"]["calls"] == 14 and told["config"]["budget"] == 14 and told["config"]["optimizer"] == "es"
    refused = line("fit", "tarot", "--data", pairs, "--resume", "search", "--set", "n_val=5", code=2)
    assert "only its budget grows" in refused.stderr
    line("fit", "tarot", "--data", pairs, "--resume", "search", "--set", "budget=20", "--choose", code=2)


def test_generate_differs_under_an_edit_and_not_at_dose_0(line: Line, fitted: str) -> None:
    command = ["generate", "--prompt", PROMPT, "--max-new-tokens", "5"]
    base = line.json(*command)["texts"][0]
    at_0 = line.json(*command, "--edit", fitted, "--dose", "0")["texts"][0]
    strong = line.json(*command, "--edit", fitted, "--dose", "2")["texts"][0]
    assert base["text"] == at_0["text"] != strong["text"]
    assert len(base["tokens"]) == len(base["log_probs"]) <= 5
    assert line(*command).stdout.splitlines()[0] == f"> {PROMPT}"


def test_compare_has_the_base_and_a_lane_an_edit_with_doses(line: Line, fitted: str) -> None:
    told = line.json("compare", "--prompt", PROMPT, "--edit", f"{fitted}:0.5", "--edit", f"{fitted}+{fitted}", "--max-new-tokens", "3")
    assert [lane["label"] for lane in told["lanes"]] == [
        "base",
        "mean_difference × 0.5",
        "mean_difference × 1 + mean_difference × 1",
    ]
    assert len(told["texts"][0]) == 3 and told["texts"][0][0]["tokens"][0]["kl_nats"] == 0
    assert "mean KL" in line("compare", "--prompt", PROMPT, "--edit", fitted, "--max-new-tokens", "3").stdout


def test_evaluate_prints_values_with_intervals_and_a_placebo(line: Line, fitted: str, pairs: str) -> None:
    command = ["evaluate", "--edit", fitted, "--data", pairs, "--neutral", pairs, "--placebos", "1", "--generations", "0"]
    told = line.json(*command)
    lanes_told = {row["lane"] for row in told["rows"]}
    assert told["split"] == "test" and told["n"] == 4
    assert any(lane.startswith("placebo of") for lane in lanes_told) and "base" in lanes_told
    assert all(row["low"] <= row["value"] <= row["high"] for row in told["rows"] if row["low"] is not None)
    said = line(*command).stdout
    assert "intervals are 95 %" in said and said.startswith(told["verdict"]["text"].split(" rows")[0])
    assert told["verdict"]["kind"] in ("does it", "no more than noise", "does nothing", "does harm", "not told")


@pytest.fixture
def examples(line: Line) -> str:
    return str(write(canonical_rows(), line.folder / "examples.jsonl"))


SHORT = ("--seeds", "1", "--draws", "1")


def test_a_method_is_judged_by_the_protocol_under_the_rules_asked_for(line: Line, examples: str) -> None:
    found = line.json("evaluate", "--data", examples, "--method", "lora", *SHORT)
    rounded = line.json("evaluate", "--data", examples, "--method", "lora", "--rule", "score_dtype=bfloat16", *SHORT)
    losses = [[record["hn0"] for summary in one["summaries"] for record in summary["records"]] for one in (found, rounded)]
    assert losses[0] and len(losses[0]) == len(losses[1]) and losses[0] != losses[1]
    sentence, _ = line.refused("evaluate", "--data", examples, "--method", "lora", "--rule", "eval_norm=median")
    assert "eval_norm" in sentence and "median" in sentence


def test_a_backpacks_edits_are_lent_to_a_model_with_the_same_tokens(
    line: Line, tiny_backpack_model: Any, examples: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: Session(tiny_backpack_model, line.home))
    monkeypatch.setattr("workbench.models.catalog.load", lambda *_, **__: line.model)
    found = line.json("evaluate", "--data", examples, "--method", "senses", "--lend-to", "big", *SHORT)
    betas = [record["beta"] for summary in found["summaries"] for record in summary["records"] if "beta" in record]
    assert len(betas) == 3 and all(0.0 <= beta <= 1.0 for beta in betas)
    sentence, hint = line.refused("evaluate", "--data", examples, "--method", "lora", "--lend-to", "big")
    assert "sense edits" in sentence and "--method senses" in hint


def test_a_file_without_splits_is_held_out_whole_unless_the_fit_drew_its_splits(line: Line) -> None:
    from dataclasses import replace

    bare = [replace(row, split="fit", id="") for row in contrast_rows(30)]
    content = [json.dumps({"prompt": r.prompt, "positive": r.positive, "negative": r.negative}) + "\n" for r in bare]
    own, other = line.folder / "own.jsonl", line.folder / "other.jsonl"
    own.write_text("".join(content))
    other.write_text("".join(content[:20]))
    out = str(line.folder / "edit")
    told = line.json("fit", "mean_difference", "--data", str(own), "--out", out)
    n_test = told["n_rows"]["test"]
    assert n_test == sum(row.split == "test" for row in read(own).demonstrations) > 0
    rest = ["--edit", out, "--neutral", str(own), "--placebos", "0", "--generations", "0"]
    assert line.json("evaluate", "--data", str(own), *rest)["n"] == n_test
    seen = {row.prompt for row in read(own).demonstrations.split("fit")}
    overlapping = line.json("evaluate", "--data", str(other), *rest)
    assert overlapping["n"] == sum(row.prompt not in seen for row in bare[:20]) < 20, "what the fit has seen stays out of another file too"
    assert len(overlapping["left_out"]) == 20 - overlapping["n"]
    strangers = contrast_rows(20, seed=5)
    other.write_text("".join(json.dumps({"prompt": r.prompt, "positive": r.positive, "negative": r.negative}) + "\n" for r in strangers))
    assert line.json("evaluate", "--data", str(other), *rest)["n"] == len(read(other, split="test").demonstrations) == 20


def test_sweep_runs_doses_of_an_edit_and_grids_of_a_method(line: Line, fitted: str, pairs: str) -> None:
    out = line.folder / "sweep.json"
    doses = line.json("sweep", "--edit", fitted, "--data", pairs, "--neutral", pairs, "--doses", "0.5,1", "--out", str(out))
    assert [row["dose"] for row in doses["rows"]] == [0, 0.5, 0.5, 1, 1]  # each behind its placebo's
    kl = [row["kl_nats"] for row in doses["rows"] if "placebo" not in row["lane"]]
    assert kl[0] == 0 < kl[1] < kl[2]
    assert json.loads(out.read_text()) == doses
    command = ["sweep", "--method", "mean_difference", "--data", pairs, "--neutral", pairs]
    grid = line.json(*command, "--grid", "strength=9", "--grid", "layers=0|0,1")
    assert [(row["strength"], row["layers"]) for row in grid["rows"]] == [("9", "0")] * 2 + [("9", "0,1")] * 2
    assert len({row["edit"] for row in grid["rows"]}) == 2


def test_methods_edits_and_prompts_are_put_at_equal_damage(line: Line, fitted: str, pairs: str) -> None:
    command = ["equal-damage", "--data", pairs, "--neutral", pairs, "--limit", "0.01", "--placebos", "1"]
    told = line.json(*command, "--method", "mean_difference", "--method", "senses", "--edit", fitted, "--lane", 'prompt:"w3"')
    assert list(told["refused"]) == ["senses"] and [row["lane"] for row in told["rows"]][-1] == "“w3”"
    assert sum(row["placebo"] is not None for row in told["rows"]) == 2 and told["rows"][0]["tail_nats"] == 0
    assert "--method" in line.refused("equal-damage", "--data", pairs)[1]


def test_look_goes_through_a_lens_with_its_settings(line: Line, fitted: str) -> None:
    told = line.json("look", "logit_lens", "--prompt", PROMPT, "--edit", fitted, "--set", "targets=w3,w4", "--set", "top_k=2")
    named_target = line.json("look", "direct_attribution", "--prompt", PROMPT, "--set", "target=w3", "--set", "distractor=w4")
    assert [lane["label"] for lane in named_target["lanes"]] == ["base"]
    assert len(line.json("look", "head_scores", "--set", "n=2", "--set", "length=6")["lanes"]) == 1
    assert len(told["lanes"]) == 2 and len(told["targets"]) == 2
    assert "entry" in line("look", "logit_lens", "--prompt", PROMPT).stdout


def test_an_edit_kept_by_name_is_found_by_name(line: Line, pairs: str) -> None:
    line("fit", "mean_difference", "--data", pairs, "--name", "truth")
    assert line.json("generate", "--edit", "truth", "--prompt", PROMPT, "--max-new-tokens", "2")["edits"] == [["truth", 1.0]]


# ── showing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_models_and_methods_list_what_there_is(line: Line) -> None:
    assert {"embedded", "embedded-backpack"} <= {item["name"] for item in line.json("models")["models"]}
    assert {"sea", "mean_difference"} <= {item["name"] for item in line.json("methods")["methods"]}
    assert "embedded" in line("models").stdout and "mean_difference" in line("methods").stdout


def test_models_get_names_what_it_would_have_needed(line: Line) -> None:
    assert "models get NAME" in line.refused("models", "embedded", "gpt2")[0]
    assert "smollm2-135m" in line.refused("models", "get", "nothing")[0]


def test_a_gguf_file_is_a_model_and_says_what_reading_it_does(line: Line, tmp_path: Path) -> None:
    from tests.unit.test_gguf import written

    written(tmp_path / "tiny.gguf")
    told = line.json("models", str(tmp_path / "tiny.gguf"))
    assert told["fits"] and "rounded to few bits" in told["note"] and "apache-2.0" in told["note"]


def test_models_estimates_before_loading(line: Line, tiny_folders: dict[str, Path]) -> None:
    told = line.json("models", str(tiny_folders["gpt2"]))
    assert told["fits"] and told["estimate"]["n_parameters"] == line.model.info.n_parameters


def test_models_says_what_works_by_the_obstacles_of_methods_and_lenses(line: Line, tiny_models: dict[str, Any]) -> None:
    from workbench.lenses.registry import lens_names, obstacles_of
    from workbench.methods import ordered

    line.model = model = tiny_models["neox"]
    found = line.json("models", model.info.name, "--works")
    said = {row["what"]: row["why"] for row in found["works"]}
    asked = {item.title: item.obstacles_of(model) for item in ordered()}
    asked |= {name.replace("_", " "): obstacles_of(name, model) for name in lens_names()}
    assert said == {what: " ".join(f"{item.reason} {item.hint}" for item in items) for what, items in asked.items()}
    assert "parallel blocks" in said["circuit"] and not said["attention"] and found["info"]["architecture"] == "GPTNeoXForCausalLM"
    printed = line("models", model.info.name, "--works").stdout
    assert "circuit (lens): Edges are read head by head" in printed and "Loaded in" in printed
    assert "--works" in line("models", model.info.name).stdout


def test_methods_prints_every_knob_of_one_with_its_default_and_bounds(line: Line) -> None:
    knobs = {item["name"]: item for item in line.json("methods", "mean_difference")["knobs"]}
    assert knobs["strength"]["default"] is None and knobs["strength"]["bounds"] == [0.0, 20.0]
    printed = line("methods", "mean_difference").stdout
    assert all(name in printed for name in knobs) and "0…20" in printed


def test_demos_reads_writes_and_keeps_a_file_and_tells_its_problems(line: Line) -> None:
    source = line.folder / "facts.csv"
    source.write_text("statement,label\nSnow is cold.,1\nStones float.,maybe\nFire is hot.,1\n")
    out = line.folder / "facts.jsonl"
    told = line.json("demos", str(source), "--out", str(out), "--save", "--rows", "1")
    assert told["n"] == 2 and len(told["rows"]) == 1 and told["problems"][0]["line"] == 3
    assert [row.prompt for row in read(out).demonstrations] == ["Snow is cold.", "Fire is hot."]
    assert told["saved"]["name"] in {item["title"] for item in line.json("demos")["sets"]}
    assert "Line 3" in line("demos", str(source)).stdout


def test_app_becomes_streamlit_on_the_port_with_the_workspace(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[Any] = []
    monkeypatch.setattr("os.execve", lambda *given: became.append(given))
    line("app", "--port", "9999", "--workspace", str(line.folder / "w"))
    ((program, command, environment),) = became
    assert program == sys.executable and environment["RETOUCH_HOME"] == str(line.folder / "w")
    assert command[1:5] == ["-P", "-m", "streamlit", "run"] and "9999" in command


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "sentence", "hint"),
    [
        (["fit", "see", "--data", "x"], "No method 'see'", "Did you mean"),
        (["fit", "sea", "--data", "x", "--set", "kep=1"], "No knob 'kep'", "keep"),
        (["fit", "sea", "--data", "x", "--set", "keep=7"], "keep = 7.0 is outside 0.5 to 1", "Give a number"),
        (["fit", "sea", "--data", "x", "--set", "keep"], "'keep' is not name=value", "--set name=value"),
        (["fit", "sea", "--data", "nowhere/x.jsonl"], "There is no file nowhere/x.jsonl", "path"),
        (["fit", "sea", "--data", "truthfulnes"], "No demonstration set 'truthfulnes'", "Did you mean"),
        (["fit", "sea"], "Missing option '--data'", "fit --help"),
        (["generate", "--prompt", "w1", "--edit", "nothing"], "No edit or edit folder 'nothing'", "edit folder yet"),
        (["generate", "--prompt", "w1", "--max-new-tokens", "0"], "max_new_tokens = 0", "1 or more"),
        (["generate", "--prompt", ""], "The prompt is empty", "Write a prompt"),
        (["generate", "--prompt", "w1", "--max-new-tokens", "many"], "'--max-new-tokens'", "generate --help"),
        (["compare", "--prompt", "w1"], "nothing to compare", "--edit"),
        (["look", "telescope", "--prompt", "w1"], "No lens 'telescope'", "lens"),
        (["look", "attention", "--prompt", "w1", "--set", "zoom=3"], "does not take 'zoom'; it takes prompt, layers", "Leave it out"),
        (["look", "attention"], "needs prompt", "--prompt"),
        (["look", "direct_attribution", "--prompt", "w1"], "needs target", "--set target="),
        (["evaluate", "--data", "x", "--edit", "y", "--split", "training"], "'training' is no split", "validation"),
        (["sweep", "--data", "x"], "either an edit or a method", "--grid"),
        (["sweep", "--data", "x", "--edit", "y", "--doses", "a,b"], "holds something that is no number", "0.5,1,2"),
        (["export", "--edit", "x", "--to", "floppy", "--out", "y"], "No export 'floppy'", "known"),
        (["methods", "sae"], "No method 'sae'", "sea"),
        (["demos", "nowhere/x.csv"], "There is no file nowhere/x.csv", "path"),
        (["models", "/nowhere"], "There is no folder or file /nowhere", "path"),
        (["frobnicate"], "No such command 'frobnicate'", "--help"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_a_mistake_is_one_sentence_and_a_hint(line: Line, arguments: list[str], sentence: str, hint: str) -> None:
    said = line.refused(*arguments)
    assert sentence in said[0] and hint.lower() in said[1].lower()


def test_an_existing_folder_is_refused_before_the_model_is_loaded_and_the_hint_works(
    line: Line, fitted: str, pairs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["fit", "mean_difference", "--data", pairs, "--out", fitted]
    with monkeypatch.context() as patch:
        patch.setattr("workbench.opening.open_session", lambda *_, **__: pytest.fail("the model was loaded"))
        sentence, hint = line.refused(*command)
    assert "exists already" in sentence and "--overwrite" in hint
    line(*command, "--overwrite")


def test_what_is_unexpected_has_a_report_and_no_traceback(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("inner detail")

    monkeypatch.setattr("workbench.opening.open_session", broken)
    sentence, hint = line.refused("generate", "--prompt", "w1")
    assert "inner detail" not in sentence + hint
    report = hint.split("reports/")[1].split(" ")[0]
    assert "inner detail" in (line.home / "reports" / report).read_text()
