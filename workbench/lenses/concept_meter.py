"""A concept meter: how strongly each token's representation looks like one set of prompts rather than the other.

Ref: docs/methods/are.md §3.2, §3.3. P(target) = softmax S((R − μ) / σ) with S linear or one hidden layer, fitted on the last tokens of
both sets in the unedited model; μ, σ are those of the fit rows. Differs from ARE's discriminator: standardised input, since a
meter is read at tokens of every position. It was fitted on last tokens only: elsewhere compare lanes rather than levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.errors import BadKnob, ModelMismatch
from workbench.methods.shared.concept import concept_of
from workbench.methods.shared.discriminator import Discriminator, Kind, accuracy, blocks_read, representations, train_discriminator
from workbench.models.base import Fingerprint, LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.progress import Progress, silent
from workbench.record import gather
from workbench.shapes import Float, Rows2d, Tensor
from workbench.sites import Site

_HIDDEN, _EPOCHS, _BATCH, _LR, _EPS = 64, 30, 64, 1e-3, 1e-3


@final
@dataclass(frozen=True)
class ConceptMeter:
    """A fitted meter. `accuracy` is on validation prompts; below 0.7 it measures little."""

    name: str
    model: Fingerprint
    blocks: tuple[int, ...]
    kind: Kind
    discriminator: Discriminator
    mean: Float[Tensor, " width"]
    spread: Float[Tensor, " width"]
    accuracy: float
    n_validation: int

    def probability(self, r: Rows2d) -> Float[Tensor, " row"]:
        """P(target) of representations."""
        return self.discriminator.probability((r - self.mean) / self.spread)


@final
@dataclass(frozen=True)
class MeteredToken:
    """A token and P(target) there; `generated` marks what followed the prompt."""

    text: str
    probability: float
    generated: bool


@final
@dataclass(frozen=True)
class MeteredText:
    """A text under one stack of edits, token by token. `summary` is the mean over the generated tokens, or the last value."""

    lane: int
    tokens: tuple[MeteredToken, ...]

    @property
    def summary(self) -> float:
        """Mean probability over the generated tokens; where there are none, that of the last token."""
        said = [token.probability for token in self.tokens if token.generated]
        return sum(said) / len(said) if said else self.tokens[-1].probability


def concept_meter(
    model: LanguageModel,
    demonstrations: Demonstrations,
    *,
    kind: Kind = "linear",
    blocks: Sequence[int] | None = None,
    target: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ConceptMeter:
    """Fit a meter on the prompts of split `fit`, and tell its accuracy on validation.

    Args:
        blocks: whose output is read; none: those of `blocks_read`.

    Raises:
        NotEnoughData: as `concept_of`. BadKnob: blocks that the model does not have.
    """
    tell = progress or silent()
    chosen = blocks_read(model.info.n_layers, blocks)
    concept = concept_of(model, demonstrations, target=target)
    tell(0.1, "Reading the prompts")
    r = representations(model, concept.train.tokens(model), chosen)
    mean, spread = r.mean(0), r.std(0).clamp_min(1e-6)
    draw = torch.Generator().manual_seed(seed)
    found = Discriminator(r.shape[1], kind, _HIDDEN, draw, like=r)
    tell(0.5, "Fitting the meter")
    is_target = concept.train.is_target.to(r.device)
    train_discriminator(found, (r - mean) / spread, is_target, lr=_LR, eps=_EPS, epochs=_EPOCHS, batch_size=_BATCH, generator=draw)
    r_new = representations(model, concept.validation.tokens(model), chosen)
    right = accuracy(found, (r_new - mean) / spread, concept.validation.is_target.to(r.device))
    tell(1.0, "Done")
    n = len(concept.validation)
    return ConceptMeter(demonstrations.name, model.fingerprint, chosen, kind, found.frozen(), mean, spread, right, n)


def metered_prompts(
    model: LanguageModel, meter: ConceptMeter, prompts: Sequence[Prompt], stacks: Sequence[Sequence[Edit]] = ((),)
) -> Float[Tensor, "lane prompt"]:
    """P(target) at each prompt's last token, under each stack.

    Raises:
        ModelMismatch: the meter was fitted on another model. Others: as `engine.applied`.
    """
    _check(model, meter)
    batch = model.tokens(list(prompts))
    rows: list[Tensor] = []
    for stack in stacks:
        with applied(model, *stack):
            rows.append(meter.probability(representations(model, batch, meter.blocks)))
    return torch.stack(rows)


def metered_tokens(
    model: LanguageModel,
    meter: ConceptMeter,
    prompt: Prompt,
    continuations: Sequence[str | None] = (None,),
    stacks: Sequence[Sequence[Edit]] = ((),),
) -> tuple[MeteredText, ...]:
    """P(target) at every token of a prompt and of what each lane said, each lane under its own stack.

    Args:
        continuations: what was generated, one text a stack; none or empty: the prompt alone.

    Raises:
        ModelMismatch: the meter was fitted on another model. BadKnob: as many continuations as stacks are needed.
    """
    _check(model, meter)
    if len(continuations) != len(stacks):
        raise BadKnob(f"Got {len(continuations)} continuations for {len(stacks)} lanes.", "Give one continuation a lane.")
    found: list[MeteredText] = []
    for lane, (said, stack) in enumerate(zip(continuations, stacks)):
        batch = model.tokens(prompt, said) if said else model.tokens(prompt)
        with applied(model, *stack):
            values = meter.probability(_all_positions(model, batch, meter.blocks)).tolist()
        n_prompt = int(batch.n_prompt[0])
        ids: list[int] = batch.ids[0][batch.mask[0]].tolist()
        tokens = tuple(
            MeteredToken(str(model.tokenizer.decode([token])), value, i >= n_prompt) for i, (token, value) in enumerate(zip(ids, values))
        )
        found.append(MeteredText(lane, tokens))
    return tuple(found)


def _all_positions(model: LanguageModel, batch: TokenBatch, blocks: Sequence[int]) -> Rows2d:
    sites = [Site("resid_post", block) for block in blocks]
    found = gather(model, batch, sites, "all")
    return torch.cat([found[site].float() if found[site].dtype != torch.float64 else found[site] for site in sites], -1)


def _check(model: LanguageModel, meter: ConceptMeter) -> None:
    if not meter.model.same_model(model.fingerprint):
        raise ModelMismatch(f"The meter was fitted on {meter.model.name}; loaded is {model.info.name}.", "Fit it on this model.")
