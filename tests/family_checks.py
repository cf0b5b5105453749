"""What a tiny model of a family can do, each answer found by doing it: the contract tests assert them, the table in the docs prints them.

A check returns what it found as a few words ("yes", "layers 1", "no: …"), and raises AssertionError where the model does something wrong
rather than refuse it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.conftest import contrast_rows, words
from tests.contract.test_methods import QUICK, rows_for
from tests.families import family_folder
from tests.made_edits import made
from workbench.decode import Sampling, generate
from workbench.edits.engine import applied, lanes
from workbench.errors import BadPrompt, ModelUnavailable, NoEffect, RetouchError
from workbench.lenses import registry
from workbench.lenses.over_rows import LENS
from workbench.methods import get, ordered
from workbench.methods.registry import Scope
from workbench.methods.shared.held import held_by
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.operations import AddToWeight, LowRank, TransformAt
from workbench.sites import Site

# A fit here has to run, act and be taken back; what its choices find is tested with each method.
FAST = {**QUICK, "hpr": {**QUICK["hpr"], "layers": (1,), "min_steps": 30}, "are": {**QUICK["are"], "n_prompts": 8}}
CLOSE = 1e-5  # of the largest logit: float32 rounding in another batch shape
# Three prompts that name their good answer: some means are of such rows alone.
NAMED = contrast_rows(3).with_rows([replace(row, positive=f" {str(row.prompt).split()[0]}") for row in contrast_rows(3)])
CONCEPT = rows_for(next(item for item in ordered() if item.needs.task == "concept"))
LENS_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "attention": (words(12, 13, 14, 12),),
    "logit_lens": (words(12, 13, 14, 12),),
    "jacobian_fit": (),
    "jacobian_lens": (words(12, 13, 14, 12),),
    "direct_attribution": (words(12, 13, 14, 12), "w1", "w2"),
    "edit_effect": (words(12, 13, 14, 12), "w1", "w2"),
    "activation_patching": (words(12, 13, 14), words(15, 13, 14), "w1", "w2"),
    "attribution_patching": (words(12, 13, 14), words(15, 13, 14), "w1", "w2"),
    "head_scores": (),
    "name_movers": (words(12, 13, 14, 12), "w12", "w2"),
    "head_ablation": (words(12, 13, 14, 12), "w1", "w2"),
    "circuit": (words(12, 13, 14), words(15, 13, 14), "w1", "w2"),
    "routing": (words(12, 13, 14, 12),),
    "cell_edit": (words(12, 13, 14, 12), 0, 1, "ablate"),
    "stream_readout": (words(12, 13, 14, 12),),
    "patch_lens": (words(12, 13, 14), words(15, 13), 0, 1, 0, 1),
    "reader": (words(12, 13, 14, 12), "resid_post@1"),
    "node_table": (words(12, 13, 14, 12), "w1", "w2"),
    "upstream": (words(12, 13, 14, 12), "w1", "w2"),
    "direction_card": ("token: w1", 1),
    "steering": (words(12, 13, 14, 12), "token: w1", 1),
    "flow": (words(12, 13, 14, 12),),
    "head_profile": (words(12, 13, 14, 12),),
    "head_card": (words(12, 13, 14, 12), 1, 0),
    "induction_proof": (),
    "reader_file": (words(12, 13, 14, 12), "resid_post@1"),
    "over_rows": (NAMED,),
    "layer_effects": (words(12, 13, 14), (1, 2)),
    "concept_meter": (CONCEPT,),
    "demonstration_geometry": (contrast_rows(24),),
    "enough_pairs": (contrast_rows(30),),
    "locate": (contrast_rows(24),),
}


def opened(model_type: str, folder: Path) -> LanguageModel | str:
    """The model, or the sentence that refuses it. Its logits are those of Hugging Face, padded and not."""
    from transformers import AutoModelForCausalLM

    from workbench.models.catalog import load

    family_folder(model_type, folder)
    try:
        model = load(str(folder))
    except ModelUnavailable as refusal:
        return str(refusal)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = model.tokens(words(12, 13, 14, 15, 16)).ids
    with torch.no_grad():
        same(model.logits(model.tokens(words(12, 13, 14, 15, 16))), plain(input_ids=ids).logits)
    return model


def same(ours: Tensor, theirs: Tensor, close: float = CLOSE) -> None:
    """Fail unless two tensors are equal up to rounding."""
    scale = float(theirs.abs().max())
    assert float((ours - theirs).abs().max()) <= close * scale, float((ours - theirs).abs().max()) / scale


def layers(model: LanguageModel, kind: str) -> str:
    """In which layers there is a site of this kind."""
    there = model.layers_of(kind)
    return "no" if not there else "yes" if len(there) == model.info.n_layers else "layer " + ", ".join(map(str, there))


def batch_of(model: LanguageModel) -> TokenBatch:
    return model.tokens([words(12, 13, 14, 15), words(20, 12)])


def logits(model: LanguageModel, batch: TokenBatch | None = None) -> Tensor:
    with torch.no_grad():
        return model.logits(batch or batch_of(model))


def transform(model: LanguageModel, site: Site) -> Any:
    """An edit that adds a fixed vector at a site."""
    width = model.width(site)
    vector = torch.linspace(-1, 1, width)
    return made(model, lambda dose: (TransformAt(site, lambda x: x + dose * vector.to(x), width),))


def edits_act_as_rows(model: LanguageModel, sites: list[Site]) -> None:
    """Edits at these sites change what they should: lanes equal single runs, cached equals uncached, and nothing is left behind."""
    base, hooks, batch = logits(model), model.hook_count(), batch_of(model)
    edits = [transform(model, site) for site in sites]
    stacks: list[tuple[Any, ...]] = [(), *((edit,) for edit in edits)]
    with lanes(model, stacks):
        together = logits(model, batch.repeat(len(stacks)))
    for i, stack in enumerate(stacks):
        with applied(model, *stack):
            alone = logits(model)
            with torch.no_grad():
                short = TokenBatch(batch.ids[:, :-1], batch.mask[:, :-1], batch.n_prompt)
                _, cache = model.step(short, model.new_cache(), 0)
                cached, _ = model.step(batch, cache, batch.ids.shape[1] - 1)
        same(together[2 * i : 2 * i + 2][batch.mask], alone[batch.mask])
        same(cached, alone[:, -1])
        moved = float((alone - base)[batch.mask].abs().max())
        assert (moved > 0) == bool(stack), f"{stack and sites[i - 1]} moves the logits by {moved}"
    assert torch.equal(logits(model), base) and model.hook_count() == hooks


def stream(model: LanguageModel) -> str:
    """Edits of the residual stream in every layer."""
    edits_act_as_rows(model, [Site(kind, layer) for layer in range(model.info.n_layers) for kind in ("resid_pre", "resid_post")])
    branches = [Site(kind, layer) for kind in ("attn_out", "mlp_out", "mlp_post") for layer in model.layers_of(kind)]
    edits_act_as_rows(model, branches)
    return "yes"


def heads(model: LanguageModel) -> str:
    """Edits of single heads: all heads together are their layer."""
    there = model.layers_of("head_z")
    edits_act_as_rows(model, [Site("head_z", layer, head) for layer in there for head in (0, model.info.n_heads - 1)])
    for layer in there:
        each = [transform(model, Site("head_z", layer, head)) for head in range(model.info.n_heads)]
        vector = torch.linspace(-1, 1, model.info.d_head).repeat(model.info.n_heads)
        at, width = Site("head_z", layer), model.width(Site("head_z", layer))
        whole = made(model, lambda dose, at=at, width=width, v=vector: (TransformAt(at, lambda x: x + dose * v.to(x), width),))
        with applied(model, *each):
            one = logits(model)
        with applied(model, whole):
            same(one, logits(model))
    return layers(model, "head_z")


def experts(model: LanguageModel) -> str:
    """Edits of single experts: one that is doubled adds what it added once more, and only at its own tokens."""
    there = model.layers_of("expert_out")
    for layer in there:
        sites, batch = [Site("expert_out", layer, expert) for expert in range(model.info.n_experts)], batch_of(model)
        sums: list[Tensor] = []
        with torch.no_grad(), model.intercepts([(site, sums.append) for site in sites]):
            model.logits(batch)
        went = torch.stack([part.abs().sum(-1) > 0 for part in sums])
        assert went.any(), "some expert gets a token"
        base = logits(model)
        edits_act_as_rows(model, [site for site, tokens in zip(sites, went) if bool((tokens & batch.mask).any())])
        idle = [site for site, tokens in zip(sites, went) if not tokens.any()]
        for site in idle:
            with applied(model, transform(model, site)):
                assert torch.equal(logits(model), base), "an expert to which no token goes changes nothing"
    return layers(model, "expert_out")


def low_rank(model: LanguageModel) -> str:
    """Low-rank changes of every matrix, fused ones by their columns: the added term equals the changed weight."""
    for site in (site for site in model.sites() if site.is_weight and site.kind not in ("w_e", "w_u", "w_pos")):
        slot, draw = model.weight(site), torch.Generator().manual_seed(3)
        low = LowRank(torch.randn(2, slot.shape[1], generator=draw), torch.randn(slot.shape[0], 2, generator=draw), 0.1)
        with applied(model, made(model, lambda dose, site=site, low=low: (AddToWeight(site, low),))):
            wanted = logits(model)
        before = slot.parameter.detach().clone()
        try:
            with torch.no_grad():
                stored = slot.parameter.T if slot.is_transposed else slot.parameter
                rows = torch.arange(stored.shape[0]) if slot.columns is None else slot.columns
                stored[rows] += low.scale * low.b @ low.a
            same(logits(model), wanted)
        finally:
            with torch.no_grad():
                slot.parameter.copy_(before)
    names = {"w_in": "MLP", "w_o": "attention", "w_gate": "gate"}
    return ", ".join(word for kind, word in names.items() if model.layers_of(kind)) or "no"


def cache(model: LanguageModel) -> str:
    """Generation with the cache chooses the tokens that whole forwards choose."""
    prompts = [words(12, 13, 14, 15), words(20, 12)]
    made_tokens = generate(model, prompts, [()], Sampling(max_new_tokens=4))[0]
    for prompt, found in zip(prompts, made_tokens):
        ids = model.tokens(prompt).ids
        for token in found.ids:
            assert int(logits(model, TokenBatch.of(ids.tolist(), None))[0, -1].argmax()) == token
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
    return "no: " + model.info.uncached if model.info.uncached else "yes"


def method(model: LanguageModel, name: str) -> str:
    """A fit runs and leaves the model as it was, or an obstacle is named first; no effect on random weights is an answer."""
    item = get(name)
    obstacles = item.obstacles(model, rows_for(item))
    if obstacles:
        return "no: " + obstacles[0].reason
    known = set(item.config.__dataclass_fields__)
    config = item.configure({key: value for key, value in FAST.get(name, {}).items() if key in known})
    base, hooks = logits(model), model.hook_count()
    try:
        fitted = item.fit(model, rows_for(item), config, seed=1)
    except NoEffect as answer:
        assert str(answer)
    else:
        with applied(model, fitted.edit):
            assert bool(logits(model).isfinite().all())
    assert torch.equal(logits(model), base) and model.hook_count() == hooks
    return "yes"


def scopes(model: LanguageModel) -> str:
    """Whether an edit can be held to one head, and to one MLP: the first method that can is fitted so, and its edit lies there."""
    at, told = model.info.n_layers - 1, list[str]()
    for what, places in (("heads", Scope(heads=((at, 0),))), ("MLPs", Scope(mlps=(at,)))):
        able = held_by(model, places)
        if not able:
            continue
        item = able[0]
        try:
            edit = item.fit(model, rows_for(item), item.configure({**FAST.get(item.name, {}), **item.scopes(places)}), seed=1).edit
        except NoEffect as answer:
            assert str(answer)
        else:
            kinds = item.holds.heads if what == "heads" else item.holds.mlps
            assert {(op.site.kind in kinds, op.site.layer) for op in edit.operations()} == {(True, at)}
        told.append(what)
    return ", ".join(told) or "no"


def lens(model: LanguageModel, name: str) -> str:
    """A lens looks and leaves the model as it was, or an obstacle is named first, and the lens refuses by it."""
    if name == "over_rows":  # each kind stands where its lens does
        return [looked(model, LENS[what], name, what=what) for what in reversed(LENS)][-1]
    return looked(model, name, name)


def looked(model: LanguageModel, needs: str, name: str, **options: Any) -> str:
    """A lens looks if what it needs is there, else it refuses by the obstacle that was named."""
    obstacles, look = registry.obstacles_of(needs, model), registry.lens(name)
    base, hooks = logits(model), model.hook_count()
    with tempfile.TemporaryDirectory() as room:
        given = LENS_ARGUMENTS[name]
        if name == "reader_file":
            options["file"] = Path(room) / "numbers.safetensors"
        if name in ("layer_effects", "edit_effect"):
            stack = (transform(model, Site("resid_post", 0)),)
            given = (*given, stack if name == "layer_effects" else [stack])
        if obstacles:
            try:
                look(model, *given, **options)
            except RetouchError as refusal:
                assert obstacles[0].reason in str(refusal), refusal
            else:
                raise AssertionError(f"{name} has an obstacle and runs all the same")
            return "no: " + obstacles[0].reason
        try:
            look(model, *given, **options)
        except BadPrompt as answer:
            # Random weights have no induction heads, or nothing else: an answer of this lens alone.
            assert name == "induction_proof" and "looks back like an induction head" in str(answer)
    assert torch.equal(logits(model), base) and model.hook_count() == hooks
    return "yes"


METHODS = tuple(item.name for item in ordered() if not item.needs.senses)
LENSES = tuple(LENS_ARGUMENTS)
CHECKS: dict[str, Callable[[LanguageModel], str]] = {
    "stream": stream, "heads": heads, "experts": experts, "low rank": low_rank, "cache": cache, "scopes": scopes,
    **{f"method {name}": (lambda model, name=name: method(model, name)) for name in METHODS},
    **{f"lens {name}": (lambda model, name=name: lens(model, name)) for name in LENSES},
}  # fmt: skip
