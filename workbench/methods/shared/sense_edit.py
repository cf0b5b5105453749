"""The edit that sense finetuning makes: vectors added to a few senses of a few words.

Law: C(v)_l ← C(v)_l + dose · δ[v,l] before the senses are mixed; nothing else changes, the contextualisation weights
least of all. Invariants: logits are affine in the dose; a text without the words, up to a position, is bit-equal up
to there; edits add up.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast, final

import torch

from workbench.edits.base import Edit, ExportTarget, Header, Possible, Refused, edit_kind
from workbench.errors import CorruptEdit, ModelMismatch, NotEnoughData
from workbench.models.backpack.model import BackpackModel
from workbench.numerics.sense_affine import SenseSelection
from workbench.operations import AddToWeight, Operation, Rows
from workbench.shapes import Float, Int, Tensor
from workbench.sites import Site


@edit_kind("senses")
@final
@dataclass(frozen=True)
class SenseEdit(Edit):
    """Add vectors to senses of word types: row i moves sense `sense_ids[i]` of token `token_ids[i]`."""

    token_ids: Int[Tensor, " chosen"]
    sense_ids: Int[Tensor, " chosen"]
    delta: Float[Tensor, "chosen d_model"]

    @property
    def selection(self) -> SenseSelection:
        """The senses that move."""
        return SenseSelection(self.token_ids, self.sense_ids)

    def tensors(self) -> Mapping[str, Tensor]:
        return {"token_ids": self.token_ids, "sense_ids": self.sense_ids, "delta": self.delta}

    @classmethod
    def from_tensors(cls, header: Header, tensors: Mapping[str, Tensor]) -> Self:
        lacking = sorted({"token_ids", "sense_ids", "delta"} - set(tensors))
        if lacking or "n_senses" not in header.facts:
            raise CorruptEdit(f"A sense edit lacks {', '.join(lacking) or 'n_senses'}.", "Restore the folder from a copy.")
        token_ids, sense_ids, delta = tensors["token_ids"], tensors["sense_ids"], tensors["delta"]
        if delta.ndim != 2 or not len(token_ids) == len(sense_ids) == len(delta):
            raise CorruptEdit(
                f"A sense edit has {len(token_ids)} tokens, {len(sense_ids)} senses and vectors of {tuple(delta.shape)}.",
                "Restore the folder from a copy.",
            )
        return cls(header, token_ids, sense_ids, delta)

    def at_dose(self, dose: float) -> tuple[Operation, ...]:
        if not len(self.token_ids):
            return ()
        types, where = self.token_ids.unique(return_inverse=True)
        n_senses, d = int(self.header.facts["n_senses"]), self.delta.shape[1]
        # A table may be stored in half precision; it is added in single.
        delta = self.delta.float() if self.delta.dtype == torch.float16 else self.delta
        values = delta.new_zeros(len(types), n_senses, d)
        values.index_put_((where, self.sense_ids), dose * delta, accumulate=True)
        return (AddToWeight(Site("sense_table"), Rows(types, values.flatten(1))),)

    def exports(self) -> Mapping[ExportTarget, Possible | Refused]:
        table = "A Backpack computes its senses from the word embedding and keeps no table of them to write into."
        return {
            "checkpoint": Refused(table),
            "peft": Refused("It is no low-rank change of a weight."),
            "script": Refused("It needs the Backpack's own network, which transformers does not have."),
            "report": Possible(),
        }


def scaled_senses(model: BackpackModel, factors: Mapping[tuple[int, int], float]) -> SenseEdit:
    """Multiply senses of words by factors: 0 removes a sense, 1 leaves it; exact, as an added (factor − 1)·C(v)_l.

    Ref: docs/methods/senses.md §2.4.
    """
    moved = {pair: factor for pair, factor in factors.items() if factor != 1.0}
    selection = SenseSelection.of(moved)
    vectors = [(moved[pair] - 1.0) * model.senses(torch.tensor([pair[0]]))[0, pair[1]] for pair in selection.pairs()]
    delta = torch.stack(vectors) if vectors else model.embedding.new_zeros(0, model.info.d_model)
    named = {f"{token}.{sense}": factor for (token, sense), factor in sorted(moved.items())}
    header = Header(SenseEdit.kind, {"factors": named}, model.fingerprint, "", 0, {}, {"n_senses": model.n_senses})
    return SenseEdit(header, selection.token_ids, selection.sense_ids, delta.float() if delta.dtype == torch.float16 else delta)


def averaged(edits: Sequence[SenseEdit]) -> SenseEdit:
    """Merge edits as the released code means to: for each sense the sum, divided by the number of edits that move it.

    Applying several edits at once adds them instead. Merging disjoint edits equals applying them all; an edit with
    itself is itself.

    Raises:
        NotEnoughData: no edit. ModelMismatch: they were fitted on different models.

    Ref: docs/methods/senses.md §2.4.
    """
    if not edits:
        raise NotEnoughData("There is no sense edit to merge.", "Give at least one.")
    first = edits[0]
    for other in edits[1:]:
        if not other.header.model.same_model(first.header.model):
            raise ModelMismatch(
                f"The edits were fitted on {first.header.model.name} and on {other.header.model.name}.", "Merge edits of one model."
            )
    sums: dict[tuple[int, int], list[Tensor]] = {}
    for edit in edits:
        for pair, vector in zip(edit.selection.pairs(), edit.delta):
            sums.setdefault(pair, []).append(edit.dose * vector)
    selection = SenseSelection.of(sums)
    delta = torch.stack([torch.stack(sums[pair]).mean(0) for pair in selection.pairs()])
    parts = [{"edit": edit.id, "dose": edit.dose} for edit in edits]
    header = replace(first.header, config={"parts": parts}, data="+".join(edit.header.data for edit in edits))
    return SenseEdit(header, selection.token_ids, selection.sense_ids, delta)


def read_released(path: str | Path, header: Header) -> SenseEdit:
    """Read the released code's `best.pt`, {token id: {sense index: vector}}, without running anything that it holds.

    Raises:
        CorruptEdit: it is something else.
    """
    try:
        table = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise CorruptEdit(f"{path} cannot be read as tensors: {str(error).splitlines()[0]}", "Give the released best.pt.") from error
    rows = [(token, sense, vector) for token, senses in _items(table, path) for sense, vector in _items(senses, path)]
    if not rows or not all(isinstance(vector, Tensor) and vector.ndim == 1 for _, _, vector in rows):
        raise CorruptEdit(f"{path} holds no table of sense vectors.", "Give the released best.pt.")
    rows.sort(key=lambda row: row[:2])
    tokens, senses, vectors = zip(*rows)
    return SenseEdit(header, torch.tensor(tokens), torch.tensor(senses), torch.stack(vectors).float())


def write_released(edit: SenseEdit, path: str | Path) -> None:
    """Write an edit at its dose in the released form; its vectors become half precision, as there."""
    table: dict[int, dict[int, Tensor]] = {}
    for (token, sense), vector in zip(edit.selection.pairs(), edit.delta):
        table.setdefault(token, {})[sense] = (edit.dose * vector).half().clone()
    torch.save(table, path)


def _items(table: Any, path: str | Path) -> list[tuple[int, Any]]:
    if not isinstance(table, dict) or not all(isinstance(key, int) for key in table):
        raise CorruptEdit(f"{path} is no table by token id and sense.", "Give the released best.pt.")
    return sorted(cast("dict[int, Any]", table).items())
