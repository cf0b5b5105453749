"""The knobs of ARE, and which blocks and weights they mean in a model of some depth.

Ref: docs/methods/are.md §3.2, §3.4, §4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from workbench.errors import BadKnob
from workbench.knobs import knob
from workbench.methods.shared.discriminator import MIN_STEPS, Depth, block_span, blocks_read
from workbench.methods.shared.layers import SMALL
from workbench.methods.shared.parts import blocks_of, parts_knob
from workbench.models.base import ModelInfo
from workbench.sites import Site

MOST_STEPS = 160
# First and last block edited, in 32nds of the depth.
_EDITED = {"middle": (9, 13), "late": (12, 22)}


@dataclass(frozen=True)
class AreConfig:
    """Knobs of ARE."""

    RETIRED: ClassVar[tuple[str, ...]] = ("template",)

    direction: Literal["toward", "away"] = knob(
        "toward", label="Direction", help="Bring the concept out in every prompt, or take it away.", main=True
    )
    max_rounds: int = knob(
        8, label="Rounds at most", help="The paper allows 50. To take round k again, fit with k rounds and keep the last.",
        bounds=(1, 200), unit="rounds", main=True,
    )  # fmt: skip
    lr_g: float = knob(
        4e-4,
        label="Learning rate of the edit",
        help="Step size of the adapters that are the edit. The paper has 1e-4; raise it if they hardly grow.",
        bounds=(1e-6, 1e-1),
    )
    keep: Literal["best_validation", "window", "last"] = knob(
        "best_validation",
        label="Keep",
        help="best_validation: the round that gains most on validation rows, less its damage. window: the first at which a new "
        "discriminator fails, as in the paper. last: the last.",
    )
    patience: int = knob(2, label="Patience", help="Rounds without gain on validation after which to stop.", bounds=(1, 200), unit="rounds")
    stop_low: float = knob(
        0.45,
        label="Stop above",
        help="With keep = window: the fit ends once a new discriminator's accuracy lies above this.",
        unit="share right",
        bounds=(0.0, 1.0),
    )
    stop_high: float = knob(
        0.70, label="Stop below", help="With keep = window: the accuracy that it has to lie below.", unit="share right", bounds=(0.0, 1.0)
    )
    max_retention_kl: float | None = knob(
        None,
        label="Damage at most",
        help="Stop before a round that changes the next tokens of neutral text by more than this.",
        unit="nats per token",
        bounds=(0.0, 100.0),
    )
    retention_kl: float = knob(
        0.0,
        label="Weight of retention",
        symbol="β",
        help="How strongly the fit holds neutral text still: β times the change of its next tokens joins the loss. The paper has none.",
        bounds=(0.0, 1000.0),
    )
    target: str | None = knob(None, label="Target", help="Which concept is the target, if prompts are tagged with two.")
    n_prompts: int | None = knob(
        None, label="Prompts", help="Number to fit on, both sides together; none: all.", unit="prompts", bounds=(4, 2000)
    )
    depth: Depth = knob(
        "late", label="Depth", help="Where to read and edit if no blocks are named: the paper's middle, or the two thirds of the way up "
        "where small models hold a concept.",
    )  # fmt: skip
    read_blocks: tuple[int, ...] | None = knob(
        None,
        names_layers=True,
        label="Read blocks",
        symbol="E",
        help="Blocks whose output the discriminator reads; none: as depth says.",
        bounds=(0, 399),
    )
    adapter_blocks: tuple[int, ...] | None = knob(
        None,
        names_layers=True,
        label="Edited blocks",
        help="Blocks that get adapters, none of them above the deepest block read; none: as depth says.",
        bounds=(0, 399),
    )
    parts: tuple[str, ...] | None = parts_knob()
    modules: tuple[str, ...] = knob(
        ("w_in", "w_out"),
        label="Edited matrices",
        help="Which matrices of an edited block change: w_q, w_k, w_v, w_o of attention, w_gate, w_in, w_out of the MLP. Where "
        "a block's MLP is a mixture of experts, w_in and w_out stand for attention's four.",
    )
    rank: int = knob(8, label="Rank", symbol="r", help="In how many directions each matrix may change.", unit="directions", bounds=(1, 128))
    alpha: float = knob(8.0, label="Alpha", symbol="α", help="A change is scaled by alpha / rank.", bounds=(0.01, 256.0))
    eps_g: float = knob(
        1e-2,
        label="Adam's epsilon",
        help="Added to what Adam divides by; a large one, as in the paper, makes it plain gradient descent.",
        bounds=(1e-10, 1.0),
    )
    epochs_g: int = knob(
        2, label="Passes a round", help="How often the adapters see every prompt in a round.", unit="passes", bounds=(1, 10)
    )
    most_steps_g: int | None = knob(
        None,
        label="Steps a round",
        help=f"At most so many steps of the adapters a round; the next round goes on with the prompts behind them. 0: no limit; none: none "
        f"in a small network, {MOST_STEPS} in another, where 400 steps are minutes.",
        unit="steps",
        bounds=(0, 100_000),
    )
    batch_g: int = knob(1, label="Batch", help="How many prompts a step of the adapters follows.", unit="prompts", bounds=(1, 64))
    adversary: Literal["retrained", "frozen"] = knob(
        "retrained", label="Adversary", help="retrained: a new discriminator every round. frozen: the first one throughout, a control."
    )
    disc: Literal["mlp", "linear"] = knob("mlp", label="Discriminator", help="mlp: one hidden layer. linear: a straight cut.")
    disc_hidden: int = knob(
        512, label="Hidden width", help="How many units the discriminator's hidden layer has.", unit="units", bounds=(8, 2048)
    )
    inputs: Literal["raw", "centred"] = knob(
        "raw", label="What it reads", help="raw: activations as they are. centred: centred and scaled by those of the unedited model."
    )
    lr_d: float = knob(1e-3, label="Learning rate of the discriminator", help="Step size of the discriminator's Adam.", bounds=(1e-6, 1.0))
    eps_d: float = knob(
        1e-3, label="Discriminator's epsilon", help="Added to what the discriminator's Adam divides by.", bounds=(1e-10, 1.0)
    )
    epochs_d: int = knob(
        30, label="Discriminator's passes", help="How often a new discriminator sees every prompt.", unit="passes", bounds=(1, 200)
    )
    min_steps_d: int = knob(
        MIN_STEPS,
        label="Discriminator's steps at least",
        help="More passes where few prompts would give fewer steps; 0: the passes above and no more, as released.",
        bounds=(0, 10_000),
        unit="steps",
    )
    batch_d: int = knob(
        64, label="Discriminator's batch", help="How many prompts a step of the discriminator follows.", unit="prompts", bounds=(1, 512)
    )
    min_accuracy: float = knob(
        0.70,
        label="Concept found by",
        help="Refuse the fit if the first discriminator tells less of the validation prompts apart; 0: never.",
        unit="share right",
        bounds=(0.0, 1.0),
    )
    sample_every: int = knob(2, label="Sample every", help="Rounds between shown samples; 0 for none.", unit="rounds", bounds=(0, 200))

    def steps(self, n_prompts: int, index: int, info: ModelInfo) -> list[int]:
        """The first prompt of each step of round `index` (from 1): all, as often as `epochs_g` says, or as many as there may be."""
        each = range(0, n_prompts, self.batch_g)
        n, most = self.epochs_g * len(each), self.most_steps_g
        if most is None:
            most = 0 if info.n_parameters < SMALL else MOST_STEPS
        n = min(n, most) if most else n
        return [each[((index - 1) * n + step) % len(each)] for step in range(n)]

    def reads(self, n_layers: int) -> tuple[int, ...]:
        """Blocks read, deepest first. Raises: as `blocks_read`."""
        return blocks_read(n_layers, self.read_blocks, self.depth)

    def fits_at(self, info: ModelInfo) -> tuple[int, ...]:
        """The blocks whose output is told apart."""
        return self.read_blocks or self.reads(info.n_layers)

    def adapter_sites(self, n_layers: int) -> tuple[Site, ...]:
        """Weights that get adapters: blocks rd(12n/32) … rd(22n/32); in the middle (the paper) rd(9n/32) … rd(13n/32); at least two.

        Raises:
            BadKnob: a block above the deepest read block (its gradient would be zero).
        """
        if self.parts is not None and self.adapter_blocks is not None:
            raise BadKnob("Blocks and parts of blocks are both named.", "Leave parts empty to edit whole blocks, or adapter_blocks empty.")
        named = self.adapter_blocks if self.parts is None else blocks_of(self.parts)
        found = named if named is not None else block_span(*_EDITED[self.depth], n_layers)
        top = max(self.reads(n_layers))
        if named is None:
            found = tuple(block for block in found if block <= top) or (top,)
        if max(found) > top:
            which = "adapter_blocks" if self.parts is None else "parts"
            raise BadKnob(
                f"{which} = {max(found)} is above the deepest block read, {top}: no gradient reaches it.",
                f"Choose blocks up to {top}, or read deeper.",
            )
        return tuple(Site(kind, block) for block in sorted(set(found)) for kind in self.modules)
