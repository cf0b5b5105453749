"""A fit as JSON, as Python and as a command: each says the same setting and fits the same edit, and what it cannot say is refused."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.conftest import contrast_rows
from workbench import methods as registered
from workbench.cli.fit_command import read_command, written_command
from workbench.cli.main import app
from workbench.data.demonstrations import Demonstrations
from workbench.errors import BadDose, BadKnob, UnknownKnob, UnknownMethod
from workbench.place import after
from workbench.session import Session
from workbench.settings import FitSettings
from workbench.workspace.asked_fit import AskedFit, read_json, read_python, written_json, written_python

Language = tuple[Callable[[AskedFit], str], Callable[[str], AskedFit]]
LANGUAGES: Mapping[str, Language] = {
    "json": (written_json, read_json),
    "python": (written_python, read_python),
    "command": (written_command, read_command),
}
PRESETS = [(item.name, preset) for item in registered.ordered() for preset in (None, *item.presets)]
every_language = pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)


@every_language
@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_what_is_written_is_read_as_the_same_fit(language: Language, name: str, preset: str | None) -> None:
    write, read = language
    asked = AskedFit.of(FitSettings(name, "rows", preset=preset, seed=3, dose=1.5), "embedded")
    found = read(write(asked))
    known = registered.get(name)
    assert found == asked and known.configure(found.config) == known.configure(preset=preset)
    # Its negative control: another seed, dose or knob is another fit, and its text another text.
    changed = replace(asked, seed=4)
    assert changed != asked and write(changed) != write(asked) and read(write(changed)) == changed


@every_language
@given(texts=st.tuples(*[st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)] * 3))
def test_names_and_turns_of_any_letters_come_back(language: Language, texts: tuple[str, str, str]) -> None:
    data, system, model = texts
    asked = AskedFit(
        "sea", data, {"layers": (2, 3), "keep": 0.9}, chat=True, system=system, place=after(system), model=model, workspace="a b/'c'"
    )
    assert language[1](language[0](asked)) == asked


def test_only_what_is_not_as_by_default_is_said() -> None:
    assert AskedFit("sea", "rows", {"keep": None, "norm": "token"}).config == {}
    assert AskedFit("sea", "rows", {"keep": "0.9", "compat": "official"}).config["keep"] == 0.9
    assert written_command(AskedFit("sea", "rows")) == "retouch fit sea --model embedded --data rows --seed 0 --dose 1.0"
    assert "norm" not in written_json(AskedFit("sea", "rows", {"norm": "token"})) and "norm" in written_json(
        AskedFit("sea", "rows", {"norm": "none"})
    )


def test_each_text_fits_the_edit_that_the_settings_fit(tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: Session(tiny_gpt2, home))
    session = Session(tiny_gpt2, home)
    rows = session.demos.save(contrast_rows()).id
    settings = FitSettings("sea", rows, {"layers": (1,), "keep": 0.8, "compat": "official", "center": "none"}, seed=5, dose=2.0)
    fitted = session.run(settings).edit.dosed(2.0)
    asked = AskedFit.of(settings, "embedded")
    assert session.run(asked.settings).edit.id == fitted.id

    scope: dict[str, Any] = {"open_session": lambda *_, **__: Session(tiny_gpt2, home)}
    exec(written_python(asked).replace("from workbench import open_session", ""), scope)
    assert (scope["edit"].id, scope["edit"].dose) == (fitted.id, 2.0)

    ran = CliRunner().invoke(app, [*shlex.split(written_command(asked))[1:], "--json"])
    told = json.loads(ran.stdout)
    assert (told["edit"], told["dose"]) == (fitted.id, 2.0)
    other = session.run(replace(asked, config={**asked.config, "keep": 0.5}).settings).edit
    assert other.id != fitted.id


REFUSED_JSON = {
    "{": "no JSON",
    "[]": "no JSON object",
    '{"method": "sea"}': "'data' is missing",
    '{"method": "sea", "data": "x", "knobs": {}}': "'knobs' is not known",
    '{"method": "sea", "data": "x", "seed": "1"}': "not a whole number",
    '{"method": "sea", "data": "x", "seed": true}': "not a whole number",
    '{"method": "sea", "data": "x", "seed": -1}': "no seed",
    '{"method": "sea", "data": "x", "config": [1]}': "not an object of knobs",
    '{"method": "sea", "data": "x", "config": {"keep": 7}}': "keep = 7",
    '{"method": "sea", "data": "x", "chat": false, "system": "w9"}': "chat is off",
    '{"method": "sea", "data": "x", "config": ' + "[" * 100_000 + "]" * 100_000 + "}": "brackets stand in brackets",
}


@pytest.mark.parametrize(("text", "told"), REFUSED_JSON.items())
def test_json_that_is_no_fit_is_refused_with_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(BadKnob, match=told):
        read_json(text)


def test_words_that_nobody_knows_are_named() -> None:
    with pytest.raises(UnknownMethod, match="see"):
        read_json('{"method": "see", "data": "x"}')
    with pytest.raises(UnknownKnob, match="kep"):
        read_json('{"method": "sea", "data": "x", "config": {"kep": 0.9}}')
    with pytest.raises(BadDose):
        read_command("retouch fit sea --data x --dose 1e9")


FIT = 'session = open_session("embedded")\nfitted = session.fit("sea", "x")\n'
REFUSED_PYTHON = {
    "session = (": "no Python",
    "import os\n" + FIT: "Line 1 is no part of a fit",
    FIT + "print(fitted)": "Line 3 is no part of a fit",
    FIT.replace('"x"', "open('x').read()"): "an argument is no literal",
    FIT.replace('"x"', '"x", {}, 3'): "Line 2: session.fit takes",
    FIT.replace('"x"', '"x", data="y"'): "Line 2: session.fit takes",
    FIT.replace('"x"', '"x", speed=3'): "Line 2: session.fit takes",
    FIT.replace('"x"', '"x", {[]: 1}'): "an argument is no literal",
    FIT.replace('"x"', '"x", {1: 2}'): "1 is no name of a knob",
    FIT.replace('"x"', '"x", {"compat": {1: 2}}'): "1 is no name of a knob",
    FIT.replace('"x"', f'"x", {"[" * 100_000}'): "no Python",
    FIT.replace('"x"', f'"x", {"-" * 100_000}1'): "no Python|no literal",
    FIT.replace("session.fit", "a." * 50_000 + "fit"): "no Python|no part",
    FIT + 'session.fit("hpr", "y")': "Line 3: a second session.fit",
}


@pytest.mark.parametrize(("text", "told"), REFUSED_PYTHON.items())
def test_python_is_read_and_never_run(text: str, told: str) -> None:
    with pytest.raises(BadKnob, match=told):
        read_python(text)
    assert read_python(FIT) == AskedFit("sea", "x")


REFUSED_COMMANDS = {
    "ls": "no fit",
    "retouch fit --help": "no fit",
    "retouch fit sea": "Missing option",
    "retouch fit sea --data 'x": "no command",
    "retouch fit sea --data x --sett keep=0.9": "No such option",
    "retouch fit sea --data x --set keep": "not name=value",
    "retouch fit sea --data x --out runs/sea": "--out: the form of a fit has no place for it",
    "retouch fit sea --data x --choose": "--choose: the form",
}


@pytest.mark.parametrize(("text", "told"), REFUSED_COMMANDS.items())
def test_a_command_is_read_as_the_command_line_reads_it(text: str, told: str) -> None:
    with pytest.raises(BadKnob, match=told):
        read_command(text)


def test_a_preset_and_lines_that_go_on_are_understood() -> None:
    found = read_command("python -m workbench fit sea \\\n  --data x --preset paper \\\n  --set keep=0.9")
    assert found == AskedFit("sea", "x", {**registered.get("sea").presets["paper"], "keep": 0.9})
    assert read_command("retouch fit sea --data x --system 'a \\\nb'").system == "a \\\nb"


def test_a_value_that_no_option_can_say_has_no_command() -> None:
    asked = AskedFit("tarot", "x", {"separator": " ; "})
    with pytest.raises(BadKnob, match="cannot be said by --set"):
        written_command(asked)
    assert read_json(written_json(asked)) == asked and read_python(written_python(asked)) == asked


def test_rows_without_a_name_cannot_be_written_down() -> None:
    with pytest.raises(BadKnob, match="no name"):
        AskedFit.of(FitSettings("sea", Demonstrations(())), "embedded")
