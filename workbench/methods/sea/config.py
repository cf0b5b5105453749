"""Knobs and presets of SEA, and which layers they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

from workbench.errors import BadKnob
from workbench.knobs import as_released, knob
from workbench.methods.sea.compat import OFFICIAL, SeaCompat
from workbench.methods.shared.contrast_rows import Period
from workbench.methods.shared.gating import TRIED_GATES, GateKind
from workbench.methods.shared.layers import SMALL, layer_pairs, single_layers
from workbench.methods.shared.reading import read_knob, settled_reading
from workbench.methods.shared.sparing import HELP, SpareKind
from workbench.models.base import ModelInfo
from workbench.numerics.covariance import Centre
from workbench.numerics.feature_maps import Phi
from workbench.numerics.spectral_law import Merge, Norm

LayerMode = Literal["middle", "all", "first", "last", "signature"]
SeaMerge = Literal["auto", "sum", "average", "positive", "negative", "exclusive"]
SeaBase = Literal["auto", "own", "positive", "sides"]
SiteKind = Literal["resid_post", "mlp_out"]


@dataclass(frozen=True)
class SeaConfig:
    """Knobs of SEA. What is left to choose (auto, none) follows the size of the model: `resolved`."""

    FORMER: ClassVar[Mapping[str, tuple[str, Mapping[str, str]]]] = {"collect": ("read", {})}

    keep: float | None = knob(
        None,
        label="Share kept",
        symbol="K",
        help="Share of the squared singular values to keep of the good side and to drop of the bad side; none: .99 with the paper's law, "
        ".9 with ours.",
        unit="share",
        bounds=(0.5, 1.0),
        main=True,
    )
    layers: tuple[int, ...] | None = knob(
        None,
        names_layers=True,
        label="Layers",
        help="Layers to edit, counted from 0; none: by the layer mode, with our law the one that a look at all layers finds.",
        bounds=(0, 399),
        main=True,
    )
    center: Literal["auto", Centre] = knob(
        "auto",
        label="Centre",
        help="Subtract means and edit around them: each side's own (demonstrations), or one of all sides (grand). Without it "
        "the mean activation usually dominates, one direction is kept and dropped, and the edit does next to nothing. auto: "
        "demonstrations with the paper's law, grand with ours.",
    )
    phi: Phi = knob(
        "none",
        label="Feature map",
        symbol="Φ",
        help="Bend every coordinate before directions are found and after (Φ-SEA), so that they need not be straight. Needs centre none.",
    )
    layer_mode: LayerMode = knob(
        "middle",
        label="Layer mode",
        help="Which layers when none are listed: from the middle on, all, the first or last ones, or those with the largest "
        "mean activations (signature).",
    )
    n_layers: int | None = knob(
        None, label="Number of layers", help="How many layers the mode takes; none: by depth.", unit="layers", bounds=(1, 400)
    )
    keep_plus: float | None = knob(
        None, label="Share kept, good side", symbol="K+", help="Overrides K for what is kept.", unit="share", bounds=(0.5, 1.0)
    )
    keep_minus: float | None = knob(
        None, label="Share dropped, bad side", symbol="K-", help="Overrides K for what is dropped.", unit="share", bounds=(0.5, 1.0)
    )
    k_plus: int | None = knob(
        None, label="Directions kept", symbol="k+", help="A number of directions instead of a share.", unit="directions", bounds=(1, 100000)
    )
    k_minus: int | None = knob(
        None,
        label="Directions dropped",
        symbol="k-",
        help="A number of directions instead of a share.",
        unit="directions",
        bounds=(1, 100000),
    )
    base: SeaBase = knob(
        "auto",
        label="Base",
        symbol="H",
        help="What both sides' directions are read against: the model's own answers (own, the paper), the good answers (positive), or each "
        "side itself (sides), which needs no pairs. auto: sides for two sets of prompts, own with the paper's law, positive with ours.",
    )
    fit_site: SiteKind = knob(
        "resid_post", label="Fit at", help="Where activations are read: the residual stream behind a block, or its MLP's output."
    )
    edit_site: SiteKind = knob(
        "resid_post", label="Edit at", help="Where the edit acts. The released code fits at resid_post and edits mlp_out."
    )
    norm: Literal["token", "none"] = knob(
        "token", label="Norm restored", symbol="ν", help="token: each token keeps its length. none: linear, can be folded into weights."
    )
    merge: SeaMerge = knob(
        "auto",
        label="Merge",
        help="What becomes of the kept directions and of what is left without the dropped ones: their sum (the paper), their average, or "
        "one of them alone (positive, negative), for comparison. exclusive (ours): only the leading bad directions outside the kept space "
        "are dropped. auto: exclusive, the sum in models of fewer than 30 million parameters.",
    )
    read: Literal["auto", "last", "mean", "random"] = read_knob("last", "mean", "random")
    final_period: Literal["match", "keep", "strip", "force"] = knob(
        "match",
        label="Final period",
        help="Bare answers against sentences would make the edit learn the full stop. match: force one on both sides if some answers end "
        "in one and some don't, else keep the texts. Or always force, strip or keep.",
    )
    n_demos: int = knob(
        200, label="Demonstrations", symbol="N", help="At most so many, drawn with the seed.", unit="demonstrations", bounds=(2, 100000)
    )
    max_new_tokens: int | None = knob(
        None,
        label="Length of own answers",
        help="Tokens of the model's own greedy answer at most; none: one more than the longest given answer. A model that does not stop by "
        "itself would else be read far behind its answer.",
        unit="tokens",
        bounds=(1, 512),
    )
    where: Literal["all", "prompt", "generated"] = knob("all", label="Where", help="Positions that the edit acts on.")
    gate: GateKind = knob(
        "none", label="Gate", help="Let the edit act only on tokens that a probe tells from neutral text: at all (hard) or by share (soft)."
    )
    spare: SpareKind = knob("sinks", label="Spared tokens", help=HELP)
    compat: SeaCompat = as_released(OFFICIAL)

    @property
    def law_merge(self) -> Merge:
        """What the law does with both branches."""
        return cast(Merge, {"exclusive": "negative", "auto": "sum"}.get(self.merge, self.merge))

    def meant_merge(self, info: ModelInfo) -> SeaMerge:
        """The merge, or what auto means on a model."""
        if self.merge != "auto":
            return self.merge
        return "sum" if info.n_parameters < SMALL or self.phi != "none" else "exclusive"

    def looks_for_layer(self, info: ModelInfo) -> bool:
        """Whether a look at all layers says where our law acts: in a network of size, and neither layers, mode nor number were named."""
        named = self.layers is not None or self.layer_mode != "middle" or self.n_layers is not None
        return not named and info.n_parameters >= SMALL and self.meant_merge(info) == "exclusive"

    @property
    def restored(self) -> Norm:
        """The norm that the law restores."""
        return self.compat.norm or self.norm

    @property
    def period(self) -> Period:
        """What becomes of the answers' last full stops."""
        return self.compat.final_period or self.final_period

    def fits_at(self, info: ModelInfo) -> tuple[int, ...]:
        """The layers that are fitted; none where the fit looks for one."""
        return () if self.looks_for_layer(info) else listed_layers(self, info)


_LAW: Mapping[str, Any] = {"merge": "sum", "read": "last"}
_CENTRED: Mapping[str, Any] = {**_LAW, "center": "demonstrations", "keep": 0.99}
_BENT: Mapping[str, Any] = {**_LAW, "center": "none", "keep": 0.99}
_PAPER: Mapping[str, Any] = {**_BENT, "edit_site": "mlp_out", "keep": 0.998, "layer_mode": "last", "spare": "none"}
_COMPAT: Mapping[str, Any] = {**_PAPER, "compat": "official"}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "ours": {},
    "centred": _CENTRED,
    "exclusive": {"merge": "exclusive", "base": "positive", "read": "mean", "center": "grand", "keep": 0.9},
    "paper": _PAPER,
    "phi-squared-exponential": {**_BENT, "phi": "squared_exponential"},
    "phi-tanh": {**_BENT, "phi": "tanh"},
    "phi-elu": {**_BENT, "phi": "elu"},
    "linear": {**_CENTRED, "edit_site": "mlp_out", "fit_site": "mlp_out", "norm": "none", "spare": "none"},
    "official-compat": {**_COMPAT, "n_demos": 2000, "n_layers": 21, "max_new_tokens": 256},
    "official-compat-bbq": {
        **_COMPAT,
        "keep": 0.9999,
        "max_new_tokens": 64,
        "n_demos": 1000,
        "n_layers": 2,
        "compat.final_period": None,
        "final_period": "keep",
        "phi": "squared_exponential",
    },
}

SEA_PRESETS_SAY: Mapping[str, str] = {
    "centred": "The paper's law around the means of the activations, which would else take the only direction that is kept.",
    "exclusive": "Drops what is the bad side's alone, and keeps the rest: for models of size.",
    "phi-squared-exponential": "Bends every coordinate by a bell curve first, so that what is kept need not be straight.",
    "phi-tanh": "Bends every coordinate by tanh first.",
    "phi-elu": "Bends every coordinate below zero first, and keeps those above.",
    "linear": "Restores no token's length, so that the edit folds into the weights exactly.",
    "official-compat-bbq": "As the authors' released code does on their questions about groups of people.",
}


def resolved(config: SeaConfig, info: ModelInfo, pairs: bool) -> SeaConfig:
    """The config with everything settled that it leaves to choose.

    A small network has the paper's law, centred; one of size drops what is the bad side's alone, read from means over answers, where the
    paper's law keeps and drops nearly the same directions. Whoever names a law but not its base, centre or share gets those of that law.

    Args:
        pairs: whether each row has both answers; two sets of prompts have only themselves as base.

    Raises:
        BadKnob: knobs that do not go together.
    """
    merge = config.meant_merge(info)
    ours = merge == "exclusive"
    base = config.base if config.base != "auto" else "sides" if not pairs else "positive" if ours else "own"
    if not pairs and base != "sides":
        raise BadKnob(f"base = {base} with two sets of prompts: a base other than each side itself needs pairs.", "Set base = sides.")
    if base == "sides" and config.read == "random":
        raise BadKnob("read = random with base = sides: nothing is drawn where sides are read by themselves.", "Set read = last or mean.")
    return consistent(
        replace(
            config,
            merge=merge,
            base=base,
            read=settled_reading(config.read, info),
            center=config.center if config.center != "auto" else "grand" if ours else "demonstrations",
            keep=config.keep if config.keep is not None else 0.9 if ours else 0.99,
        )
    )


def consistent(config: SeaConfig) -> SeaConfig:
    """Return the config if its knobs go together.

    Raises:
        BadKnob: centring with another edit site or a feature map.
    """
    if config.center != "none" and config.fit_site != config.edit_site:
        raise BadKnob(
            f"center = {config.center} with fit_site = {config.fit_site} and edit_site = {config.edit_site}: the mean of one site says "
            "nothing at the other.",
            f"Set edit_site = {config.fit_site}, or center = none.",
        )
    if config.center != "none" and config.phi != "none":
        raise BadKnob(
            f"center = {config.center} with phi = {config.phi}: the mean is not one in feature space.", "Set center = none, or phi = none."
        )
    return config


def tries(info: ModelInfo) -> Mapping[str, tuple[Any, ...]]:
    """The knobs that a choice by validation tries."""
    layers = (*layer_pairs(info.n_layers), *single_layers(info.n_layers))
    if info.n_parameters >= SMALL:
        return {"layers": layers}
    return {"layers": layers, "keep": (0.9, 0.99), "center": ("demonstrations", "grand"), "gate": TRIED_GATES}


def listed_layers(config: SeaConfig, info: ModelInfo) -> tuple[int, ...]:
    """The layers that a config means; for mode `signature` all of them, since activations decide.

    Ref: docs/methods/sea.md §3.4. middle: clip(⌈n/12⌉, 2, 4) from ⌊n/2⌋ on; last: ⌈21n/32⌉ unless `n_layers` says otherwise.
    """
    n = info.n_layers
    if config.layers is not None:
        return tuple(dict.fromkeys(config.layers))
    if config.layer_mode in ("all", "signature"):
        return tuple(range(n))
    count = min(n, wanted_count(config, n))
    if config.layer_mode == "first":
        return tuple(range(count))
    if config.layer_mode == "last":
        return tuple(range(n - count, n))
    start = min(n // 2, n - count)
    return tuple(range(start, start + count))


def wanted_count(config: SeaConfig, n: int) -> int:
    """How many layers the layer mode takes on a model of `n` layers (docs/methods/sea.md §3.4)."""
    if config.n_layers is not None:
        return config.n_layers
    return max(2, min(4, math.ceil(n / 12))) if config.layer_mode in ("middle", "signature") else math.ceil(21 * n / 32)
