"""What a fit, a comparison and an evaluation come from: frozen records that forms fill, jobs carry, sessions run and runs keep.

`Session.run` takes each of them, and gives what the record is marked with. Equal settings give equal results. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, TypeVar, final

from workbench.conversations import Prompt
from workbench.data.demonstrations import Source, Split
from workbench.edits.lane import Lane, valid_dose
from workbench.edits.prompting import Prompting
from workbench.place import read_place
from workbench.sampling import Sampling

if TYPE_CHECKING:
    # What the records are marked with, in strings that a linter does not read.
    from workbench.evaluate.comparison import Comparison  # noqa: F401
    from workbench.evaluate.design.record import DesignSearch  # noqa: F401
    from workbench.evaluate.dose_plane import DosePlane  # noqa: F401
    from workbench.evaluate.equal_damage import EqualDamage  # noqa: F401
    from workbench.evaluate.evaluation import Evaluation  # noqa: F401
    from workbench.evaluate.influence import Influence, Refit  # noqa: F401
    from workbench.evaluate.off_target import OffTarget  # noqa: F401
    from workbench.methods.registry import Fitted  # noqa: F401

_Result = TypeVar("_Result", covariant=True)
_NOTHING: Mapping[str, object] = MappingProxyType({})


class Runnable(Generic[_Result]):
    """What a session can run, and what comes of it."""


@final
@dataclass(frozen=True)
class Rivals:
    """Prompts to measure an edit beside: one that asks for the same, and one that asks for the opposite."""

    said: str = ""
    against: str = ""

    def lanes(self, edited: Lane) -> tuple[Lane, ...]:
        """The edit, the rival alone; then, where there is an opposite, it alone, with the edit, and with the rival before it."""
        found = [edited]
        if self.said:
            found.append(Lane((), Prompting(prefix=self.said)))
        if self.against:
            opposed = Prompting(prefix=self.against)
            found += [Lane((), opposed), Lane(edited.edits, opposed)]
        if self.said and self.against:
            found.append(Lane((), Prompting(prefix=f"{self.said} {self.against}")))
        return tuple(found)


NO_RIVALS = Rivals()


@dataclass(frozen=True)
class FitSettings(Runnable["Fitted"]):
    """A fit: a method with knobs on top of a preset or the defaults, on the rows of a set. Raises: BadDose, BadPlace.

    `dose` is where it is measured and saved; the fit itself is at 1. `data` is the fingerprint of the rows, so that a set that was changed
    since is told from the one that was fitted. `chat`: whether text prompts are put as a user's turn, under the turn `system` if there is
    one; None: where the model has a template and the prompts ask. `rivals` are what it is measured
    beside. `place`: where the edit is to act, as a part of it (`workbench.place`); empty: where its method says.
    """

    method: str
    source: Source
    config: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    preset: str | None = None
    seed: int = 0
    dose: float = 1.0
    data: str = ""
    chat: bool | None = None
    system: str = ""
    rivals: Rivals = field(default_factory=lambda: NO_RIVALS)
    place: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dose", valid_dose(self.dose))
        object.__setattr__(self, "place", str(read_place(self.place)))


@final
@dataclass(frozen=True)
class ChoiceSettings(FitSettings):
    """A fit whose free knobs and dose validation rows choose, within a limit of damage (KL on neutral text, nats a token)."""

    max_damage: float = 0.02


@final
@dataclass(frozen=True)
class CompareSettings(Runnable["Comparison"]):
    """A comparison of the untouched model and some lanes on prompts. A prompt that stands there again gets another draw.

    `forced`: of each prompt, the token ids with which every lane's answer has to begin; empty where nothing is forced. `frozen`: lanes,
    from 0, that keep the base's attention patterns. `where`: of each lane, the position rule at which its edits act; empty as they have it.
    """

    prompts: tuple[Prompt, ...]
    lanes: tuple[Lane, ...]
    sampling: Sampling = field(default_factory=Sampling)
    forced: tuple[tuple[int, ...], ...] = ()
    frozen: tuple[int, ...] = ()
    where: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class EvaluateSettings(Runnable["Evaluation"]):
    """An evaluation of lanes on the rows of a split (None: all), beside placebos. `neutral` names a set; None is the one that ships.

    `chat` and `system` as in a fit; None is as the edits were fitted. `shuffled` fits the first edit again on shuffled sides, beside it.
    `seconds`: as many rows and texts as about that time allows (None: all), drawn in a fixed order and judged once. `where` as in a
    comparison: of each lane, the position rule at which its edits act.
    """

    lanes: tuple[Lane, ...]
    source: Source
    split: Split | None = "test"
    neutral: Source | None = None
    n_placebos: int = 3
    n_generations: int = 16
    chat: bool | None = None
    system: str = ""
    shuffled: bool = False
    seconds: float | None = None
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class EqualDamageSettings(Runnable["EqualDamage"]):
    """Edits at equal damage on the rows of a split: methods to fit with their defaults, edits at hand, and prompts beside them.

    `lanes` are edits, one each, and prompts; a lane that is both is refused. `limit` is the damage, the 95th percentile of tokens of KL on
    neutral text, in nats a token. `shuffled`: each edit's method is fitted on shuffled sides too. `chat`, `system`, `neutral` as in an
    evaluation.
    """

    source: Source
    methods: tuple[str, ...] = ()
    lanes: tuple[Lane, ...] = ()
    limit: float = 0.1
    split: Split | None = "test"
    neutral: Source | None = None
    shuffled: bool = False
    n_placebos: int = 2
    chat: bool | None = None
    system: str = ""
    seed: int = 0


@dataclass(frozen=True)
class InfluenceSettings(Runnable["Influence"]):
    """What each demonstration that an edit was fitted on does to the rows of a split. The edit is a lane of one.

    `n_refits`: fits that a method without closed form is granted: one without each demonstration if that suffices for a method that
    trains, else on halves.
    """

    lane: Lane
    source: Source
    split: Split | None = "validation"
    n_refits: int = 40


@dataclass(frozen=True)
class RefitSettings(Runnable["Refit"]):
    """An edit fitted again without some of its demonstrations, by their ids or prompts; both are measured on the rows of a split."""

    lane: Lane
    source: Source
    drop: tuple[str, ...] = ()
    split: Split | None = "test"


@dataclass(frozen=True)
class OffTargetSettings(Runnable["OffTarget"]):
    """Edits, lanes of one each, against sets, some of them protected, on the rows of a split; `stacks`: pairs of edits too."""

    lanes: tuple[Lane, ...]
    sources: tuple[Source, ...]
    protected: tuple[Source, ...] = ()
    split: Split | None = "test"
    stacks: bool = True


@dataclass(frozen=True)
class DosePlaneSettings(Runnable["DosePlane"]):
    """What turning and scaling the stream behind one layer gains and breaks, and where edits, lanes of one each, stand in that plane."""

    source: Source
    layer: int
    lanes: tuple[Lane, ...] = ()
    split: Split | None = "validation"
    n_rows: int = 64


@final
@dataclass(frozen=True)
class DesignSettings(Runnable["DesignSearch"]):
    """A design search on validation rows of a set: trials among the designs of some methods (none: all whose fits take a second or so).

    `control`: as many designs are drawn at random beside it. `neutral`, `chat`, `system` as in an evaluation and a fit. The same settings
    with more trials go on from those that are stored.
    """

    source: Source
    methods: tuple[str, ...] = ()
    trials: int = 60
    control: bool = True
    neutral: Source | None = None
    chat: bool | None = None
    system: str = ""
    seed: int = 0
