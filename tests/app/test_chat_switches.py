"""The switches of prompt boxes on a model with a chat template, of a set on Edit, and where texts end and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.kit import backend as kit_backend
from pages._ui.kit import prompts
from tests.app.conftest import fine, own_set, settled, texts
from tests.conftest import build_folder, contrast_rows, words
from workbench.conversations import Conversation
from workbench.models.base import LanguageModel
from workbench.models.generation import GenerationDefaults
from workbench.models.thinking import Marks
from workbench.sampling import Sampling
from workbench.workspace.people import acting_as

Run = Callable[..., AppTest]
# The thinking part begins at w1 and ends at w2.
TEMPLATE = (
    "{% for m in messages %}{{ m.role | replace('user', 'w70') | replace('system', 'w71') }} {{ m.content }} {% endfor %}w72"
    "{% if enable_thinking is defined and not enable_thinking %} w1 w2{% endif %}"
)
OWN = '{"eos_token_id": [99, 98], "do_sample": true, "temperature": 0.6, "top_k": 7, "top_p": 0.9, "repetition_penalty": 1.3}'


@pytest.fixture
def app(app: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The app on a tiny model with a chat template and a generation config of its own, instead of the embedded one."""
    from workbench import opening

    folder = build_folder("llama", tmp_path / "chatty")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "generation_config.json").write_text(OWN)
    monkeypatch.setattr(kit_backend, "open_session", lambda model, *given, **how: opening.open_session(str(folder), *given, **how))
    return app


@pytest.fixture
def strips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every strip below a prompt box says that the model reads."""
    seen: list[str] = []
    monkeypatch.setattr(prompts, "token_strip", lambda tokens, **_: seen.append(" ".join(tokens)))
    return seen


@pytest.mark.parametrize(("page", "key"), [("compare", "compare-prompts"), ("inspect", "inspect-prompt"), ("model", "model-prompt")])
def test_every_prompt_box_has_the_switch_on_and_shows_what_the_model_reads(app: Run, strips: list[str], page: str, key: str) -> None:
    test = app(page)
    assert test.toggle(key=f"{key}-chat").value is True
    fine(test.text_area(key=key).set_value("w3 w4").run())
    assert strips[-1] == "w70 w3 w4 w72"
    fine(test.text_input(key=f"{key}-system").set_value("w9").run())
    assert strips[-1] == "w71 w9 w70 w3 w4 w72"
    fine(test.toggle(key=f"{key}-chat").set_value(False).run())
    fine(test.text_area(key=key).set_value("w3 w4").run())
    assert strips[-1] == "w3 w4" and not [box for box in test.text_input if box.key == f"{key}-system"]
    assert not [box for box in test.toggle if box.key == f"{key}-thinking"]  # its template names no marks


def test_think_first_stands_where_marks_are_declared_and_off_leaves_the_part_empty(
    app: Run, strips: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    test = app("compare")
    for module in ("workbench.models.chat", "workbench.models.thinking"):
        monkeypatch.setattr(f"{module}.thinking_marks", lambda _: (Marks("w1", "w2", empty="w1 w2"),))
    fine(test.text_area(key="compare-prompts").set_value("w3 w4").run())
    assert strips[-1] == "w70 w3 w4 w72"
    switch = test.toggle(key="compare-prompts-thinking")
    assert switch.value is True and "`w1 … w2`" in switch.help
    fine(switch.set_value(False).run())
    assert strips[-1] == "w70 w3 w4 w72 w1 w2"


def test_sampling_begins_as_the_folder_has_it_and_each_value_can_be_overridden(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = app("compare")
    values = {key: test.number_input(key=f"sample-{key}").value for key in ("heat", "k", "p", "rep", "n")}
    assert values == {"heat": 0.6, "k": 7, "p": 0.9, "rep": 1.3, "n": 128} and test.multiselect(key="sample-stop").value == []
    assert "temperature 0.6, top k 7, top p 0.9, repetition penalty 1.3" in texts(test).replace("\\", "")
    session, ran = fresh_backend.sessions["embedded"], list[Any]()
    honest = session.run
    monkeypatch.setattr(session, "run", lambda settings, **how: (ran.append(settings), honest(settings, **how))[1])
    fine(test.text_area(key="compare-prompts").set_value("w3 w4").run())
    for key, value in (("n", 5), ("heat", 0.0), ("rep", 1.0), ("p", 1.0)):
        test.number_input(key=f"sample-{key}").set_value(value)
    test.number_input(key="sample-k").set_value(None)
    fine(test.multiselect(key="sample-stop").set_value(["full stop", "line end"]).run())
    fine(test.button(key="compare").click().run())
    settled(test)
    assert ran[0].sampling == Sampling(5, 0.0, None, 1.0, 1.0, stop=(".", "\n"))
    (prompt,) = ran[0].prompts
    assert isinstance(prompt, Conversation) and prompt.asked == "w3 w4"


def test_a_folder_that_asks_for_unusual_values_has_its_page(app: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    unusual = GenerationDefaults((99,), temperature=7.0, top_k=200_000, top_p=0.001, repetition_penalty=4.0)
    monkeypatch.setattr(LanguageModel, "generation", unusual)
    test = app("compare")
    assert [test.number_input(key=f"sample-{key}").value for key in ("heat", "k", "p", "rep")] == [7.0, 200_000, 0.001, 4.0]


@pytest.mark.parametrize("on", [True, False])
def test_a_set_on_edit_is_fitted_as_the_switch_says_and_measured_so(app: Run, fresh_backend: Any, on: bool) -> None:
    test = app("start")
    chosen = own_set(fresh_backend)
    test.session_state["retouch"].set_name, test.session_state["retouch"].method = chosen, "mean_difference"
    fine(test.switch_page("pages/edit.py").run())
    switch = next(box for box in test.toggle if str(box.key).startswith("fit-chat-"))
    assert switch.value is False and "end in the middle of a sentence" in texts(test)
    fine(switch.set_value(on).run())
    fine(test.button(key="fit").click().run())
    test = settled(test)
    outcome = test.session_state["retouch"].kept["fit"].value
    assert bool(outcome.fitted.edit.header.rendered) is on and outcome.evaluation.notes == ()


def test_another_rendering_is_said_on_compare_and_on_evaluate(app: Run, fresh_backend: Any) -> None:
    test = app("compare")
    session = fresh_backend.sessions["embedded"]
    with acting_as(test.session_state["retouch"].owner):
        edit = session.fit("mean_difference", own_set(fresh_backend), chat=False).edit
    test.session_state["retouch"].turn_on(edit.id)
    fine(test.run())
    fine(test.text_area(key="compare-prompts").set_value(words(3, 4)).run())
    test.number_input(key="sample-n").set_value(3)
    fine(test.button(key="compare").click().run())
    said = texts(settled(test))
    assert f"Edit {edit.id[:6]} was fitted on plain text" in said.replace("\\", "")
    fine(test.toggle(key="compare-prompts-chat").set_value(False).run())
    fine(test.text_area(key="compare-prompts").set_value(words(3, 4)).run())
    fine(test.button(key="compare").click().run())
    assert "another rendering" not in texts(settled(test))
    conversations = own_set(fresh_backend, rows=lambda n: contrast_rows(n).put_as_chat())
    test.session_state["retouch"].set_name = conversations
    fine(test.switch_page("pages/evaluate.py").run())
    told = f"Edit {edit.id[:6]} was fitted on plain text"
    for n, button in enumerate(("evaluate", "sweep"), 1):
        fine(test.button(key=button).click().run())
        assert texts(settled(test, 200)).replace("\\", "").count(told) == n
