"""Facts of what a learner fitted, measured and compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from workbench.lessons.attempt import Attempt, FactValue, Vocabulary

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Comparison
    from workbench.evaluate.evaluation import Evaluation
    from workbench.evaluate.metrics import Metric
    from workbench.methods.registry import Fitted


class Outcome(Protocol):
    """A fit with what it was measured to do, as the place `fit` holds it."""

    @property
    def fitted(self) -> Fitted: ...
    @property
    def evaluation(self) -> Evaluation | None: ...
    @property
    def settings(self) -> Any: ...


def add_editing(facts: Vocabulary) -> None:
    """Add them to a vocabulary."""
    _fit(facts)
    _measured(facts, "fit", "fit", lambda found: found.evaluation)
    _measured(facts, "evaluate", "evaluate", lambda found: found)
    _evaluated(facts)
    _compare(facts)


def _fit(facts: Vocabulary) -> None:
    at = "fit"

    @facts.of(at, "fit.method", "The method")
    def _(found: Outcome, of: str) -> FactValue:
        return found.fitted.edit.header.method

    @facts.of(at, "fit.set", "The set")
    def _(found: Outcome, of: str) -> FactValue:
        return str(found.settings.source)

    @facts.of(at, "fit.dose", "The dose")
    def _(found: Outcome, of: str) -> FactValue:
        return float(found.settings.dose)

    @facts.of(at, "fit.knob", "The knob")
    def _(found: Outcome, of: str) -> FactValue | None:
        value: Any = found.fitted.edit.header.config.get(of)
        if isinstance(value, bool | str) or value is None:
            return value
        return float(value) if isinstance(value, int | float) else ", ".join(map(str, value))

    @facts.of(at, "fit.number", "The fit's own number")
    def _(found: Outcome, of: str) -> FactValue | None:
        value = found.fitted.report.scalars.get(of)
        return None if value is None else float(value)

    @facts.of(at, "fit.rise", "The rise of the right answer's probability")
    def _(found: Outcome, of: str) -> FactValue | None:
        before, after = (found.fitted.report.scalars.get(f"{of}_p_{when}") for when in ("before", "after"))
        return None if before is None or after is None else float(after - before)

    @facts.of(at, "fit.kept", "What the round that was kept has")
    def _(found: Outcome, of: str) -> FactValue | None:
        row = next((row for row in found.fitted.report.tables.get("rounds", ()) if row.get("kept")), {})
        return float(row[of]) if of in row else None

    @facts.of(at, "fit.spared", "The number of layers at which tokens of great length are left alone")
    def _(found: Outcome, of: str) -> FactValue:
        return len(found.fitted.edit.spares)

    @facts.of(at, "fit.largest", "The largest value")
    def _(found: Outcome, of: str) -> FactValue | None:
        """The largest first value of the arrays of a name: `cumulative_plus` of every layer."""
        values = [array.flat[0] for name, array in found.fitted.report.arrays.items() if name.partition("[")[0] == of and array.size]
        return float(max(values)) if values else None


def _measured(facts: Vocabulary, place: str, name: str, of_result: Callable[[Any], Evaluation | None]) -> None:
    """What an evaluation says of the first edit: after a fit, and on Evaluate."""

    def fact(end: str, words: str, read: Callable[[Evaluation, str], FactValue | None]) -> None:
        @facts.of(place, f"{name}.{end}", words)
        def _(found: Any, of: str) -> FactValue | None:
            measured = of_result(found)
            return None if measured is None else read(measured, of)

    def value(kind: Callable[[Evaluation], int | None]) -> Callable[[Evaluation, str], FactValue | None]:
        def read(found: Evaluation, of: str) -> FactValue | None:
            metric, lane = _metric(found, of), kind(found)
            return None if metric is None or lane is None else float(metric.values[lane].estimate)

        return read

    def gain(found: Evaluation, of: str) -> FactValue | None:
        metric, lane = _metric(found, of), _edit(found)
        change = None if metric is None or lane is None else metric.changes[lane]
        return None if change is None else float(change.estimate)

    fact("verdict", "The verdict", lambda found, of: found.verdict.kind)
    fact("beats_placebo", "Better than the placebo beyond chance", lambda found, of: found.verdict.beats_placebo)
    fact("n", "The number of rows", lambda found, of: float(found.benefit.n))
    fact("base", "The score without the edit", value(lambda found: 0))
    fact("edit", "The score with the edit", value(_edit))
    fact("placebo", "The placebo's score", value(_control("placebo")))
    fact("shuffled", "The score with shuffled sides", value(_control("shuffled")))
    fact("prompt", "The score with a sentence before each question", value(_prompt))
    fact("opposed", "The edit's score behind a sentence that asks for the opposite", value(_opposed))
    fact("overruled", "The score with both sentences, the opposite last, and no edit", value(_overruled))
    fact("gain", "The change by the edit", gain)


def _evaluated(facts: Vocabulary) -> None:
    at = "evaluate"

    @facts.of(at, "evaluate.split", "The split of the rows")
    def _(found: Evaluation, of: str) -> FactValue:
        return found.benefit.split

    def mine(attempt: Attempt, of: str) -> FactValue | None:
        found: Evaluation | None = attempt.results.get(at)
        lanes = () if found is None else [lane for lane in found.lanes if lane.prompting is None and not lane.control]
        return None if found is None else float(sum(bool(attempt.edits & set(lane.edit_ids)) for lane in lanes))

    facts.add("evaluate.mine", "The number of lanes with an edit that you made in this lesson", mine)


def _metric(found: Evaluation, of: str) -> Metric | None:
    """The metric of a name, of gain or damage; without a name the first one of gain."""
    return next((metric for metric in found.all_metrics if not of or metric.name == of), None)


def _edit(found: Evaluation) -> int | None:
    return next((at for at, lane in enumerate(found.lanes) if lane.edit_ids and not lane.control and lane.prompting is None), None)


def _prompt(found: Evaluation) -> int | None:
    return next((at for at, lane in enumerate(found.lanes) if lane.prompting is not None and not lane.edit_ids), None)


def _opposed(found: Evaluation) -> int | None:
    return next((at for at, lane in enumerate(found.lanes) if lane.edit_ids and lane.prompting is not None and not lane.control), None)


def _overruled(found: Evaluation) -> int | None:
    """The lane of two sentences: the third without an edit, behind one of either sentence."""
    prompts = [at for at, lane in enumerate(found.lanes) if lane.prompting is not None and not lane.edit_ids]
    return prompts[2] if len(prompts) > 2 else None


def _control(kind: str) -> Callable[[Evaluation], int | None]:
    return lambda found: next((at for at, lane in enumerate(found.lanes) if lane.control == kind), None)


def _compare(facts: Vocabulary) -> None:
    at = "compare"

    @facts.of(at, "compare.prompt", "What was asked")
    def _(found: Comparison, of: str) -> FactValue:
        return " / ".join(map(str, found.prompts))

    @facts.of(at, "compare.lanes", "The number of lanes without words of their own")
    def _(found: Comparison, of: str) -> FactValue:
        return len(_unprompted(found))

    @facts.of(at, "compare.base", "What the untouched model says")
    def _(found: Comparison, of: str) -> FactValue:
        return found.texts[0][0].text.strip()

    @facts.of(at, "compare.last", "What the last lane without words of its own says")
    def _(found: Comparison, of: str) -> FactValue:
        return found.texts[0][_unprompted(found)[-1]].text.strip()

    def mine(attempt: Attempt, of: str) -> FactValue | None:
        found = attempt.results.get(at)
        return None if found is None else float(len(_mine(found, attempt.edits)))

    def changed(attempt: Attempt, of: str) -> FactValue | None:
        """Prompts on which a lane of one's own edit says something else than the base."""
        found = attempt.results.get(at)
        if found is None or not (lanes := _mine(found, attempt.edits)):
            return None
        return float(sum(any(texts[lane].text != texts[0].text for lane in lanes) for texts in found.texts))

    facts.add("compare.mine", "The number of lanes with an edit that you made in this lesson", mine)
    facts.add("compare.changed", "The number of prompts that your edit answers otherwise", changed)


def _mine(found: Comparison, edits: frozenset[str]) -> list[int]:
    """The lanes with an edit of these and nothing said beside it: a sentence may be what changed the answer. A saved edit keeps the id of
    its fit as the beginning of its own."""
    return [i for i in _unprompted(found) if edits & set(found.lanes[i].edit_ids)]


def _unprompted(found: Comparison) -> list[int]:
    """The lanes that say nothing before the prompt; the untouched model is the first."""
    return [i for i, lane in enumerate(found.lanes) if lane.prompting is None]
