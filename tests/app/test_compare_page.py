"""Compare as a bench: ways to ask, controls that run it again, draws to go through, answers that are known, texts that go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, settled, texts
from tests.conftest import contrast_rows
from workbench.data.cutting import first_sentence
from workbench.data.demonstrations import Demonstrations
from workbench.edits.lane import Lane, Named
from workbench.workspace.people import acting_as

Run = Callable[..., AppTest]


def said(test: AppTest) -> Any:
    return test.session_state["retouch"].kept["compare"].value


def with_edit(app: Run, backend: Any) -> tuple[AppTest, str]:
    """The page with a fitted edit as its lane, and one prompt compared."""
    test = app("compare")
    with acting_as(test.session_state["retouch"].owner):
        edit = backend.sessions["embedded"].fit("mean_difference", own_set(backend)).edit.id
    test.session_state["retouch"].turn_on(edit)
    test.text_area(key="compare-prompts").set_value("w1 w2 w3").run()
    fine(test.button(key="compare").click().run())
    return settled(test), edit


def test_a_moved_dose_or_sampling_control_runs_what_is_on_screen_again_and_new_prompts_wait(app: Run, fresh_backend: Any) -> None:
    test, edit = with_edit(app, fresh_backend)
    test.session_state["retouch"].lanes = (Lane((Named(edit, 3.0),)),)
    fine(test.run())
    test = settled(test)
    assert [lane.doses for lane in said(test).lanes] == [(), (3.0,)] and "From earlier settings" not in texts(test)
    fine(test.number_input(key="sample-n").set_value(5).run())
    assert said(settled(test)).sampling.max_new_tokens == 5
    fine(test.text_area(key="compare-prompts").set_value("w9 w8").run())
    assert not fresh_backend.jobs.active() and "From earlier settings" in texts(test)
    # The negative control: switched off, nothing follows.
    fine(test.text_area(key="compare-prompts").set_value("w1 w2 w3").run())
    fine(test.toggle(key="compare-live").set_value(False).run())
    fine(test.number_input(key="sample-n").set_value(7).run())
    assert not fresh_backend.jobs.active() and said(test).sampling.max_new_tokens == 5


def test_several_draws_are_gone_through_and_drawn_anew_and_go_on(app: Run, fresh_backend: Any) -> None:
    test = app("compare")
    assert test.number_input(key="sample-count").disabled, "greedy texts are all the same"
    fine(test.number_input(key="sample-heat").set_value(1.5).run())
    test.number_input(key="sample-n").set_value(6)
    test.multiselect(key="sample-stop").set_value([])
    test.number_input(key="sample-count").set_value(3)
    test.text_area(key="compare-prompts").set_value("w1 w2 w3").run()
    fine(test.button(key="compare").click().run())
    test = settled(test)
    drawn, ended = [one[0].text for one in said(test).texts], [one[0].ended for one in said(test).texts]
    assert len(set(drawn)) == 3 and "Sample 1 of 3" in texts(test)
    for button, at in (("next", 2), ("next", 3), ("next", 1), ("back", 3)):
        fine(test.button(key=f"compare-0-draw-{button}").click().run())
        assert f"Sample {at} of 3" in texts(test) and test.button(key=f"compare-{at - 1}-0-positive")
    fine(test.button(key="compare-0-draw-good").click().run())
    fine(test.button(key="compare-0-draw-bad").click().run())
    assert "Sample 2 of 3" in texts(test) and "2 of 3 samples judged" in texts(test)
    fine(test.button(key="compare-0-draw-back").click().run())
    assert "this one is bad" in texts(test)
    judged = next(offer for offer in fresh_backend.sessions["embedded"].demos.list() if offer.title.startswith("judged"))
    (row,) = fresh_backend.sessions["embedded"].demos(judged.id).rows
    assert (row.positive or "").strip() == first_sentence(drawn[2]).strip() and (row.negative or "").strip() == first_sentence(
        drawn[0]
    ).strip()
    keys = [button.proto.shortcut for button in test.button if str(button.key).startswith("compare-0-draw")]
    assert len(set(keys)) == 4, "a key has one meaning"
    fine(test.button(key="compare-more").click().run())
    longer = [one[0].text for one in said(settled(test)).texts]
    assert all(text.startswith(old) for text, old in zip(longer, drawn))
    assert [text != old for text, old in zip(longer, drawn)] == [how == "length" for how in ended] and "length" in ended
    fine(test.button(key="compare-again").click().run())
    assert said(settled(test)).sampling.seed == 1 and {one[0].text for one in said(test).texts}.isdisjoint(longer)


def test_the_known_answer_of_a_prompt_stands_beside_the_lanes(app: Run, fresh_backend: Any) -> None:
    test = app("compare")
    test.text_area(key="compare-prompts").set_value("w1 w2 w3").run()
    fine(test.button(key="compare").click().run())
    test = settled(test)
    assert "Known answer" not in texts(test)
    (answer,) = said(test).texts[0]
    rows = contrast_rows(4)
    row = replace(rows[0], prompt="w1 w2 w3", positive=" ".join(answer.text.split()[:2]), negative=" nothing of the kind", tags=())
    chosen = fresh_backend.sessions["embedded"].demos.save(Demonstrations((row, *rows), "known ones")).id
    test.session_state["retouch"].set_name = chosen
    told = texts(fine(test.run()))
    assert "Known answer, by the set known ones" in told and "gives the known answer" in told
    swapped = replace(row, positive=row.negative, negative=row.positive)
    fresh_backend.sessions["embedded"].demos.save(Demonstrations((swapped, *rows), "known ones"), key=chosen)
    assert "known to be false" in texts(fine(test.run()))


def test_prompts_have_boxes_of_their_own_and_rows_of_a_set_are_asked(app: Run, fresh_backend: Any) -> None:
    test = app("compare")
    test.text_area(key="compare-prompts").set_value("w1 w2\nw3 w4").run()
    fine(test.segmented_control(key="compare-ask").set_value("One by one").run())
    fine(test.button(key="compare-box-add").click().run())
    fine(test.text_area(key="compare-box-0-2").set_value("w5\n\nw6").run())
    fine(test.button(key="compare-box-0-0-remove").click().run())
    fine(test.button(key="compare").click().run())
    assert said(settled(test)).prompts == ("w3 w4", "w5\n\nw6")
    test.session_state["compare-prompts"] = "w7"  # as another page does that opens a row here
    assert fine(test.run()).text_area(key="compare-prompts").value == "w7"
    chosen = own_set(fresh_backend)
    test.session_state["retouch"].set_name = chosen
    fine(test.segmented_control(key="compare-ask").set_value("Rows of a set").run())
    fine(test.number_input(key="compare-rows").set_value(2).run())
    fine(test.button(key="compare").click().run())
    rows = fresh_backend.sessions["embedded"].demos(chosen).split("test")
    test = settled(test)
    assert said(test).prompts == (rows[0].prompt, rows[1].prompt) and "Known answer" in texts(test)


def test_what_is_stopped_keeps_what_was_said(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.evaluate import comparison
    from workbench.progress import Cancelled

    honest = comparison.decode

    def stopped(*given: Any, **how: Any) -> Any:
        for i, step in enumerate(honest(*given, **how)):
            if i == 3:
                time.sleep(0.1)
                raise Cancelled()
            yield step

    monkeypatch.setattr(comparison, "decode", stopped)
    test = app("compare")
    test.text_area(key="compare-prompts").set_value("w1 w2 w3").run()
    fine(test.button(key="compare").click().run())
    told = texts(settled(test))
    assert "The best so far was kept." in told and "Stopped here." in told and said(test).texts[0][0].text in told
    monkeypatch.setattr(comparison, "decode", honest)
    fine(test.button(key="compare-more").click().run())
    assert said(settled(test)).texts[0][0].tokens


def test_a_conversation_is_edited_turn_by_turn_and_an_answer_becomes_its_next_turn(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.conversations import Conversation, Turn
    from workbench.models import chat

    test = app("compare")
    assert "Conversation" not in test.segmented_control(key="compare-ask").options, "the model has no chat template"
    monkeypatch.setattr(chat, "has_template", lambda _: True)
    monkeypatch.setattr("workbench.models.tokens.chat_ids", lambda tokenizer, talk: tokenizer(talk.asked)["input_ids"])
    fine(test.run())
    fine(test.segmented_control(key="compare-ask").set_value("Conversation").run())
    fine(test.text_area(key="compare-turn-0-0").set_value("w1 w2").run())
    fine(test.button(key="compare").click().run())
    test = settled(test)
    assert said(test).prompts == (Conversation((Turn("user", "w1 w2"),)),)
    answer = said(test).texts[0][0].answer
    fine(test.button(key="compare-0-0-answer").click().run())
    fine(test.text_area(key="compare-turn-1-2").set_value("w3").run())
    fine(test.text_area(key="compare-turn-1-0").set_value("w4").run())
    fine(test.button(key="compare").click().run())
    talk = Conversation((Turn("user", "w4"), Turn("assistant", answer.strip()), Turn("user", "w3")))
    assert said(settled(test)).prompts == (talk,)


def test_a_text_that_ends_by_itself_ends_with_a_mark_and_another_with_its_last_word() -> None:
    from pages._ui.compare.texts import _prose
    from workbench.evaluate.comparison import ComparedToken, LaneText

    tokens = tuple(ComparedToken(text, i, -1.0, -1.0, 0.0, (), ()) for i, text in enumerate((" Yes", ".", "<|im_end|>")))
    assert _prose(LaneText(" Yes.", "end", tokens)) == [" Yes", ".", " ∎"]
    assert _prose(LaneText(" Yes.", "length", tokens)) == [" Yes", ".", "<|im_end|>"]
