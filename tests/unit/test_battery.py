"""The battery on a real model: its tasks, that it goes on where it stopped, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import battery_table, real
from benchmarks.battery import TASKS, task
from workbench.data.demonstrations import SPLITS
from workbench.models.catalog import load

TOLD: dict[str, Any] = {"mean": 0.4, "low": 0.2, "high": 0.6, "sign": 1, "n": 25}
NOTHING: dict[str, Any] = {"mean": 0.1, "low": -0.2, "high": 0.4, "sign": 0, "n": 25}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_a_hundred_test_rows_whose_words_no_other_split_has(name: str, tiny_gpt2: Any) -> None:
    one = task(name, tiny_gpt2)
    splits = {split: one.rows.split(split) for split in SPLITS}
    assert len(splits["test"]) >= 100 and len(splits["fit"]) >= 6 and len(splits["validation"]) >= 6
    prompts = [{row.prompt for row in rows} for rows in splits.values()]
    assert not prompts[0] & prompts[1] and not prompts[0] & prompts[2] and not prompts[1] & prompts[2]
    capped = task(name, tiny_gpt2, 40).rows
    assert len(capped.split("test")) == 40 and capped.split("fit").rows == splits["fit"].rows
    assert one.rival and one.title


def test_the_quick_one_measures_one_task_and_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out, wanted = load("embedded"), tmp_path / "rows.jsonl", list(real.cells(("mood",), real.QUICK))
    assert wanted == [("mood", real.PROMPT), *(("mood", name) for name in real.QUICK)]
    first = real.run(model, wanted[:2], 8, 9.0, out, [])
    assert [(row["task"], row["method"]) for row in first] == wanted[:2] and all(row["n_rows"] == 8 for row in first)
    done = [json.loads(line) for line in out.read_text().splitlines()]
    assert done == json.loads(json.dumps(first)) and all(map(real.is_current, done))
    fitted = done[1]
    assert {
        "effect",
        "over_placebo",
        "over_shuffled",
        "kl",
        "kl_tail",
        "rows_worse",
        "seconds",
        "gb_above_the_model",
        "says",
    } <= fitted.keys()
    whole = real.run(model, wanted, 8, 9.0, out, done)
    assert len(whole) == 3 and len(out.read_text().splitlines()) == 3 and whole[:2] == done
    assert real.run(model, wanted, 8, 9.0, out, whole) == whole
    # Control: what was measured under another setting, or on another number of rows, is measured again; and time is a limit.
    stale = [{**done[1], "settings": {**done[1]["settings"], "strength": 3.25}}]
    assert not real.is_current(stale[0]) and len(real.run(model, wanted[1:2], 8, 9.0, None, stale)) == 2
    assert len(real.run(model, wanted[:1], 7, 9.0, None, done)) == 3
    assert real.run(model, wanted, 8, 0.0, None, []) == [] and "stopped after 0 minutes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("effect", "placebo", "shuffled", "kl", "says"),
    [
        (TOLD, TOLD, TOLD, 0.02, "does it"),
        (TOLD, TOLD, TOLD, 0.45, "does it, and breaks the model (KL 0.45)"),
        (TOLD, TOLD, None, 0.02, "beats its placebo"),
        (TOLD, NOTHING, TOLD, 0.02, "no effect found beyond noise of that size"),
        (TOLD, TOLD, NOTHING, 0.02, "no effect found beyond noise of that size"),
        (NOTHING, NOTHING, NOTHING, 0.02, "no effect found"),
        (NOTHING, TOLD, TOLD, 0.93, "no effect found, and breaks the model (KL 0.93)"),
        ({**TOLD, "sign": -1}, NOTHING, NOTHING, 0.02, "does harm"),
    ],
)
def test_what_a_cell_shows(effect: Any, placebo: Any, shuffled: Any, kl: float, says: str) -> None:
    told = {"effect": effect, "over_placebo": placebo, "kl": kl} | ({} if shuffled is None else {"over_shuffled": shuffled})
    assert real.verdict(told) == says


def row(method: str, name: str, says: str) -> dict[str, Any]:
    told = {"task": name, "method": method, "model": "SmolLM2", "n_prompts": 25, "before": 0.5, "effect": TOLD, "placebo": 0.1}
    told |= {"shuffled": 0.0, "rows_worse": 0.1, "kl": 0.02, "kl_tail": 0.2, "seconds": 20.0, "gb_above_the_model": 0.3}
    return {**told, "says": says}


def test_what_was_found_is_written_into_docs_readme_and_the_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("README.md", "docs/real-models.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# Head\n\n{battery_table.BEGIN}\nold\n{battery_table.END}\ntail\n")
    monkeypatch.setattr(battery_table, "ROOT", tmp_path)
    monkeypatch.setattr(battery_table, "FOUND", tmp_path / "found.json")
    rows = [
        row("SEA", "mood", "does it"), row("SEA", "politeness", "does it, and breaks the model (KL 0.30)"),
        row("HPR", "mood", "no effect found"), row("ARE", "politeness", "does harm"),
        {"task": "mood", "method": "ARE", "model": "SmolLM2", "n_prompts": 25, "refused": "No effect found: …"},
    ]  # fmt: skip
    battery_table.write(
        rows, [("popular", "HPR"), ("popular", "SEA"), ("sentiment", "TaRot")], 100, {"SEA": "sea", "HPR": "hpr", "ARE": "are"}
    )
    page, readme = (tmp_path / "docs" / "real-models.md").read_text(), (tmp_path / "README.md").read_text()
    plain = " ".join(page.split())
    assert page.startswith("# Head") and page.endswith(f"{battery_table.END}\ntail\n") and "old" not in page
    assert "Not measured: HPR on popular; SEA on popular; TaRot on sentiment" in plain and "5 of 8 cells" in plain
    assert "1 beat the unedited model, the placebo and the fit on shuffled sides" in plain and "two tasks or more: SEA." in plain
    assert "| TaRot | not measured |" in readme and "| HPR | not measured" not in readme
    assert "| HPR | no effect found on mood |" in readme and "**does it**: mood +0.40 [+0.20, +0.60], politeness" in readme
    assert json.loads((tmp_path / "found.json").read_text()) == {
        "model": "SmolLM2",
        "methods": {
            "sea": {"does it": ["mood", "politeness"], "breaks the model": ["politeness"]},
            "hpr": {"no effect found": ["mood"]},
            "are": {"no effect found": ["mood"], "does harm": ["politeness"]},
        },
    }
    (tmp_path / "README.md").write_text("# Head\n")
    with pytest.raises(ValueError, match="README.md has no line"):
        battery_table.write(rows, [], 100, {})
    with pytest.raises(ValueError, match="no row of today's settings"):
        battery_table.write([], [], 100, {})
