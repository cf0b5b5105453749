"""What a prompt does instead of the edit, and whether the edit stands behind a prompt that says the opposite, in whole sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.labels import LaneLabel
from workbench.edits.lane import Lane, Named
from workbench.edits.prompting import Prompting
from workbench.evaluate.benefit import Benefit, benefit
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.metrics import Metric, mean_metric, share_metric
from workbench.evaluate.rivals import rival_sentences, stands
from workbench.evaluate.side_effects import SideEffects
from workbench.session import Session
from workbench.settings import Rivals
from workbench.workspace.measured import neutral_for

SAME, OPPOSITE = "Be right.", "Be wrong."
LANES = tuple(
    LaneLabel(str(at), lane.keys, tuple(dose or 0.0 for _, dose in lane.doses), lane.prompting)
    for at, lane in enumerate([Lane(), *Rivals(SAME, OPPOSITE).lanes(Lane((Named("e", 2.0),)))])
)


def scored(*right: int, better: Any = "higher") -> Benefit:
    """A benefit whose lanes have so many right rows of 100; the right ones of a lane with fewer are among those of one with more."""
    hits = np.arange(100) < np.array(right)[:, None]
    tokens = mean_metric("prompt_tokens", "Tokens", np.full((len(right), 100), 5.0) + np.linspace(-1, 1, 100), "tokens", "lower")
    return Benefit("m", LANES[: len(right)], "set", "test", 100, (share_metric("mc1", "MC1", hits, better), tokens), ())


def test_the_lanes_of_rivals_are_prompts_alone_and_behind_the_edit() -> None:
    edited = Lane((Named("e", 2.0),))
    assert Rivals().lanes(edited) == (edited,)
    assert [str(lane) for lane in Rivals(SAME, OPPOSITE).lanes(edited)] == [
        "e:2", 'prompt:"Be right."', 'prompt:"Be wrong."', 'e:2+prompt:"Be wrong."', 'prompt:"Be right. Be wrong."',
    ]  # fmt: skip
    assert [str(lane) for lane in Rivals(against=OPPOSITE).lanes(edited)] == ["e:2", 'prompt:"Be wrong."', 'e:2+prompt:"Be wrong."']


@pytest.mark.parametrize(
    ("rival", "judged"),
    [(100, "does more than the edit"), (60, "does less than the edit"), (91, "does as much as the edit, within chance")],
)
def test_a_rival_is_weighed_against_the_edit_by_a_paired_test(rival: int, judged: str) -> None:
    told, _ = rival_sentences(scored(20, 90, rival, 0, 0, 70), None, 1)
    assert told.startswith(f"“Be right.” before every prompt, with no edit, **{judged}**: ")
    assert told.endswith("the edit 0.90 [0.82, 0.95]. It takes 5 tokens a prompt, the edit none.")


@pytest.mark.parametrize(
    ("both", "judged"),
    [(0, "the edit does not stand"), (2, "the edit does not stand"), (50, "the edit stands in part"), (89, "the edit stands")],
)
def test_whether_the_edit_stands_behind_the_opposite_is_told(both: int, judged: str) -> None:
    found = scored(20, 90, 100, 0, both, 70)
    _, told = rival_sentences(found, None, 1)
    assert told.startswith(f"Where a prompt says the opposite (“Be wrong.”), **{judged}**: ")
    assert told.endswith("0.00 [0.00, 0.04] without, 0.70 [0.60, 0.79] with “Be right.” before it and no edit.")
    assert stands(found.metrics[0], 1, 4, 3) == f"**{judged}**"


def test_of_too_few_rows_it_is_not_told_whether_the_edit_stands() -> None:
    rows = np.tile(np.linspace(0, 0.1, 7), (6, 1)) + np.array([[0.5], [0.9], [0.9], [0.1], [0.9], [0.5]])
    few = mean_metric("margin_nats", "Margin", rows, "nats", "higher")
    assert stands(few, 1, 4, 3) == "it cannot be told whether the edit stands"


def test_a_prompt_that_is_not_against_it_is_only_told() -> None:
    _, told = rival_sentences(scored(20, 90, 100, 40, 95, 99), None, 1)
    assert told.startswith("Behind “Be wrong.”: 0.95") and "stand" not in told
    _, told = rival_sentences(scored(20, 90, 100, 0, 95, 99, better="neither"), None, 1)
    assert told.startswith("Behind “Be wrong.”: 0.95")


def test_without_prompts_or_without_an_edit_there_is_nothing_to_tell() -> None:
    assert rival_sentences(scored(20, 90), None, 1) == ()
    assert rival_sentences(scored(20, 90, 100), None, 0) == ()
    assert rival_sentences(scored(20, 90, 100), None, 2) == ()
    assert len(rival_sentences(scored(20, 90, 100), None, 1)) == 1


def test_what_a_prompt_costs_is_counted_in_the_models_tokens(tiny_gpt2: Any) -> None:
    rows = Demonstrations(tuple(Demonstration(f"Is {i} odd?", " yes", " no", split="test") for i in range(9)))
    said = Prompting(prefix="A careful speaker answers.")
    found = benefit(tiny_gpt2, rows, [Lane((), said)])
    counted: Metric = found.metric("prompt_tokens")
    plain, asked = (tiny_gpt2.tokens([put(row.prompt) for row in rows]).lengths for put in (str, said.on))
    assert found.metrics[0].name == "mc1" and counted.per_item[0].tolist() == [0.0] * 9
    assert counted.per_item[1].tolist() == (asked - plain).tolist() and min(counted.per_item[1]) > 3
    assert all(metric.name != "prompt_tokens" for metric in benefit(tiny_gpt2, rows, [Lane()]).metrics)


def test_neutral_texts_leave_room_for_what_a_lane_says(tiny_gpt2: Any, tmp_path: Path) -> None:
    session, rows = Session(tiny_gpt2, tmp_path), Demonstrations(())
    long = Lane((), Prompting(prefix="word " * 20))
    alone, behind = neutral_for(session.demos, None, rows, tiny_gpt2), neutral_for(session.demos, None, rows, tiny_gpt2, [Lane(), long])
    room = tiny_gpt2.info.n_ctx - len(tiny_gpt2.tokenizer(long.prompting.as_text())["input_ids"])
    assert 0 < len(behind) < len(alone)
    assert behind == tuple(text for text in alone if len(tiny_gpt2.tokenizer(text)["input_ids"]) <= room)


def test_the_readme_says_of_the_first_card_what_is_measured() -> None:
    from benchmarks.rivals import BEGIN, END, README
    from pages._ui.kit.cards import FitCard, card
    from workbench.opening import open_session

    told = card(FitCard, "truthful")
    session = open_session(told.model, records=False)
    edit = session.fit(told.method, told.set, told.values).edit.dosed(told.dose)
    lanes = Rivals(told.rival, told.against).lanes(Lane((edit,)))
    mc1 = benefit(session.model, session.demos.resolve(told.set), list(lanes)).metric("mc1")
    base, alone, rival, against, both, joined = (f"{one.estimate:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in mc1.values)
    text = " ".join(README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].split())
    assert f"(n = {mc1.n}, 95 % intervals): the untouched model prefers the truth on {base} of popular misconceptions" in text
    assert f"behind a gate, at dose {told.dose:g} on {alone}, three random edits" in text
    assert f"with *{told.rival}* before the question, the untouched model prefers the truth on {rival} of the same rows" in text
    assert f"(*{told.against}* before the question) {stands(mc1, 1, 4, 3)}: {both} with it, {against} without, {joined} where" in text


def test_what_a_rival_breaks_stands_beside_what_the_edit_breaks() -> None:
    moved = mean_metric("kl_nats", "KL", np.array([[0.0] * 9, [0.25] * 9, [0.75] * 9, *[[0.5] * 9] * 3]), "nats/token", "lower")
    side = SideEffects("m", LANES, 9, 90, (moved,), {})
    gain = scored(20, 90, 100, 0, 0, 70)
    for told in (rival_sentences(gain, side, 1), Evaluation(gain, side, (None,) * 6, 0).rivals):
        assert f"On neutral text it moves the model by {moved.values[2].words} nats/token, the edit by {moved.values[1].words}." in told[0]


@pytest.mark.parametrize(("rival", "judged"), [(0, "does more than the edit"), (60, "does less than the edit")])
def test_where_less_is_better_the_rival_that_scores_less_does_more(rival: int, judged: str) -> None:
    told, *_ = rival_sentences(scored(80, 30, rival, 90, 90, 30, better="lower"), None, 1)
    assert f"**{judged}**" in told
