"""The command that searches methods, layers, readings, knobs, gates and doses for gain against damage."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.groups import Opening, grouped
from workbench.cli.looking import NeutralSet
from workbench.cli.options import Seed, SetAsChat, System
from workbench.cli.printing import answer, table
from workbench.cli.sweeping import Out, write_told


@grouped
def design(
    data: Annotated[str, typer.Argument(help="A demonstration set, or a file.")],
    opening: Opening,
    trials: Annotated[int, typer.Option(min=1, help="Designs that the search measures; more than before go on from those stored.")] = 60,
    method: Annotated[
        list[str] | None, typer.Option(help="A method to search among, again for more; none: all whose fits take a second or so.")
    ] = None,
    control: Annotated[bool, typer.Option("--control/--no-control", help="Draw as many designs at random beside it.")] = True,
    seed: Seed = 0,
    neutral: NeutralSet = None,
    chat: SetAsChat = None,
    system: System = "",
    out: Out = None,
) -> None:
    """Search for the edits that gain most at each damage, on validation rows, and measure the best once on test rows."""
    from workbench.methods import get

    costs = [f"{get(name).title}: {get(name).cost}." for name in method or () if get(name).cost]
    if not opening.json:
        for cost in costs:
            typer.echo(cost, err=True)
    session, progress = opening.session(0.05)
    found = session.design_search(
        data, method or (), trials=trials, control=control, seed=seed, neutral=neutral, chat=chat, system=system, progress=progress
    )
    told = {"model": found.model, "data": found.data, "methods": found.methods, "seed": seed, "n_designs": found.n_designs}
    told |= {"n_prompts": found.n_prompts, "n_tokens": found.n_tokens, "ground": found.ground, "sentence": found.sentence}
    told |= {"costs": costs, "rows": found.rows(), "winners": found.winner_rows()}
    if out is not None:
        write_told(out, told)
    lines = [found.sentence.replace("**", ""), f"The front, {found.data}, split validation, n = {found.n_prompts} prompts; damage on"]
    lines[1] += f" {found.n_tokens} tokens of {found.ground}, in nats a token. Intervals are 95 %."
    lines += table(found.table())
    if found.winners:
        lines += ["Chosen on validation, measured once on test, beside random edits of their size:", *table(found.winner_rows())]
    answer(told, opening.json, lines)
