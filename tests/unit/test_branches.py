"""Forced tokens, branches, known answers: what goes on from a token is what the model says behind that text, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import words
from tests.made_edits import shift
from workbench.conversations import Conversation, Turn
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.known import KnownAnswer, known_answers
from workbench.decode import Sampling, generate
from workbench.errors import BadPrompt, UnknownName
from workbench.evaluate.comparison import compare
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.score import batch_scores
from workbench.settings import CompareSettings
from workbench.workspace.branches import Branch, Branches, forked

PROMPTS = [words(12, 13, 14, 15), words(20, 12)]
# float32 rounding of a forward with a cache against one of the whole text
CLOSE = 1e-4
DRAWN = Sampling(9, temperature=1.3, seed=4)


def scored(model: LanguageModel, prompt: str, ids: tuple[int, ...], *stack: Any) -> list[float]:
    head = model.tokens(prompt).ids[0].tolist()
    batch = TokenBatch.of([[*head, *ids]], [len(head)], model.device)
    return batch_scores(model, batch, [stack]).per_token[0, 0].tolist()


def test_forced_tokens_have_the_log_probabilities_of_the_forced_text(tiny: LanguageModel) -> None:
    edit, forced = shift(tiny), [(30, 7, 41), (9,)]
    made = generate(tiny, PROMPTS, [(), (edit,)], Sampling(7), forced=forced)
    for lane, stack in enumerate([(), (edit,)]):
        for row, prompt in enumerate(PROMPTS):
            one = made[lane][row]
            assert one.ids[: len(forced[row])] == forced[row]
            assert list(one.log_probs) == pytest.approx(scored(tiny, prompt, one.ids, *stack), abs=CLOSE)
    # The negative control: scored behind another beginning, the same tokens have others.
    other = made[0][0].ids
    assert scored(tiny, PROMPTS[0], (8, *other[1:]))[3:] != pytest.approx(list(made[0][0].log_probs[3:]), abs=100 * CLOSE)


@pytest.mark.parametrize("how", [Sampling(9), DRAWN])
def test_what_a_lane_said_and_is_forced_to_say_again_goes_on_as_it_did(tiny_gpt2: LanguageModel, how: Sampling) -> None:
    (free,) = generate(tiny_gpt2, PROMPTS, sampling=how)
    again = generate(tiny_gpt2, PROMPTS, sampling=how, forced=[one.ids[:4] for one in free])[0]
    assert [one.ids for one in again] == [one.ids for one in free]
    # More tokens of the same draw go on from where the text ended: that is what *continue* does.
    longer = generate(tiny_gpt2, PROMPTS, sampling=Sampling(14, how.temperature, seed=how.seed))[0]
    assert [one.ids[: len(less.ids)] for one, less in zip(longer, free)] == [one.ids for one in free]
    turned = generate(tiny_gpt2, PROMPTS, sampling=how, forced=[(one.ids[0], (one.ids[1] + 1) % 90) for one in free])[0]
    assert [one.ids for one in turned] != [one.ids for one in free]


def test_what_cannot_be_forced_is_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(BadPrompt, match="2 prompts and the beginnings of 1"):
        generate(tiny_gpt2, PROMPTS, sampling=Sampling(3), forced=[(1,)])
    with pytest.raises(BadPrompt, match="token 100000 is forced"):
        generate(tiny_gpt2, PROMPTS, sampling=Sampling(3), forced=[(1,), (100_000,)])


def test_a_prompt_that_stands_there_again_gets_another_draw_and_the_same_when_greedy(tiny_gpt2: LanguageModel) -> None:
    (drawn,), (greedy,) = (generate(tiny_gpt2, PROMPTS[:1] * 3, sampling=how) for how in (DRAWN, Sampling(9)))
    assert len({one.ids for one in drawn}) == 3 and len({one.ids for one in greedy}) == 1


def test_a_fork_is_a_comparison_whose_lanes_begin_alike(tiny_gpt2: LanguageModel) -> None:
    edit = shift(tiny_gpt2)
    of = CompareSettings(tuple(PROMPTS), (), Sampling(6))
    found = compare(tiny_gpt2, PROMPTS, [edit], of.sampling)
    at = 2
    token = next(id for id in found.texts[1][1].tokens[at].top_ids if id != found.texts[1][1].tokens[at].id)
    settings = forked(of, found, 1, 1, at, token)
    begun = (*(one.id for one in found.texts[1][1].tokens[:at]), token)
    assert settings.prompts == (PROMPTS[1],) and settings.forced == (begun,) and settings.sampling.max_new_tokens == 9
    again = compare(tiny_gpt2, settings.prompts, [edit], settings.sampling, forced=settings.forced)
    assert all(tuple(one.id for one in text.tokens[:3]) == begun for text in again.texts[0])
    assert [one.log_prob for one in again.texts[0][1].tokens] == pytest.approx(
        scored(tiny_gpt2, PROMPTS[1], tuple(one.id for one in again.texts[0][1].tokens), edit), abs=CLOSE
    )
    assert forked(settings, again, 0, 0, 3, 5).sampling.max_new_tokens == 10, "six free tokens, whatever is forced"
    with pytest.raises(BadPrompt, match="no token 40 of lane 1"):
        forked(of, found, 1, 1, 40, 3)


def test_ids_of_the_likeliest_are_those_of_their_texts(tiny_gpt2: LanguageModel) -> None:
    token = compare(tiny_gpt2, PROMPTS[:1], [shift(tiny_gpt2)], Sampling(2)).texts[0][1].tokens[0]
    assert len(token.top) == len(token.top_ids) == len(token.base_top) == 10
    assert [str(tiny_gpt2.tokenizer.decode([id])).strip() for id in token.top_ids] == [text.strip() for text, _ in token.top]
    assert token.top_ids[0] == token.id and token.top_ids != token.base_top_ids


def test_a_tree_of_branches_is_walked_named_pinned_and_cut(tiny_gpt2: LanguageModel) -> None:
    of = CompareSettings((PROMPTS[0],), (), Sampling(3))
    found = compare(tiny_gpt2, PROMPTS[:1], [], of.sampling)
    tree = Branches().with_branch(Branch(of, found))
    for parent, word in ((0, "a"), (0, "b"), (1, "c")):
        tree = tree.with_branch(Branch(of, found, parent, word=word))
    assert tree.walk() == ((0, 0), (1, 1), (2, 3), (1, 2)) and tree.path(3) == (0, 1, 3)
    tree = tree.changed(2, is_pinned=True, name="the good one")
    assert tree.walk() == ((0, 0), (1, 2), (1, 1), (2, 3)) and tree.branch(2).title == "the good one"
    assert tree.without(1).walk() == ((0, 0), (1, 2))
    assert tree.changed(3, is_pinned=True).without(1).walk() == tree.changed(3, is_pinned=True).walk(), "what is pinned keeps its way"
    for missing in (lambda: tree.without(1).branch(3), lambda: tree.with_branch(Branch(of, found, 9))):
        with pytest.raises(UnknownName):
            missing()


def test_a_known_answer_is_the_first_that_is_said_word_for_word() -> None:
    rows = Demonstrations(
        (
            Demonstration("What do carrots help? Answer:", " gut", " eyes", tags=("true:the gut", "false:eyes at night")),
            Demonstration("Who?", label="x"),
        ),
        "set",
    )
    talk = Conversation((Turn("system", "Be kind."), Turn("user", "What do  carrots help? Answer:")))
    known, unknown, asked = known_answers(rows, ["What do carrots help? Answer:", "Who?", talk])
    assert unknown is None and known == asked == KnownAnswer((" gut", "the gut"), (" eyes", "eyes at night"), "set")
    assert known is not None
    told = {" Gut.": "right", " the gut, not the eyes": "right", " eyes and gut": "wrong", " gutter": "neither", "": "neither"}
    assert {text: known.given(text) for text in told} == told
    assert KnownAnswer((" the gut flora",), (" the gut",), "").given(" The gut flora") == "right", "of two at one place the longer"
