"""How the scores of rows go with what an edit writes: margins of answers, and their change to first order.

A score's gradient at an edited site says what any other edit there would change, without running it: Σ ⟨∂score/∂h, h′ − h⟩ over the sites
and positions. One pass up and down the network serves all the edits that are asked about. Ref: docs/methods/shared.md §9.8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sides import SIDES
from workbench.edits.base import Edit
from workbench.edits.engine import bound, lanes
from workbench.errors import NotEnoughData
from workbench.evaluate.benefit import references
from workbench.forks import LOGITS_AT_ONCE, widened
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch, current_forward
from workbench.operations import Forward, TransformAt, transformed
from workbench.progress import Progress
from workbench.score import batch_scores
from workbench.shapes import Activations, Float, Int, Tensor
from workbench.sites import Site

_MOST_LABELS = 20
_PASSES = 6
"""Copies of the logits that stand at once while a gradient goes back."""


@dataclass(frozen=True)
class Asked:
    """Rows and what they are scored by: the best answer of each, and what it has to be ahead of (nothing: its log-probability counts)."""

    rows: Demonstrations
    true: tuple[str, ...]
    false: tuple[tuple[str, ...], ...]

    @property
    def title(self) -> str:
        """The score, in nats."""
        return "Margin of the best answer" if any(self.false) else "Log-probability of the positive"


def asked(rows: Demonstrations, everything: Demonstrations) -> Asked:
    """What rows are scored by: the best answer against the false ones, a label against the others, or a positive alone.

    Raises:
        NotEnoughData: no row has an answer or a label.
    """
    labels = sorted({row.label for row in everything if row.label} - set(SIDES))
    found = [(row, *texts) for row in rows if (texts := _texts(row, labels)) is not None]
    if not found:
        told = f"None of {len(rows)} rows of {rows.name!r} has an answer, or a label of several, to score."
        raise NotEnoughData(told, "Fill positive and negative in rows of that split, or choose another split.")
    return Asked(rows.with_rows(row for row, *_ in found), tuple(true for _, true, _ in found), tuple(false for *_, false in found))


def _texts(row: Demonstration, labels: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    true, false = references(row)
    if row.loss == "balance":
        return None
    if true and (false or row.label in (None, "", *SIDES)):
        return true[0], false
    if row.label and row.label in labels and 2 <= len(labels) <= _MOST_LABELS:
        return row.label, tuple(one for one in labels if one != row.label)
    return None


def margins(
    model: LanguageModel, these: Asked, stacks: Sequence[Sequence[Edit]], progress: Progress
) -> tuple[Float[np.ndarray, "lane row"], Int[np.ndarray, "lane row"]]:
    """Each row's score under each stack (nats), and which false answer is the likeliest (−1 where there is none)."""
    prompts = [row.prompt for row, false in zip(these.rows, these.false) for _ in range(1 + len(false))]
    answers = [text for true, false in zip(these.true, these.false) for text in (true, *false)]
    log_p = batch_scores(model, model.tokens(prompts, answers), stacks, progress=progress).total.double().cpu().numpy()
    scores, worst = np.zeros((len(stacks), len(these.rows))), np.full((len(stacks), len(these.rows)), -1)
    start = 0
    for i, false in enumerate(these.false):
        mine = log_p[:, start : start + 1 + len(false)]
        start += 1 + len(false)
        scores[:, i] = mine[:, 0]
        if false:
            worst[:, i] = mine[:, 1:].argmax(1)
            scores[:, i] -= mine[:, 1:].max(1)
    return scores, worst


@dataclass(frozen=True)
class AtSite:
    """What stands at a site for some texts before a stack acts there and behind it, and what the running forward knows."""

    before: Activations
    after: Activations
    forward: Forward | None


Change = Callable[[Site, AtSite], Activations]
"""What something would change at a site, beside what the stack makes of it."""


def instead(model: LanguageModel, edit: Edit, other: Edit) -> Change:
    """What changes where another edit acts in place of one, at its place."""
    other = replace(other, place=edit.place, where=edit.where)
    return lambda site, read: acted(model, other, site, read.before, read.forward) - acted(model, edit, site, read.before, read.forward)


def behind(model: LanguageModel, edit: Edit) -> Change:
    """What changes where an edit acts behind the stack."""
    return lambda site, read: acted(model, edit, site, read.after, read.forward) - read.after


def acted(model: LanguageModel, edit: Edit, site: Site, x: Activations, forward: Forward | None) -> Activations:
    """What an edit's operations at a site make of activations."""
    for op in edit.operations():
        if isinstance(op, TransformAt) and op.site == site:
            x = transformed(bound(model, op), x, forward)
    return x


def sites_of(edit: Edit) -> tuple[Site, ...] | None:
    """Where an edit of activations acts; None for one that changes weights, whose outputs no activation of one site holds."""
    operations = edit.operations()
    transforms = [op.site for op in operations if isinstance(op, TransformAt)]
    return tuple(dict.fromkeys(transforms)) if transforms and len(transforms) == len(operations) else None


def effects(
    model: LanguageModel,
    these: Asked,
    worst: Int[np.ndarray, " row"],
    stack: Sequence[Edit],
    sites: Sequence[Site],
    moves: Sequence[Change],
    progress: Progress,
) -> Float[np.ndarray, "move row"]:
    """How much each move at the sites would change each row's score under a stack, to first order, in nats.

    Args:
        worst: the false answer that each row's best one is held against, as `margins` gives under this stack.

    Raises: as `engine.lanes`.
    """
    texts: list[tuple[int, float, str]] = []
    for i, (true, false) in enumerate(zip(these.true, these.false)):
        texts += [(i, 1.0, true), *([(i, -1.0, false[int(worst[i])])] if false else [])]
    batch = model.tokens([these.rows[i].prompt for i, *_ in texts], [text for *_, text in texts])
    step = max(2, LOGITS_AT_ONCE // (_PASSES * batch.ids.shape[1] * model.info.d_vocab))
    found = np.zeros((len(moves), len(these.rows)))
    for start in range(0, len(texts), step):
        part, mine = batch.rows(slice(start, start + step)).trimmed(), texts[start : start + step]
        read, slopes = _slopes(model, part, torch.tensor([sign for _, sign, _ in mine]), stack, sites)
        owner = torch.tensor([i for i, *_ in mine])
        for at, move in enumerate(moves):
            with torch.no_grad():
                change = sum((slopes[site] * move(site, read[site]).double()).sum((1, 2)).cpu() for site in slopes)
            if isinstance(change, Tensor):
                np.add.at(found[at], owner.numpy(), change.numpy())
        progress(min(1.0, (start + step) / len(texts)), "Following scores down the network")
    return found


def _slopes(
    model: LanguageModel, part: TokenBatch, signs: Float[Tensor, " row"], stack: Sequence[Edit], sites: Sequence[Site]
) -> tuple[dict[Site, AtSite], dict[Site, Float[Tensor, "row pos width"]]]:
    """What stands at the sites, and the gradient of each row's signed log-probability in what stands there behind the stack."""
    before: dict[Site, Tensor] = {}
    read: dict[Site, AtSite] = {}
    terms: dict[Site, Tensor] = {}

    def note(site: Site):  # noqa: ANN202
        def keep(x: Activations) -> None:
            before[site] = x.detach()

        return keep

    def vary(site: Site):  # noqa: ANN202
        def add(x: Activations) -> Activations:
            terms[site] = torch.zeros_like(x, requires_grad=True)
            read[site] = AtSite(before[site], x.detach(), current_forward())
            return x + terms[site]

        return add

    # Contexts nest, the outer one acting first: before the stack, the stack, behind it.
    with (
        torch.enable_grad(),
        model.intercepts([(site, note(site)) for site in sites]),
        lanes(model, [stack]),
        model.intercepts([(site, vary(site)) for site in sites]),
    ):
        logits = model.logits(part)
        # The token behind position t is foretold at t; padding and prompt have none to count.
        log_p = widened(logits[:, :-1]).log_softmax(-1).gather(-1, part.ids[:, 1:, None])[..., 0]
        counted = part.mask[:, 1:] & (part.positions[:, 1:] >= part.n_prompt[:, None])
        total = (torch.where(counted, log_p, 0.0).sum(1) * signs.to(log_p)).sum()
        slopes = torch.autograd.grad(total, list(terms.values()))
    return read, {site: slope.double() for site, slope in zip(terms, slopes)}
