"""What an edit says can become of it is what the export makes of it.

Every method, in the forms that fold and those that do not, on models of several structures, for every target: possible means exact; refused
means refused, with that reason, and nothing left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import words
from tests.contract.test_methods import QUICK, rows_for
from tests.families import family_folder
from tests.operations import edit_of
from workbench.decode import Sampling, generate
from workbench.edits import fresh_load
from workbench.edits.base import Edit, Refused, network_of
from workbench.edits.export import export
from workbench.errors import UnsupportedExport
from workbench.methods import get, names
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.operations import Gate, TransformAt
from workbench.sites import Site

EXACT = 3e-5  # nats: float32 rounding of two layers
_SPECTRAL = {"edit_site": "mlp_out", "fit_site": "mlp_out", "norm": "none", "spare": "none"}
# Beside each method as it is, the forms of it that fold or nearly do.
FORMS: dict[str, tuple[dict[str, Any], ...]] = {
    "sea": ({}, _SPECTRAL, *({**_SPECTRAL, "merge": merge} for merge in ("average", "positive", "negative"))),
    "tarot": ({}, {"variant": "mlp"}, {"value_bias": "excluded"}),
    "refusal_direction": ({}, {"mode": "add"}),
    "mean_difference": ({}, {"gate": "hard"}),
}
# Tied and untied, fused matrices, a norm behind each branch, a norm behind the embedding, experts, latent attention, no module for the MLP.
STRUCTURES = ("gpt2", "gpt_neox", "qwen2", "olmo2", "bloom", "phi3", "mixtral", "deepseek_v3", "opt")
TARGETS: tuple[Any, ...] = ("checkpoint", "peft", "script", "report")


@pytest.fixture(scope="module", params=STRUCTURES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    untied = {"tie_word_embeddings": False} if request.param in ("qwen2", "olmo2", "bloom", "opt") else {}
    return load(str(family_folder(request.param, tmp_path_factory.mktemp("export") / request.param, **untied)))


def fits(name: str, model: LanguageModel) -> Iterator[Edit]:
    """The method's edits in all its forms, each also gated where it acts on activations, at half its dose and at none."""
    method = get(name)
    if method.obstacles(model, rows_for(method)):
        return
    known = set(method.config.__dataclass_fields__)
    for form in FORMS.get(name, ({},)):
        quick = {key: value for key, value in {**QUICK.get(name, {}), **form}.items() if key in known}
        edit = method.fit(model, rows_for(method), method.configure(quick), seed=1).edit
        yield edit
        acts = [op for op in edit.operations() if isinstance(op, TransformAt)]
        yield edit.gated({op.site: Gate(torch.ones(op.width), torch.tensor(0.1)) for op in acts}) if acts else edit.scaled(0.5)
        yield edit.scaled(0.0)


@pytest.mark.parametrize("name", [name for name in names() if not get(name).needs.senses])
def test_what_an_edit_says_is_possible_is_what_the_export_does(name: str, model: LanguageModel, tmp_path: Path) -> None:
    for i, edit in enumerate(fits(name, model)):
        said = edit.possible_exports()
        assert edit.header.network == network_of(model) and said == edit.possible_exports(model) and set(said) == set(TARGETS)
        for target, answer in said.items():
            folder = tmp_path / f"{i}-{target}"
            if isinstance(answer, Refused):
                with pytest.raises(UnsupportedExport) as refused:
                    export(model, edit, target, folder, fresh_process=False)
                assert answer.reason in str(refused.value) and not folder.exists()
            else:
                report = export(model, edit, target, folder, fresh_process=False)
                assert target == "report" or (report.parity is not None and report.parity < EXACT), f"{edit.header.config} {report}"


def test_edits_of_a_backpack_say_what_transformers_has_no_network_for(tiny_backpack_model: Any, tmp_path: Path) -> None:
    for name in names():
        for i, edit in enumerate(fits(name, tiny_backpack_model)):
            for target, answer in edit.possible_exports().items():
                folder = tmp_path / f"{name}-{i}-{target}"
                if isinstance(answer, Refused):
                    with pytest.raises(UnsupportedExport):
                        export(tiny_backpack_model, edit, target, folder)
                else:
                    export(tiny_backpack_model, edit, target, folder)
            assert isinstance(edit.possible_exports()["script"], Refused) and isinstance(edit.possible_exports()["peft"], Refused)


# ── places that other families have ─────────────────────────────────────────────────────────────────────────────────────────────────────
def shifted(model: LanguageModel, site: Site, **more: Any) -> TransformAt:
    vector = torch.linspace(-1, 1, model.width(site)) * (1 + (site.head or 0))
    return TransformAt(site, lambda x: 1.2 * x + vector.to(x), model.width(site), **more)


def operations_on(model: LanguageModel) -> list[TransformAt]:
    """Something at each expert, two things at the first, and at the inside and outside of the MLP, at some positions only."""
    experts = [Site("expert_out", layer, expert) for layer in model.layers_of("expert_out") for expert in range(model.info.n_experts)]
    first = experts[:1]
    plain = [Site(kind, layer) for kind in ("mlp_post", "mlp_out") for layer in model.layers_of(kind)]
    ops = [shifted(model, site) for site in (*experts, *first, *plain)]
    return ops + [shifted(model, site, where="generated") for site in (*first, *plain)]


@pytest.mark.parametrize("model_type", ["mixtral", "qwen2_moe", "gpt_oss", "deepseek_v3", "opt", "xglm"])
def test_a_script_edits_experts_and_flattened_blocks_as_the_engine_does(model_type: str, tmp_path: Path) -> None:
    import transformers

    model = load(str(family_folder(model_type, tmp_path / "model")))
    assert model.info.n_experts or model.layers_of("mlp_post")
    edit = edit_of(model, *operations_on(model))
    report = export(model, edit, "script", tmp_path / "out", fresh_process=False)
    assert report.parity is not None and report.parity < EXACT
    network: Any = transformers.AutoModelForCausalLM.from_pretrained(model.info.name).eval()
    script: Any = fresh_load.script(tmp_path / "out" / "edit.py")
    prompt, n = words(3, 7, 12, 5), 6
    ids = model.tokens(prompt).ids
    asked: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "max_new_tokens": n, "do_sample": False}
    with torch.no_grad():
        base = network(input_ids=ids).logits
        handles = script.attach(network)
        found = network.generate(ids, **asked, pad_token_id=99)
        assert (network(input_ids=ids).logits - base).abs().max() > 0.1, "else the edit would not matter here"
        script.detach(handles)
        assert torch.equal(network(input_ids=ids).logits, base)
    wanted = generate(model, [prompt], [(edit,)], Sampling(max_new_tokens=n))[0][0].ids
    assert wanted and found[0, ids.shape[1] :].tolist()[: len(wanted)] == list(wanted)


def test_what_acts_on_one_expert_acts_one_after_the_other(tmp_path: Path) -> None:
    model = load(str(family_folder("mixtral", tmp_path / "model")))
    doubled = TransformAt(Site("expert_out", 0, 1), lambda x: 2 * x, model.info.d_model)
    moved = shifted(model, Site("expert_out", 0, 1))
    for i, ops in enumerate(([doubled, moved], [moved, doubled])):
        report = export(model, edit_of(model, *ops), "script", tmp_path / str(i), fresh_process=False)
        assert report.parity is not None and report.parity < EXACT
    wrong = [doubled, replace(moved, traceable=lambda x: x + 1)]
    with pytest.raises(UnsupportedExport, match="differs from the edited model"):
        export(model, edit_of(model, *wrong), "script", tmp_path / "wrong", fresh_process=False)
