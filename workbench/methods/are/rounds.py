"""The rounds of ARE: move the model until the discriminator is fooled, then train a new discriminator, and again.

Ref: docs/methods/are.md §3.5. One `Contest` holds the state of a fit; `open` looks at the unedited model, `play` is one round.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
import torch.nn.functional as F

from workbench.data.demonstrations import Demonstration
from workbench.edits.base import Edit, Header
from workbench.methods.are.config import AreConfig
from workbench.methods.are.retention import Damage, damage, kl_per_token
from workbench.methods.shared import discriminator as adversary
from workbench.methods.shared.adapters import AdapterEdit, Adapters, adapted_sites, relative_norms
from workbench.methods.shared.concept import Concept
from workbench.methods.shared.discriminator import ANTI, TARGET, Discriminator, Scaling
from workbench.methods.shared.parts import part_sites
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.intervals import placements
from workbench.numerics.probes import principal_axes, ridge_accuracy
from workbench.operations import LowRank
from workbench.progress import Progress
from workbench.score import batch_scores, continuation_scores
from workbench.shapes import Float, Rows2d, Tensor
from workbench.sites import Site

# Above this share of wanted answers before the edit, a group of rows leaves nothing to gain.
ROOM = 0.9


@final
@dataclass(frozen=True)
class Round:
    """One round's outcome; round 0 is the unedited model.

    `benefit`: share of validation rows whose wanted answer is the likelier, or, without such rows, of the other side's
    validation prompts that the first discriminator takes for the goal. `wanted`: row by row the probability of the wanted
    answer against the other (or of the goal), in the same order every round. `points`: training prompts in the plane of the unedited model.
    """

    index: int
    factors: Mapping[Site, LowRank]
    g_losses: tuple[float, ...]
    goal_before: float
    goal_after: float
    d_losses: tuple[float, ...]
    accuracy_train: float
    accuracy: float
    linear_accuracy: float
    damage: Damage
    norms: Mapping[Site, float]
    gradients: Mapping[Site, float]
    benefit: float
    wanted: np.ndarray
    points: np.ndarray
    class_cosine: float
    class_distance: float
    seconds: float
    memory_mb: float

    @property
    def probability(self) -> float:
        """Mean of `wanted`."""
        return float(self.wanted.mean())


@final
class Contest:
    """A fit in progress: the model under adapters, the prompts, and the discriminator of the moment.

    Of the two batches of neutral text the first is held on to by the retention term, the other tells the damage.
    """

    def __init__(
        self, model: LanguageModel, concept: Concept, neutral: tuple[TokenBatch, TokenBatch], config: AreConfig, header: Header, seed: int
    ) -> None:
        self._model, self._concept, self._config, self._header, self._seed = model, concept, config, header, seed
        self._retained, self.neutral = neutral
        self.read_blocks = config.reads(model.info.n_layers)
        generator = torch.Generator().manual_seed(seed)
        asked = config.adapter_sites(model.info.n_layers)
        inputs = None if config.parts is None else part_sites(model, config.parts)
        blocks = sorted({site.layer for site in asked if site.layer is not None})
        sites = adapted_sites(model, blocks, config.modules) if inputs is None else list(inputs)
        self.adapters = Adapters(model, sites, config.rank, config.alpha, generator, inputs)
        self._train, self._validation = concept.train.tokens(model), concept.validation.tokens(model)
        self._is_target = concept.train.is_target.to(model.device)
        self._is_target_validation = concept.validation.is_target.to(model.device)
        self._goal = TARGET if config.direction == "toward" else ANTI
        self._discriminator: Discriminator | None = None
        self._scaling: Scaling | None = None
        self._plane: tuple[np.ndarray, np.ndarray] | None = None
        self._outcomes: tuple[Demonstration, ...] = ()

    def open(self) -> Round:
        """Read the unedited model and train the first discriminator: round 0.

        Benefit is judged on the first group of outcomes that leaves room, else on the first.
        """
        groups = self._concept.outcomes
        roomy = [rows for rows in groups if self._preferred(rows, [()])[0] < ROOM]
        self._outcomes = (roomy or groups or ((),))[0]
        return self._judged(0, (), 0.0, time.monotonic())

    def play(self, index: int, progress: Progress) -> Round:
        """One round: G with S frozen, then a new S on what has become of the model."""
        started = time.monotonic()
        before = self._share_at_goal()
        losses = self.move(index, progress)
        return self._judged(index, losses, before, started)

    def edit(self, factors: Mapping[Site, LowRank], index: int) -> AdapterEdit:
        """The edit of a round."""
        facts = {**self._header.facts, **AdapterEdit.facts(factors), "round": index, "direction": self._config.direction}
        return AdapterEdit(replace(self._header, facts=facts), factors)

    # ── G ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    def move(self, index: int, progress: Progress) -> tuple[float, ...]:
        """G: train the adapters on L_G with S frozen, by an optimiser made anew; return the loss of each step."""
        config, discriminator = self._config, self.discriminator.frozen()
        optimiser = torch.optim.Adam(self.adapters.parameters(), lr=config.lr_g, eps=config.eps_g)
        starts = config.steps(len(self._train), index, self._model.info)
        losses: list[float] = []
        for step, start in enumerate(starts):
            if step % 5 == 0:
                live = {"g_loss": losses[-1]} if losses else {}
                progress(0.85 * step / len(starts), f"Round {index}: moving the model", **live)
            loss = self.generator_loss(discriminator, slice(start, start + config.batch_g))
            losses.append(float(loss.detach()))
            total = loss if config.retention_kl == 0 else loss + config.retention_kl * self._retention(step)
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            optimiser.step()
        progress(0.86, f"Round {index}: training a new discriminator")
        return tuple(losses)

    def generator_loss(self, discriminator: Discriminator, rows: slice) -> Float[Tensor, ""]:
        """L_G of some training prompts, of either side: mean CE(S(R(x)), goal)."""
        part = self._train.rows(rows).trimmed()
        with self.adapters.attached():
            r = adversary.representation(self._model, part, self.read_blocks)
        return F.cross_entropy(discriminator(r), torch.full((len(part),), self._goal, device=r.device))

    def _retention(self, step: int) -> Float[Tensor, ""]:
        row = step % len(self._retained)
        part = self._retained.rows(slice(row, row + 1)).trimmed()
        with torch.no_grad():
            base = self._model.logits(part)
        with self.adapters.attached():
            edited = self._model.logits(part)
        return kl_per_token(base, edited, part.mask)

    # ── D and everything measured ───────────────────────────────────────────────────────────────────────────────────
    def _judged(self, index: int, g_losses: tuple[float, ...], before: float, started: float) -> Round:
        with self.adapters.attached():
            r = adversary.representations(self._model, self._train, self.read_blocks)
            r_validation = adversary.representations(self._model, self._validation, self.read_blocks)
        after = self._share(self.discriminator, r_validation) if index else 0.0
        d_losses = self.relearn(index, r)
        now, factors = self.discriminator, self.adapters.factors()
        benefit, wanted = self._benefit(index, factors)
        points, cosine, distance = self._drift(r)
        return Round(
            index=index,
            factors=factors,
            g_losses=g_losses,
            goal_before=before,
            goal_after=after,
            d_losses=d_losses,
            accuracy_train=adversary.accuracy(now, r, self._is_target),
            accuracy=adversary.accuracy(now, r_validation, self._is_target_validation),
            linear_accuracy=ridge_accuracy(r, self._is_target, r_validation, self._is_target_validation),
            damage=damage(self._model, self.neutral, self.adapters.attached) if index else Damage(0.0, 1.0),
            norms=relative_norms(self._model, factors),
            gradients=self.adapters.gradient_norms(),
            benefit=benefit,
            wanted=wanted,
            points=points,
            class_cosine=cosine,
            class_distance=distance,
            seconds=time.monotonic() - started,
            memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )

    def relearn(self, index: int, r: Rows2d) -> tuple[float, ...]:
        """D: train a discriminator from scratch on R of the training prompts; return the mean loss of each epoch."""
        config = self._config
        if not index and config.inputs == "centred":
            self._scaling = Scaling.of(r)
        if index and config.adversary == "frozen":
            return ()
        draw = torch.Generator().manual_seed(self._seed * 1_000_003 + index)
        self._discriminator = Discriminator(r.shape[1], config.disc, config.disc_hidden, draw, r, self._scaling)
        return adversary.train_discriminator(
            self._discriminator, r, self._is_target,
            lr=config.lr_d, eps=config.eps_d, epochs=config.epochs_d, batch_size=config.batch_d, generator=draw,
            min_steps=config.min_steps_d,
        )  # fmt: skip

    @property
    def discriminator(self) -> Discriminator:
        """The discriminator of the moment."""
        if self._discriminator is None:
            raise RuntimeError("open() comes before play().")
        return self._discriminator

    def _share(self, discriminator: Discriminator, r_validation: Rows2d) -> float:
        p = discriminator.probability(r_validation)
        return float(((p > 0.5) if self._goal == TARGET else (p <= 0.5)).double().mean())

    def _share_at_goal(self) -> float:
        with self.adapters.attached():
            r = adversary.representations(self._model, self._validation, self.read_blocks)
        return self._share(self.discriminator, r)

    def _preferred(self, rows: Sequence[Demonstration], stack: Sequence[Sequence[Edit]]) -> tuple[float, np.ndarray]:
        """Share of rows whose wanted answer is the likelier, and its probability against the other, row by row."""
        prompts = [row.prompt for row in rows]
        good = continuation_scores(self._model, prompts, [row.positive or "" for row in rows], stack).mean[0]
        bad = continuation_scores(self._model, prompts, [row.negative or "" for row in rows], stack).mean[0]
        gap = (good - bad) * (1 if self._goal == TARGET else -1)
        return float((gap > 0).double().mean()), gap.double().sigmoid().cpu().numpy()

    def _benefit(self, index: int, factors: Mapping[Site, LowRank]) -> tuple[float, np.ndarray]:
        if self._outcomes:
            return self._preferred(self._outcomes, [(self.edit(factors, index),) if index else ()])
        return self._told_apart((self.edit(factors, index),) if index else ())

    def _told_apart(self, stack: Sequence[Edit]) -> tuple[float, np.ndarray]:
        """Of sides without answers: how often the goal's validation text is, a token, the likelier of a pair; text by text its share.

        Never by a discriminator: that one is what the adapters are trained to fool.
        """
        batch = self._validation
        found = batch_scores(self._model, TokenBatch(batch.ids, batch.mask, torch.ones_like(batch.n_prompt)), [stack])
        scores = found.mean[0].double().cpu().numpy()
        is_goal = (self._is_target_validation == (self._goal == TARGET)).cpu().numpy()
        shares = np.empty(len(batch))
        right = placements(scores[is_goal], scores[~is_goal])
        shares[is_goal], shares[~is_goal] = right.mean(1), right.mean(0)
        return float(right.mean()), shares

    def _drift(self, r: Rows2d) -> tuple[np.ndarray, float, float]:
        if self._plane is None:
            self._plane = principal_axes(r.double().cpu().numpy(), 2)
        mean, axes = self._plane
        means = [r[self._is_target == side].double() for side in (True, False)]
        cosine = float(F.cosine_similarity(means[0].mean(0), means[1].mean(0), dim=0))
        within = torch.cat([x - x.mean(0) for x in means]).square().sum(1).mean().sqrt().clamp_min(1e-12)
        distance = float((means[0].mean(0) - means[1].mean(0)).norm() / within)
        return (r.double().cpu().numpy() - mean) @ axes.T, cosine, distance


__all__ = ["Contest", "Round"]
