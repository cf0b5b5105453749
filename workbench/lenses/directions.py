"""Any direction of the residual stream as a card: what it says, which texts lie along it, what it resembles, and what steering by it does.

A direction is made of one of these, at a layer (behind which the stream is read):
token: the unembedding row of a token, less the mean row, or less that of another token. prompts: the difference of two prompts at their
last tokens. head: what a head writes at the last token of a prompt. mean, probe: of a set's rows of split fit, the difference of the means
of both sides, or the weight of a logistic probe. edit: the edit's own vector where it has one; else how far it moves the stream behind the
layer, a mean over the ordinary tokens of a prompt.
Texts along it: the projection on the unit direction of texts that it was not made of, and the AUC of good over bad among them. Cosines of
random directions have a standard deviation of 1/√d, which stands beside them. Steering: h ← h + dose · v at every token, ‖v‖ a share of the
median ordinary token's norm there.
Ref: arXiv 2308.10248 (activation addition), 2406.11717 (refusal as one direction).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit, Header, network_of
from workbench.edits.cell import cell_site
from workbench.edits.engine import applied
from workbench.edits.steering import SteeringEdit
from workbench.errors import BadKnob, BadPrompt, NoEffect, UnknownSite
from workbench.lenses.cell_edits import Draft, likeliest
from workbench.lenses.geometry import MIN_HELD
from workbench.methods.shared.adapters import matrix_of
from workbench.methods.shared.places import Apart, apart_sides
from workbench.methods.shared.reading import ordinary, read_side, settled_reading
from workbench.models.base import LanguageModel
from workbench.models.direction_tokens import DirectionTokens, direction_tokens
from workbench.models.sinks import norm_bounds
from workbench.models.token_texts import one_token
from workbench.numerics.intervals import Interval, auc_interval
from workbench.numerics.probes import logistic_probe
from workbench.operations import wide
from workbench.progress import Progress, silent
from workbench.record import activations
from workbench.shapes import Float, Tensor
from workbench.sites import Site

OriginKind = Literal["token", "prompts", "head", "mean", "probe", "edit"]
SIZE = 0.5


@dataclass(frozen=True)
class Origin:
    """What a direction is made of. `given`: a token, a prompt; `other`: a token or prompt to take off; `head`: as 3.7; `rows`, `edit`."""

    kind: OriginKind
    given: Prompt = ""
    other: Prompt = ""
    head: str = ""
    rows: Demonstrations | None = None
    edit: Edit | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """What to call it."""
        if self.title:
            return self.title
        less = f" less {str(self.other).strip()}" if str(self.other).strip() else ""
        own = {
            "token": f"token {str(self.given).strip()}{less}", "prompts": f"“{self.given}”{less}", "head": f"head {self.head}",
            "mean": f"difference of means on {self.rows.name}" if self.rows else "", "edit": "an edit",
            "probe": f"probe on {self.rows.name}" if self.rows else "",
        }  # fmt: skip
        return own[self.kind]


@dataclass(frozen=True)
class Along:
    """A text, its side, and where it lies along a direction, in units of the stream."""

    text: str
    side: str
    projection: float


@dataclass(frozen=True)
class DirectionCard:
    """A direction at a layer. `cosines` to others by name, `chance` the standard deviation of that of a random direction.

    `along` are texts of a set that the direction was not made of, the highest first; `auc` tells good from bad ones, None where there are
    fewer than a score needs.
    """

    model: str
    name: str
    layer: int
    vector: Float[np.ndarray, " d_model"]
    tokens: DirectionTokens
    cosines: tuple[tuple[str, float], ...]
    chance: float
    data: str
    along: tuple[Along, ...]
    auc: Interval | None

    def rows(self) -> list[dict[str, Any]]:
        """One table row a token that it raises or lowers."""
        told = (("raises", self.tokens.promoted), ("lowers", self.tokens.suppressed))
        return [{"what": what, "token": token, "by": by} for what, side in told for token, by in side]


def direction_card(
    model: LanguageModel,
    origin: Origin | str,
    layer: int = 0,
    others: Sequence[Origin] = (),
    *,
    demonstrations: Demonstrations | None = None,
    top_k: int = 8,
    progress: Progress | None = None,
) -> DirectionCard:
    """Describe a direction behind a layer.

    Args:
        origin: what it is made of; as a text `token: Paris`, `token: Paris | Rome`, `prompts: one | other`, `head: 3.7 | prompt`, or
            `mean` and `probe` of `demonstrations`. others: directions to compare it with. demonstrations: a set whose texts are put along.

    Raises:
        BadKnob: the text names no direction, or no such layer. BadPrompt: a token is none, or a prompt is lacking. NotEnoughData: a set has
            no two sides. NoEffect: it has no length. UnknownSite: the model does not show what it is made of.
    """
    tell, source = progress or silent(), read_origin(origin, demonstrations)
    vector = made(model, source, layer, tell.part(0.0, 0.4))
    unit = vector / vector.norm()
    cosines: list[tuple[str, float]] = []
    for i, other in enumerate(others):
        part = tell.part(0.4 + 0.4 * i / len(others), 0.4 + 0.4 * (i + 1) / len(others))
        theirs = made(model, other, layer, part)
        cosines.append((other.name, float(unit @ theirs / theirs.norm())))
    along, auc = ((), None) if demonstrations is None else _along(model, unit, layer, demonstrations, tell.part(0.8, 1.0))
    tell(1.0, "Done")
    data = "" if demonstrations is None else demonstrations.name
    tokens = direction_tokens(model, vector.to(model.dtype), top_k)
    return DirectionCard(
        model.info.name, source.name, layer, vector.numpy(), tokens, tuple(cosines), model.info.d_model**-0.5, data, along, auc
    )


def read_origin(told: Origin | str, rows: Demonstrations | None) -> Origin:
    """What a direction is made of, from its text; see `direction_card`. Raises: BadKnob."""
    if isinstance(told, Origin):
        return told
    kind, _, rest = told.partition(":")
    one, _, other = (part.rstrip() for part in rest.removeprefix(" ").partition("|"))
    if kind in ("token", "prompts") and one.strip():
        return Origin(
            kind, f" {one.strip()}" if kind == "token" else one, f" {other.strip()}" if kind == "token" and other else other.lstrip()
        )
    if kind == "head" and other:
        return Origin("head", other.lstrip(), head=one.strip())
    if kind.strip() in ("mean", "probe") and rows is not None:
        return Origin("mean" if kind.strip() == "mean" else "probe", rows=rows)
    raise BadKnob(f"{told!r} names no direction.", "Write token: Paris, prompts: one | other, head: 3.7 | prompt, or mean with a set.")


def made(model: LanguageModel, source: Origin, layer: int, tell: Progress | None = None) -> Float[Tensor, " d_model"]:
    """The vector of a direction behind a layer, float64, on the processor. Raises: as `direction_card`."""
    if not -1 <= layer < model.info.n_layers:
        raise BadKnob(f"Layer {layer} is asked for; the model has layers 0 to {model.info.n_layers - 1}.", "Choose one of them.")
    tell = tell or silent()
    makers = {"token": _of_token, "prompts": _of_prompts, "head": _of_head, "edit": _of_edit}
    maker = makers.get(source.kind)
    with torch.no_grad():
        vector = (_of_set(model, source, layer, tell) if maker is None else maker(model, source, layer)).double().cpu()
    if not float(vector.norm()) > 0:
        raise NoEffect(f"The direction {source.name} has no length behind layer {layer}.", "Choose a later layer, or make it of others.")
    return vector


def _of_token(model: LanguageModel, source: Origin, layer: int) -> Tensor:
    slot = model.weight("w_u")
    table = slot.parameter.detach().double()
    table = table if table.shape[-1] == model.info.d_model else table.T
    row = table[one_token(model, str(source.given))]
    return row - (table[one_token(model, str(source.other))] if str(source.other).strip() else table.mean(0))


def _of_prompts(model: LanguageModel, source: Origin, layer: int) -> Tensor:
    if not (str(source.given).strip() and str(source.other).strip()):
        raise BadPrompt("A difference needs two prompts.", "Write both.")
    one, other = (_last(model, prompt, cell_site(layer)) for prompt in (source.given, source.other))
    return one - other


def _of_head(model: LanguageModel, source: Origin, layer: int) -> Tensor:
    at = Site.parse(f"head_z@{source.head}")
    z = _last(model, source.given, at)
    columns = slice((at.head or 0) * model.info.d_head, ((at.head or 0) + 1) * model.info.d_head)
    matrix = Site("w_o", at.layer)
    if matrix not in model.sites():
        raise UnknownSite(str(matrix), [str(site) for site in model.sites() if site.kind == "w_o"])
    return matrix_of(model.weight(matrix)).double()[:, columns] @ z


def _of_edit(model: LanguageModel, source: Origin, layer: int) -> Tensor:
    edit = source.edit
    if edit is None:
        raise BadKnob("There is no edit to take a direction of.", "Choose one.")
    own = [x for x in edit.tensors().values() if x.ndim == 1 and x.numel() == model.info.d_model]
    if len(own) == 1:
        return own[0]
    site, batch = cell_site(layer), model.tokens(source.given)
    before = wide(activations(model, batch, [site])[site])
    with applied(model, edit):
        moved = wide(activations(model, batch, [site])[site]) - before
    return moved[ordinary(before.norm(dim=-1), batch.mask.to(before.device))].mean(0)


def _of_set(model: LanguageModel, source: Origin, layer: int, tell: Progress) -> Tensor:
    if source.rows is None:
        raise BadKnob("There is no set to make a direction of.", "Choose one with two sides.")
    good, bad = _read(model, apart_sides(source.rows)[0], layer, tell)
    return good.mean(0) - bad.mean(0) if source.kind == "mean" else logistic_probe(good, bad).weight


def _read(
    model: LanguageModel, sides: Apart, layer: int, tell: Progress
) -> tuple[Float[Tensor, "row d_model"], Float[Tensor, "row d_model"]]:
    site, read = cell_site(layer), settled_reading("auto", model.info)
    good, bad = (getattr(read_side(model, side, [site], tell.part(i / 2, (i + 1) / 2))[site], read) for i, side in enumerate(sides))
    return good, bad


def _last(model: LanguageModel, prompt: Prompt, site: Site) -> Float[Tensor, " width"]:
    return activations(model, model.tokens(prompt), [site])[site][0, -1].double()


def _along(
    model: LanguageModel, unit: Float[Tensor, " d_model"], layer: int, rows: Demonstrations, tell: Progress
) -> tuple[tuple[Along, ...], Interval | None]:
    """The texts that no direction of this set was made of."""
    held = apart_sides(rows)[1]
    values = [(x.cpu() @ unit).numpy() for x in _read(model, held, layer, tell)]
    told = [
        Along(f"{prompt}{end or ''}", side, float(x))
        for side, texts, line in zip(("good", "bad"), held, values)
        for (prompt, end), x in zip(texts, line)
    ]
    enough = min(map(len, values)) >= MIN_HELD
    auc = auc_interval(*values, paired=_are_pairs(held)) if enough else None
    return tuple(sorted(told, key=lambda one: -one.projection)), auc


def _are_pairs(held: Apart) -> bool:
    return [prompt for prompt, _ in held[0]] == [prompt for prompt, _ in held[1]]


def steering(
    model: LanguageModel,
    prompt: Prompt,
    origin: Origin | str,
    layer: int,
    *,
    size: float = SIZE,
    demonstrations: Demonstrations | None = None,
    top_k: int = 5,
    progress: Progress | None = None,
) -> Draft:
    """Make the edit that adds a direction behind a layer at every token, and run it at once on a prompt.

    Args:
        size: length of what dose 1 adds, in norms of the prompt's median ordinary token there; negative steers away.

    Raises: as `direction_card`; BadKnob: the size is 0 or no number.
    """
    if size == 0 or not np.isfinite(size):
        raise BadKnob(f"size = {size} adds nothing that can be steered by.", "Give a number other than 0.")
    tell, source = progress or silent(), read_origin(origin, demonstrations)
    vector, batch, site = made(model, source, layer, tell.part(0.0, 0.6)), model.tokens(prompt), cell_site(layer)
    with torch.no_grad():
        norms = wide(activations(model, batch, [site])[site]).norm(dim=-1)[0]
        told = model.logits(batch)[0, -1]
    length = size * float(norms[ordinary(norms[None], batch.mask.to(norms.device))[0]].median())
    facts: dict[str, Any] = {"layer": layer, "direction": source.name, "size": size, "at": "every token"}
    facts |= {"network": network_of(model)} if network_of(model) else {}
    versions = {package: importlib.metadata.version(package) for package in ("torch", "transformers", "transformer-lens")}
    header = Header("steering", {}, model.fingerprint, "", 0, versions, facts)
    edit = SteeringEdit(header, (length * vector / vector.norm()).float())
    edit = replace(edit, spares=norm_bounds(model, batch, [site]))
    tell(0.9, "Running it")
    with torch.no_grad(), applied(model, edit):
        moved = model.logits(batch)[0, -1]
    tell(1.0, "Done")
    return Draft(edit, *(likeliest(model, logits, top_k) for logits in (told, moved)))
