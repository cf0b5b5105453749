"""Options that commands share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.conversations import Prompt, as_chat
from workbench.edits.lane import HIGHEST_DOSE, LOWEST_DOSE, Lane, valid_dose
from workbench.errors import BadKnob

if TYPE_CHECKING:
    from workbench.session import Session

Data = Annotated[str, typer.Option(help="A demonstration set, a file, or hf:org/name[/config][@part]; several with + between.")]
LANE = 'An edit\'s folder, id or name, as ID:2 at a dose, as a+b for a stack, as ID@user or ID@after "Answer:" at a place.'
SAID = 'Or what is said before every prompt: prompt:"…", system:"…", shots:"SET":4, alone or as ID:2+prompt:"…".'
Edits = Annotated[list[str] | None, typer.Option("--edit", "--lane", help=f"A lane: {LANE} {SAID}")]
Dose = Annotated[
    float | None,
    typer.Option(help=f"Of edits that name none, {LOWEST_DOSE:g} to {HIGHEST_DOSE:g}: 0 is the base model, 1 as fitted; else as saved."),
]
PromptTexts = Annotated[list[str], typer.Option("--prompt", help="A prompt; give the option again for more.")]
AsChat = Annotated[bool, typer.Option("--chat", help="Put each prompt to the model as a user's turn, by its own chat template.")]
SetAsChat = Annotated[
    bool | None,
    typer.Option(
        "--chat/--no-chat", help="Put text prompts as a user's turn; if not said: as the edits were fitted, else where the model has a "
        "chat template and the prompts ask.",
    ),
]  # fmt: skip
Thinking = Annotated[
    bool | None,
    typer.Option(
        "--think/--no-think", help="Of a model that thinks before it answers: think first, or answer at once, its thinking left empty; "
        "if not said: as its template has it. It implies --chat.",
    ),
]  # fmt: skip
System = Annotated[str, typer.Option("--system", help="A system turn before each prompt; it implies --chat.")]
ActsAt = Annotated[
    str,
    typer.Option("--place", help='Where the edit is to act, as a part of it: prompt, generated, first 4, user, after "Answer:" …'),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A knob as name=value; give the option again for more.")]
Seed = Annotated[int, typer.Option(help="Drives every random choice.", min=0, max=2**32 - 1)]
SplitName = Annotated[str, typer.Option("--split", help="The rows that are scored: fit, validation, test or all.")]


def named(pairs: Sequence[str] | None, option: str = "--set") -> dict[str, str]:
    """Read name=value texts.

    Raises:
        BadKnob: a text without `=`, or a name given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise BadKnob(f"{option} {pair!r} is not name=value.", f"Write {option} name=value, for example {option} seed=0.")
        if name.strip() in found:
            raise BadKnob(f"{option} names {name.strip()!r} twice.", "Give each name once; several values go with commas.")
        found[name.strip()] = value.strip()
    return found


def laned(session: Session, texts: Sequence[str] | None, dose: float | None) -> list[Lane]:
    """One lane an edit option; `dose` is that of the edits that name none. Raises: as `Lane.parse`."""
    return [session.shelf.read(text).dosed(dose) for text in texts or ()]


def dosed(text: float | None) -> float | None:
    """The value of --dose, before a model is loaded. Raises: BadDose."""
    return None if text is None else valid_dose(text)


@dataclass(frozen=True)
class Asking:
    """How a command puts its prompts: as texts, or each as a user's turn, perhaps under a system turn, with or without thinking."""

    chat: AsChat = False
    system: System = ""
    think: Thinking = None

    @property
    def is_chat(self) -> bool:
        """Whether any of the options asks for a conversation."""
        return self.chat or bool(self.system) or self.think is not None

    def put(self, prompt: str) -> Prompt:
        """The prompt as the model is to read it."""
        return as_chat(prompt, self.system or None, self.think) if self.is_chat else prompt


def split_named(text: str) -> Any:
    """Read a split's name; None for all.

    Raises:
        BadKnob: some other word.
    """
    if text not in ("fit", "validation", "test", "all"):
        raise BadKnob(f"--split {text!r} is no split.", "Use fit, validation, test or all.")
    return None if text == "all" else text


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Read numbers with commas between them.

    Raises:
        BadKnob: one of them is no number, or there is none.
    """
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise BadKnob(f"{option} {text!r} holds something that is no number.", f"Write {option} 0.5,1,2.") from error
    if not found:
        raise BadKnob(f"{option} is empty.", f"Write {option} 0.5,1,2.")
    return found
