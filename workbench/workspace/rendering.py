"""Whether a set of texts is put to a model as chat: one choice for fits, choices, searches and measurements.

What was fitted under one rendering and is measured under the other is said, by `rendering_notes`, wherever the numbers stand.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.errors import BadPrompt, Obstructed
from workbench.evaluate.controls import shuffled_fit
from workbench.models.base import LanguageModel
from workbench.models.chat import at_once, has_template, rendering_of
from workbench.models.thinking import thinking_marks
from workbench.progress import Progress


def goes_as_chat(model: LanguageModel, rows: Demonstrations, edits: Sequence[Edit] = ()) -> bool:
    """Whether a set is put as chat where nobody says: as its edits were fitted, else where the model has a template and the prompts ask.

    Prompts ask if most end where a sentence ends; those that end in its middle are gone on with. A set of conversations is chat anyway.
    """
    if rows.is_chat or edits:
        return rows.is_chat or any(edit.header.rendered for edit in edits)
    return has_template(model.tokenizer) and rows.asks


def as_read(model: LanguageModel, rows: Demonstrations, chat: bool | None, system: str = "", edits: Sequence[Edit] = ()) -> Demonstrations:
    """The set as the model is to read it.

    Args:
        chat: whether a text prompt becomes a turn of the user; None is `goes_as_chat`.
        system: the system turn of every conversation; empty: the edits', else none.

    Raises:
        BadPrompt: chat without a template, or a system turn without chat.
    """
    if system and chat is False:
        raise BadPrompt("A system turn is given, and chat is off.", "Turn chat on, or leave the system turn out.")
    if not (chat or system or chat is None and goes_as_chat(model, rows, edits)):
        return rows
    if not has_template(model.tokenizer):
        raise BadPrompt(f"{model.info.name} has no chat template.", "Turn chat off, or load an instruct model.")
    told = system or next((edit.header.system for edit in edits if edit.header.system), "")
    return rows.put_as_chat(told or None, thinking_of(model, rows))


@contextmanager
def naming_rows(model: LanguageModel, rows: Demonstrations) -> Generator[None]:
    """Within this context, a prompt that the model cannot take is told by the row that it stands in.

    Raises:
        BadPrompt: as whatever runs in it, with the row's number and id.
    """
    try:
        yield
    except BadPrompt as error:
        for number, row in enumerate(rows, 1):
            for answer in (row.positive, row.negative, row.label, None):
                try:
                    model.tokens(row.prompt, answer or None)
                except BadPrompt as found:
                    where = f"Row {number} of {rows.name}{f' ({row.id})' if row.id else ''}"
                    raise BadPrompt(f"{where}: {found}", f"{found.hint} Or take the row out.") from error
        raise  # not of a row: a neutral text, or the system turn


def thinking_of(model: LanguageModel, rows: Demonstrations) -> bool | None:
    """How a set's answers are read by a model that thinks: its thinking part is left empty, as they are what comes behind it.

    None, the template's own way, for other models, and for a set whose answers bring their thinking with them.
    """
    marks = thinking_marks(model.tokenizer)
    answers = [text for row in rows for text in (row.positive, row.negative, row.label) if text]
    has_own = any(one.opening in text or one.closing in text for one in marks for text in answers)
    return None if has_own else at_once(model.tokenizer)


def rendering_notes(model: LanguageModel, prompts: Iterable[Prompt], edits: Sequence[Edit]) -> tuple[str, ...]:
    """A sentence for each edit that was fitted under another rendering than the prompts have here."""
    here = rendering_of(model.tokenizer, prompts)
    found = {edit.id: edit.header.rendered for edit in edits if edit.header.rendered != here}
    return tuple(
        f"Edit {edit[:6]} was fitted on {_read(there)} and reads {_read(here)} here: another rendering." for edit, there in found.items()
    )


def _read(rendered: str) -> str:
    return f"conversations ({rendered})" if rendered else "plain text"


def shuffled_as_fitted(model: LanguageModel, edit: Edit, rows: Demonstrations, *, progress: Progress | None = None) -> Edit | str:
    """The edit's method fitted again on shuffled sides of the rows it was fitted on, read as its fit read them; or in words why not.

    Raises:
        Obstructed: the rows are not those of its fit. Others: as `controls.shuffled_fit`.
    """
    head = edit.header
    if not rows.is_data_of(head.data, head.system):
        raise Obstructed(
            f"The shuffled control fits {head.method} again, and {rows.name!r} is not the set that it was fitted on.",
            "Measure it on the set of its fit, unchanged, or leave the shuffled control out.",
        )
    read = as_read(model, rows, rows.is_chat or bool(head.rendered), head.system)
    return shuffled_fit(model, edit, read, progress=progress)
