"""Exports: what is written and loaded afresh is the edited model, to rounding; what would not be is refused."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import FAMILIES, build_folder, contrast_rows, words
from tests.operations import edit_of, half_open, hooks_on, noise, operations_of, shift
from workbench.decode import Sampling, generate
from workbench.edits import fresh_load
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.edits.export import export
from workbench.errors import StorageFailed, UnsupportedExport
from workbench.methods.registry import get
from workbench.models.bridge import BridgeModel
from workbench.models.catalog import load
from workbench.models.tokens import TokenBatch
from workbench.operations import CACHES, AddToWeight, LowRank, Rows, TransformAt
from workbench.sites import Site

# float32 and three layers: parities of exact exports are of the order of 1e-6 nats; edits here move log-probabilities by 0.1 and more.
EXACT = 3e-5


def low(model: Any, kind: str, rank: int = 2, seed: float = 1.0) -> AddToWeight:
    out, inward = model.weight(Site(kind, 1)).shape
    return AddToWeight(Site(kind, 1), LowRank(noise(rank, inward), seed * noise(out, rank), 1.5))


def moved(model: Any, edit: Edit) -> float:
    batch = model.tokens(words(3, 7, 12, 5))
    with torch.no_grad():
        base = model.logits(batch)
        with applied(model, edit):
            return float((model.logits(batch) - base).abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_of_every_kind_of_delta_is_the_edited_model(family: str, tiny_models: Any, tmp_path: Path) -> None:
    model, before = tiny_models[family], hooks_on(tiny_models[family])
    kinds = [kind for kind in ("w_q", "w_v", "w_o", "w_in", "w_out", "w_gate") if Site(kind, 1) in model.sites()]
    rows = AddToWeight(Site("w_e"), Rows(torch.tensor([3, 7]), noise(2, model.info.d_model)))
    unembedding = AddToWeight(Site("w_u"), noise(*model.weight("w_u").shape))
    edit = edit_of(model, *(low(model, kind) for kind in kinds), rows, unembedding)
    assert moved(model, edit) > 0.1
    report = export(model, edit, "checkpoint", tmp_path / "out", fresh_process=False)
    assert report.parity is not None and report.parity < EXACT and report.n_tokens == 64
    if model.info.tied_embeddings:
        assert not json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"]
    again = load(str(tmp_path / "out"))
    assert not again.info.tied_embeddings and again.tokens("w1").ids.tolist() == model.tokens("w1").ids.tolist()
    assert hooks_on(model) == before


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "gemma"])
def test_a_script_of_every_operation_is_the_edited_model_and_leaves_it_as_it_was(family: str, tiny_models: Any, tmp_path: Path) -> None:
    model = tiny_models[family]
    kept = {name: ops for name, ops in operations_of(model).items() if "." not in name or "head_z" in name}
    for index, (name, ops) in enumerate(kept.items()):
        edit = edit_of(model, *ops)
        report = export(model, edit, "script", tmp_path / str(index), fresh_process=False)
        assert report.parity is not None and report.parity < EXACT, name
    edit = edit_of(model, *kept["rows"], *kept["w_u"], *kept["resid_post@0"], *kept["gate"], *kept["w_q"])
    report = export(model, edit, "script", tmp_path / "all", fresh_process=False)
    assert report.files == ("dtype.txt", "edit.py", "edit.safetensors"), "and no bytecode of the run that measured it"
    import transformers

    script: Any = fresh_load.script(tmp_path / "all" / "edit.py")
    network: Any = transformers.AutoModelForCausalLM.from_pretrained(model.info.name).eval()
    ids = model.tokens(words(3, 7, 12, 5)).ids
    with torch.no_grad():
        base = network(input_ids=ids).logits
        handles = script.attach(network)
        assert (network(input_ids=ids).logits - base).abs().max() > 0.1
        script.detach(handles)
        assert torch.equal(network(input_ids=ids).logits, base)


def test_a_script_edits_cached_generation_where_the_engine_does(tiny_gpt2: Any, tmp_path: Path) -> None:
    import transformers

    from workbench.decode import Sampling, generate

    prompt = words(3, 7, 12, 5)
    texts: list[tuple[int, ...]] = []
    for where in ("all", "prompt", "generated", "first 1", "first 4"):
        op = shift(32, where, site="resid_post@1")
        edit = edit_of(tiny_gpt2, replace(op, fn=lambda x, fn=op.fn: 0.5 * x + 0.5 * fn(x)))
        export(tiny_gpt2, edit, "script", tmp_path / where, fresh_process=False)
        network: Any = transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2.info.name).eval()
        script: Any = fresh_load.script(tmp_path / where / "edit.py")
        script.attach(network)
        wanted = generate(tiny_gpt2, [prompt], [(edit,)], Sampling(max_new_tokens=8))[0][0].ids
        ids = tiny_gpt2.tokens(prompt).ids
        with torch.no_grad():
            found = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=99)
        assert found[0, ids.shape[1] :].tolist() == list(wanted)
        texts.append(wanted)
    assert len(set(texts)) > 1, "otherwise the positions would not matter here"


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama"])
def test_a_peft_adapter_stacks_ranks_and_pads_fused_matrices(family: str, tiny_models: Any, tmp_path: Path) -> None:
    model = tiny_models[family]
    edits = [edit_of(model, low(model, "w_q"), low(model, "w_v", 3), low(model, "w_out")), edit_of(model, low(model, "w_q", 1, 2.0))]
    report = export(model, edits, "peft", tmp_path / "out", fresh_process=False)
    assert report.parity is not None and report.parity < EXACT
    ranks = json.loads((tmp_path / "out" / "adapter_config.json").read_text())["rank_pattern"]
    assert sorted(ranks.values()) == ([2, 6] if model.weight("w_q@1").columns is not None else [2, 3, 3])
    assert moved(model, edits[0]) > 0.1


@pytest.mark.parametrize("target", ["checkpoint", "peft", "script"])
def test_exports_load_in_a_fresh_process(target: Any, tiny_gpt2: Any, tmp_path: Path) -> None:
    edit = edit_of(tiny_gpt2, low(tiny_gpt2, "w_k"), low(tiny_gpt2, "w_in"))
    report = export(tiny_gpt2, edit, target, tmp_path / target)
    assert report.parity is not None and report.parity < EXACT
    assert "differ from the edited model's by at most" in str(report)
    if target == "script":
        assert report.files == ("dtype.txt", "edit.py", "edit.safetensors")
        command = [sys.executable, "-I", str(tmp_path / target / "edit.py"), "--prompt", words(1, 2), "--max-new-tokens", "2"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("w1 w2") and not done.stderr, done.stderr
        assert "workbench" not in (tmp_path / target / "edit.py").read_text()


def test_relative_folders_of_model_and_export_are_relative_to_where_the_person_is(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_folders["gpt2"], tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    model = load("models/mine")
    report = export(model, edit_of(model, low(model, "w_k")), "script", "exported/")
    assert report.parity is not None and report.parity < EXACT and (tmp_path / "exported" / "edit.py").is_file()


ROTATED = {"budget": 14, "n_init": 6, "n_train": 6, "n_val": 4, "optimizer": "random"}


def test_fitted_methods_and_gates_are_written_as_scripts(tiny_gpt2: Any, tmp_path: Path) -> None:
    import workbench.methods  # noqa: F401 - registers

    rows = contrast_rows()
    for name, values in {"mean_difference": {}, "sea": {}, "hpr": {"epochs": 2}, "tarot": ROTATED}.items():
        edit = get(name).fit(tiny_gpt2, rows, get(name).configure(values)).edit
        gates = {op.site: half_open(tiny_gpt2) for op in edit.operations() if isinstance(op, TransformAt)}
        report = export(tiny_gpt2, [edit.gated(gates), edit.scaled(0.5)], "script", tmp_path / name, fresh_process=False)
        assert report.parity is not None and report.parity < EXACT
        source = (tmp_path / name / "edit.py").read_text()
        assert edit.id in source and load_file(tmp_path / name / "edit.safetensors")


def test_a_function_whose_shapes_follow_its_data_is_refused_until_it_gives_another_form(tiny_gpt2: Any, tmp_path: Path) -> None:
    def picked(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        if bool((x[..., 0] > 0).any()):
            y[x[..., 0] > 0] *= 2
        return y

    op = TransformAt(Site("resid_post", 1), picked, 32)
    with pytest.raises(UnsupportedExport, match="resid_post@1 decides by its data"):
        export(tiny_gpt2, edit_of(tiny_gpt2, op), "script", tmp_path / "refused")
    assert list(tmp_path.iterdir()) == []
    other = replace(op, traceable=lambda x: torch.where(x[..., :1] > 0, 2 * x, x))
    report = export(tiny_gpt2, edit_of(tiny_gpt2, other), "script", tmp_path / "out", fresh_process=False)
    assert report.parity is not None and report.parity < EXACT


def test_a_wrong_export_is_caught_by_its_parity_and_nothing_stays_behind(tiny_gpt2: Any, tmp_path: Path) -> None:
    op = TransformAt(Site("resid_post", 1), lambda x: 2 * x, 32, traceable=lambda x: 3 * x)
    with pytest.raises(UnsupportedExport, match="differs from the edited model by"):
        export(tiny_gpt2, edit_of(tiny_gpt2, op), "script", tmp_path / "out", fresh_process=False)
    assert list(tmp_path.iterdir()) == []


def test_refusals_say_why_and_what_else_and_a_folder_is_never_overwritten(tiny_gpt2: Any, tmp_path: Path) -> None:
    import workbench.methods  # noqa: F401 - registers

    edit = get("mean_difference").fit(tiny_gpt2, contrast_rows()).edit
    with pytest.raises(UnsupportedExport, match="no checkpoint: It adds to the residual stream") as caught:
        export(tiny_gpt2, edit, "checkpoint", tmp_path / "out")
    assert caught.value.hint == "It can be exported as: script, report."
    dense = edit_of(tiny_gpt2, AddToWeight(Site("w_in", 1), noise(*tiny_gpt2.weight("w_in@1").shape)))
    with pytest.raises(UnsupportedExport, match="w_in@1 is not a low-rank change"):
        export(tiny_gpt2, dense, "peft", tmp_path / "out")
    (tmp_path / "there").mkdir()
    with pytest.raises(StorageFailed, match="exists already"):
        export(tiny_gpt2, edit, "report", tmp_path / "there")


def test_a_report_escapes_what_it_tells(tiny_gpt2: Any, tmp_path: Path) -> None:
    edit = edit_of(tiny_gpt2, low(tiny_gpt2, "w_in"), shift(32, "prompt", site="resid_post@1"))
    edit = replace(edit, header=replace(edit.header, method="<b>test</b>", config={"knob": "<i>"}))
    report = export(tiny_gpt2, edit, "report", tmp_path / "out", sections=["<p>ready</p>"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert report.parity is None and report.files == ("report.html",)
    assert "&lt;b&gt;test&lt;/b&gt;" in page and "<b>test" not in page and "<p>ready</p>" in page
    assert "rank 2" in page and "changes prompt positions" in page


@pytest.mark.parametrize("target", ["peft", "checkpoint", "script"])
def test_a_model_stored_in_half_precision_and_edited_in_single_is_exported_in_single(target: Any, tmp_path: Path) -> None:
    model = load(str(build_folder("gpt2", tmp_path / "model", torch.float16)))
    edit = edit_of(model, low(model, "w_in"), low(model, "w_q"))
    report = export(model, edit, target, tmp_path / "out", fresh_process=False)
    assert report.parity is not None and report.parity < EXACT


# ── what transformers calls its cache ───────────────────────────────────────────────────────────────────────────────────────────────────
def called(network: Any, name: str) -> None:
    """Let a network's forward take its cache under a name, as other versions of transformers do; the installed one's own is left."""
    own = network.forward
    (installed,) = (known for known in CACHES if known in inspect.signature(own).parameters)
    body = f"def forward(input_ids, {name}=None, attention_mask=None, use_cache=None, **rest): " + (
        f"return own(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache, {installed}={name}, **rest)"
    )
    made: dict[str, Any] = {}
    exec(body, {"own": own}, made)
    network.forward = made["forward"]


@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("positional", [False, True])
def test_a_script_tells_prompt_from_generated_tokens_under_either_name_of_the_cache(
    tiny_gpt2: Any, tmp_path: Path, name: str, positional: bool
) -> None:
    import transformers

    text, more = words(3, 7, 12, 5), [40, 41]
    batch = tiny_gpt2.tokens(text)
    ids = batch.ids[0].tolist()
    found: list[torch.Tensor] = []
    for where in ("prompt", "generated"):
        op = shift(32, where, site="resid_post@1")
        edit = edit_of(tiny_gpt2, op)
        export(tiny_gpt2, edit, "script", tmp_path / where, fresh_process=False)
        network: Any = transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2.info.name).eval()
        called(network, name)
        fresh_load.script(tmp_path / where / "edit.py").attach(network)
        cache, last = transformers.DynamicCache(config=network.config), torch.empty(0)
        with torch.no_grad(), applied(tiny_gpt2, edit):
            wanted = tiny_gpt2.logits(TokenBatch.of([ids + more], [len(ids)]))[:, -1]
            for part in (ids, *([token] for token in more)):
                step = torch.tensor([part])
                out = network(step, cache, use_cache=True) if positional else network(input_ids=step, **{name: cache}, use_cache=True)
                last = out.logits[:, -1]
        torch.testing.assert_close(last, wanted, atol=EXACT, rtol=1e-4)
        found.append(wanted)
    assert not torch.allclose(found[0], found[1], atol=1e-2), "otherwise the positions would not matter here"


def test_where_a_cache_has_no_known_name_a_script_refuses_and_a_model_says_that_it_goes_without(tiny_gpt2: Any, tmp_path: Path) -> None:
    import transformers

    for where in ("all", "prompt"):
        export(tiny_gpt2, edit_of(tiny_gpt2, shift(32, where, site="resid_post@1")), "script", tmp_path / where, fresh_process=False)
    network: Any = transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2.info.name).eval()
    called(network, "memory")
    scripts = {where: fresh_load.script(tmp_path / where / "edit.py") for where in ("all", "prompt")}
    scripts["all"].detach(scripts["all"].attach(network))
    with pytest.raises(scripts["prompt"].NoCacheArgument, match="takes none of cache, past_key_values"):
        scripts["prompt"].attach(network)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    model = BridgeModel(network, tiny_gpt2.tokenizer, source=tiny_gpt2.info.name, name="memory")
    assert model.info.uncached and not tiny_gpt2.info.uncached
    texts = [generate(one, [words(3, 7, 12, 5)], [()], Sampling(6)) for one in (model, tiny_gpt2)]
    assert texts[0][0][0].ids == texts[1][0][0].ids
