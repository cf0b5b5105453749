"""The first card beside its rivals in words: a sentence that asks for the same, and one for the opposite. Writes the README's figures.

    python -m benchmarks.rivals --readme

The first is the card's, the plainest that a person would try. The second is chosen on validation rows among those that the embedded world
knows (`world.knowledge.MARKERS`): behind it the untouched model gives true answers least of its probability. Test rows are scored once,
beside three random edits of equal size. A second edit is measured so too: ARE on the set `careful`, whose pairs are the same questions
behind such sentences, at the dose that gains most on validation rows, alone and behind the opposite, within KL 0.02. Splits go by entity,
so no test row is about what was fitted.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import torch

from benchmarks.marks import write_between
from pages._ui.kit.cards import FitCard, card
from workbench.data.demonstrations import neutral_texts
from workbench.edits.base import Edit
from workbench.edits.lane import Lane
from workbench.edits.prompting import Prompting
from workbench.errors import BadDemonstrations
from workbench.evaluate.benefit import benefit
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.metrics import Metric
from workbench.evaluate.moved import shares_moved
from workbench.evaluate.rivals import stands
from workbench.evaluate.side_effects import side_effects
from workbench.opening import open_session
from workbench.session import Session
from workbench.settings import Rivals
from workbench.world.knowledge import MARKERS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- python -m benchmarks.rivals --readme -->", "<!-- end -->"
DOSES, LIMIT = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0), 0.02


def opposite(session: Session, data: str) -> str:
    """The sentence behind which a true answer is least likely under the untouched model, on validation rows."""
    lanes = [Lane((), Prompting(prefix=one)) for one in MARKERS[False]]
    found = benefit(session.model, session.demos.resolve(data), lanes, split="validation").metric("p_answer")
    return min(zip(MARKERS[False], found.values[1:]), key=lambda one: one[1].estimate)[0]


def standing(session: Session, data: str, against: str) -> Edit:
    """ARE on the set `careful`, at the dose that gains most on validation rows, alone and behind the opposite, within the limit."""
    edit, rows = session.fit("are", "careful").edit, session.demos.resolve(data)
    opposed = Prompting(prefix=against)
    lanes = [lane for dose in DOSES for lane in (Lane((edit.dosed(dose),)), Lane((edit.dosed(dose),), opposed))]
    gain = benefit(session.model, rows, lanes, split="validation").metric("mc1")
    texts = neutral_texts(session.demos.resolve("careful").split("validation"))[:64]
    damage = side_effects(session.model, texts, lanes[::2], n_generations=0).metric("kl_nats")
    score = {
        dose: gain.values[1 + 2 * i].estimate + gain.values[2 + 2 * i].estimate
        for i, dose in enumerate(DOSES)
        if damage.values[1 + i].estimate <= LIMIT
    }
    return edit.dosed(max(score, key=score.__getitem__))


def apart(session: Session, data: str, fitted: str) -> None:
    """Raises: BadDemonstrations, if a test row of one set is about an entity that rows for fitting of the other are about."""
    seen = {name for row in session.demos.resolve(fitted).split("fit") for name in row.all_tagged("entity")}
    both = seen & {name for row in session.demos.resolve(data).split("test") for name in row.all_tagged("entity")}
    if both:
        raise BadDemonstrations(f"{fitted} is fitted on {sorted(both)}, which test rows of {data} are about.", "Split both sets by entity.")


def measured(session: Session, told: FitCard, rivals: Rivals, edit: Edit) -> Evaluation:
    """An edit beside the rivals on test rows, with three placebos."""
    return session.evaluate(list(rivals.lanes(Lane((edit,)))), told.set, n_placebos=3, n_generations=0)


def _value(metric: Metric, lane: int) -> str:
    return metric.values[lane].told(".2f")


def paragraphs(card_edit: Evaluation, other: Evaluation, other_dose: float, rivals: Rivals) -> str:
    """What the README says."""
    mc1, p, told = card_edit.benefit.metric("mc1"), card_edit.benefit.metric("p_answer"), other.benefit.metric("mc1")
    cost, cost_of_other, moved = card_edit.side_effects, other.side_effects, shares_moved(card_edit.benefit, 1)
    if cost is None or cost_of_other is None or moved is None:
        raise RuntimeError("The evaluation has no side effects or no rows.")  # neutral texts and rows ship with the world
    kl, facts, tokens = cost.metric("kl_nats"), cost.metric("facts_mc1"), card_edit.benefit.metric("prompt_tokens")
    placebo, kl_other = card_edit.placebo_of.index(1), cost_of_other.metric("kl_nats").values[1].words
    numbers = (
        f"The numbers behind the first card, from the test rows that no choice has seen (n = {mc1.n}, 95 % intervals): the untouched model "
        f"prefers the truth on {_value(mc1, 0)} of popular misconceptions, SEA around the grand mean, behind a gate, at dose 2 on "
        f"{_value(mc1, 1)}, three random edits of equal rank and size on {_value(mc1, placebo)} (the card takes two, to be quick). "
        f"{moved.sentence} A true answer gets {_value(p, 1)} of all probability, {_value(p, 0)} before. It costs "
        f"{kl.values[1].words} nats a token of KL on neutral text; {_value(facts, 1)} of {facts.n} known facts stay known."
    )
    rival = (
        f"The rival is one line: with *{rivals.said}* before the question, the untouched model prefers the truth on {_value(mc1, 2)} of "
        f"the same rows, at {kl.values[2].words} nats a token on the text behind it, for {tokens.values[2].estimate:.0f} tokens a "
        f"prompt. Where a prompt does as well, use the prompt. Told the opposite (*{rivals.against}* before the question) "
        f"{stands(mc1, 1, 4, 3)}: {_value(mc1, 4)} with it, {_value(mc1, 3)} without, {_value(mc1, 5)} where the rival stands first. "
        f"With ARE on the set `careful`, at dose {other_dose:g}, {stands(told, 1, 4, 3)}: {_value(told, 1)} alone, {_value(told, 4)} told "
        f"the opposite, at {kl_other} nats a token. All are lanes of one table:"
    )
    return "\n\n".join(textwrap.fill(one, 150, break_on_hyphens=False) for one in (numbers, rival))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", action="store_true", help="write the figures into README.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    session, told = open_session("embedded", records=False), card(FitCard, "truthful")
    rivals = Rivals(told.rival, opposite(session, told.set))
    if rivals.against != told.against:
        what = f"Validation rows choose {rivals.against!r}, the card has {told.against!r}."
        raise BadDemonstrations(what, "Write it into assets/cards/truthful.json.")
    apart(session, told.set, "careful")
    mine = session.fit(told.method, told.set, told.values).edit.dosed(told.dose)
    other = standing(session, told.set, rivals.against)
    found, beside = measured(session, told, rivals, mine), measured(session, told, rivals, other)
    for one in (found, beside):
        print(one.verdict.plain, *one.rivals, sep="\n")
    text = paragraphs(found, beside, other.dose, rivals)
    print(text)
    if given.readme:
        write_between(README, BEGIN, END, text)


if __name__ == "__main__":
    main()
