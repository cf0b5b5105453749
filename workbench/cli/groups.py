"""Options that several commands share, as dataclasses: which model to open and how to answer, how to draw tokens.

A command takes such a dataclass as one parameter; `grouped` spells its fields out as options.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from workbench.cli.printing import on_terminal

if TYPE_CHECKING:
    from workbench.models.generation import GenerationDefaults
    from workbench.progress import Progress
    from workbench.sampling import Sampling
    from workbench.session import Session

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DType = Annotated[str, typer.Option("--dtype", help="float32, float64, bfloat16, float16; int8 or nf4 keep quantised weights.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")]
Home = Annotated[Path | None, typer.Option("--workspace", help="The workspace's folder, if not RETOUCH_HOME or ~/.retouch.")]


@dataclass(frozen=True)
class Opening:
    """Which model a command opens, with which workspace, and how it answers."""

    model: Annotated[str, typer.Option(help="embedded, embedded-backpack, a local Hugging Face folder, or a hub id.")] = "embedded"
    dtype: DType = "float32"
    device: Device = "cpu"
    workspace: Home = None
    json: Json = False

    def session(self, share: float) -> tuple[Session, Progress]:
        """Open the session; return it with the progress of what follows. Opening takes the first `share` of the whole."""
        from workbench.opening import open_session  # imports torch, and `--help` does not wait for it

        progress = on_terminal(self.json)
        opened = open_session(self.model, self.workspace, dtype=self.dtype, device=self.device, progress=progress.part(0, share))
        return opened, progress.part(share, 1)


@dataclass(frozen=True)
class Drawing:
    """How a command draws tokens."""

    max_new_tokens: Annotated[int, typer.Option(help="How many tokens to add at most.")] = 30
    temperature: Annotated[float | None, typer.Option(help="0 is greedy. If not given: the model's own, as of the next three.")] = None
    top_k: Annotated[int | None, typer.Option(help="Draw among the k likeliest tokens; 0: among all.")] = None
    top_p: Annotated[float | None, typer.Option(help="Draw among the tokens that make up this share.")] = None
    repetition_penalty: Annotated[float | None, typer.Option("--repetition-penalty", help="Above 1 avoids what was said before.")] = None
    seed: Annotated[int, typer.Option(help="Drives every random choice.")] = 0
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="End a text before this string; '' is none. If not given: the model's own.")
    ] = None

    def sampling(self, own: GenerationDefaults | None = None) -> Sampling:
        """As the decoder takes it, on top of a model's own; without a model only to be checked. Raises: BadKnob, as `Sampling`."""
        from workbench.models.generation import GenerationDefaults

        return (own or GenerationDefaults()).sampling(
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p,
            repetition_penalty=self.repetition_penalty, seed=self.seed,
            stop=None if self.stop is None else tuple(text for text in self.stop if text),
        )  # fmt: skip


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of each dataclass that it takes as options of its own."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    options: list[inspect.Parameter] = []
    for name, item in inspect.signature(command).parameters.items():
        if name in groups:
            options += _fields(groups[name])
        else:
            options.append(item.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        built = {
            name: group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)}) for name, group in groups.items()
        }
        command(**values, **built)

    spelled: Any = run
    spelled.__signature__ = inspect.Signature(options)
    return run


def _fields(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in dataclasses.fields(group)
    ]
