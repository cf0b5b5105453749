"""The real model without a hub: got from the package that carries it, loaded, and heard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real_wheel import NAME, folder_of_wheel, real_model
from tests.stand_in import leading_to
from workbench.models.catalog import load
from workbench.workspace.model_facts import next_tokens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]


def test_the_real_model_is_got_without_a_hub_and_says_paris(tmp_path: Path) -> None:
    environment = {**leading_to(wheels=folder_of_wheel()), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "workbench", "models", "get", NAME, "--workspace", str(tmp_path), "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert Path(told["folder"]) == tmp_path / "models" / NAME and "Apache-2.0" in told["note"] and "four-bit" in told["note"]
    assert os.listdir(tmp_path / "models") == [NAME]
    model = load(NAME, models=tmp_path / "models")
    info = model.info
    assert (info.n_layers, info.n_heads, info.n_key_value_heads) == (30, 9, 3)
    assert info.n_parameters == real_model().parameters == 134_515_008
    assert next_tokens(model, "The capital of France is", 1)[0][0] == " Paris"
    assert getattr(model.tokenizer, "chat_template", None)
