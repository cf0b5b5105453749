"""Lessons name what exists, and what they ask for can be found on the embedded model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.learn import lessons
from tests.app.conftest import fine, texts

ROOT = Path(__file__).resolve().parents[2]
UNITS = lessons.lessons()
STEPS = [(unit["id"], i, step) for unit in UNITS for i, step in enumerate(unit["steps"])]
NAMES = [f"{unit}-{i}" for unit, i, _ in STEPS]


def sources() -> str:
    """Everything that can put a word on a page: the pages, their parts, the menu, the methods' titles, knobs and presets."""
    folders = [*(ROOT / "pages").rglob("*.py"), *(ROOT / "workbench" / "methods").rglob("*.py"), ROOT / "app.py"]
    return "\n".join(path.read_text(encoding="utf-8") for path in folders)


def is_said(name: str, source: str) -> bool:
    """Whether a control of this name stands in the source; `…` is a part that the page fills in."""
    pattern = r"[^\"]*".join(re.escape(part) for part in name.split("…"))
    return re.search(rf"[\"']{pattern}[\"']", source) is not None


@pytest.mark.parametrize(("unit", "i", "step"), STEPS, ids=NAMES)
def test_a_step_names_a_page_a_set_a_method_a_lens_and_a_check_that_exist(unit: str, i: int, step: Mapping[str, Any]) -> None:
    import json

    from workbench.methods import names

    assert (ROOT / "pages" / f"{step['page']}.py").exists()
    shipped = {item["id"] for item in json.loads((ROOT / "assets" / "data" / "index.json").read_text(encoding="utf-8"))}
    assert {step[name] for name in ("set", "example") if name in step} <= shipped
    assert "method" not in step or step["method"] in names()
    inspect = (ROOT / "pages" / "inspect.py").read_text(encoding="utf-8")
    assert "lens" not in step or f'"{step["lens"]}": ' in inspect
    assert step["check"]["kind"] in lessons.CHECKS and len(step["hints"]) == 3


@pytest.mark.parametrize(("unit", "i", "step"), STEPS, ids=NAMES)
def test_the_controls_that_hints_name_exist(unit: str, i: int, step: Mapping[str, Any]) -> None:
    source = sources()
    named = [name for hint in step["hints"] for name in re.findall(r"\*([^*]+)\*", hint)]
    assert [name for name in named if not is_said(name, source)] == []


def test_a_control_that_does_not_exist_would_be_seen() -> None:
    assert is_said("Fit edit", sources()) and is_said("Add … to scope", 'f"Add {what} to scope"')
    assert not is_said("Fit an elephant", sources())


@pytest.mark.parametrize(("unit", "i", "step"), STEPS, ids=NAMES)
def test_no_step_is_done_before_anything_was_run(monkeypatch: pytest.MonkeyPatch, unit: str, i: int, step: Mapping[str, Any]) -> None:
    monkeypatch.setattr(lessons.jobs, "result", lambda slot: None)
    monkeypatch.setattr(lessons.scope, "picked", list)
    assert not lessons.passed(step["check"])


def test_a_check_of_an_unknown_kind_never_holds() -> None:
    assert not lessons.passed({"kind": "wishful"})


def test_go_there_fills_the_example(app: Callable[..., AppTest]) -> None:
    test = app("learn")
    fine(test.segmented_control(key="lesson").set_value("names").run())
    fine(test.button(key="go-names-0").click().run())
    fine(test.switch_page("pages/inspect.py").run())
    assert test.segmented_control(key="inspect-lens").value == "Patching"
    assert test.text_area(key="inspect-corrupt").value and "Estimate" in {button.label for button in test.button}
    assert "will stand here" in texts(test), "nothing was run"


# On the embedded model: what a learner is asked for can be had, by what the hints say.
@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the tab would hold after following the hints, by slot."""
    from pages._ui.edit import fitting
    from pages._ui.kit import cards
    from workbench.opening import open_session
    from workbench.progress import silent

    session = open_session("embedded", tmp_path_factory.mktemp("lessons"))
    first = cards.card(cards.FitCard, "truthful")
    settings = fitting.fit_settings(first.set, session.demos(first.set), first.method, first.values, 0, first.dose)
    fits = {"card": fitting.fit(session, settings, silent())}
    for preset, knobs in (("paper", {}), ("centred", {"keep": 0.999})):
        fitted = session.fit("sea", "truthfulness", knobs, preset=preset)
        fits[preset] = fitting.FitOutcome(fitted, None, settings)
    row = next(row for row in session.demos("name-swaps") if row.prompt.count(row.positive) == 1 and row.prompt.count(row.negative) == 2)
    head, _, tail = row.prompt.rpartition(row.negative)
    asked = (row.prompt, f"{head}{row.positive}{tail}", row.positive, row.negative)
    return {
        "fits": fits,
        "heads": session.look("head_scores", n=8),
        "patching": session.look("attribution_patching", *asked),
        "circuit": session.look("circuit", *asked, n_edges=20),
        "attention": session.look("attention", UNITS[2]["steps"][0]["prompt"]),
    }


def checked(monkeypatch: pytest.MonkeyPatch, unit: str, i: int, picked: tuple[str, ...] = (), **slots: Any) -> bool:
    monkeypatch.setattr(lessons.jobs, "result", lambda slot: slots.get(slot.name))
    monkeypatch.setattr(lessons.scope, "picked", lambda: list(picked))
    return lessons.passed(next(item for item in UNITS if item["id"] == unit)["steps"][i]["check"])


def test_truthful_the_card_of_start_beats_its_placebo_and_a_fit_without_a_verdict_does_not_pass(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in (0, 1):
        assert checked(monkeypatch, "truthful", i, fit=found["fits"]["card"])
    assert not checked(monkeypatch, "truthful", 1, fit=found["fits"]["paper"])


def test_uncentred_each_step_is_met_by_its_preset_and_not_by_the_other(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for i, right, wrong in ((0, "paper", "centred"), (1, "paper", "centred"), (2, "centred", "paper")):
        assert checked(monkeypatch, "uncentred", i, fit=found["fits"][right])
        assert not checked(monkeypatch, "uncentred", i, fit=found["fits"][wrong])


def test_induction_heads_are_there_and_only_they_count(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(monkeypatch, "induction", 0, attention=found["attention"])
    assert checked(monkeypatch, "induction", 1, heads=found["heads"])
    layer, head, _ = found["heads"].top("induction", 1)[0]
    weakest = found["heads"].scores[0, found["heads"].kinds.index("induction")].argmin()
    other = divmod(int(weakest), found["heads"].scores.shape[3])
    monkeypatch.setattr(lessons.scope, "picked", lambda: [f"{layer}.{head}"])
    check = UNITS[2]["steps"][2]["check"]
    assert lessons.passed(check)
    monkeypatch.setattr(lessons.scope, "picked", lambda: [f"{other[0]}.{other[1]}", "2"])
    assert not lessons.passed(check)


def test_names_a_head_and_a_circuit_bring_the_answer_back(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(monkeypatch, "names", 0, patching=found["patching"])
    assert checked(monkeypatch, "names", 1, circuit=found["circuit"])
    assert checked(monkeypatch, "names", 2, ("0.1", "2.3")) and not checked(monkeypatch, "names", 2, ("3",))
