"""The page Model: what is listed, got and loaded, and what is said of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import fine, settled, texts
from tests.app.test_models_of_tabs import whole
from tests.conftest import build_folder
from tests.unit.test_gguf import written
from workbench.errors import ModelUnavailable
from workbench.models import catalog
from workbench.progress import Progress

Run = Callable[..., AppTest]


def page(app: Run, where: str) -> AppTest:
    test = app("model")
    return fine(test.segmented_control(key="model-where").set_value(where).run())


def test_what_is_on_this_machine_stands_with_licence_size_and_its_button(app: Run, fresh_backend: Any) -> None:
    test = page(app, "Here")
    said = texts(test)
    assert "Embedded Backpack" in said and "Apache\\-2\\.0" in said and ": fits" in said.replace("\\", "")
    assert test.button(key="load-embedded-backpack") and "this tab's model" in said


def test_recommended_models_say_whether_they_fit_in_the_chosen_type(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.models import listing

    for module in (catalog, listing):
        monkeypatch.setattr(module, "bytes_free", lambda device: 2_000_000_000)
    test = page(app, "To get")
    said = texts(test).replace("\\", "")
    assert "Does not fit: needs 37.7 GB in float32, 2 GB are free." in said
    assert test.button(key="get-mistral-7b").disabled and not test.button(key="get-smollm2-135m").disabled
    assert test.button(key="get-qwen2-5-0-5b").disabled
    fine(test.segmented_control(key="model-dtype").set_value("bfloat16").run())
    assert not test.button(key="get-qwen2-5-0-5b").disabled and test.button(key="get-mistral-7b").disabled


def test_few_bits_can_be_chosen_where_the_package_is_that_makes_them(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.models import devices

    monkeypatch.setattr(devices, "quantised_here", lambda: ())
    assert "int8" not in page(app, "To get").segmented_control(key="model-dtype").options
    monkeypatch.setattr(devices, "quantised_here", lambda: ("int8", "nf4"))
    test = page(app, "To get")
    fine(test.segmented_control(key="model-dtype").set_value("nf4").run())
    assert "needs 5.3 GB" in texts(test).replace("\\", "") and test.selectbox(key="model-device").options[0] == "cpu"


def test_getting_shows_progress_can_be_cancelled_and_then_offers_to_load(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = threading.Event()

    def got(name: str, *, progress: Progress) -> Path:
        while not gate.wait(0.02):
            progress(0.5, "Downloading it")
        return build_folder("llama", tmp_path / "home" / "models" / name)

    monkeypatch.setattr(catalog, "fetch_recommended", got)
    test = page(app, "To get")
    fine(test.button(key="get-smollm2-135m").click().run())
    time.sleep(0.5)
    assert "Downloading it" in texts(fine(test.run())) and test.button(key="get-smollm2-135m").disabled
    test.button(key="get-smollm2-135m-cancel").click().run()
    assert "Cancelled" in texts(settled(test))
    fine(test.button(key="get-smollm2-135m").click().run())
    gate.set()
    test = settled(test)
    fine(test.button(key="load-smollm2-135m").click().run())
    test = whole(settled(test))
    assert test.session_state["retouch"].model == "smollm2-135m"
    fine(test.switch_page("pages/model.py").run())
    assert test.text_area(key="model-prompt").value == "The capital of France is"
    fine(test.segmented_control(key="model-where").set_value("Here").run())
    assert "used just now" in texts(test)


def test_a_gguf_file_is_taken_and_what_reading_it_means_stands_beside(app: Run, fresh_backend: Any, tmp_path: Path) -> None:
    written(tmp_path / "tiny.gguf")
    test = page(app, "Folder")
    fine(test.text_input(key="model-folder").set_value(str(tmp_path / "tiny.gguf")).run())
    said = texts(test).replace("\\", "")
    assert "what rounding lost does not come back" in said and "Licence: apache-2.0" in said
    fine(test.button(key="model-load").click().run())
    assert whole(settled(test)).session_state["retouch"].model == str(tmp_path / "tiny.gguf")
    fine(test.switch_page("pages/model.py").run())
    assert "what rounding lost does not come back" in texts(test).replace("\\", "")


def test_a_silent_hub_is_said_where_it_was_asked(app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(source: str) -> bool:
        raise ModelUnavailable("The hub did not answer within 3 seconds.", "Check the network.")

    monkeypatch.setattr(catalog, "hub_has", silent)
    test = page(app, "Hub")
    fine(test.text_input(key="model-hub").set_value("org/some").run())
    fine(test.button(key="model-check").click().run())
    assert "did not answer within 3 seconds" in texts(settled(test)).replace("\\", "")


def test_reasons_are_read_whole_and_memory_and_seconds_are_said(app: Run, fresh_backend: Any) -> None:
    test = app("model")
    html = " ".join(str(item.proto.body) for item in test.get("html"))
    assert "memory of the weights" in html and "loaded in" in html
    assert test.table and any("senses" in str(row) for row in test.table[0].value.to_dict("records"))


def test_the_third_card_of_start_opens_on_folder_and_another_tries_a_real_model(
    app: Run, fresh_backend: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    test = app()
    test.button(key="start-model").click().run()
    assert fine(test).segmented_control(key="model-where").value == "Folder"

    def got(name: str, *, progress: Progress) -> Path:
        return build_folder("qwen2", tmp_path / "home" / "models" / name)

    monkeypatch.setattr(catalog, "fetch_recommended", got)
    test = app()
    test.button(key="start-real").click().run()
    assert whole(settled(test)).session_state["retouch"].model == "smollm2-135m"
    assert "It is on this machine" in texts(fine(test.switch_page("pages/start.py").run()))
