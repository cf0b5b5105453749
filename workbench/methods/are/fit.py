"""Adversarial representation engineering (ARE): move a concept until an adversary no longer finds it missing.

Ref: docs/methods/are.md; Zhang et al., NeurIPS 2024, arXiv 2404.13752. Law: alternate (D) train S from scratch to tell target
from anti-target prompts by the model's representation R(x), and (G) with S frozen train low-rank adapters so that every
prompt of both sides is read as the goal: L_G = mean CE(S(R(x)), goal). The adapters are the edit.
Differs: the forward stops above the deepest block read (equal gradients); batches are read at each row's last token;
the G optimiser holds only the adapters; stopping is judged on validation, never on test; the kept round is by default
the one with the most validation benefit less damage (`worth`), since the trajectory shows the benefit in the first
rounds and damage in later ones (docs/methods/are.md §3.6); blocks are read and edited later and with larger steps than in the
paper, which brings the benefit in one or two rounds, at a tenth of the damage, where we could measure it
(`benchmarks/are.py`); an optional KL term on neutral text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import SIDES, sided
from workbench.errors import FitFailed
from workbench.methods.are.config import AreConfig
from workbench.methods.are.report import live_values, rounds_report, sample_of
from workbench.methods.are.rounds import Contest, Round
from workbench.methods.registry import Fitted, header, method
from workbench.methods.shared.adapters import ATTENTION_MATRICES, MLP_MATRICES, AdapterEdit
from workbench.methods.shared.concept import Concept, concept_of
from workbench.methods.shared.layers import SMALL
from workbench.methods.shared.needs import Needs, Obstacle
from workbench.methods.shared.neutral import neutral_of
from workbench.methods.shared.parts import MATRICES
from workbench.models.base import LanguageModel
from workbench.progress import Cancelled, Progress

# What a nat per token of damage costs, in probability of the wanted answers: the trajectory's knee lies where damage begins to outrun
# the gain. A hundredth of a nat is worth five points.
DAMAGE_COST = 5.0
# A round is a gain if it is better by more than this.
GAIN = 0.001
# More neutral texts than this would cost a round more than the round itself, in a small network and in another.
_N_NEUTRAL, _N_NEUTRAL_LARGE = 64, 24
PAPER = {"depth": "middle", "lr_g": 1e-4, "most_steps_g": 0}
StopReason = Literal["window", "guard", "no further gain", "rounds used up", "cancelled"]


def _obstacles(model: LanguageModel, demonstrations: Demonstrations) -> tuple[Obstacle, ...]:
    sides = sided(demonstrations.split("fit"))
    if min(len(sides[side]) for side in SIDES) >= 2:
        return ()
    hint = "Label rows target or anti_target, give each row both answers, or join two files of concept prompts."
    counts = " and ".join(f"{len(sides[side])} {side}" for side in SIDES)
    return (Obstacle(f"Two sets of prompts are needed; found {counts} prompts to fit.", hint),)


@method(
    "are",
    title="ARE",
    summary="Adversarial representation engineering: train low-rank adapters until a discriminator, made anew each round, "
    "takes every prompt for one of the concept.",
    paper="arXiv 2404.13752",
    config=AreConfig,
    edit=AdapterEdit,
    needs=Needs(("prompt",), task="concept", min_rows=2, sites=(*MLP_MATRICES, *ATTENTION_MATRICES)),
    presets={
        "ours": {},
        "retained": {"retention_kl": 100.0},
        "paper": PAPER,
        "paper-log": {**PAPER, "keep": "window", "max_rounds": 50, "min_accuracy": 0.0},
        "official-compat": {
            **PAPER,
            "modules": ("w_q", "w_v"),
            "keep": "window",
            "max_rounds": 50,
            "min_accuracy": 0.0,
            "min_steps_d": 0,
        },
    },
    preset_says={
        "retained": "Ours, with the prompts of the other side held as they were.",
        "paper-log": "As the paper's log of a run shows it: fifty rounds, and the first at which a new discriminator fails.",
    },
    obstacles=_obstacles,
    tries=lambda info: {"retention_kl": (0.0, 100.0)},
    scopes=lambda scope: {
        "adapter_blocks": None if scope.parts else scope.blocks,
        "parts": scope.parts,
        "read_blocks": scope.blocks,
    },  # fmt: skip
    holds=MATRICES,
    order=5,
    cost="each fit is a game of several rounds: minutes",
)
def fit(model: LanguageModel, demonstrations: Demonstrations, config: AreConfig, *, seed: int, progress: Progress) -> Fitted:
    """Play rounds until a new discriminator fails, the guard is hit, nothing is gained any more, or rounds are used up.

    Raises:
        NotEnoughData: a side has too few prompts. BadKnob: blocks or matrices that the model does not have.
        FitFailed: the concept is not represented at the blocks read, or already the first round breaks the guard.
        Cancelled: with the best round so far as `best`, if one was finished.
    """
    progress(0.0, "Reading the prompts")
    concept = _concept(model, demonstrations, config)
    neutral = neutral_of(model, demonstrations, seed)
    most = _N_NEUTRAL if model.info.n_parameters < SMALL else _N_NEUTRAL_LARGE
    retained, measured = (model.tokens(_spread(texts, most)) for texts in (neutral.fit, neutral.held))
    contest = Contest(model, concept, (retained, measured), config, header("are", model, demonstrations, config, seed), seed)
    progress(0.01, "Training the first discriminator")
    rounds, samples = [contest.open()], list[tuple[int, str, str]]()
    if rounds[0].accuracy < config.min_accuracy:
        raise FitFailed(
            f"The concept is not represented at blocks {list(contest.read_blocks)}: a discriminator finds "
            f"{rounds[0].accuracy:.2f} of the validation prompts' sides; {config.min_accuracy:.2f} is needed.",
            "Read other blocks, add prompts, or lower min_accuracy.",
        )
    reason: StopReason = "rounds used up"
    try:
        for index in range(1, config.max_rounds + 1):
            part = progress.part(0.02 + 0.96 * (index - 1) / config.max_rounds, 0.02 + 0.96 * index / config.max_rounds)
            rounds.append(contest.play(index, part))
            if config.sample_every and (index - 1) % config.sample_every == 0:
                samples.append((index, *sample_of(model, concept, contest.edit(rounds[-1].factors, index), config.direction)))
            part(1.0, f"Round {index} done", **live_values(rounds, concept, samples))
            found = stop_reason(rounds, config)
            if found is not None:
                reason = found
                break
    except Cancelled:
        if len(rounds) == 1:
            raise
        raise Cancelled(_finished(model, contest, concept, config, rounds, "cancelled", neutral.source, samples)) from None
    return _finished(model, contest, concept, config, rounds, reason, neutral.source, samples)


def _spread(texts: Sequence[str], most: int) -> list[str]:
    """At most so many of the texts, from all over the list."""
    return list(texts[:: -(-len(texts) // most)])


def _concept(model: LanguageModel, demonstrations: Demonstrations, config: AreConfig) -> Concept:
    changed = "anti_target" if config.direction == "toward" else "target"
    return concept_of(model, demonstrations, target=config.target, changed=changed, n_prompts=config.n_prompts)


def stop_reason(rounds: Sequence[Round], config: AreConfig) -> StopReason | None:
    """Why to stop after the last of these rounds; None to go on. The window is open: its ends do not stop.

    Where the kept round is chosen on validation, patience stops and the window does not: a discriminator of few steps can
    fall into it while a linear probe still reads the concept, and the benefit goes on growing.
    """
    last = rounds[-1]
    if config.max_retention_kl is not None and last.damage.kl > config.max_retention_kl:
        return "guard"
    if config.keep != "best_validation":
        return "window" if config.stop_low < last.accuracy < config.stop_high else None
    gained = [item.index for i, item in enumerate(rounds) if i and worth(item) > max(map(worth, rounds[:i])) + GAIN]
    return "no further gain" if last.index - max(gained, default=0) >= config.patience else None


def kept_round(rounds: Sequence[Round], config: AreConfig) -> Round:
    """The round that becomes the edit.

    best_validation: of the rounds inside the guard, the one that is worth most.
    window and last: the last round inside the guard.

    Raises:
        FitFailed: no round is inside the guard.
    """
    guard = math.inf if config.max_retention_kl is None else config.max_retention_kl
    inside = [item for item in rounds[1:] if item.damage.kl <= guard]
    if not inside:
        raise FitFailed(
            f"The first round already moves neutral text by {rounds[1].damage.kl:.3g} nats per token; {guard:g} is allowed.",
            "Lower lr_g, or raise max_retention_kl.",
        )
    if config.keep != "best_validation":
        return inside[-1]
    return max(inside, key=worth)


def worth(item: Round) -> float:
    """Mean probability of the wanted answers on validation rows, less what the KL on neutral text costs."""
    return item.probability - DAMAGE_COST * item.damage.kl


def _finished(
    model: LanguageModel,
    contest: Contest,
    concept: Concept,
    config: AreConfig,
    rounds: Sequence[Round],
    reason: StopReason,
    neutral_source: str,
    samples: Sequence[tuple[int, str, str]],
) -> Fitted:
    kept = kept_round(rounds, config)
    edit = contest.edit(kept.factors, kept.index)
    # Who cancels waits for nothing more: how far the activations moved is not measured then.
    neutral = None if reason == "cancelled" else contest.neutral
    report = rounds_report(model, concept, edit, neutral, contest.read_blocks, rounds, kept, reason, neutral_source, samples)
    return Fitted(edit, report)
