"""Compare: which layer of a lane's edits moved a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.figures import figure_panel
from pages._ui.kit.state import part
from workbench.conversations import Prompt
from workbench.edits.lane import Lane

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Comparison
    from workbench.lenses.layer_effects import LayerEffects
    from workbench.progress import Progress
    from workbench.session import Session


@dataclass(frozen=True)
class Moved:
    """The last token of an answer, read under a lane."""

    prompt: Prompt
    ids: tuple[int, ...]
    lane: Lane


@dataclass
class Watched:
    """The token that was asked about last."""

    settings: Moved | None = None


# Nats: float32 rounding of rows in batches of another size.
_NOTHING = 1e-5
LAYERS: jobs.Slot[Moved, LayerEffects] = jobs.Slot("layer-effects")


def ask(found: Comparison, where: tuple[int, int, int], name: str) -> None:
    """The button that asks."""
    told = "Lets the edit act from the bottom up, a layer more at a time, and reads this token each time."
    frame.act("Which layer moved it?", _run, _settings(found, where), key=f"{name}-layers", help=told)


def panel(where: tuple[int, int, int], found: Comparison, name: str) -> None:
    """The answer, where it was asked of this token."""
    settings = _settings(found, where)
    if part(Watched).settings == settings:
        jobs.panel(LAYERS, lambda effects: _draw(effects, name), settings=settings)


def _settings(found: Comparison, where: tuple[int, int, int]) -> Moved:
    p, i, at = where
    lane, prompt = found.lanes[i], found.prompts[p]
    asked = lane.prompting.on(prompt) if lane.prompting else prompt
    return Moved(asked, tuple(token.id for token in found.texts[p][i].tokens[: at + 1]), Lane(lane.lane.edits))


def _run(settings: Moved) -> None:
    def work(session: Session, progress: Progress) -> LayerEffects:
        return session.look("layer_effects", settings.prompt, settings.ids, session.stack(settings.lane), progress=progress)

    part(Watched).settings = settings
    jobs.start(LAYERS, "Layer by layer", work, settings)


def _draw(found: LayerEffects, name: str) -> None:
    from workbench.figures.layer_effects import effects_by_layer

    if not any(abs(found.moved) > _NOTHING):
        st.caption("The edit leaves this token as it was: no layer moves it.")
        return
    best = int(abs(found.moved).argmax())
    says = f"Of a change of {found.total:+.2f} nats, layer {found.layers[best]} makes {found.moved[best]:+.2f}."
    figure_panel(
        effects_by_layer(found), found.rows(), words.provenance(model=found.model, edit=found.edit), key=f"{name}-layers-figure", says=says,
        look_for="Blue bars add up to the whole change. Grey far from blue: the layers work through one another.",
    )  # fmt: skip
