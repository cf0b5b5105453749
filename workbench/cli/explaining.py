"""Commands that say why an edit does what it does."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.groups import Opening, grouped
from workbench.cli.options import Edits, Seed, SplitName, laned, split_named
from workbench.cli.printing import answer, table
from workbench.errors import BadKnob

_SHOWN = 12


@grouped
def influence(
    edit: Annotated[str, typer.Argument(help="The edit: a folder, an id or a name, as ID:2 at a dose.")],
    data: Annotated[str, typer.Argument(help="The set that it was fitted on.")],
    opening: Opening,
    split: Annotated[str, typer.Option(help="The rows that are looked at: validation, test, fit or all.")] = "validation",
    refits: Annotated[int, typer.Option(min=4, help="Fits granted to a method without closed form; an even number.")] = 40,
    drop: Annotated[list[str] | None, typer.Option(help="Fit again without this demonstration, by id; give the option again.")] = None,
    drop_harmful: Annotated[bool, typer.Option("--drop-harmful", help="Fit again without those that lower the mean score.")] = False,
) -> None:
    """Say which demonstrations help and harm which held-out rows, and fit again without some; rows of split test then compare both."""
    which = split_named(split)
    if refits % 2:
        raise BadKnob(f"--refits {refits} is odd.", "Give an even number: every draw is fitted on both of its halves.")
    session, progress = opening.session(0.1)
    lane = session.shelf.read(edit)
    found = session.influence(lane, data, split=which, n_refits=refits, progress=progress.part(0.0, 0.7))
    told = {"model": found.model, "data": found.data, "split": split, "edit": found.edit_id, "way": found.way, "metric": found.title}
    told |= {"fits": found.fits, "reliability": found.reliability, "sentence": found.sentence, "left_out_why": found.why}
    told |= {"demonstrations": found.table(), "harmed": found.victim_table()}
    lines = [found.sentence.replace("**", ""), f"{found.title}, nats; {found.way}.", "", "Demonstrations, the most harmful first:"]
    lines += [*table(found.table()[:_SHOWN]), "", "Harmed rows, the most harmed first:", *table(found.victim_table()[:_SHOWN])]
    names = [found.demonstrations[i].id or str(found.demonstrations[i].prompt) for i in found.harmful] if drop_harmful else []
    if gone := tuple(dict.fromkeys([*(drop or ()), *names])):
        again = session.refit_without(lane, data, gone, split="test", progress=progress.part(0.7, 1.0))
        told |= {"refit": {"edit": again.edit.id, "dropped": gone, "sentence": again.sentence}}
        lines += ["", again.sentence.replace("**", ""), f"The new fit is edit {again.edit.id}."]
    answer(told, opening.json, lines)


@grouped
def off_target(
    data: Annotated[list[str], typer.Option("--data", help="A set that the edits are not about; give the option again for more.")],
    opening: Opening,
    edit: Edits = None,
    protect: Annotated[list[str] | None, typer.Option(help="A set that no edit may harm, such as facts; again for more.")] = None,
    stacks: Annotated[bool, typer.Option("--stacks/--no-stacks", help="Measure every ordered pair of edits too.")] = True,
    split: SplitName = "test",
) -> None:
    """Measure what edits do to other tasks, beside random edits of their size, and what two edits do to one another."""
    which = split_named(split)
    if not edit:
        raise BadKnob("There is no edit to measure off its target.", "Give --edit, again for more.")
    session, progress = opening.session(0.1)
    found = session.off_target(
        laned(session, edit, None), data, protected=protect or (), split=which, stacks=stacks and len(edit) > 1, progress=progress
    )
    told = {"model": found.model, "split": split, "sentence": found.sentence, "cells": found.table(), "stacks": found.stack_table()}
    lines = [found.sentence.replace("**", ""), "Intervals are 95 %, paired with the untouched model.", *table(found.table())]
    answer(told, opening.json, [*lines, *(["", "Stacks:", *table(found.stack_table())] if found.interactions else [])])


@grouped
def plane(
    data: Annotated[str, typer.Argument(help="The set whose sides say which way to turn.")],
    layer: Annotated[int, typer.Option(help="The layer behind which the stream is turned and scaled.")],
    opening: Opening,
    edit: Edits = None,
    split: SplitName = "validation",
    rows: Annotated[int, typer.Option(min=2, help="Rows that are scored, at most.")] = 64,
) -> None:
    """Measure a dose as a plane, angle by length, at one layer: what is gained, what is safe, and where edits stand."""
    session, progress = opening.session(0.1)
    found = session.dose_plane(data, layer, laned(session, edit, None), split=split_named(split), n_rows=rows, progress=progress)
    told = {"model": found.model, "data": found.data, "split": found.split, "layer": found.layer, "metric": found.title, "n": found.n}
    told |= {"sentence": found.sentence, "neutral": found.source, "points": found.table(), "why": found.why}
    lines = [found.sentence.replace("**", ""), f"{found.title}, nats, n={found.n}; damage on {found.source}.", "", *table(found.table())]
    answer(told, opening.json, lines)


@grouped
def watch(
    prompt: Annotated[str, typer.Option(help="What the texts begin with.")],
    opening: Opening,
    edit: Edits = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4000, help="Tokens at most; a small model's context ends before.")] = 1000,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seed: Seed = 0,
) -> None:
    """Let lanes write on until they loop, end or fill the context; say where each goes round and where it parts from the base."""
    from workbench.sampling import Sampling

    session, progress = opening.session(0.1)
    how = Sampling(temperature=temperature, seed=seed)
    found = session.watch(prompt, laned(session, edit, None), max_new_tokens, how, progress=progress)
    curves = [{"entropy": one.entropy, "kl": one.kl, "repetition": one.repetition, "tokens": one.tokens} for one in found.texts]
    told = {"model": found.model, "prompt": prompt, "rows": found.table(), "curves": curves, "sentences": [t.sentence for t in found.texts]}
    lines = [f"{lane.label}: {one.sentence.replace('**', '')}" for lane, one in zip(found.lanes, found.texts)]
    answer(told, opening.json, [*lines, "", *table(found.table())])
