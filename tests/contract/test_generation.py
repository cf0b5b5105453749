"""What Retouch says is what transformers says, under the folder's own generation config, of a text and of a conversation.

Base text is that of `generate()`, greedy by its tokens and sampled by the scores of every step; edited text is that of `generate()` with
the exported script attached. Each setting of the folder matters: without any one of them `generate()` says something else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import build_folder, contrast_rows, words
from tests.contract.test_methods import rows_for
from workbench.conversations import Prompt, as_chat
from workbench.decode import Sampling, processed
from workbench.edits import fresh_load
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.methods import get
from workbench.models.tokens import TokenBatch
from workbench.opening import open_session
from workbench.session import Session

TEMPLATE = "{% for m in messages %}<e> w1 {{ m.content }} w2 {% endfor %}<e> w3"
N, CLOSE = 12, 1e-5  # a float32 logit of some units, after two layers in another batch shape
ASKED = words(11, 12, 13)
DRAWN = {"do_sample": True, "temperature": 0.7, "top_k": 12, "top_p": 0.8}


@dataclass
class Told:
    """A folder with a generation config of its own, its prompt as transformers renders it, and the session on it."""

    folder: Path
    own: dict[str, Any]
    session: Session
    prompt: Prompt

    @property
    def ids(self) -> torch.Tensor:
        tokenizer = self.session.model.tokenizer
        if isinstance(self.prompt, str):
            return tokenizer(self.prompt, return_tensors="pt")["input_ids"]
        found = tokenizer.apply_chat_template(self.prompt.messages(), add_generation_prompt=True, return_dict=False)
        return torch.tensor([found])

    def says(self, edit: Edit | tuple[()] = ()) -> list[int]:
        """What Retouch says as the folder has it, in token ids."""
        return list(self.session.generate(self.prompt, edit, self.session.model.generation.sampling(max_new_tokens=N))[0][0].ids)


def plain(folder: Path, without: str | None = None, **set_to: Any) -> Any:
    """The folder's network as transformers loads it, one setting of its generation config taken back."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    for name, value in ({without: getattr(GenerationConfig(), without, None)} if without else {}).items() | set_to.items():
        setattr(network.generation_config, name, value)
    return network


def said(network: Any, ids: torch.Tensor, **more: Any) -> Any:
    """`generate()` of one row; its new tokens, or with `scores` all that it returns."""
    with torch.no_grad():
        found = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=N, **more)
    return found if "output_scores" in more else found[0, ids.shape[1] :].tolist()


@pytest.fixture(scope="module", params=[(family, how) for family in ("gpt2", "llama") for how in ("text", "chat")], ids="-".join)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Each setting is chosen by what the model says without it: so it matters."""
    family, how = request.param
    folder = build_folder(family, tmp_path_factory.mktemp("own") / family)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    path, own = folder / "generation_config.json", dict[str, Any]()
    whole = json.loads(path.read_text())

    def asks(**more: Any) -> list[int]:
        own.update(more)
        path.write_text(json.dumps(whole | own))
        return said(plain(folder), found.ids)

    session = open_session(str(folder), tmp_path_factory.mktemp("home"), records=False)
    found = Told(folder, own, session, ASKED if how == "text" else as_chat(ASKED))
    first = asks(repetition_penalty=1.2)
    never = asks(begin_suppress_tokens=[first[0]])
    last = asks(suppress_tokens=[next(token for token in never[1:] if token != first[0])])
    end = next(token for i, token in enumerate(last) if i >= 4 and token not in (99, *last[:i]))
    asks(eos_token_id=[99, end])
    found.session = open_session(str(folder), tmp_path_factory.mktemp("home"), records=False)
    return found


def test_base_tokens_are_those_of_generate_and_every_setting_of_the_folder_matters(told: Told) -> None:
    wanted = said(plain(told.folder), told.ids)
    assert told.says() == wanted
    assert told.session.model.tokens(told.prompt).ids.tolist() == told.ids.tolist()
    assert 4 < len(wanted) < N and wanted[-1] == told.own["eos_token_id"][1] != told.session.model.tokenizer.eos_token_id
    for name in told.own:
        restored = {"eos_token_id": 99} if name == "eos_token_id" else {}
        assert said(plain(told.folder, None if restored else name, **restored), told.ids) != wanted, f"{name} does not matter here"


def scores_agree(told: Told, network: Any, edits: tuple[Edit, ...]) -> bool:
    """Whether the scores of every step that transformers draws by are ours, on the tokens that it drew; of three texts."""
    model, n, steps = told.session.model, told.ids.shape[1], 0
    own, how = model.generation, Sampling(N, 0.7, 12, 0.8, told.own["repetition_penalty"])
    for seed in range(3):
        torch.manual_seed(seed)
        drawn = said(network, told.ids, **DRAWN, output_scores=True, return_dict_in_generate=True)
        for step, theirs in enumerate(drawn.scores):
            batch = TokenBatch.of([drawn.sequences[0, : n + step].tolist()], [n], model.device)
            with torch.no_grad(), applied(model, *edits):
                ours = processed(model.logits(batch)[:, -1].float(), batch, how, own, is_first=step == 0)
            drawable = ~theirs.isinf()
            if not torch.equal(~ours.isinf(), drawable) or float((ours - theirs)[drawable].abs().max()) > CLOSE:
                return False
            steps += 1
    assert steps > 5
    return True


def test_sampled_scores_are_those_of_generate(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scores_agree(told, plain(told.folder), ())
    assert not scores_agree(told, plain(told.folder, repetition_penalty=1.0), ())
    network: Any = told.session.model.network
    for name, value in DRAWN.items():
        monkeypatch.setattr(network.generation_config, name, value)
    assert told.session.model.generation.sampling(max_new_tokens=N) == Sampling(N, 0.7, 12, 0.8, told.own["repetition_penalty"])


def _mean_difference(session: Session) -> Edit:
    return session.fit("mean_difference", contrast_rows(), {"layers": (1,)}, chat=False).edit.scaled(4.0)


def _answers_alone(session: Session) -> Edit:
    return session.fit("mean_difference", contrast_rows(), {"layers": (1,), "where": "generated"}, chat=False).edit.scaled(4.0)


def _lora(session: Session) -> Edit:
    return session.fit("lora", rows_for(get("lora")), {"epochs": 2, "lr": 0.05}, chat=False).edit.scaled(5.0)


@pytest.mark.parametrize("make", [_mean_difference, _answers_alone, _lora])
def test_edited_text_is_that_of_generate_with_the_exported_script(told: Told, make: Callable[[Session], Edit], tmp_path: Path) -> None:
    edit, network, base = make(told.session), plain(told.folder), said(plain(told.folder), told.ids)
    told.session.export(edit, "script", tmp_path / "out", fresh_process=False)
    script: Any = fresh_load.script(tmp_path / "out" / "edit.py")
    handles = script.attach(network)
    found = said(network, told.ids)
    assert told.says(edit) == found != base
    assert scores_agree(told, network, (edit,)) and not scores_agree(told, network, ())
    script.detach(handles)
    assert said(network, told.ids) == base
