"""The angles between what two edits add to the stream: measured once, drawn on Spectra, said in a lane that stacks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pages._ui.kit import jobs

if TYPE_CHECKING:
    from workbench.lenses.edit_angles import EditAngles
    from workbench.progress import Progress
    from workbench.session import Session

N_TEXTS = 24
ANGLES: jobs.Slot[tuple[str, str], EditAngles] = jobs.Slot("angles")
"""Its settings are the two edits."""


def pair_of(one: str, other: str) -> tuple[str, str]:
    """Two edits as the slot's settings, in whatever order they were chosen: the angles are the same."""
    return min(one, other), max(one, other)


def compare_directions(edits: tuple[str, str]) -> None:
    """Measure the angles between what two edits add to the stream, on neutral text."""

    def work(session: Session, progress: Progress) -> EditAngles:
        from workbench.data.demonstrations import Demonstrations
        from workbench.lenses.edit_angles import edit_angles
        from workbench.workspace.measured import neutral_for

        texts = neutral_for(session.demos, None, Demonstrations(()), session.model)[:N_TEXTS]
        return edit_angles(session.model, texts, session.stack(edits[0]), session.stack(edits[1]), progress=progress)

    jobs.start(ANGLES, "Comparing directions", work, edits)
