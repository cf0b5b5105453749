"""New sets on the page: a paste, an unknown file, a folder; nothing kept before it is opened; copies, merges and a way back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, own_set, texts

Run = Callable[..., AppTest]


def dialog() -> None:
    """The dialog's inside as a page: AppTest reruns whole scripts, which closes dialogs."""
    from pages._ui.demonstrations import beginnings
    from pages._ui.kit.backend import backend

    beginnings.new_set(backend().sessions["embedded"])


def reopening() -> None:
    import streamlit as st

    from pages._ui.demonstrations import beginnings
    from pages._ui.kit.backend import session

    one = session()
    assert one is not None
    if st.button("again", key="again"):
        beginnings.begin(one, "Files")
    beginnings.new_set(one)


def opened(app: Run, way: str) -> AppTest:
    app()
    test = AppTest.from_function(dialog, default_timeout=60)
    test.session_state["new-set-way"] = way
    return fine(test.run())


def own(backend: Any) -> list[Any]:
    return [offer for offer in backend.sessions["embedded"].demos.list() if not offer.is_shipped]


def test_a_paste_is_shown_and_kept_only_when_it_is_opened(app: Run, fresh_backend: Any) -> None:
    test = opened(app, "Paste")
    fine(test.text_area(key="paste-text").set_value("w1 w2\tw3\tw4\nw5 w6\tw7\tw8\n").run())
    assert "2 good rows" in texts(test) and not own(fresh_backend)
    assert fine(test.checkbox(key="paste-header-False").check().run()) and "1 good row" not in texts(test), "w1 w2 is no column of ours"
    fine(test.checkbox(key="paste-header-False").uncheck().run())
    fine(test.button(key="import-open").click().run())
    (kept,) = own(fresh_backend)
    assert kept.n == 2 and test.session_state["retouch"].set_name == kept.id
    assert fresh_backend.sessions["embedded"].demos(kept.id)[0].positive == " w3"


def test_a_dismissed_dialog_leaves_nothing_behind(app: Run, fresh_backend: Any, monkeypatch: Any) -> None:
    test = opened(app, "Paste")
    fine(test.text_area(key="paste-text").set_value("w1 w2\tw3\tw4\nw5 w6\tw7\tw8\n").run())
    kept = test.session_state["retouch"].tab.kept
    assert "import" in kept
    from pages._ui.demonstrations import beginnings
    from pages._ui.kit import jobs

    now = test.session_state["retouch"]
    monkeypatch.setattr(jobs, "state", lambda: now)
    beginnings.forget()
    assert "import" not in kept and not own(fresh_backend)


def test_an_unknown_header_is_mapped_by_hand(app: Run, fresh_backend: Any) -> None:
    test = opened(app, "Paste")
    fine(test.text_area(key="paste-text").set_value("Frage\tGut\nw1 w2\tw3\nw4 w5\tw6\n").run())
    assert "3 good rows" in texts(test), "nothing says that the first row is a header"
    fine(test.checkbox(key="paste-header-False").check().run())
    assert "good row" not in texts(test) and "Choose the column that holds the prompts." in texts(test)
    fine(test.selectbox(key="paste-map-prompt-Frage-Gut").set_value("Frage").run())
    fine(test.selectbox(key="paste-map-negative-Frage-Gut").set_value("Gut").run())
    assert "2 good rows" in texts(test)
    fine(test.button(key="import-open").click().run())
    assert fresh_backend.sessions["embedded"].demos(own(fresh_backend)[0].id)[1].negative == " w6"


def test_a_folder_of_a_dataset_is_asked_filtered_and_opened(app: Run, fresh_backend: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "quiz"
    folder.mkdir()
    rows = [{"frage": f"w{i} w1", "gut": "w2", "art": "ab"[i % 2]} for i in range(12)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    test = opened(app, "Hugging Face")
    fine(test.text_input(key="hub-dataset").set_value(str(folder)).run())
    assert "no known layout" in texts(test) and "Choose the column that holds the prompts." in texts(test)
    fine(test.selectbox(key="hub-map-prompt-frage-gut-art").set_value("frage").run())
    fine(test.selectbox(key="hub-map-positive-frage-gut-art").set_value("gut").run())
    assert "12 good rows" in texts(test)
    fine(test.text_input(key="hub-where").set_value("art=b").run())
    assert "6 good rows" in texts(test)
    fine(test.text_input(key="hub-where").set_value("art").run())
    assert "is no condition" in texts(test)
    fine(test.text_input(key="hub-where").set_value("").run())
    fine(test.button(key="import-open").click().run())
    assert own(fresh_backend)[0].n == 12


def test_a_hub_that_does_not_answer_is_told_in_the_dialog(app: Run, fresh_backend: Any, monkeypatch: Any) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr("datasets.get_dataset_config_names", unreachable)
    test = opened(app, "Hugging Face")
    fine(test.text_input(key="hub-dataset").set_value("org/name").run())
    assert "needs the network" in texts(test) and not own(fresh_backend)


def test_an_empty_set_and_a_template_begin_a_set(app: Run, fresh_backend: Any) -> None:
    test = opened(app, "Empty")
    fine(test.text_input(key="new-set-name").set_value("mine").run())
    fine(test.button(key="new-set-begin").click().run())
    test = opened(app, "Template")
    fine(test.button(key="template-begin").click().run())
    assert sorted((offer.title, offer.n) for offer in own(fresh_backend)) == [("mine", 0), ("my pairs", 4)]


def test_a_set_is_copied_renamed_merged_deleted_and_put_back(app: Run, fresh_backend: Any) -> None:
    test = app("demonstrations")
    chosen = own_set(fresh_backend)
    demos, now = fresh_backend.sessions["embedded"].demos, test.session_state["retouch"]
    now.set_name = chosen
    fine(test.run())
    fine(test.button(key="set-duplicate").click().run())
    copy = now.set_name
    assert copy != chosen and len(own(fresh_backend)) == 2
    title = demos.info(copy).title
    fine(test.text_input(key=f"set-name-{copy}-{title}").set_value("other").run())
    fine(test.button(key="set-rename").click().run())
    assert demos.info(copy).title == "other"
    fine(test.multiselect(key=f"set-merge-{copy}").set_value([chosen]).run())
    fine(test.button(key="set-merge").click().run())
    assert demos.info(now.set_name).n == demos.info(chosen).n, "both hold the same texts, and each is kept once"
    now.set_name = copy
    fine(test.run())
    fine(test.button(key="set-delete").click().run())
    assert copy not in {offer.id for offer in own(fresh_backend)} and "is in the bin" in texts(test)
    fine(test.button(key="set-undelete").click().run())
    assert now.set_name == copy and demos.info(copy).title == "other"


def test_a_set_that_ships_offers_a_copy_and_no_deletion(app: Run, fresh_backend: Any) -> None:
    test = app("demonstrations")
    assert fresh_backend.sessions["embedded"].demos.info(test.session_state["retouch"].set_name).is_shipped
    assert not any(str(item.key) in ("set-delete", "set-rename") for item in test.button)
    assert any(item.key == "set-duplicate" for item in test.button)


def test_each_opening_of_the_dialog_begins_anew(app: Run, fresh_backend: Any, monkeypatch: Any) -> None:
    from pages._ui.demonstrations import beginnings

    monkeypatch.setattr(beginnings, "new_set_dialog", lambda session: None)

    def at(way: str) -> AppTest:
        """The dialog as it stands, and behind a button opened again."""
        test.session_state["new-set-way"] = way
        return fine(test.run())

    app()
    test = AppTest.from_function(reopening, default_timeout=60)
    fine(at("Paste").text_area(key="paste-text").set_value("w1 w2\tw3\tw4\n").run())
    assert "1 good row" in texts(test)
    file = at("Files").get("file_uploader")[0].proto.id
    assert at("Files").get("file_uploader")[0].proto.id == file, "a rerun keeps what was brought"
    fine(test.button(key="again").click().run())
    assert at("Files").get("file_uploader")[0].proto.id != file
    assert at("Paste").text_area(key="paste-text").value == "" and "good row" not in texts(test)
