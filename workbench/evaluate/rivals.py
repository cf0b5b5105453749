"""What a prompt does instead of the edit, and what the edit does when a prompt says otherwise, in words.

A prompt is the cheapest rival of an edit: it costs no fit. What an edit can give beyond it is that it takes no tokens, and that it stands
when a prompt that follows says the opposite. Both are measured on the same rows, in paired tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from workbench.edits.labels import LaneLabel
from workbench.edits.prompting import Prompting
from workbench.evaluate.benefit import Benefit
from workbench.evaluate.metrics import Metric
from workbench.evaluate.side_effects import SideEffects


@dataclass(frozen=True)
class _Lanes:
    """Where the lanes stand that are told of: the edit alone, prompts alone, and prompts with the edit."""

    edit: int
    alone: dict[Prompting, int] = field(default_factory=dict[Prompting, int])
    both: dict[Prompting, int] = field(default_factory=dict[Prompting, int])

    def before(self, prompting: Prompting) -> tuple[Prompting, int] | None:
        """The prompt that stands alone too and, in another lane, before this one."""
        for other in self.alone:
            at = self.alone.get(Prompting(prefix=f"{other.prefix} {prompting.prefix}"))
            if other.prefix and other != prompting and at is not None:
                return other, at
        return None


def _found(lanes: Sequence[LaneLabel], edit: int) -> _Lanes:
    found, mine = _Lanes(edit), lanes[edit]
    for at, lane in enumerate(lanes):
        if lane.prompting is None:
            continue
        if not lane.edit_ids:
            found.alone[lane.prompting] = at
        elif (lane.edit_ids, lane.doses) == (mine.edit_ids, mine.doses):
            found.both[lane.prompting] = at
    return found


def rival_sentences(benefit: Benefit, side_effects: SideEffects | None, edit: int) -> tuple[str, ...]:
    """One sentence in Markdown a prompt that was measured beside the lane `edit`; empty where there was none, or the lane has no edit."""
    if not benefit.metrics or not benefit.lanes[edit].edit_ids or benefit.lanes[edit].prompting is not None:
        return ()
    metric, lanes = benefit.metrics[0], _found(benefit.lanes, edit)
    joined = {told[1] for prompting in lanes.both if (told := lanes.before(prompting))}
    rivals = [(said, at) for said, at in lanes.alone.items() if said not in lanes.both and at not in joined]
    told = [_instead(benefit, side_effects, metric, edit, said, at) for said, at in rivals]
    return (*told, *(_told_so(metric, lanes, said) for said in lanes.both if said in lanes.alone))


def _instead(benefit: Benefit, side: SideEffects | None, metric: Metric, edit: int, said: Prompting, at: int) -> str:
    ahead, wanted = metric.between(at, edit), 1 if metric.better == "higher" else -1
    more = "**does more than the edit**" if ahead.sign == wanted else "**does less than the edit**"
    judged = "**does as much as the edit, within chance**" if not ahead.excludes_zero else more
    judged = "stands beside the edit" if metric.better == "neither" or ahead.withheld else judged
    text = f"{said.label} before every prompt, with no edit, {judged}: {_short(metric, at)}, the edit {_short(metric, edit)}."
    tokens = next((one for one in benefit.metrics if one.name == "prompt_tokens"), None)
    if tokens is not None:
        text += f" It takes {tokens.values[at].estimate:.0f} tokens a prompt, the edit none."
    moved = next((one for one in side.metrics if one.name == "kl_nats"), None) if side else None
    if moved is None:
        return text
    mine, other = moved.values[edit].words, moved.values[at].words
    return text + f" On neutral text it moves the model by {other} {moved.unit}, the edit by {mine}."


def _told_so(metric: Metric, lanes: _Lanes, said: Prompting) -> str:
    """What the edit does behind a prompt: whether it stands, where the prompt asks for the opposite."""
    alone, both, wanted = lanes.alone[said], lanes.both[said], 1 if metric.better == "higher" else -1
    numbers = f"{_short(metric, both)} with the edit, {_short(metric, alone)} without"
    first = lanes.before(said)
    numbers += f", {_short(metric, first[1])} with {first[0].label} before it and no edit" if first else ""
    if metric.better == "neither" or metric.between(alone, 0).sign != -wanted:
        return f"Behind {said.label}: {numbers}."
    return f"Where a prompt says the opposite ({said.label}), {stands(metric, lanes.edit, both, alone)}: {numbers}."


def stands(metric: Metric, edit: int, both: int, alone: int) -> str:
    """Whether an edit stands behind a prompt that asks for the opposite, from its lane alone, with the prompt, and the prompt alone."""
    wanted = 1 if metric.better == "higher" else -1
    gain = metric.between(both, alone)
    if gain.withheld:
        return "it cannot be told whether the edit stands"
    if gain.sign != wanted:
        return "**the edit does not stand**"
    return "**the edit stands in part**" if metric.between(both, edit).sign == -wanted else "**the edit stands**"


def _short(metric: Metric, at: int) -> str:
    return metric.values[at].told(".2f")
