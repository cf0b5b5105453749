"""Inputs that nobody would write on purpose: files, edit folders, knobs, command lines and links. Each gives what it says or a named error.

Every function makes `n` inputs from a seed, raises at the first that breaks the rule, and returns how many were taken and how many refused.
`tests/property/test_trust.py` runs a few of each, `python -m benchmarks.trust` many.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.shape_checks import unchecked
from workbench.data.sources import as_text, read
from workbench.edits.lane import read_lanes, write_lanes
from workbench.edits.store import load_edit, save
from workbench.errors import RetouchError
from workbench.methods import get, names

SAVED = Path(__file__).parent / "data" / "saved_edits"
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 1.5, float("nan"), float("inf"), "", "x", "\x00", "resid_post@0", [], ["x"], [[]], {}, {"x": 1},
)  # fmt: skip
# Rows of every layout that is known, as objects.
_ROWS: tuple[dict[str, Any], ...] = (
    {"prompt": "a", "positive": " b", "negative": " c", "tags": ["x;y", "role:train"], "split": "test", "id": "1", "loss": "good"},
    {"prompt": [{"role": "user", "content": "hi"}], "positive": "yes", "negative": "no", "label": "l", "neutral": "n"},
    {"Question": "q?", "Best Answer": "b", "Correct Answers": "b; c", "Incorrect Answers": "d; e", "Category": "k"},
    {"question": "q?", "best_answer": "b", "correct_answers": "['b', 'c']", "incorrect_answers": '["d", "e"]', "category": "k"},
    {"inputs": "Q: x", "targets": "['y']", "multiple_choice_targets": "['y' 'z']", "multiple_choice_scores": "[1 0]"},
    {"context": "c", "question": "q", "ans0": "a", "ans1": "b", "ans2": "u", "label": 1, "category": "Age", "question_index": "3",
     "answer_info": '{"ans0": ["a", "old"], "ans1": ["b", "nonOld"], "ans2": ["u", "unknown"]}', "question_polarity": "neg"},
    {"context": "He is BLANK.", "target": "he", "bias_type": "gender",
     "sentences": [{"gold_label": "stereotype", "sentence": "He is x."}, {"gold_label": "anti-stereotype", "sentence": "He is y."}]},
    {"prefix": "The capital is", "suffix": " Paris", "loss": "good"},
    {"prefix": "p", "suffixa": " a", "suffixb": " b"},
    {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]},
    {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]},
    {"chosen": "\n\nHuman: h\n\nAssistant: good", "rejected": "\n\nHuman: h\n\nAssistant: bad"},
    {"prompt": "p", "chosen": "a", "rejected": "b"},
    {"statement": "s", "label": 1, "topic": "t", "split": "Dev"},
    {"text": "some text", "split": "valid"},
)  # fmt: skip
_PIECES: tuple[bytes, ...] = (
    b"\n", b"\r", b"\r\n", b'"', b",", b";", b"\t", b"{", b"}", b"[" * 3000, b"]", b"9" * 5000, b"NaN", b"-Infinity", b"1e999",
    b"null", b"true", b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80",
    b"\xe2\x80\xa8", b"'", b"\\", b"prompt", b"split", b'"tags": "["', b"[['a']", b"{'a': 1", b"('a',)", b"1_000", b"__import__('os')",
)  # fmt: skip
_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".ndjson")


@dataclass
class Tally:
    """How many inputs were taken, and how many refused by a named error."""

    taken: int = 0
    refused: int = 0


def _guarded(tally: Tally, seen: object, call: Callable[[], object]) -> Any:
    """What a call gives, None where it refuses by name; anything else is raised with the input that did it."""
    try:
        with unchecked():  # as a person's input meets it
            found = call()
    except RetouchError as error:
        if not str(error).strip() or not error.hint.strip() or not (str(error) + error.hint).encode():
            raise AssertionError(f"{type(error).__name__} says nothing on {seen!r:.400}") from error
        tally.refused += 1
        return None
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} {error} on {seen!r:.2000}") from error
    tally.taken += 1
    return found


def imports(n: int, seed: int = 0) -> Tally:
    """Files of every layout, damaged in every way; what is read is written and read again as it is."""
    draw, tally = random.Random(seed), Tally()
    for _ in range(n):
        ending = draw.choice(_ENDINGS)
        content = _damaged_file(draw, ending)
        found = _guarded(tally, (ending, content), partial(read, content, name=f"x{ending}", seed=3))
        if found is None or not len(found.demonstrations):
            continue
        for layout in (".jsonl", ".csv"):
            text = as_text(found.demonstrations, layout)
            again = read(text.encode(), name=f"x{layout}").demonstrations
            assert again.rows == found.demonstrations.rows, (ending, content, layout)
    return tally


def _damaged_file(draw: random.Random, ending: str) -> bytes:
    kinds = draw.sample(_ROWS, draw.choice((1, 1, 1, 2)))
    rows = [{**draw.choice(kinds)} for _ in range(draw.randint(1, 6))]
    for row in rows:
        for _ in range(draw.choice((0, 0, 1, 2))):
            key = draw.choice([*row, "split", "tags", "id"])
            row[key] = draw.choice((*JUNK[:6], *JUNK[8:], _text(draw)))
    if ending in (".csv", ".tsv"):
        columns, mark = list(dict.fromkeys(key for row in rows for key in row)), "\t" if ending == ".tsv" else draw.choice(",;,")
        cells = [[_cell(row.get(key, "")) for key in columns] for row in rows]
        text = "\n".join(mark.join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in line) for line in [columns, *cells])
    elif ending == ".json":
        text = json.dumps(draw.choice((rows, {"examples": rows}, {"data": {"a": rows}}, rows[0])))
    elif ending == ".txt":
        text = "\n".join(str(next(iter(row.values()))) for row in rows)
    else:
        text = "\n".join(json.dumps(row, ensure_ascii=draw.random() < 0.5) for row in rows)
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw.choice((0, 0, 1, 1, 2, 5))):
        at = draw.randrange(len(content) + 1)
        how = draw.random()
        if how < 0.6:
            content[at:at] = draw.choice(_PIECES)
        elif how < 0.8:
            del content[at : at + draw.randint(1, 20)]
        elif content:
            content[at % len(content)] = draw.randrange(256)
    if draw.random() < 0.05:
        return bytes(content).decode("utf-8", "replace").encode("utf-16")[: len(content) * 2 - draw.randint(0, 2)]
    return bytes(content)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _text(draw: random.Random) -> str:
    marks = string.printable + "é🙂\u2028\u0000ש;[]\"'"
    return "".join(draw.choice(marks) for _ in range(draw.randint(0, 12)))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value, with a key in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in ((value, key), *places(inner))]


def damaged(told: Any, draw: random.Random) -> Any:
    """A description with one to three places replaced, removed or added to."""
    told = copy.deepcopy(told)
    for _ in range(draw.randint(1, 3)):
        found = places(told)
        if not found:
            return copy.deepcopy(draw.choice(JUNK))
        inside, key = draw.choice(found)
        how = draw.random()
        if how < 0.7:
            inside[key] = copy.deepcopy(draw.choice(JUNK))
        elif how < 0.9 or isinstance(inside, list):
            del inside[key]
        else:
            inside[f"{key}x"] = copy.deepcopy(draw.choice(JUNK))
    return told


def edit_folders(n: int, room: Path, seed: int = 0, kinds: Sequence[str] = ()) -> Tally:
    """Saved edits with damaged descriptions or tensors; what loads is saved and loaded again as it is, a tenth of it on the disk."""
    draw, tally = random.Random(seed), Tally()
    folders = [SAVED / name for name in kinds] or sorted(path for path in SAVED.iterdir() if path.is_dir())
    told = {folder: json.loads((folder / "edit.json").read_text()) for folder in folders}
    for folder in folders:
        shutil.copytree(folder, room / folder.name)
    for trial in range(n):
        source = draw.choice(folders)
        folder, tensors = room / source.name, (source / "edit.safetensors").read_bytes()
        (folder / "edit.json").write_text(json.dumps(damaged(told[source], draw)))
        harmed = draw.random() < 0.1
        if harmed:
            (folder / "edit.json").write_text(json.dumps(told[source]))
            (folder / "edit.safetensors").write_bytes(_flipped(tensors, draw))
        edit = _guarded(tally, (source.name, (folder / "edit.json").read_text()), lambda folder=folder: load_edit(folder))
        if harmed:
            (folder / "edit.safetensors").write_bytes(tensors)
        if edit is not None and trial % 10 == 0:
            with unchecked():
                again = load_edit(save(edit, room / f"again{trial}"))
            assert (again.id, again.dose) == (edit.id, edit.dose), (source.name, trial)
            shutil.rmtree(room / f"again{trial}")
    return tally


def _flipped(content: bytes, draw: random.Random) -> bytes:
    harmed = bytearray(content)
    if draw.random() < 0.3:
        return bytes(harmed[: draw.randrange(len(harmed))])
    for _ in range(draw.randint(1, 4)):
        harmed[draw.randrange(len(harmed))] ^= 1 << draw.randrange(8)
    return bytes(harmed)


def knobs(n: int, seed: int = 0) -> Tally:
    """Knobs of every method as texts and as values; what is taken has the values of its own JSON again."""
    from workbench.knobs import as_json
    from workbench.knobs import knobs as knobs_of

    draw, tally = random.Random(seed), Tally()
    known = [get(name) for name in names()]
    values = (*JUNK, "1", "0.5", "1,2", "1e999", "-1", "auto", "none", "true", "²", "1_0", "9" * 5000, "0x1", " 1 ", (1, 2), 10**400)
    for _ in range(n):
        method = draw.choice(known)
        items = list(knobs_of(method.config))
        given: dict[str, Any] = {}
        for _ in range(draw.randint(1, 3)):
            item = draw.choice(items)
            near = [*(item.choices or ()), *(item.bounds or ())] if draw.random() < 0.4 else []
            given[draw.choice((item.name, item.name, item.name, _text(draw)))] = draw.choice(near or values)
        preset = draw.choice((None, None, None, *method.presets, "nope"))
        config = _guarded(tally, (method.name, given, preset), lambda m=method, g=given, p=preset: m.configure(g, p))
        if config is not None:
            assert method.configure(as_json(config)) == config, (method.name, given, preset)
    return tally


def command_lines(n: int, seed: int = 0) -> Tally:
    """Options of every command, up to where the model would be opened: exit code 0 or 2, a sentence, and no report of a failure."""
    import pytest
    from typer.testing import CliRunner

    from workbench.cli.groups import Opening
    from workbench.cli.main import app
    from workbench.errors import ModelUnavailable

    def stopped(self: Opening, share: float) -> Any:
        raise ModelUnavailable("No model is opened here.", "Nothing.")

    draw, tally, runner = random.Random(seed), Tally(), CliRunner()
    words = ("models", "methods", "demos", "locate", "fit", "generate", "compare", "look", "evaluate", "sweep", "export")
    options = (
        "--set --seed --dose --out --edit --lane --data --prompt --doses --grid --method --preset --to --max-damage --split --top-k "
        "--top-p --temperature --max-new-tokens --dtype --device --json --chat --think --system --placebos --generations --controls "
        "--rows --rule --seeds --draws --lens --resume --choose --budget --works --stop --workspace --model --name --neutral"
    ).split()
    values = (
        "", "0", "-1", "1e999", "nan", "9" * 400, "x", "mean_difference", "sea", "truthfulness", "layers=1", "layers=", "=",
        "strength=nan", "a=b=c", "0.5,1", "fit", "all", "report", "base", 'prompt:"x"', 'shots:"truthfulness":4', '"', "a+b:2",
        "²", "🙂", "\x00", "/no/such", "cuda:99", "float99", "logit_lens", "--", "--help", "ID:nan", "/dev/null", "strength=1|2|x",
        "-", "~", ".",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Opening, "session", stopped)
        for _ in range(n):
            line = [draw.choice(words)]
            line += [draw.choice(values) for _ in range(draw.choice((0, 1, 1, 2)))]
            for _ in range(draw.randint(0, 4)):
                line += [draw.choice(options)] + [draw.choice(values)] * draw.choice((0, 1, 1, 1))
            with unchecked():
                result = runner.invoke(app, line)
            said = result.output + (result.stderr or "")
            if result.exit_code not in (0, 2) or "Traceback" in said or "Something unexpected" in said or not said.strip():
                raise AssertionError(f"{line}: {result.exit_code} {said[-800:]} {result.exception!r}")
            if result.exit_code:
                tally.refused += 1
            else:
                tally.taken += 1
    return tally


def link_values(draw: random.Random, edit: str = "abc") -> dict[str, str]:
    """The query of a link, near to one that means something."""
    parts = (
        edit,
        "nope",
        ":1",
        ":nan",
        ":1e999",
        "+",
        ",",
        ":",
        "²",
        '"',
        "base",
        "/etc:1",
        "a" * 3000,
        ":-5",
        " ",
        "\x00",
        "🙂",
        'prompt:"x"',
        "%",
        "9",
    )
    made = lambda: "".join(draw.choice(parts) for _ in range(draw.randint(0, 5)))  # noqa: E731
    return {
        name: made() for name in draw.sample(("on", "edit", "set", "layer", "method", "model", "jobs", "tab", "page"), draw.randint(1, 4))
    }


def links(n: int, seed: int = 0) -> Tally:
    """Queries of links, read into the state of a tab and written again: a name is kept as it stands, a lane survives its text."""
    import pytest

    from pages._ui.kit import state

    draw, tally = random.Random(seed), Tally()
    for _ in range(n):
        query = link_values(draw)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(state.st, "query_params", query)
            found = _guarded(tally, query, state._from_url)
        if found is not None:
            told = state.as_url(found)
            kept = tuple(lane for lane in found.lanes if lane.prompting is None)  # what is said is never in a link
            assert read_lanes(told.get("on", "")) == kept and write_lanes(kept) == told.get("on", ""), query
            assert found.bad_link is None or found.bad_link.hint
    return tally
