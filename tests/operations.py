"""Operations of every kind, for what has to treat all kinds alike: the bridge, the lenses and the exports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tests.conftest import words
from tests.made_edits import MadeEdit
from workbench.edits.base import Header
from workbench.operations import AddToWeight, Forward, Gate, LowRank, Operation, Rows, TransformAt
from workbench.record import gather
from workbench.sites import Site


def edit_of(model: Any, *ops: Operation) -> MadeEdit:
    """An edit of these operations, the same at every dose."""
    return MadeEdit(Header("test", {}, model.fingerprint, "", 0, {}), make=lambda dose: ops)


def shift(width: int, where: str = "all", gate: Any = None, *, site: str, seed: int = 0) -> TransformAt:
    vector = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    return TransformAt(Site.parse(site), lambda x: (1.3 * x + vector).type_as(x), width, where, gate)  # type: ignore[arg-type]


def noise(*shape: int) -> torch.Tensor:
    return 0.2 * torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def hooks_on(model: Any) -> int:
    modules = list(model.bridge.modules()) + list(model.network.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules)


def half_open(model: Any) -> Gate:
    """A gate that lets half of the tokens of a text through."""
    weight = noise(model.info.d_model) * 5
    x = gather(model, model.tokens(words(3, 7, 12, 5)), ["resid_post@1"], "all")[Site("resid_post", 1)]
    below, above = (x @ weight).sort().values[1:3]  # a threshold between two tokens, far from rounding
    return Gate(weight, -(below + above) / 2)


def centred(x: torch.Tensor, forward: Forward) -> torch.Tensor:
    """A law over all tokens of a call: x without its mean over the real tokens."""
    real = forward.real[..., None].to(x.dtype)
    return x - (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)


def operations_of(model: Any) -> dict[str, tuple[Any, ...]]:
    """One stack of operations a kind, with the places where they meet."""
    info = model.info
    found: dict[str, tuple[Any, ...]] = {}
    streams = ("resid_pre@1", "resid_post@0", "attn_out@1", "mlp_out@2", "ln_final")
    for site in (*streams, "mlp_post@1", "head_z@1", "head_z@2.1"):
        found[site] = (shift(model.width(site), site=site),)
    gate = half_open(model)
    for where in ("prompt", "generated", "last"):
        found[where] = (shift(info.d_model, where, site="resid_post@1"),)
    found["gate"] = (shift(info.d_model, "all", gate, site="resid_post@1"),)
    norms = gather(model, model.tokens(words(3, 7, 12, 5)), ["resid_post@1"], "all")[Site("resid_post", 1)].norm(dim=-1).sort().values
    found["spared"] = (replace(shift(info.d_model, site="resid_post@1"), spare=float(norms[1:3].mean())),)
    found["sees the call"] = (TransformAt(Site("resid_post", 1), centred, info.d_model, sees_call=True),)
    soft = Gate(gate.weight, gate.bias, "soft", 0.3)
    found["soft gate"] = (shift(info.d_model, "prompt", soft, site="resid_post@1"),)
    for kind in ("w_q", "w_k", "w_v", "w_o", "w_in", "w_out", "w_gate"):
        if Site(kind, 1) in model.sites():
            out, inward = model.weight(Site(kind, 1)).shape
            found[f"{kind} low rank"] = (AddToWeight(Site(kind, 1), LowRank(noise(2, inward), noise(out, 2), 1.5)),)
            found[kind] = (AddToWeight(Site(kind, 1), noise(out, inward)),)
    tables = [kind for kind in ("w_e", "w_u", "w_pos") if Site(kind) in model.sites()]
    for kind in tables:
        found[kind] = (AddToWeight(Site(kind), noise(*model.weight(Site(kind)).shape)),)
    found["rows"] = (AddToWeight(Site("w_e"), Rows(torch.tensor([3, 7]), noise(2, info.d_model))),)
    for name, parameter in model.network.named_parameters():
        if "1." in name and "lm_head" not in name:
            found[name] = (AddToWeight(Site("param", name=name), noise(*parameter.shape)),)
    together = ("w_out", "mlp_post@1", "w_o", "head_z@1")
    found["transform before a weight"] = tuple(found[name][0] for name in together)
    found["head and layer"] = (found["head_z@2.1"][0], shift(model.width("head_z@2"), site="head_z@2", seed=5))
    return found
