"""From a cell of the logit lens to an edit there: steer toward a token, swap a word, patch from another prompt, or ablate.

Law: every verb is a vector v added to the stream h at one layer and token (`CellEdit`). swap and patch: v = h' − h, h' that cell with
another word there, or of another prompt as far from its end; at dose 1 the model then runs as patched. ablate: v = mean of the other
tokens − h. steer: v = c ‖h‖ ∇/‖∇‖ with ∇ the gradient of logit(token) − logit(the model's own answer) by h, and c the smallest of
`STEERED_BY` at which the token is the answer.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from workbench.conversations import Prompt
from workbench.edits.base import Header, network_of
from workbench.edits.cell import CellEdit, cell_site
from workbench.edits.engine import applied
from workbench.edits.steering import SteeringEdit
from workbench.errors import BadPrompt
from workbench.models.base import LanguageModel
from workbench.models.token_texts import one_token, token_ids, token_texts
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.record import activations
from workbench.shapes import Activations, Float, Tensor

Verb = Literal["swap", "steer", "patch", "ablate"]
STEERED_BY = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Sizes of a steering vector that are tried, as shares of the stream's norm there."""


@dataclass(frozen=True)
class Draft:
    """An edit made without a fit, and the likeliest next tokens with their probabilities, before and after."""

    edit: CellEdit | SteeringEdit
    before: tuple[tuple[str, float], ...]
    after: tuple[tuple[str, float], ...]

    @property
    def says(self) -> str:
        """What the edit does to the answer, in one sentence."""
        (old, share), (new, now) = self.before[0], self.after[0]
        if old == new:
            return f"The model still says “{old.strip()}”: {share:.0%} before, {now:.0%} with the edit."
        return f"With the edit the model says “{new.strip()}” ({now:.0%}) instead of “{old.strip()}” ({share:.0%})."

    def rows(self) -> list[dict[str, Any]]:
        """One table row a token."""
        told = (("base", self.before), ("with the edit", self.after))
        return [{"lane": lane, "token": token, "probability": share} for lane, tops in told for token, share in tops]


def cell_edit(
    model: LanguageModel,
    prompt: Prompt,
    layer: int,
    pos: int,
    verb: Verb,
    given: Prompt = "",
    *,
    top_k: int = 5,
    progress: Progress | None = None,
) -> Draft:
    """Make the edit of one cell and run it at once on its prompt.

    Args:
        layer: behind which it acts; −1 is what enters the first block. pos: the token, counted from 0.
        given: swap: the word to put there. steer: a token. patch: a prompt. ablate: nothing.

    Raises:
        BadPrompt: there is no such token, `given` is lacking, no single token, or a prompt too short to have that cell.
    """
    tell, batch = progress or silent(), model.tokens(prompt)
    n = batch.ids.shape[1]
    if not 0 <= pos < n:
        raise BadPrompt(f"The prompt has {n} tokens, and token {pos} is asked for.", f"Give one from 0 to {n - 1}.")
    tell(0.1, "Reading the cell")
    with torch.no_grad():
        stream, told = _stream(model, batch, layer), model.logits(batch)[0, -1]
    plain = unmoved(model, batch, layer, pos, verb, str(given))
    tell(0.4, "Making the edit")
    if verb == "steer":
        edit = _steered(model, batch, plain, pos, one_token(model, str(given)), stream[pos])
    elif verb == "ablate":
        others = [i for i in range(1, n) if i != pos]  # the first token carries the attention sink
        edit = replace(plain, vector=(stream[others].mean(0) - stream[pos] if others else -stream[pos]).float())
    else:
        edit = replace(plain, vector=(_source(model, batch, layer, pos, verb, given) - stream[pos]).float())
    tell(0.9, "Running it")
    with torch.no_grad(), applied(model, edit):
        moved = model.logits(batch)[0, -1]
    tell(1.0, "Done")
    return Draft(edit, *(likeliest(model, logits, top_k) for logits in (told, moved)))


def unmoved(model: LanguageModel, batch: TokenBatch, layer: int, pos: int, verb: Verb, given: str, **facts: str) -> CellEdit:
    """The edit of a cell that adds nothing yet: its place, counted from the end of a prompt of one row, and what it is made of."""
    at = token_texts(model.tokenizer, batch.ids[0])[pos]
    told: dict[str, Any] = {"layer": layer, "from_end": batch.ids.shape[1] - pos, "verb": verb, "given": given, "at": at} | facts
    told |= {"network": network_of(model)} if network_of(model) else {}
    versions = {package: importlib.metadata.version(package) for package in ("torch", "transformers", "transformer-lens")}
    return CellEdit(Header(f"{verb} cell", {}, model.fingerprint, "", 0, versions, told), torch.zeros(model.width(cell_site(layer))))


def _stream(model: LanguageModel, batch: TokenBatch, layer: int) -> Float[Tensor, "pos d_model"]:
    site = cell_site(layer)
    return activations(model, batch, [site])[site][0]


def _source(model: LanguageModel, batch: TokenBatch, layer: int, pos: int, verb: Verb, given: Prompt) -> Float[Tensor, " d_model"]:
    """The same cell, as far from the end, in the run that it is taken from."""
    if not str(given).strip():
        raise BadPrompt(f"There is no {'word' if verb == 'swap' else 'prompt'} to take the cell from.", "Write one.")
    from_end = batch.ids.shape[1] - pos
    if verb == "swap":
        word, here = str(given), token_texts(model.tokenizer, batch.ids[0])[pos]
        word = f" {word}" if here.startswith(" ") and not word.startswith(" ") else word
        ids = batch.ids[0].tolist()
        other = TokenBatch.of([[*ids[:pos], *token_ids(model, word), *ids[pos + 1 :]]], None, model.device)
    else:
        other = model.tokens(given)
    if other.ids.shape[1] < from_end:
        what = f"The other prompt has {other.ids.shape[1]} tokens; the cell is {from_end} tokens from the end."
        raise BadPrompt(what, "Take a longer prompt, or a later token.")
    with torch.no_grad():
        return _stream(model, other, layer)[-from_end]


def _steered(model: LanguageModel, batch: TokenBatch, plain: CellEdit, pos: int, target: int, here: Float[Tensor, " d_model"]) -> CellEdit:
    nudge = torch.zeros_like(here, requires_grad=True)

    def add(x: Activations) -> Activations:
        y = x.clone()
        y[:, pos] = y[:, pos] + nudge
        return y

    with torch.enable_grad(), model.intercept(plain.site, add):
        logits = model.logits(batch)[0, -1].double()
    rivals = logits.detach().clone()
    rivals[target] = -torch.inf
    slope = torch.autograd.grad(logits[target] - logits[rivals.argmax()], nudge)[0]
    unit = slope / slope.norm().clamp_min(1e-12)
    edit = plain
    for size in STEERED_BY:
        edit = replace(plain, vector=(size * here.norm() * unit).float())
        with torch.no_grad(), applied(model, edit):
            if int(model.logits(batch)[0, -1].argmax()) == target:
                break
    return edit


def likeliest(model: LanguageModel, logits: Float[Tensor, " d_vocab"], k: int = 5) -> tuple[tuple[str, float], ...]:
    """The k likeliest tokens and their probabilities, the largest first."""
    shares, ids = logits.double().softmax(-1).topk(min(k, logits.numel()))
    return tuple(zip(token_texts(model.tokenizer, ids), shares.tolist()))
