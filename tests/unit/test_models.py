"""Tokens, addresses, the catalog, recording and scoring on tiny random models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import words
from workbench.errors import BadPrompt, CorruptModel, ModelUnavailable, NotEnoughMemory, NotFinite, UnknownSite
from workbench.models import catalog, listing
from workbench.models.base import LanguageModel
from workbench.models.fingerprints import fingerprint_of
from workbench.record import activations, gather
from workbench.resources import EMBEDDED
from workbench.score import continuation_scores, text_scores
from workbench.sites import Site

TEXTS = [words(12, 13, 14, 15), words(20, 12), words(31, 32, 33)]


def test_logits_equal_hugging_face_and_the_bridge(tiny: LanguageModel) -> None:
    batch = tiny.tokens(TEXTS[0])
    with torch.no_grad():
        ours = tiny.logits(batch)
        plain = tiny.network(input_ids=batch.ids).logits
        bridge = tiny.bridge(batch.ids, attention_mask=batch.mask.long())  # pyright: ignore
    torch.testing.assert_close(ours, plain, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours, bridge, atol=1e-5, rtol=1e-5)  # rounding of another attention kernel


@pytest.mark.parametrize("in_turn", [True, False])
def test_of_two_models_that_are_asked_for_at_once_one_is_read_after_the_other(
    tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, in_turn: bool
) -> None:
    """transformers would else take from both how to tie their weights, and both were refused as corrupt."""
    both, met = threading.Barrier(2), list[bool]()

    def reading(*_: Any, **__: Any) -> Any:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.2 if in_turn else 60)
            met.append(True)
        raise ValueError("far enough")

    monkeypatch.setattr(catalog.AutoModelForCausalLM, "from_pretrained", reading)
    if not in_turn:
        monkeypatch.setattr(catalog, "BUILDING", nullcontext())

    def refused(family: str) -> bool:
        with pytest.raises((CorruptModel, ModelUnavailable), match="far enough"):
            catalog.load(str(tiny_folders[family]))
        return True

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(refused, ("gpt2", "llama"))) == [True, True]
    assert bool(met) is not in_turn


def test_bridge_and_plain_module_hold_the_same_parameters(tiny: LanguageModel) -> None:
    mine = {id(p) for p in tiny.network.parameters()}
    assert mine <= {id(p) for p in tiny.bridge.original_model.parameters()}  # pyright: ignore


def test_activations_are_those_of_transformer_lens(tiny: LanguageModel) -> None:
    names = {
        "resid_pre": "blocks.1.hook_in", "resid_post": "blocks.1.hook_out", "attn_out": "blocks.1.attn.hook_out",
        "mlp_out": "blocks.1.mlp.hook_out", "head_z": "blocks.1.attn.hook_z", "mlp_post": "blocks.1.mlp.out.hook_in",
    }  # fmt: skip
    batch = tiny.tokens(TEXTS[0])
    with torch.no_grad():
        _, cache = tiny.bridge.run_with_cache(batch.ids)  # pyright: ignore
        mine = activations(tiny, batch, [Site(kind, 1) for kind in names])
    for kind, name in names.items():
        theirs = cache[name].reshape(1, batch.ids.shape[1], -1)
        torch.testing.assert_close(mine[Site(kind, 1)], theirs, atol=1e-5, rtol=1e-4)


def test_resid_post_is_the_hidden_state_after_the_block_and_the_last_one_is_before_the_final_norm(tiny: LanguageModel) -> None:
    batch, last = tiny.tokens(TEXTS[0]), tiny.info.n_layers - 1
    with torch.no_grad():
        hidden = tiny.network(input_ids=batch.ids, output_hidden_states=True).hidden_states
        mine = activations(tiny, batch, [Site("resid_post", 0), Site("resid_post", last), Site("ln_final")])
    torch.testing.assert_close(mine[Site("resid_post", 0)], hidden[1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(mine[Site("ln_final")], hidden[-1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(mine[Site("resid_post", last)], hidden[-1], atol=1e-3)
    torch.testing.assert_close(tiny.unembed(mine[Site("resid_post", last)]), tiny.logits(batch), atol=1e-5, rtol=1e-4)


def test_recording_stops_below_what_it_does_not_need(tiny: LanguageModel) -> None:
    # (transformers leaves capture hooks of its own on a module whose hidden states were asked for once)
    reached, hooks = list[int](), tiny.hook_count()
    readers = [(Site("resid_post", layer), lambda x, layer=layer: reached.append(layer)) for layer in range(tiny.info.n_layers)]
    with tiny.intercepts(readers):
        activations(tiny, tiny.tokens(TEXTS), ["resid_post@1"])
    assert reached == [0, 1]
    assert tiny.hook_count() == hooks


def test_gradients_of_a_stopped_forward_are_those_of_the_full_one(tiny: LanguageModel) -> None:
    batch, start = tiny.tokens(TEXTS[0]), torch.zeros(tiny.info.d_model, requires_grad=True)

    def grown(stopped: bool) -> Tensor:
        seen: list[Tensor] = []
        with tiny.intercept("resid_post@0", lambda x: x + start):
            if stopped:
                seen.append(activations(tiny, batch, ["resid_post@1"])[Site("resid_post", 1)])
            else:
                with tiny.intercept("resid_post@1", lambda x: seen.append(x)):
                    tiny.logits(batch)
        return torch.autograd.grad(seen[0].square().sum(), start)[0]

    assert torch.equal(grown(True), grown(False))
    assert grown(True).abs().max() > 0


def test_gathering_in_batches_equals_one_by_one_and_reads_the_right_position(tiny: LanguageModel) -> None:
    batch = tiny.tokens(TEXTS, [" w1", " w2 w3", " w4"])
    last = gather(tiny, batch, ["resid_post@1"], batch_size=2)[Site("resid_post", 1)]
    for i, (text, end) in enumerate(zip(TEXTS, (" w1", " w2 w3", " w4"))):
        with torch.no_grad():
            alone = activations(tiny, tiny.tokens(text + end), ["resid_post@1"])[Site("resid_post", 1)]
        torch.testing.assert_close(last[i], alone[0, -1], atol=2e-5, rtol=1e-4)
    every = gather(tiny, batch, ["resid_post@1"], "all", batch_size=2)[Site("resid_post", 1)]
    answer = gather(tiny, batch, ["resid_post@1"], "continuation", batch_size=2)[Site("resid_post", 1)]
    assert every.shape[0] == int(batch.mask.sum())
    assert answer.shape[0] == 4


def test_scores_are_sums_of_log_softmax(tiny: LanguageModel) -> None:
    scores = continuation_scores(tiny, TEXTS, [" w1", " w2 w3", " w4"], batch_size=2)
    batch = tiny.tokens(TEXTS[1], " w2 w3")
    with torch.no_grad():
        log_probs = tiny.logits(batch).log_softmax(-1)[0]
    n = int(batch.n_prompt[0])
    wanted = [log_probs[n - 1 + i, batch.ids[0, n + i]] for i in range(2)]
    torch.testing.assert_close(scores.per_token[0, 1, :2], torch.stack(wanted), atol=2e-5, rtol=1e-4)
    assert scores.n_tokens.tolist() == [1, 2, 1]
    assert text_scores(tiny, TEXTS).n_tokens.tolist() == [3, 1, 2]


def test_an_unknown_site_names_the_nearest(tiny: LanguageModel) -> None:
    for call in (lambda: tiny.width("resid_post@77"), lambda: tiny.weight("param:nothing")):
        with pytest.raises(UnknownSite) as told:
            call()
        assert told.value.hint


def test_prompts_that_cannot_be_run_are_refused_with_both_numbers(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(BadPrompt, match="70 tokens long.*64"):
        tiny_gpt2.tokens(words(*([1] * 70)))
    for text, end in (("", None), ("w1", ""), ([], None), (["w1"], ["w2", "w3"])):
        with pytest.raises(BadPrompt):
            tiny_gpt2.tokens(text, end)


def test_fingerprints_tell_weights_and_dtype_apart(tiny_folders: dict[str, Path]) -> None:
    one = catalog.load(str(tiny_folders["gpt2"]))
    again = catalog.load(str(tiny_folders["gpt2"]))
    other = catalog.load(str(tiny_folders["gpt2"]), dtype="bfloat16")
    assert one.fingerprint.same_model(again.fingerprint)
    assert not one.fingerprint.same_model(other.fingerprint)
    with torch.no_grad():
        next(again.network.parameters()).mul_(1.5)
    assert fingerprint_of(again.network, "x", "").weights != one.fingerprint.weights


@pytest.mark.parametrize("shape", [(50257, 768), (32000, 2048)])  # embeddings of GPT-2 and of a 1B Llama
def test_a_large_embedding_has_a_fingerprint(shape: tuple[int, int]) -> None:
    network = torch.nn.Module()
    network.weight = torch.nn.Parameter(torch.zeros(shape, dtype=torch.bfloat16))
    before = fingerprint_of(network, "x", "").weights
    with torch.no_grad():
        network.weight.view(-1)[-1] = 1.0
    assert fingerprint_of(network, "x", "").weights != before


def test_the_memory_estimate_comes_before_the_weights(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "no-weights"
    shutil.copytree(tiny_folders["llama"], folder)
    (folder / "model.safetensors").unlink()
    size = catalog.estimate(str(folder))
    assert size.n_parameters == sum(p.numel() for p in catalog.load(str(tiny_folders["llama"])).network.parameters())
    assert size.fits
    monkeypatch.setattr(catalog, "bytes_free", lambda device: 1000)
    with pytest.raises(NotEnoughMemory, match="GB"):
        catalog.load(str(folder))


def test_models_that_cannot_be_loaded_say_why(tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    corrupt = tmp_path / "corrupt"
    shutil.copytree(tiny_folders["gpt2"], corrupt)
    (corrupt / "model.safetensors").write_bytes(b"not weights at all")
    partial = tmp_path / "other-shape"
    shutil.copytree(tiny_folders["gpt2"], partial)
    config = json.loads((partial / "config.json").read_text())
    (partial / "config.json").write_text(json.dumps({**config, "n_layer": 4}))
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text('{"model_type": "no-such-thing"}')
    cases: list[tuple[Any, type[Exception]]] = [
        (tmp_path / "empty", ModelUnavailable), (tmp_path / "nowhere", ModelUnavailable), (corrupt, CorruptModel),
        (partial, CorruptModel), (strange, ModelUnavailable), ("nobody/no-such-model", ModelUnavailable),
    ]  # fmt: skip
    for place, error in cases:
        with pytest.raises(error) as told:
            catalog.load(str(place))
        assert told.value.hint  # pyright: ignore


def test_a_gated_model_and_an_unknown_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    answer = httpx.Response(403, request=httpx.Request("GET", "http://hub"))
    for error, word in ((GatedRepoError, "gated"), (RepositoryNotFoundError, "no model")):

        def refuse(*_: Any, error: Any = error, **__: Any) -> None:
            raise error("refused", response=answer)

        monkeypatch.setattr(catalog, "hub_has", lambda source: True)
        monkeypatch.setattr(catalog.AutoConfig, "from_pretrained", refuse)
        with pytest.raises(ModelUnavailable, match=word):
            catalog.load("someone/some-model")


def test_a_silent_hub_is_said_within_three_seconds_and_its_cache_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *_, **__: time.sleep(20))
    began = time.monotonic()
    with pytest.raises(ModelUnavailable, match="did not answer within 3 seconds, and someone/some-model is not"):
        catalog.estimate("someone/some-model")
    assert time.monotonic() - began < 4
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "config.json")
    asked: list[bool] = []

    def answered(*_: Any, local_files_only: bool, **__: Any) -> None:
        asked.append(local_files_only)
        raise OSError("cut short")

    monkeypatch.setattr(catalog.AutoConfig, "from_pretrained", answered)
    for answers in (True, False):
        monkeypatch.setattr(catalog, "hub_has", lambda source, answers=answers: answers)
        with pytest.raises(ModelUnavailable, match="cut short"):
            catalog.estimate("someone/some-model")
    assert asked == [False, True]


def test_any_folder_of_the_workspace_is_listed_with_its_size_and_loaded_by_its_name(tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    shutil.copytree(tiny_folders["llama"], tmp_path / "mine")
    (tmp_path / ".getting-other-1").mkdir()
    found = {entry.name: entry for entry in listing.entries(tmp_path)}
    model = catalog.load("mine", models=tmp_path)
    assert found["mine"].parameters == model.info.n_parameters and ".getting-other-1" not in found
    assert found["mine"].needs("bfloat16") * 2 == pytest.approx(found["mine"].needs(), abs=2)
    large = [entry for entry in found.values() if entry.kind == "recommended"]
    assert [entry.parameters for entry in large] == sorted(entry.parameters for entry in large)


def test_activations_that_are_not_finite_are_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(NotFinite), tiny_gpt2.intercept("resid_post@0", lambda x: x * torch.inf):
        gather(tiny_gpt2, tiny_gpt2.tokens(TEXTS), ["resid_post@1"])


def test_what_is_at_hand_comes_before_what_can_be_had(tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    shutil.copytree(tiny_folders["gpt2"], tmp_path / "smollm2-135m")
    found = {entry.name: entry for entry in listing.entries(tmp_path)}
    assert found["smollm2-135m"].kind == "fetched" and found["smollm2-135m"].is_present
    assert found["mistral-7b"].kind == "recommended" and not found["mistral-7b"].is_present
    assert all(entry.licence for entry in found.values() if entry.kind != "cached")
    assert catalog.load("smollm2-135m", models=tmp_path).info.name == "smollm2-135m"
    with pytest.raises(ModelUnavailable, match="not been fetched"):
        catalog.load("smollm2-135m", models=tmp_path / "elsewhere")


@pytest.mark.parametrize("name", list(EMBEDDED))
def test_the_listed_sizes_of_the_embedded_models_are_theirs(name: str) -> None:
    entry = {item.name: item for item in listing.entries()}[name]
    assert entry.parameters == catalog.load(name).info.n_parameters


@pytest.mark.parametrize(("asked", "threads"), [("2", 2), (None, 1)])
def test_a_persons_number_of_threads_wins_over_ours(asked: str | None, threads: int) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": asked} if asked else {}
    code = "import torch; from workbench.models.catalog import load; load('embedded'); print(torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) == threads


@pytest.mark.parametrize("name", ["cuda:99", "a b", "-x", "x" * 200, "\N{SUPERSCRIPT TWO}", "a..b", "org/na me"])
def test_what_can_be_no_hub_id_is_refused_before_the_hub_is_asked(name: str) -> None:
    with pytest.raises(ModelUnavailable, match="no hub id has such a name") as caught:
        catalog.load(name)
    assert "org/name" in caught.value.hint
