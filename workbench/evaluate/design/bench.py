"""One design measured: fitted once a configuration, its dose varied, gain on validation rows against damage on neutral text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from workbench import memo
from workbench.data.demonstrations import Demonstrations
from workbench.errors import BadKnob, FitFailed, NoEffect, NotFinite, UnsupportedExport
from workbench.evaluate.design.space import Design
from workbench.methods.choice import choosing_rows
from workbench.methods.registry import Fitted, get
from workbench.methods.shared.ground import ground_of
from workbench.methods.shared.validation import measured
from workbench.models.base import LanguageModel
from workbench.numerics.intervals import Interval, mean_interval, shortfall_interval
from workbench.progress import Progress, silent
from workbench.score import text_divergences
from workbench.shapes import Float

Stage = Literal["drawn", "search", "control"]
LEAST_TAIL, MOST_TAIL = 1e-3, 1.0
"""Nats a token between which damage counts: below, an edit is as good as harmless; above, a model is as good as broken."""
MOST_DECADES = math.log10(MOST_TAIL / LEAST_TAIL)
_HARDLY = 1e-5
_IMPOSSIBLE = (BadKnob, FitFailed, NoEffect, NotFinite, UnsupportedExport)


@dataclass(frozen=True)
class DesignTrial:
    """A design and what came out: `gains` prompt by prompt over the unedited model, nats a token; damage in nats a token of neutral text.

    `tail_nats` is the mean over the most moved twentieth of tokens: a search that is given a percentile finds edits that move what lies
    beyond it, as gates that let few tokens pass.
    `stage`: the first designs are drawn, for the search and for random draws beside it; then each goes its way. `why` says why there are
    no numbers: it could not be fitted, or it breaks the model.
    """

    design: Design
    stage: Stage
    gains: tuple[float, ...] = ()
    tail_nats: float = math.nan
    mean_nats: float = math.nan
    why: str = ""

    @property
    def gain(self) -> Interval:
        """The mean gain over validation prompts."""
        if self.why:
            return Interval(math.nan, math.nan, math.nan, len(self.gains), "withheld", self.why)
        return mean_interval(np.array(self.gains))

    @property
    def objectives(self) -> tuple[float, float]:
        """What a search makes large: the gain in nats a token, and how many powers of ten the tail stays below `MOST_TAIL`."""
        gain, harmless = self.seen
        return gain, min(harmless, MOST_DECADES)

    @property
    def seen(self) -> tuple[float, float]:
        """The same with damages below `LEAST_TAIL` told apart, as a surrogate learns from them."""
        if self.why:
            return math.nan, math.nan
        return float(np.mean(self.gains)), -math.log10(max(self.tail_nats, _HARDLY) / MOST_TAIL)

    def told(self) -> dict[str, Any]:
        """All of it as JSON types; `of` reads it back."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in self.design.values.items()}
        numbers = {"gains": list(self.gains), "tail_nats": self.tail_nats, "mean_nats": self.mean_nats} if not self.why else {}
        return {"method": self.design.method, "values": values, "dose": self.design.dose, "stage": self.stage, "why": self.why, **numbers}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> DesignTrial:
        """The trial that `told` wrote."""
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in told["values"].items()}
        design = Design(told["method"], values, told["dose"])
        if told["why"]:
            return cls(design, told["stage"], why=told["why"])
        return cls(design, told["stage"], tuple(told["gains"]), told["tail_nats"], told["mean_nats"])


class DesignBench:
    """Where designs are measured. Rows of split `test` are not there; use it within `memo.remembering`."""

    def __init__(self, model: LanguageModel, demonstrations: Demonstrations, seed: int) -> None:
        """Read what all designs share.

        Raises:
            NotEnoughData: validation rows with both answers have fewer than 5 prompts.
        """
        self.model, self.seed = model, seed
        self.seen = demonstrations.split("fit", "validation")
        self.rows = choosing_rows(self.seen)
        self.ground = ground_of(model, self.seen, seed)
        self.base = np.array(measured(model, [()], self.rows, ())[0].margins)
        self._texts = self.ground.counted.nonzero()[:, 0].cpu().numpy()
        self._failures: dict[str, str] = {}

    @property
    def n_tokens(self) -> int:
        """Tokens of neutral text that damage is told on."""
        return int(self.ground.counted.sum())

    def fitted(self, design: Design, progress: Progress | None = None) -> Fitted:
        """The fit of a design's configuration, at dose 1, kept as far as there is room. Raises: as `Method.fit`."""
        key = ("design", id(self.model), self.seen.fingerprint, self.seed, design.config)
        found: Fitted | None = memo.recalled(key)
        if found is None:
            method = get(design.method)
            found = method.fit(self.model, self.seen, method.configure(design.values), seed=self.seed, progress=progress)
            arrays = [*found.edit.tensors().values(), *found.report.arrays.values()]
            memo.keep(key, found, sum(array.nbytes for array in arrays))
        return found

    def trial(self, design: Design, stage: Stage, progress: Progress | None = None) -> DesignTrial:
        """Fit if need be, and measure. Raises: as `Method.fit`, but for knobs that do not go together and fits that fail."""
        return self.trials([design], stage, progress)[0]

    def trials(self, designs: Sequence[Design], stage: Stage, progress: Progress | None = None) -> list[DesignTrial]:
        """As `trial`, for several doses of one configuration, measured side by side."""
        tell, config = progress or silent(), designs[0].config
        try:
            if config in self._failures:
                raise FitFailed(self._failures[config], "")
            edit = self.fitted(designs[0], tell.part(0.0, 0.7)).edit
        except _IMPOSSIBLE as error:  # one impossible configuration is no reason to give up the others
            self._failures[config] = str(error)
            return [DesignTrial(one, stage, why=str(error)) for one in designs]
        stacks = [(edit.scaled(one.dose),) for one in designs]
        margins = np.array([one.margins for one in measured(self.model, stacks, self.rows, (), progress=tell.part(0.7, 0.9))])
        kl = text_divergences(self.model, self.ground.batch, stacks, self.ground.counted, progress=tell.part(0.9, 1.0)).kl.numpy()
        return [self._told(one, stage, mine - self.base, damage) for one, mine, damage in zip(designs, margins, kl)]

    def _told(self, design: Design, stage: Stage, gains: Float[np.ndarray, " prompt"], kl: Float[np.ndarray, " token"]) -> DesignTrial:
        if not (np.isfinite(gains).all() and np.isfinite(kl).all()):
            return DesignTrial(design, stage, why="It breaks the model: some of its probabilities are no numbers.")
        return DesignTrial(design, stage, tuple(gains.tolist()), shortfall_interval(kl, self._texts).estimate, float(kl.mean()))
