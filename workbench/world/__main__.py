"""Command line of the embedded world: train the models, write the demonstration sets, measure the card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from workbench.resources import MODELS, SETS, SINK
from workbench.world.recipes import SHIPPED

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def train(
    which: Annotated[str, typer.Argument(help="gpt or backpack")],
    steps: Annotated[int | None, typer.Option(help="planned end of the run")] = None,
    seed: int = 0,
    folder: Annotated[Path | None, typer.Option(help="where checkpoints go; default runs/world-<which>")] = None,
    until: Annotated[int | None, typer.Option(help="stop at this step; a later call goes on from there")] = None,
    threads: int = 1,
    tokenizer: Annotated[Path | None, typer.Option(help="tokenizer.json to share with another run")] = None,
) -> None:
    """Train a model, or go on with a run that was stopped; then write it to assets/models/."""
    if which not in SHIPPED:
        raise typer.BadParameter(f"no model {which!r}; known: {', '.join(SHIPPED)}")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch
    from tokenizers import Tokenizer

    from workbench.world.train import FOLDER, Recipe, TrainingRun, Which, ship

    torch.set_num_threads(threads)
    numbers: dict[str, Any] = {**SHIPPED[which], **({"steps": steps} if steps is not None else {})}
    recipe = Recipe(which=cast(Which, which), seed=seed, **numbers)
    shared = Tokenizer.from_file(str(tokenizer)) if tokenizer is not None else None
    run = TrainingRun(recipe, folder or Path("runs") / f"world-{which}", shared)
    run.train(until, tell=lambda line: print(line, flush=True))
    if run.step >= recipe.steps:
        ship(run, MODELS / FOLDER[recipe.which])


@app.command()
def snapshot(
    which: Annotated[str, typer.Argument(help="gpt or backpack")],
    folder: Annotated[Path | None, typer.Option(help="the run; default runs/world-<which>")] = None,
    out: Annotated[Path | None, typer.Option(help="default assets/models/<name>")] = None,
) -> None:
    """Write the newest checkpoint of a run as a Hugging Face folder."""
    from workbench.world.train import FOLDER, opened, ship

    run = opened(folder or Path("runs") / f"world-{which}")
    ship(run, out or MODELS / FOLDER[run.recipe.which])
    print(f"step {run.step} written")


@app.command()
def data(out: Annotated[Path | None, typer.Option(help="default assets/data")] = None) -> None:
    """Write the demonstration sets and their index."""
    from workbench.world.shipping import write_sets

    for item in write_sets(out or SETS):
        print(item["id"], item["kind"], item["rows"])


@app.command()
def sink(out: Annotated[Path | None, typer.Option(help="default assets/models/sink.safetensors")] = None) -> None:
    """Write what plants an attention sink in the shipped GPT-style model."""
    from safetensors.torch import save_file

    from workbench.models.catalog import load
    from workbench.world.planting import planting, planting_texts

    save_file(planting(load("embedded"), planting_texts()), out or SINK)


@app.command()
def card(
    which: Annotated[list[str] | None, typer.Argument(help="gpt, backpack; default both")] = None,
    threads: int = 1,
) -> None:
    """Measure the shipped models and write README.md and card.json beside their weights."""
    import torch

    from workbench.world.card import write_card
    from workbench.world.train import FOLDER

    torch.set_num_threads(threads)
    for name in which or list(FOLDER):
        folder = MODELS / FOLDER[cast(Any, name)]
        print(f"{folder.name}: {len(write_card(folder)['samples'])} samples, card written")


if __name__ == "__main__":
    app()
