"""What to measure on: rows that no fit has seen, neutral texts, prompts for own answers, and what else a model can do."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.conversations import Prompt
from workbench.data import damage
from workbench.data.demonstrations import Demonstrations, Source, Split, neutral_texts
from workbench.data.passages import passages
from workbench.edits.base import Edit
from workbench.edits.lane import Lane
from workbench.methods.shared.ground import fitting, reads_passages
from workbench.models.base import LanguageModel
from workbench.models.chat import at_once, has_template
from workbench.models.tokens import prompt_ids
from workbench.resources import EMBEDDED
from workbench.workspace.shelf import Shelf

_N_NEUTRAL = 64
_N_FACTS = 48
_N_OWN = 24
_OPENING_WORDS = 6


def held_out(shelf: Shelf, source: Source, split: Split | None, edits: Sequence[Edit]) -> Demonstrations:
    """Rows to measure edits on.

    A file without splits counts as `split` whole, unless it is the one that an edit was fitted on: then its splits are
    those that the fit drew, and only the rows that the fit left are held out.
    """
    drawn = shelf.resolve(source)
    if split is None or any(drawn.is_data_of(edit.header.data, edit.header.system) for edit in edits):
        return drawn
    return shelf.resolve(source, split)


def neutral_for(
    shelf: Shelf, source: Source | None, rows: Demonstrations, model: LanguageModel, lanes: Sequence[Lane] = ()
) -> tuple[str, ...]:
    """Neutral texts: those asked for, else text of the loaded model's own kind that no fit reads, as far as it fits behind what lanes say.

    For a model that reads the passages that ship: their held-out part; for another the embedded world's, else the set's own.
    """
    if source is not None:
        return neutral_texts(shelf.resolve(source, "test"))[:_N_NEUTRAL]
    said = [prompt_ids(model.tokenizer, lane.prompting.as_text()) for lane in lanes if lane.prompting]
    room = model.info.n_ctx - max(map(len, said), default=0)
    if reads_passages(model):
        return tuple(fitting(model, passages().held, room))
    if not any(offer.id == "neutral" for offer in shelf.shipped()):
        return neutral_texts(rows)[:_N_NEUTRAL]
    return tuple(fitting(model, neutral_texts(shelf.get("neutral").split("test"))[:_N_NEUTRAL], room))


def own_prompts(model: LanguageModel, neutral: Sequence[str]) -> tuple[Prompt, ...]:
    """Prompts for the model's own answers: shipped ones where it reads English, as questions where it has a template; else beginnings of
    neutral texts."""
    if reads_passages(model):
        return damage.prompts(chat=has_template(model.tokenizer), thinking=at_once(model.tokenizer))
    return tuple(dict.fromkeys(" ".join(text.split()[:_OPENING_WORDS]) for text in neutral))[:_N_OWN]


def capability_of(shelf: Shelf, rows: Demonstrations, model: LanguageModel) -> dict[str, Demonstrations]:
    """What a model can do and an edit should not break; nothing for one that neither ships nor reads English.

    The embedded models know the facts of their world: those of split test, less those that the rows are about. Others get the shipped
    abilities, safe requests among them.
    """
    if model.info.name not in EMBEDDED:
        if not reads_passages(model):
            return {}
        chat, thinking = has_template(model.tokenizer), at_once(model.tokenizer)
        return {name: damage.ability(name, chat=chat, thinking=thinking) for name in damage.ABILITIES}
    about = {name for row in rows for name in row.all_tagged("entity")}
    if not any(offer.id == "facts" for offer in shelf.shipped()):
        return {}
    facts = shelf.get("facts").split("test")
    free = [row for row in facts if not about & set(row.all_tagged("entity"))]
    picked = free[:: max(1, len(free) // _N_FACTS)][:_N_FACTS]
    return {"facts": facts.with_rows(picked)} if picked else {}
