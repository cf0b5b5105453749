"""Commands that look at what an edit does: generate, compare, look, evaluate."""

from __future__ import annotations

import inspect
import json as json_text
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.groups import Drawing, Opening, grouped
from workbench.cli.options import (
    Asking,
    Data,
    Dose,
    Edits,
    PromptTexts,
    SetAsChat,
    Settings,
    SplitName,
    System,
    dosed,
    laned,
    named,
    split_named,
)  # fmt: skip
from workbench.cli.printing import answer, spanned, table, visible
from workbench.errors import BadKnob

if TYPE_CHECKING:
    from workbench.models.thinking import Answer
    from workbench.progress import Progress
    from workbench.session import Session

NeutralSet = Annotated[str | None, typer.Option(help="A set or file with neutral texts, for side effects.")]
Placebos = Annotated[int, typer.Option(min=0, help="Random edits of equal size to average into the placebo; 0 for none.")]


@grouped
def generate(
    prompt: PromptTexts,
    drawing: Drawing,
    asking: Asking,
    opening: Opening,
    edit: Edits = None,
    dose: Dose = None,
) -> None:
    """Continue prompts under all the edits at once, in the order given; without any, under the base model."""
    drawing.sampling()  # a wrong option is told before a model is loaded
    at = dosed(dose)
    session, progress = opening.session(0.3)
    named_lanes = laned(session, edit, at)
    lane = session.lane(tuple(named_lanes))
    edits = list(zip((key for one in named_lanes for key in one.keys), (dose for _, dose in lane.doses)))
    own = session.model.generation
    found = session.generate([asking.put(text) for text in prompt], lane, drawing.sampling(own), progress=progress)[0]
    texts = [
        {"prompt": one.prompt, "text": one.text, "thinking": one.said.thinking, "answer": one.said.answer, "ended": one.ended,
         "tokens": one.tokens, "log_probs": one.log_probs} for one in found
    ]  # fmt: skip
    told = {"model": session.model.info.name, "edits": edits, "seed": drawing.seed, "texts": texts, "undone": own.undone}
    lines = [line for one in found for line in (f"> {visible(str(one.prompt))}", *_told(one.said), "")][:-1]
    undone = f"The model's folder asks for {', '.join(own.undone)}, which is not done here."
    answer(told, opening.json, [*lines, *([undone] if own.undone else [])])


def _told(said: Answer) -> list[str]:
    """A text as lines: what was thought, if anything, then what was answered."""
    return [*([f"(thinking) {visible(said.thinking)}"] if said.thinking else []), visible(said.answer)]


@grouped
def compare(
    prompt: PromptTexts,
    drawing: Drawing,
    asking: Asking,
    opening: Opening,
    edit: Edits = None,
    dose: Dose = None,
) -> None:
    """Put the base model and one lane an edit side by side; `--edit a+b:2` stacks two in one lane, the second at dose 2."""
    if not edit:
        raise BadKnob("There is nothing to compare with the base model.", "Give at least one --edit.")
    drawing.sampling()
    at = dosed(dose)
    session, progress = opening.session(0.3)
    how = drawing.sampling(session.model.generation)
    found = session.compare([asking.put(text) for text in prompt], laned(session, edit, at), how, progress=progress)
    lines: list[str] = []
    for index, text in enumerate(found.prompts):
        lines += ["", f"> {visible(str(text))}"]
        for lane, said in zip(found.lanes, found.texts[index]):
            kl = sum(token.kl_nats for token in said.tokens) / max(1, len(said.tokens))
            thought = f"(thinking) {visible(said.thinking)}  " if said.thinking else ""
            lines.append(f"{lane.label}: {thought}{visible(said.answer)}  [mean KL {kl:.3g} nats/token]")
    answer(found, opening.json, [*lines[1:], *found.near_identity(), *(f"Note: {note}" for note in found.notes)])


@grouped
def look(
    lens: Annotated[str, typer.Argument(help="A lens, for example attention or logit_lens.")],
    asking: Asking,
    opening: Opening,
    prompt: Annotated[str | None, typer.Option(help="What the model reads: a prompt, or for senses a word.")] = None,
    edit: Edits = None,
    dose: Dose = None,
    settings: Settings = None,
) -> None:
    """Look through a lens, at the base model and at one lane an edit; `--set target=…` and the like go to the lens."""
    told, at = named(settings), dosed(dose)
    session, progress = opening.session(0.3)
    takes = dict(list(inspect.signature(session.lens(lens)).parameters.items())[1:])
    options = _options(lens, takes, told, prompt)
    if asking.is_chat:
        prompts = [name for name, item in takes.items() if str(item.annotation).startswith("Prompt") and name in options]
        if not prompts:
            raise BadKnob(f"The lens {lens} reads no prompt.", "Leave --chat, --system and --think out.")
        options |= {name: asking.put(options[name]) for name in prompts}
    if "stacks" in takes:
        options["stacks"] = [(), *laned(session, edit, at)]
    elif edit:
        raise BadKnob(f"The lens {lens} looks at the base model alone.", "Leave --edit out.")
    if "demonstrations" in options:
        options["demonstrations"] = session.demos.resolve(str(options["demonstrations"]))
    found = session.look(lens, progress=progress, **options)
    rows = found.rows() if hasattr(found, "rows") else []
    answer(found, opening.json, table(rows) or [f"{lens}: use --json for the numbers."])


def _options(lens: str, takes: Mapping[str, inspect.Parameter], told: Mapping[str, str], prompt: str | None) -> dict[str, Any]:
    """The lens' arguments: the prompt is its first text, the rest is set by name."""
    free = {name: item for name, item in takes.items() if name not in ("stacks", "progress")}
    first = next(iter(free), "")
    texts = {**told, **({} if prompt is None else {first: prompt})}
    lacking = [name for name, item in free.items() if item.default is item.empty and name not in texts]
    wrong = [name for name in texts if name not in free]
    if lacking or wrong:
        what = f"needs {lacking[0]}" if lacking else f"does not take {wrong[0]!r}"
        way = "--prompt" if lacking and lacking[0] in ("prompt", "word", "clean") else f"--set {(lacking or ['x'])[0]}=…"
        raise BadKnob(f"The lens {lens} {what}; it takes {', '.join(free)}.", f"Give {way}." if lacking else "Leave it out.")
    return {name: text if str(free[name].annotation).startswith(("str", "Prompt")) else _value(text) for name, text in texts.items()}


def _value(text: str) -> Any:
    """A setting of a lens: JSON where it is JSON, several with commas as a list, else a text."""
    try:
        return json_text.loads(text)
    except json_text.JSONDecodeError:
        parts = text.split(",")
        return [_value(part) for part in parts] if len(parts) > 1 else text


@grouped
def evaluate(
    data: Data,
    opening: Opening,
    edit: Edits = None,
    dose: Dose = None,
    split: SplitName = "test",
    neutral: NeutralSet = None,
    placebos: Placebos = 3,
    chat: SetAsChat = None,
    system: System = "",
    generations: Annotated[int, typer.Option(min=0, help="Texts that repetition is measured on.")] = 16,
    controls: Annotated[str, typer.Option(help="placebo, shuffled (the first edit fitted again on shuffled sides), or both.")] = "placebo",
    rows_to: Annotated[Path | None, typer.Option("--rows", help="Write who was helped and harmed to this CSV file, a line a row.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="No edit: run the canonical-examples protocol of this method; give the option again for more.")
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option(help="With --method: a rule of the protocol as name=value, for example compat=official.")
    ] = None,
    lend_to: Annotated[
        str | None,
        typer.Option(help="With a --method that edits senses: lend each edit to this larger model, in its own ball."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="With --method: how many seeds to fit.")] = 5,
    draws: Annotated[int, typer.Option(min=1, help="With --method: how many configurations to try on validation.")] = 5,
) -> None:
    """Measure gain and damage on held-out rows: base, one lane an edit, and a placebo of each."""
    which, at, beside = split_named(split), dosed(dose), {text.strip() for text in controls.split(",") if text.strip()}
    if beside - {"placebo", "shuffled"}:
        raise BadKnob(f"--controls {controls!r} names no control.", "Give placebo, shuffled, or placebo,shuffled.")
    if bool(edit) == bool(method):
        raise BadKnob("An evaluation needs either an edit or a method.", "Give at least one --edit, or --method for the protocol.")
    session, progress = opening.session(0.2)
    if method or lend_to is not None:
        options = {"seeds": range(seeds), "draws": draws, "rules": named(rule, "--rule")}
        _by_protocol(session, data, method or [], lend_to, options, opening.json, progress)
        return
    found = session.evaluate(
        laned(session, edit, at),
        data,
        split=which,
        neutral=neutral,
        n_placebos=placebos if "placebo" in beside else 0,
        n_generations=generations,
        chat=chat,
        system=system,
        shuffled="shuffled" in beside,
        progress=progress,
    )
    if rows_to is not None:
        _write_moved(found.benefit, rows_to)
    _tell_evaluation(session.model.info.name, found, split, opening.json)


def _tell_evaluation(model: str, found: Any, split: str, as_json: bool) -> None:
    rows, gain = found.rows(), found.benefit
    told = {"model": model, "data": gain.data, "split": split, "n": gain.n, "n_placebos": found.n_placebos}
    told |= {"verdict": {"kind": found.verdict.kind, "text": found.verdict.plain, "rivals": found.rivals}, "notes": found.notes}
    told |= {"left_out": gain.left_out, "left_out_why": gain.why, "rows": rows}
    lines = [told.replace("**", "") for told in (found.verdict.sentence, *found.rivals, found.verdict.detail)]
    lines += [f"{gain.data}, split {split}, {gain.n} rows; intervals are 95 %."]
    lines += [f"Note: {note}" for note in found.notes]
    answer(told, as_json, [*lines, *table([_short(row) for row in rows])])


def _write_moved(benefit: Any, path: Path) -> None:
    """Every lane but the base, row by row, before and after; placebos have no rows of their own."""
    from workbench.evaluate.moved import moved_rows, write_rows
    from workbench.workspace.database import storing

    with storing(str(path)):
        lanes = enumerate(benefit.lanes)
        write_rows([{"lane": lane.label, **row} for at, lane in lanes if at for row in moved_rows(benefit, at)], path)


def _by_protocol(
    session: Session,
    data: str,
    methods: list[str],
    lend_to: str | None,
    options: Mapping[str, Any],
    as_json: bool,
    progress: Progress,
) -> None:
    if lend_to is not None:
        from workbench.evaluate.protocol.ensemble import lendable
        from workbench.models.catalog import load

        if len(methods) != 1 or methods[0] not in lendable():
            ways = " or ".join(f"--method {name}" for name in lendable())
            raise BadKnob("Only sense edits of a Backpack can be lent to another model.", f"Give {ways} with --lend-to.")
        summaries = [item for part in session.ensemble(data, load(lend_to), methods[0], progress=progress, **options) for item in part]
        rows = [{key: item.row().get(key) for key in summaries[0].row()} for item in summaries]
    else:
        summaries = [item for name in methods for item in session.protocol(data, name, progress=progress, **options)]
        rows = [item.row() for item in summaries]
    answer({"model": session.model.info.name, "summaries": summaries}, as_json, table(rows))


def _short(row: dict[str, Any]) -> dict[str, Any]:
    value = spanned(".3g", row["value"], row["low"], row["high"])
    change = "" if row["change"] is None else spanned("+.3g", row["change"], row["change_low"], row["change_high"])
    return {"lane": row["lane"], "metric": row["metric"], "value": value, "change": change, "n": row["n"], "unit": row["unit"]}
