"""Where should an edit act? Its gain and its damage at each place, and the place that costs least of those that gain as much as any.

Damage is read on the model's own answers, where there are any: on a neutral text alone nothing is a prompt, so that an edit of prompts
would seem to cost nothing.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

from workbench.errors import BadPlace
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.metrics import Metric
from workbench.models.base import LanguageModel
from workbench.models.placing import turn_marks
from workbench.numerics.intervals import Interval
from workbench.place import ROLES, read_place

COMPARED_PLACES = ("", "all", "prompt", "generated", "first 1", "first 4", "first 16")
"""The position rules that are compared; the empty one is the edit's own. `last` is none of them: scored texts are read whole, written ones
token by token, and their last token is not the same."""
_DAMAGE = ("own_kl_nats", "kl_nats")


def compared_places(model: LanguageModel, *, is_chat: bool) -> tuple[str, ...]:
    """The places that are compared; where rows are conversations, the turns of each side that the model's template tells apart too."""
    sides: Container[str] = ()
    if is_chat:
        with suppress(BadPlace):  # no template, or one that marks no turn: there is no such place
            sides = turn_marks(model.tokenizer)
    return (*COMPARED_PLACES, *(role for role in ROLES if role in sides))


@final
@dataclass(frozen=True)
class Placement:
    """An edit at one place: its score, how the score differs from the untouched model's (paired), and KL to it in nats a token. `random` is
    the score of a random edit of equal size at the same place, None without one."""

    rule: str
    label: str
    gain: Interval
    change: Interval
    damage: Interval
    random: Interval | None


@final
@dataclass(frozen=True)
class PlaceMap:
    """One edit at several places, over the same rows and texts; `best` is the place to use, None where no place gains beyond chance."""

    model: str
    data: str
    split: str
    n: int
    title: str
    unit: str
    base: Interval
    damage_title: str
    places: tuple[Placement, ...]
    best: int | None

    @property
    def sentence(self) -> str:
        """What a person can repeat, in Markdown."""
        if self.best is None:
            return f"**At no place it gains beyond chance** ({self.title.lower()}, n={self.n}): where it acts is not what it lacks."
        one, score = self.places[self.best], self.title[0].lower() + self.title[1:]
        return (
            f"**{one.label}** is the place to use: {score} {one.gain.words} against {self.base.words} untouched, at KL {one.damage.words} "
            "nats a token; no place gains more beyond chance, and those that gain as much cost no less."
        )

    def rows(self) -> list[dict[str, Any]]:
        """One table row a place."""
        return [
            {
                "place": one.label, self.title: one.gain.words, "change to base": one.change.words, "KL, nats a token": one.damage.words,
                "random edit of its size": one.random.words if one.random else None, "n": self.n, "use": "yes" if at == self.best else "",
            }
            for at, one in enumerate(self.places)
        ]  # fmt: skip


def place_map(found: Evaluation, rules: Sequence[str]) -> PlaceMap:
    """Read the map from an evaluation whose lanes, after the base, are one edit at these places in their order.

    Raises:
        ValueError: it has no side effects, or another number of lanes: the caller's mistake.
    """
    own = [at for at, lane in enumerate(found.lanes) if lane.edit_ids and not lane.control]
    if found.side_effects is None or len(own) != len(rules):
        raise ValueError(f"An evaluation of {len(own)} lanes is no map of {len(rules)} places with their damage.")
    score = found.benefit.metrics[0]
    damage = next(metric for name in _DAMAGE for metric in found.side_effects.metrics if metric.name == name)
    turned = {of: at for at, of in enumerate(found.placebo_of) if of is not None}
    places = [
        Placement(
            rule, _named(rule), score.values[at], score.between(at, 0), damage.values[at],
            score.values[turned[at]] if at in turned else None,
        )
        for rule, at in zip(rules, own)
    ]  # fmt: skip
    best = _best(score, damage, own)
    told = (found.benefit.model, found.benefit.data, found.benefit.split, score.n, score.title, score.unit, score.values[0])
    return PlaceMap(*told, damage.title, tuple(places), best)


def _named(rule: str) -> str:
    label = read_place(rule).label if rule else "as it was fitted"
    return label[0].upper() + label[1:]


def _best(score: Metric, damage: Metric, own: Sequence[int]) -> int | None:
    """Of the places that gain beyond chance and no less than the one that gains most, the one of least damage."""
    sign = -1 if score.better == "lower" else 1
    gaining = [at for at in own if sign * score.between(at, 0).sign > 0]
    if not gaining:
        return None
    most = max(gaining, key=lambda at: sign * score.values[at].estimate)
    equal = [at for at in gaining if sign * score.between(most, at).sign <= 0]
    return own.index(min(equal, key=lambda at: damage.values[at].estimate))
