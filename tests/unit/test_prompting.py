"""A prompt is a lane: what is said before every prompt stands where edits stand, alone or with one, and is measured like them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import contrast_rows, words
from workbench.conversations import Conversation, Turn
from workbench.edits.lane import Lane, Named, lane_of, read_lanes, write_lanes
from workbench.edits.prompting import Prompting, ShotsOf
from workbench.errors import BadLane, BadPrompt, FittedRows
from workbench.evaluate.benefit import benefit
from workbench.evaluate.side_effects import neutral_losses
from workbench.sampling import Sampling
from workbench.score import continuation_scores
from workbench.session import Session

SAID = words(40, 41, 42)
ROWS = contrast_rows(60)
NEUTRAL = [words(*range(i, i + 12)) for i in range(10, 20)]


@pytest.fixture
def session(tiny_gpt2: Any, tmp_path: Path) -> Session:
    return Session(tiny_gpt2, tmp_path / "home")


@pytest.mark.parametrize(
    "lane",
    [
        Lane((), Prompting(prefix="A careful speaker answers.")),
        Lane((Named("e", 2.0),), Prompting(prefix='He said "no" + left, then:2')),
        Lane((Named("a+b"), Named("c", -1.0)), Prompting(system="Be brief.", shots=ShotsOf("runs/my, own.jsonl", 3))),
        Lane((Named("prompt", 2.0),)),
    ],
)
def test_what_is_written_of_a_lane_is_read_back(lane: Lane) -> None:
    assert Lane.parse(str(lane)) == lane and read_lanes(write_lanes([lane, Lane(), lane])) == (lane, Lane(), lane)


@pytest.mark.parametrize("text", ['prompt:""', 'prompt:"a":2', 'shots:"set"', 'shots:"set":0', 'prompt:"a"+prompt:"b"', 'prompt:"a'])
def test_what_says_nothing_or_twice_is_refused(text: str) -> None:
    with pytest.raises(BadLane):
        Lane.parse(text)


def test_a_prompt_stands_with_edits_in_one_lane(session: Session) -> None:
    edit = session.fit("mean_difference", ROWS).edit
    lane = lane_of((edit, f'prompt:"{SAID}"'))
    assert lane.edits == (edit,) and lane.prompting == Prompting(prefix=SAID)
    with pytest.raises(BadLane, match="edits alone"):
        session.stack(lane)
    with pytest.raises(BadLane, match="edits alone"):
        session.export(lane, "script", "nowhere")


def test_text_and_conversation_are_told_in_the_order_system_prefix_shots() -> None:
    said = Prompting("Now.", "Be brief.", ShotsOf("s", 1), (("Q1", " A1"),))
    asked = said.on("Q2")
    assert isinstance(asked, Conversation) and asked.messages() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Now. Q1"},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2"},
    ]
    assert Prompting("Now.", shots=ShotsOf("s", 1), examples=(("Q1", " A1"),)).on("Q2") == "Now. Q1 A1\nQ2"
    own = Conversation((Turn("system", "Own."), Turn("user", "Q")))
    assert Prompting("Now.").on(own) == Conversation((Turn("system", "Own."), Turn("user", "Now. Q")))
    with pytest.raises(BadLane, match="only named"):
        Prompting(shots=ShotsOf("s", 1)).on("Q")


def test_a_prompted_lane_scores_as_its_prompt_written_out(tiny_gpt2: Any) -> None:
    found = benefit(tiny_gpt2, ROWS, [f'prompt:"{SAID}"'])
    rows = ROWS.split("test")
    both = [
        continuation_scores(tiny_gpt2, [f"{SAID} {row.prompt}" for row in rows], rows.column(side)) for side in ("positive", "negative")
    ]
    margins = (both[0].total - both[1].total)[0].numpy()
    assert np.allclose(found.metric("margin_nats").per_item[1], margins, atol=1e-5)
    assert not np.allclose(found.metric("margin_nats").per_item[0], margins, atol=1e-3)
    assert [lane.label for lane in found.lanes] == ["base", f"“{SAID}”"] and found.lanes[1].lane == Lane((), Prompting(SAID))


def test_damage_of_a_prompt_is_told_at_the_text_behind_it(tiny: Any) -> None:
    kl, nll, _ = neutral_losses(tiny, NEUTRAL, [Lane(), Lane((), Prompting(SAID))])
    batch, behind = tiny.tokens(NEUTRAL), tiny.tokens([f"{SAID} {text}" for text in NEUTRAL])
    width = batch.ids.shape[1]
    with torch.no_grad():
        base, lane = (tiny.logits(one)[:, -width:].double().log_softmax(-1) for one in (batch, behind))
    expected = (base.exp() * (base - lane)).sum(-1)[:, :-1].mean(1)
    assert np.allclose(kl[1], expected.numpy(), atol=1e-5) and np.all(kl[0] == 0) and np.all(kl[1] > 0)
    targets = batch.ids[:, 1:, None]
    assert np.allclose(nll[1], -lane[:, :-1].gather(-1, targets)[..., 0].mean(1).numpy(), atol=1e-5)


def test_the_damage_of_a_prompt_does_not_depend_on_which_texts_are_read_together(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.evaluate import divergences

    batch = tiny_gpt2.tokens([words(*range(3, 20)), words(5, 9), words(7, 2, 4)])
    asked = (Lane(), Lane(prompting=Prompting(words(8, 6))))
    together = divergences.divergences_of(tiny_gpt2, batch, asked)
    monkeypatch.setattr(divergences, "LOGITS_AT_ONCE", 1)
    apart = divergences.divergences_of(tiny_gpt2, batch, asked)
    torch.testing.assert_close(apart.kl, together.kl, atol=1e-6, rtol=0)
    torch.testing.assert_close(apart.nll, together.nll, atol=1e-5, rtol=0)
    assert float(together.kl[1].mean()) > 1e-6


def test_it_stands_in_compare_evaluate_and_sweeps_with_and_without_an_edit(session: Session) -> None:
    edit, asked = session.fit("mean_difference", ROWS, {"strength": 3.0}).edit, f'prompt:"{SAID}"'
    how = Sampling(max_new_tokens=4)
    shown = session.compare([words(11, 12), words(13)], [asked, (edit, asked)], how)
    plain = session.generate([f"{SAID} {words(11, 12)}", f"{SAID} {words(13)}"], [(), edit], how)
    for lane in (1, 2):
        assert [text[lane].text for text in shown.texts] == [one.text for one in plain[lane - 1]]
        assert all(token.kl_nats > 0 for token in shown.texts[0][lane].tokens)
    found = session.evaluate([edit, asked, (edit, asked)], ROWS, neutral=ROWS, n_placebos=1, n_generations=2)
    assert [lane.prompting is not None for lane in found.lanes] == [False, False, True, True, False, False]
    assert found.placebo_of == (None, None, None, None, 1, 3), "a prompt has no placebo of its size; an edit with one has"
    swept = session.sweep((edit, asked), ROWS, [0.5, 1.0], neutral=ROWS, beside=[asked])
    beside, alone = swept.rows()[-1], found.benefit.metrics[0].values[2].estimate
    assert beside["lane"] == f"“{SAID}”" and beside["mc1"] == pytest.approx(alone)
    assert [(row["lane"].partition(" ")[0], row["dose"]) for row in swept.rows()[3:5]] == [(swept.edit, 1.0), ("placebo", 1.0)]
    assert swept.rows()[3]["mc1"] == pytest.approx(found.benefit.metrics[0].values[3].estimate)
    kinds = [run.inputs["lanes"] for run in session.workspace.runs.list("evaluate")]
    assert kinds[0][1] == [{"said": asked}]


def test_shots_come_from_a_set_and_are_never_scored(session: Session) -> None:
    session.demos.save(ROWS)
    name = ROWS.name
    lane = session.lane(f'shots:"{name}":2')
    assert lane.prompting is not None and lane.prompting.examples == tuple((row.prompt, row.positive) for row in ROWS.split("fit").rows[:2])
    with pytest.raises(BadLane, match="99 shots are asked"):
        session.lane(f'shots:"{name}":99')
    moved = ROWS.with_rows([ROWS.split("fit")[0], *ROWS.split("test")])
    found = session.evaluate(lane, moved, split=None, neutral=ROWS, n_generations=0).benefit
    assert found.left_out == (ROWS.split("fit")[0].id,)
    with pytest.raises(FittedRows):
        session.evaluate(lane, ROWS.with_rows(ROWS.split("fit").rows[:2]), split=None, neutral=ROWS)


def test_a_system_message_needs_a_model_made_for_conversations(session: Session) -> None:
    with pytest.raises(BadPrompt, match="no chat template"):
        session.compare(words(11), ['system:"w1"'])
    with pytest.raises(BadPrompt, match="context holds"):
        neutral_losses(session.model, NEUTRAL, [Lane(), Lane((), Prompting(words(*range(60))))])


def test_the_command_line_takes_a_prompt_as_a_lane(tiny_folders: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from workbench.cli.main import app
    from workbench.data.sources import write

    path = write(ROWS, tmp_path / "rows.jsonl")
    base = ["--model", str(tiny_folders["gpt2"]), "--workspace", str(tmp_path / "home"), "--json"]
    rest = ["--data", str(path), "--neutral", str(path), "--placebos", "0", "--generations", "0"]
    told = CliRunner().invoke(app, ["evaluate", "--lane", f'prompt:"{SAID}"', *rest, *base])
    assert told.exit_code == 0 and f"“{SAID}”" in told.output


def test_near_the_identity_said_by_the_fit_is_said_again_by_compare_and_evaluate(session: Session) -> None:
    weak = session.fit("mean_difference", ROWS, {"strength": 1e-7})
    assert any(notice.is_identity for notice in weak.report.notices)
    strong = session.fit("mean_difference", ROWS, {"strength": 3.0}).edit
    shown = session.compare(words(11, 12), [weak.edit, strong], Sampling(max_new_tokens=3))
    assert len(shown.near_identity()) == 1 and shown.near_identity()[0].startswith("mean_difference × 1 ")
    told = session.evaluate(weak.edit, ROWS, neutral=ROWS, n_placebos=1, n_generations=0)
    assert "near the identity" in told.verdict.sentence
    assert all(found.notes[0].startswith("The fit of mean_difference said") for found in (shown, told))
    session.save_edit(weak.edit, "weak")
    again = Session(session.model, session.workspace.folder)  # after a restart the report comes from the workspace
    assert "The fit of" in again.evaluate("weak", ROWS, neutral=ROWS, n_placebos=1, n_generations=0).notes[0]
    assert "identity" not in session.evaluate(strong, ROWS, neutral=ROWS, n_placebos=1, n_generations=0).verdict.text
