"""The views of the Senses page: teach one example, a word's senses with a slider each, what a prompt reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.cards import TeachCard, card
from pages._ui.kit.figures import figure_panel, table_panel
from pages._ui.kit.lanes import lane_name, lanes_on, with_base
from pages._ui.kit.prompts import chat_of, prompt
from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import RetouchError
from workbench.figures.basic import next_token_bars

if TYPE_CHECKING:
    from workbench.lenses.senses import Taught, WordSenses
    from workbench.progress import Progress
    from workbench.session import Session
    from workbench.workspace.edits import EditInfo

N_COLUMNS = 4
TEACH: jobs.Slot[Example, Taught] = jobs.Slot("teach")
KEEP: jobs.Slot[Example, EditInfo] = jobs.Slot("keep")


@dataclass(frozen=True)
class Example:
    """What was typed: a sentence, how it should and should not end, and questions, one a line and put as the sentence is."""

    prompt: Prompt
    answer: str
    unwanted: str
    questions: tuple[Prompt, ...]


def teach(session: Session) -> None:
    """Type an example; it is fitted when you leave a box."""
    told = _card()
    first = {"answer": told.answer, "unwanted": "", "questions": "\n".join(told.questions)}
    for name, text in first.items():
        st.session_state.setdefault(f"teach-{name}", text)
    again = partial(_teach, session)
    prompt(session, "Sentence", told.prompt, key="teach-prompt", on_change=again)
    with st.container(horizontal=True):
        st.text_input("How it should end", key="teach-answer", persist_state="session", on_change=again)
        st.text_input("How it should not end", key="teach-unwanted", persist_state="session", on_change=again, help="May be empty.")
    st.text_area("Questions in other words, one a line", key="teach-questions", persist_state="session", on_change=again, height=110)
    frame.act("Teach", again, type="primary", key="teach-run")
    jobs.panel(
        TEACH, lambda found: _taught(session, found), settings=_example(session),
        nothing=lambda: frame.empty("The senses that move will stand here, and each question's answer before and after.", "Press *Teach*.",
                                    key="teach"),
    )  # fmt: skip


def _card() -> TeachCard:
    return card(TeachCard, "teach")


def _example(session: Session) -> Example:
    sentence, answer, unwanted, questions = (
        str(st.session_state.get(f"teach-{name}", "")) for name in ("prompt", "answer", "unwanted", "questions")
    )
    chat = chat_of(session, "teach-prompt")
    asked = tuple(chat.put(line) for line in questions.splitlines() if line.strip())
    return Example(chat.put(sentence) if sentence.strip() else "", answer, unwanted, asked)


def _teach(session: Session) -> None:
    example = _example(session)
    if not example.prompt or not (example.answer + example.unwanted).strip():
        return
    method = _card().method

    def work(session: Session, progress: Progress) -> Taught:
        from workbench.lenses.senses import taught_example

        return taught_example(
            session.model, example.prompt, _ending(example, example.answer), example.questions,
            method=method, unwanted=_ending(example, example.unwanted), progress=progress,
        )  # fmt: skip

    jobs.start(TEACH, "Teaching", work, example)


def _ending(example: Example, text: str) -> str:
    return Demonstration(example.prompt).as_answer(text) if text.strip() else ""


def _taught(session: Session, found: Taught) -> None:
    from workbench.figures.senses import before_after, moved_senses

    scalars, table = found.report.scalars, list(found.report.tables["senses"])
    where = words.provenance(model=session.model.info.name, edit=found.edit.id, seed=found.edit.header.seed, n="1 example")
    rise, n = scalars["general_loss_rise"], int(scalars["n_general_tokens"])
    left, right = st.columns(2, gap="large")
    with left:
        figure_panel(
            before_after(found.questions, found.before, found.after, found.answer), found.rows(), where, key="teach-questions-figure",
            look_for="Squares far to the right of the circles: the example reached it. A question about something else should not move.",
        )  # fmt: skip
    with right:
        figure_panel(
            moved_senses(table), table, where, key="teach-moved",
            says="A sense is picked for being read by this example more than by neutral text.",
        )  # fmt: skip
    st.caption(
        f"The loss on neutral text rose by {100 * rise:.3f} % (n={n} tokens); {int(scalars['n_senses'])} senses of "
        f"{words.count(int(scalars['n_words']), 'word')} moved. Fitted in {words.seconds(scalars['seconds'])}."
    )
    table_panel(table, where, key="teach-why")
    st.button(
        "Keep this edit",
        key="teach-keep",
        on_click=_keep,
        args=(session, found),
        help="Fit it once more on the record, to apply it on other pages.",
    )
    jobs.panel(KEEP, lambda info: st.caption(f"Kept as {words.plain(info.name)}. It can be applied on every page now."))


def _keep(asked_in: Session, found: Taught) -> None:
    example, method = _example(asked_in), _card().method  # read here: the worker's thread has no session state

    def work(session: Session, progress: Progress) -> EditInfo:
        row = Demonstration(example.prompt, _ending(example, example.answer) or None, _ending(example, example.unwanted) or None)
        fitted = session.fit(method, Demonstrations((row,), "one example"), seed=found.edit.header.seed, progress=progress)
        return session.save_edit(fitted.edit, f"taught: {str(example.prompt)[:40]}")

    jobs.start(KEEP, "Keeping the edit", work, example)


def explore(session: Session) -> None:
    """A word's senses, with a slider each: 0 removes a sense, 1 leaves it."""
    st.session_state.setdefault("sense-word", _card().word)
    word = st.text_input(
        "Word", key="sense-word", persist_state="session", help="With its leading space, as it stands in a text.", width=200
    )
    text = prompt(session, "Prompt", _card().reading, key="sense-prompt")
    if not word or not str(text).strip():
        frame.empty("A word's senses will stand here.", "Write a word and a prompt.", key="explore")
        return
    try:
        found = session.look("senses", word)
        _sliders(session, found, text)
    except RetouchError as error:
        frame.problem(error, "explore")


def _sliders(session: Session, found: WordSenses, text: Prompt) -> None:
    where = words.provenance(model=found.model, where=f"token {found.token}")
    _itself(found, where)
    columns, factors = st.columns(N_COLUMNS), {}
    for sense in range(len(found.promotes)):
        with columns[sense % N_COLUMNS]:
            key = f"sense-{found.token}-{sense}"
            factors[found.token, sense] = st.slider(f"Sense {sense}", 0.0, 3.0, 1.0, 0.1, key=key)
            st.text(" ".join(words.token(text) for text in found.beyond[sense][:3]))
    from workbench.lenses.senses import backpack
    from workbench.methods.shared.sense_edit import scaled_senses

    edit = scaled_senses(backpack(session.model), factors)
    lanes = [("untouched", session.next_tokens(text, 8)), ("with the sliders", session.next_tokens(text, 8, (edit,)))]
    shown = [(name, [(words.token(token), share) for token, share in rows]) for name, rows in lanes]
    rows = [{"lane": name, "token": token, "probability": share} for name, part in shown for token, share in part]
    figure_panel(next_token_bars("Next token", shown), rows, words.provenance(model=found.model, n="1 prompt"), key="sense-next")


def _itself(found: WordSenses, where: str) -> None:
    """Which senses say the word itself, and what each says beyond that."""
    from workbench.figures.senses import shared_direction

    word, n, own = words.plain(words.token(found.word)), len(found.ranks), found.says_itself
    others = words.plain(words.listed([words.token(token) for token in found.shared if token != found.word]))
    many = f"{len(own) or 'None'} of {n} senses {'says' if len(own) < 2 else 'say'} {word} itself"
    says = (
        f"**{many}**, and words like it: {others}. The others keep it from being said again, or say something else. Beyond the one "
        "direction that all share, each says what stands at its bar."
    )
    figure_panel(
        shared_direction(found), found.rows(), where, key="sense-shared", says=says,
        look_for=f"One direction holds {found.share:.0%} of the senses' squares; of {n} random vectors of these lengths it would be "
        f"{found.random_share:.0%} (grey). A bar within the grey has no more to do with the word itself than chance.",
    )  # fmt: skip


def reading(session: Session) -> None:
    """Where a prompt reads each sense, and who makes its answer likely."""
    from workbench.figures.senses import contribution_map, reading_heatmap

    text = prompt(session, "Prompt", _card().reading, key="reading-prompt")
    target = st.text_input("Target", key="reading-target", placeholder="a word, with its space", persist_state="session", width=200)
    lanes = lanes_on()
    if not str(text).strip():
        frame.empty("The reading of a prompt will stand here.", "Write a prompt.", key="reading")
        return
    try:
        found = session.look("sense_reading", text, stacks=with_base(lanes), targets=(target,) if target else ())
    except RetouchError as error:
        frame.problem(error, "reading")
        return
    names = ["untouched", *(lane_name(session, lane) for lane in lanes)]
    lane = 0
    if len(names) > 1:
        lane = (
            st.segmented_control("Lane", range(len(names)), format_func=lambda i: names[i], default=0, key="reading-lane", required=True)
            or 0
        )
    sense = st.slider("Sense", 0, found.weights.shape[1] - 1, 0, key="reading-sense")
    where = words.provenance(model=found.model, n="1 prompt", lane=names[lane])
    left, right = st.columns(2, gap="large")
    with left:
        weights = found.weights[lane, sense]
        rows = [
            {"from": found.tokens[i], "to": found.tokens[j], "weight": float(weights[i, j])}
            for i in range(len(found.tokens))
            for j in range(i + 1)
        ]
        figure_panel(reading_heatmap(found, sense, lane), rows, where, key="reading-weights")
    with right:
        figure_panel(
            contribution_map(found, lane), found.rows(lane), where, key="reading-who",
            says=f"The cells add up to the target's logit; p = {found.target_probability[lane]:.3f}.",
        )  # fmt: skip
