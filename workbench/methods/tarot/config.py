"""Knobs of TaRot, its presets, and the search that they ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from workbench.errors import BadKnob
from workbench.knobs import as_released, existing_layers, knob
from workbench.methods.registry import Scope
from workbench.methods.shared.heads import head_pairs
from workbench.methods.shared.parts import Holds
from workbench.methods.tarot.compat import OFFICIAL, TarotCompat
from workbench.models.base import LanguageModel, ModelInfo
from workbench.numerics.rotations import AngleSpace, Tie, Variant
from workbench.search import SearchConfig

TURNS = Holds(("head_z",), ("mlp_out",), together=False)
"""A variant turns heads or MLPs."""
ObjectiveName = Literal["prob", "accuracy", "margin", "logit_gain", "rank", "loglik", "generated"]
Shots = Literal["mix", "zero", "two", "four", "six"]
SHOTS: dict[str, tuple[int, ...]] = {"mix": (0, 2, 4, 6), "zero": (0,), "two": (2,), "four": (4,), "six": (6,)}


@dataclass(frozen=True)
class TarotConfig:
    """Knobs of TaRot. Ref: docs/methods/tarot.md §4, §5."""

    layers: tuple[int, ...] | None = knob(
        None,
        names_layers=True,
        label="Layers",
        symbol="E",
        help="Layers whose heads turn; none: as depth says, or all if heads are chosen.",
        bounds=(0, 399),
    )
    depth: Literal["first", "all"] = knob(
        "all", label="Depth", help="Where to turn if no layers are named: everywhere, or in the first fifth, as the paper does.", main=True
    )
    budget: int = knob(
        124,
        label="Budget",
        help="How many candidates the search may try, the first ones included.",
        unit="candidates",
        bounds=(10, 2000),
        main=True,
    )
    objective: ObjectiveName = knob(
        "prob",
        label="Objective",
        symbol="f",
        help="What rises: the answer's probability, accuracy, margin over the next answer, logit gain, rank, log-likelihood of the whole "
        "label, or a classifier's score of generated text.",
    )
    optimizer: Literal["auto", "random", "es", "turbo", "bo", "embedding"] = knob(
        "auto",
        label="Optimizer",
        help="turbo searches a region around the best, bo the whole box, by a model of the objective; es mutates the best; "
        "embedding searches few coordinates; random is the control. auto: turbo above 20 angles, else bo.",
    )
    top_heads: int | None = knob(
        None,
        label="Relevant heads",
        help="Turn only the heads that matter most to the right answers; none: all.",
        unit="heads",
        bounds=(1, 512),
    )
    n_train: int = knob(
        40,
        label="Training prompts",
        symbol="N",
        help="Half answered right at first. What twenty teach (as in the paper) often holds for those twenty alone.",
        unit="prompts",
        bounds=(4, 200),
    )
    variant: Variant = knob(
        "rotary",
        label="Variant",
        help="rotary: turn pairs of a head's coordinates. givens: mix all of them. scale: stretch whole heads. mlp: turn pairs "
        "of the MLP's output.",
    )
    bound: float | None = knob(
        None,
        label="Bound",
        symbol="Bnd",
        unit="rad",
        help="Largest angle; none: pi/4, and pi/6 when half of the layers or more turn.",
        bounds=(0.0, math.pi),
    )
    heads: tuple[str, ...] | None = knob(None, label="Heads", help="Turn only these, written layer.head; none: all of the layers.")
    rank_by: Literal["ablation", "attribution"] = knob(
        "ablation", label="Evidence", help="What tells how much a head matters: leaving it out (ablation), or a gradient (attribution)."
    )
    tie: Tie = knob("none", label="Tie", help="Which pairs share an angle: none, all of a head, or bands of neighbouring pairs.")
    bands: int = knob(
        4, label="Bands", symbol="m", help="How many angles a head has where pairs are tied by band.", unit="bands", bounds=(1, 64)
    )
    n_val: int = knob(
        50, label="Validation prompts", help="Rows of split validation that choose among the best.", unit="prompts", bounds=(0, 1000)
    )
    shots: Shots = knob("mix", label="Shots", help="Demonstrations before each prompt: none, a number, or a draw from 0, 2, 4, 6.")
    template: Literal["plain", "chat"] = knob("plain", label="Template", help="Prompts as they are, or as turns of the chat template.")
    instruction: str = knob("Answer with the label only.", label="Instruction", help="System line of the chat template.")
    separator: str = knob("\n", label="Separator", help="Text between demonstrations of a plain prompt.")
    answers: Literal["vocabulary", "labels"] = knob(
        "vocabulary", label="Answers", help="vocabulary: an answer's probability among all tokens. labels: among the labels only."
    )
    n_init: int = knob(
        10,
        label="Initial points",
        help="Candidates spread over the box before the optimizer takes over.",
        unit="candidates",
        bounds=(2, 100),
    )
    lanes: int = knob(4, label="Lanes", symbol="q", help="Candidates evaluated at once.", unit="candidates", bounds=(1, 64))
    tr_length: float = knob(
        0.8,
        label="Region",
        symbol="Ls",
        help="turbo: first side of the region around the best.",
        unit="share of the box",
        bounds=(0.01, 2.0),
    )
    tr_min: float = knob(
        2.0**-7, label="Smallest region", help="turbo: side at which it starts again.", unit="share of the box", bounds=(1e-4, 1.0)
    )
    tr_max: float = knob(
        1.6, label="Largest region", help="turbo: the side that it may grow to.", unit="share of the box", bounds=(0.1, 2.0)
    )
    success_tol: int = knob(3, label="Successes", help="turbo: gains in a row that double the region.", unit="steps", bounds=(1, 100))
    failure_tol: int | None = knob(
        None,
        label="Failures",
        help="turbo: steps without gain in a row that halve it; none: by the budget.",
        unit="steps",
        bounds=(1, 1000),
    )
    step: float = knob(
        0.2, label="Mutation", help="es: standard deviation of the first mutations.", unit="share of the box", bounds=(0.001, 1.0)
    )
    kernel: Literal["rbf", "matern", "ibnn"] = knob(
        "rbf",
        label="Kernel",
        help="bo: what its model of the objective takes for near: smooth (rbf), rougher (matern), or a wide network (ibnn).",
    )
    embedding_dim: int = knob(
        10, label="Embedding", help="embedding: how many coordinates it searches.", unit="coordinates", bounds=(1, 100)
    )
    target: float | None = knob(None, label="Target", help="Stop once the objective reaches it; none: never.", bounds=(-1e6, 1e6))
    patience: int | None = knob(
        None, label="Patience", help="Stop after so many candidates without gain; none: never.", unit="candidates", bounds=(1, 2000)
    )
    select_on: Literal["val", "train"] = knob("val", label="Select on", help="Validation prompts, or the training objective itself.")
    n_top: int = knob(
        5,
        label="Finalists",
        help="How many of the best by the training objective validation chooses from.",
        unit="candidates",
        bounds=(1, 20),
    )
    new_tokens: int = knob(
        10, label="New tokens", help="Length of generated text, for the objective generated.", unit="tokens", bounds=(1, 200)
    )
    compat: TarotCompat = as_released(OFFICIAL)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "ours": {},
    "first-fifth": {"depth": "first", "n_train": 20},
    "official-compat": {"compat": "official", "depth": "first", "n_train": 20, "n_init": 4, "select_on": "train", "lanes": 1},
    "relevant-heads": {"top_heads": 4},
    "evolution": {"optimizer": "es", "step": 0.3},
    "random-control": {"optimizer": "random"},
}
TAROT_PRESETS_SAY: Mapping[str, str] = {
    "first-fifth": "Turns heads in the first fifth of the layers alone, on twenty prompts, as the paper does.",
    "relevant-heads": "Turns only the four heads that matter most to the right answers: few angles, a short search.",
    "evolution": "Searches by changing the best angles a little, instead of by a model of the objective.",
}


def listed_heads(config: TarotConfig, info: ModelInfo) -> tuple[tuple[int, int], ...] | None:
    """Return the heads knob as (layer, head) pairs.

    Raises:
        BadKnob: a head is not written layer.head, or the model does not have it.
    """
    return None if config.heads is None else head_pairs(config.heads, info)


def angle_space(config: TarotConfig, model: LanguageModel, heads: tuple[tuple[int, int], ...] | None) -> AngleSpace:
    """Return the angles that a fit is free to turn.

    Layers that lack what turns (a hybrid's layers without attention) are left out.

    Raises:
        BadKnob: heads of the MLP; an odd width; only layers that lack it.
    """
    info = model.info
    if heads is not None and config.variant == "mlp":
        raise BadKnob("The mlp variant turns the MLP's output, which has no heads.", "Leave heads and top_heads empty.")
    listed = heads is not None and config.layers is None
    layers = tuple(sorted({layer for layer, _ in heads or ()})) if listed else edited_layers(config, info)
    kind = "mlp_out" if config.variant == "mlp" else "head_z"
    there = tuple(layer for layer in layers if layer in model.layers_of(kind))
    if layers and not there:
        those = ", ".join(map(str, model.layers_of(kind))) or "those of another model"
        raise BadKnob(f"None of the layers {', '.join(map(str, layers))} has {kind}.", f"Choose among {those}.")
    layers = there
    if heads is not None:
        heads = tuple(pair for pair in heads if pair[0] in layers)
    half = len(layers) * 2 >= info.n_layers and heads is None
    bound = (math.pi / 6 if half else math.pi / 4) if config.bound is None else config.bound
    is_mlp = config.variant == "mlp"
    return AngleSpace(
        config.variant,
        layers,
        1 if is_mlp else info.n_heads,
        info.d_model if is_mlp else info.d_head,
        bound,
        config.tie,
        config.bands,
        heads,
    )


def edited_layers(config: TarotConfig, info: ModelInfo) -> tuple[int, ...]:
    """Return the layers knob, or what depth says: the first fifth of the network, rounded up, or all of it. Raises: BadKnob."""
    n_default = info.n_layers if config.depth == "all" else math.ceil(info.n_layers / 5)
    return tuple(range(n_default)) if config.layers is None else existing_layers("layers", config.layers, info.n_layers)


def scoped(scope: Scope) -> Mapping[str, Any]:
    """Picked heads are the heads that turn, whatever chose them before, picked MLPs without heads the MLPs that do; layers turn whole."""
    held = TURNS.left(scope)
    if held.mlps:
        return {"variant": "mlp", "layers": held.mlps, "heads": None, "top_heads": None}
    if held.heads:
        return {"variant": "rotary", "heads": held.parts, "layers": None, "top_heads": None}
    return {"layers": scope.blocks, "heads": None}


MOST_ANGLES = 2000
RANKED_HEADS = 8
"""So many are turned where all would be more angles than a search of a hundred calls can see through."""


def narrowed(config: TarotConfig, info: ModelInfo) -> TarotConfig:
    """The config, with the most relevant heads in place of all layers where nothing says which, and all would be over 2,000 angles.

    On a model of 30 layers (8,640 angles) the search over all of them broke the task; over 8 ranked heads it did not.
    """
    chosen = config.heads is not None or config.top_heads is not None or config.layers is not None
    if chosen or config.depth != "all" or config.variant == "mlp" or config.compat.optimizer is not None:
        return config
    per_head = {"rotary": info.d_head // 2, "givens": info.d_head * (info.d_head - 1) // 2, "scale": 1}[config.variant]
    if config.tie != "none" or info.n_layers * info.n_heads * per_head <= MOST_ANGLES:
        return config
    return replace(config, top_heads=RANKED_HEADS, rank_by="attribution")


def search_config(config: TarotConfig, space: AngleSpace, seed: int) -> SearchConfig:
    """Return the search that the knobs ask for."""
    asked = SearchConfig(
        dim=space.dim,
        optimizer=config.compat.optimizer or config.optimizer,
        budget=config.budget,
        n_init=config.n_init,
        include_identity=config.compat.include_identity,
        identity=space.identity,
        seed=seed,
        lanes=config.lanes,
        kernel=config.kernel,
        embedding_dim=config.embedding_dim,
        region_start=config.tr_length,
        region_min=config.tr_min,
        region_max=config.tr_max,
        success_tol=config.success_tol,
        failure_tol=config.failure_tol,
        step=config.step,
        target=config.target,
        patience=config.patience,
    )
    return asked.official() if config.compat.optimizer == "official_bo" else asked
