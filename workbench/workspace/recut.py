"""An edit of kept and dropped directions with another cut: fitted again, and what the model then says, beside the edit as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from workbench import methods as registered
from workbench.data.demonstrations import Demonstrations
from workbench.decode import generate
from workbench.edits.base import Edit
from workbench.errors import Obstructed, UnknownKnob
from workbench.models.base import LanguageModel
from workbench.progress import Progress
from workbench.workspace.rendering import as_read


@final
@dataclass(frozen=True)
class Recut:
    """The edit with the other cut, and a text after each prompt: of the untouched model, of the edit as it was, and of this one."""

    edit: Edit
    prompts: tuple[str, ...]
    texts: tuple[tuple[str, str, str], ...]


def recut(
    model: LanguageModel, edit: Edit, rows: Demonstrations, cut: Mapping[str, int], *, n_prompts: int = 3, max_new_tokens: int = 12,
    progress: Progress | None = None,
) -> Recut:  # fmt: skip
    """Fit an edit again with other numbers of directions, everything else as it was, and let the model answer held-out prompts.

    Nothing is recorded: it is for somebody who moves a cut and looks. The model is left as it was.

    Args:
        rows: the demonstrations of its fit; prompts are the first of split test, else of validation.
        cut: numbers of directions by the names of their knobs.

    Raises:
        UnknownKnob: the method has no such knob. Obstructed: no row is held out, or these are not the rows of its fit. Others: as
            `Method.fit` and `decode.generate`.
    """
    head = edit.header
    known = registered.get(head.method)
    for name in cut:
        if name not in head.config:
            raise UnknownKnob(name, list(head.config))
    tell = progress or Progress()
    read = as_read(model, rows, None, head.system, [edit])
    held = read.split("test") or read.split("validation")
    if not len(held):
        raise Obstructed("No row of the set is held out, so there is nothing to answer.", "Mark some rows test on Demonstrations.")
    if not rows.is_data_of(head.data, head.system):
        raise Obstructed(f"{rows.name!r} is not the set that it was fitted on.", "Give the set of its fit, unchanged.")
    fitted = known.fit(model, read, known.configure({**head.config, **cut}), seed=head.seed, progress=tell.part(0.0, 0.6))
    moved = fitted.edit.dosed(edit.dose).placed(edit.place)
    prompts = list(held.first(n_prompts).prompts())
    sampling = model.generation.sampling(max_new_tokens=max_new_tokens, temperature=0.0)
    lanes = generate(model, prompts, [(), (edit,), (moved,)], sampling, progress=tell.part(0.6, 1.0))
    texts = tuple((base.text, was.text, now.text) for base, was, now in zip(*lanes))
    return Recut(moved, tuple(map(str, prompts)), texts)
