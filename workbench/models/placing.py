"""Places that are found in what the tokens say: behind a text, and in the turns of one side.

Law: whether an edit acts at a token follows from that token and those before it alone. So a forward with a cache, one without, and one with
padding say the same of every token.

A text is complete with the token that holds its last character. A turn begins with the token that completes its opening mark, whose output
decides the turn's first token, and ends before the one that completes the next turn's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from workbench.conversations import Conversation, Prompt, Role, Turn
from workbench.errors import BadPlace, BadPrompt
from workbench.models.base import LanguageModel
from workbench.models.chat import chat_ids, has_template
from workbench.models.tokens import TokenBatch
from workbench.operations import Forward, PositionRule
from workbench.place import Where, read_place
from workbench.shapes import Bool, Tensor

_KEPT = 512
"""Rows whose reading is remembered, so that a row that grows by a token is not read again."""
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_TURNS = (Turn("user", "Firstquestion"), Turn("assistant", "Firstanswer"), Turn("user", "Secondquestion"))


@final
@dataclass(frozen=True)
class ReadRow:
    """A row read token by token: its text, from where to where tokens are decoded together, where the edit acts, and what the next token
    goes on from."""

    text: str = ""
    start: int = 0
    end: int = 0
    acts: tuple[bool, ...] = ()
    state: str = ""

    def grown(self, tokenizer: Any, ids: tuple[int, ...]) -> tuple[ReadRow, str]:
        """With one more token, the last of `ids`, and what it adds to the text: nothing while a character lacks bytes.

        A token's own text depends on its neighbours, so it is what a few tokens say more than the same without the last.
        """
        before, now = (_decoded(tokenizer, ids[self.start : end]) for end in (self.end, len(ids)))
        if now.endswith(_UNFINISHED) or len(now) <= len(before):
            return self, ""
        return ReadRow(self.text + now[len(before) :], self.end, len(ids), self.acts, self.state), now[len(before) :]


def _decoded(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)) if ids else ""


def text_of_ids(tokenizer: Any, ids: list[int]) -> str:
    """The text of ids as places are looked for in it, marks of a template included."""
    found = ReadRow()
    for n in range(1, len(ids) + 1):
        found, _ = found.grown(tokenizer, tuple(ids[:n]))
    return found.text


def turn_marks(tokenizer: Any) -> Mapping[Role, frozenset[str]]:
    """What opens a turn of each side under a tokenizer's chat template: what stands between the texts of a conversation made up for this.

    A side that has no mark of its own is absent: some templates write the system turn into the user's.

    Raises:
        BadPlace: there is no template, or it refuses every conversation.
    """
    if not has_template(tokenizer):
        raise BadPlace("This model has no chat template, so nothing in its texts is a turn.", "Choose another place, or an instruct model.")
    found: dict[Role, set[str]] = {"user": set(), "assistant": set(), "system": set()}
    for turns in ((Turn("system", "Thesystemsays"), *_TURNS), _TURNS):
        try:
            text = text_of_ids(tokenizer, chat_ids(tokenizer, Conversation(turns)))
        except BadPrompt:  # it knows no system turn
            continue
        at = 0
        for turn in turns:
            start = text.find(turn.text, at)
            if start < 0:
                break
            found[turn.role].add(text[at:start])
            at = start + len(turn.text)
        else:
            found["assistant"].add(text[at:])
    told: dict[Role, frozenset[str]] = {}
    for role, marks in found.items():
        taken = frozenset[str]().union(*told.values())
        if own := frozenset(mark for mark in marks if mark.strip()) - taken:
            told[role] = own
    if "user" not in told:
        raise BadPlace("This model's chat template shows no marks between turns.", "Choose another place.")
    return told


def rule_for(tokenizer: Any, place: Where) -> PositionRule:
    """The position rule of a place that reads text.

    Raises:
        BadPlace: turns of that side cannot be told under this tokenizer's template; while it acts, a search takes too long.
    """
    marks: Mapping[Role, frozenset[str]] = {} if place.name == "after" else turn_marks(tokenizer)
    if place.name != "after" and place.name not in marks:
        raise BadPlace(
            f"This model's chat template has no mark of its own for a {place.name} turn.", f"Choose one of {', '.join(sorted(marks))}."
        )
    return _Rule(tokenizer, place, marks)


def acts_at(model: LanguageModel, where: str, prompt: Prompt, said: Sequence[int] = ()) -> tuple[bool, ...]:
    """At which tokens of a prompt and of what was said behind it a place that reads text lets an edit act.

    Raises:
        BadPlace: as `rule_for`. BadPrompt: as `LanguageModel.tokens`.
    """
    asked = model.tokens(prompt).ids[0].tolist()
    batch = TokenBatch.of([[*asked, *said]], [len(asked)])
    return tuple(rule_for(model.tokenizer, read_place(where))(batch.forward())[0].tolist())


@final
class _Rule:
    def __init__(self, tokenizer: Any, place: Where, marks: Mapping[Role, frozenset[str]]) -> None:
        self._tokenizer, self._place = tokenizer, place
        self._marks = sorted(((mark, role) for role, own in marks.items() for mark in own), key=lambda one: len(one[0]))
        self._kept: dict[tuple[int, ...], ReadRow] = {}

    def __call__(self, forward: Forward) -> Bool[Tensor, "batch pos"]:
        if forward.read is None:
            raise RuntimeError("A place that reads text needs a forward that knows all tokens up to here.")
        ids, mask = (part.cpu() for part in forward.read)
        acts = torch.zeros_like(mask)
        for row in range(len(ids)):
            acts[row, mask[row]] = torch.tensor(self._read(tuple(ids[row, mask[row]].tolist())).acts, dtype=torch.bool)
        return acts[:, acts.shape[1] - forward.real.shape[1] :].to(forward.real.device)

    def _read(self, ids: tuple[int, ...]) -> ReadRow:
        known = next((n for n in (len(ids), len(ids) - 1) if ids[:n] in self._kept), 0)
        found = self._kept[ids[:known]] if known else ReadRow()
        for n in range(known + 1, len(ids) + 1):
            found, piece = found.grown(self._tokenizer, ids[:n])
            state = self._next(found, piece) if piece else found.state
            found = ReadRow(found.text, found.start, found.end, (*found.acts, state == self._place.name), state)
        self._kept[ids] = found
        if len(self._kept) > _KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        return found

    def _next(self, found: ReadRow, piece: str) -> str:
        """Whose turn it is behind the last token, or `after` once the text has occurred."""
        if self._place.name == "after":
            return "after" if found.state or self._place.occurs(found.text, len(piece)) else ""
        state, n_before, last = found.state, len(found.text) - len(piece), 0
        for mark, role in self._marks:  # the longest last: where two end together, it is the one that is meant
            start = found.text.rfind(mark, max(0, n_before - len(mark) + 1))
            if start >= 0 and start + len(mark) >= last:
                state, last = role, start + len(mark)
        return state
