"""The flow of information: its parts add up to the stream, its shares are those of the law by hand, and what cannot flow does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import words
from tests.made_edits import shift
from workbench.errors import BadKnob, BadPrompt, Obstructed
from workbench.lenses.bridged import edited_bridge
from workbench.lenses.flow import FINEST, flow
from workbench.models.tokens import running

PROMPT = words(3, 7, 12, 5, 9)


def cache_of(model: Any, *stack: Any) -> Any:
    batch = model.tokens(PROMPT)
    with torch.no_grad(), edited_bridge(model, stack) as bridge, running(batch.forward()):
        return bridge.run_with_cache(batch.ids)[1], bridge.W_O.clone()


def parts_of(model: Any, layer: int, query: int, *stack: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """What each head brings from each token, and the streams of a block at a token, from TransformerLens's cache."""
    cache, writes = cache_of(model, *stack)
    at = {
        name: cache[f"blocks.{layer}.{name}"][0, query] for name in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post")
    }
    pattern, v = cache[f"blocks.{layer}.attn.hook_pattern"][0], cache[f"blocks.{layer}.attn.v.hook_out"][0]
    shared = model.info.n_heads // v.shape[1]
    told = [[pattern[h, query, j] * (v[j, h // shared] @ writes[layer, h]) for j in range(query + 1)] for h in range(model.info.n_heads)]
    return torch.stack([torch.stack(line) for line in told]), at["hook_resid_pre"] + at["hook_attn_out"], at


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_what_heads_bring_adds_up_and_every_share_is_the_law_by_hand(tiny_models: Any, family: str) -> None:
    model = tiny_models[family]
    edit = shift(model, layer=0)
    for stack in ((), (edit,)):
        found = flow(model, PROMPT, [stack], threshold=FINEST)
        layer, query = 2, found.pos
        parts, middle, at = parts_of(model, layer, query, *stack)
        bias = getattr(model.weight(f"w_o@{layer}").module, "bias", None)
        whole = parts.sum((0, 1)) + (0 if bias is None else bias)
        torch.testing.assert_close(whole, at["hook_attn_out"], atol=1e-4, rtol=1e-3)

        def near(part: torch.Tensor, total: torch.Tensor) -> float:
            return max(0.0, float(total.abs().sum() - (total - part).abs().sum()))

        first = [near(at["hook_resid_pre"], middle), *(near(x, middle) for x in parts.flatten(0, 1))]
        second = [near(middle, at["hook_resid_post"]), near(at["hook_mlp_out"], at["hook_resid_post"])]
        own = {(edge.source, edge.head): edge.share for edge in found.edges[0] if (edge.layer, edge.pos) == (layer, query)}
        through, said = (x / sum(second) for x in second)
        wanted = {(query, -1): first[0] / sum(first) * through, (query, -2): said}
        wanted |= {(i % (query + 1), i // (query + 1)): x / sum(first) * through for i, x in enumerate(first[1:])}
        assert own == pytest.approx({key: x for key, x in wanted.items() if x >= FINEST}, abs=1e-4)


def test_weights_come_from_the_token_down_and_a_higher_threshold_keeps_a_part(tiny_gpt2: Any) -> None:
    found = flow(tiny_gpt2, PROMPT, threshold=FINEST)
    edges, weights = found.kept()
    assert weights[-1].tolist() == [0, 0, 0, 0, 1] and (weights.sum(1) <= 1 + 1e-6).all() and (np.diff(weights.sum(1)) >= -1e-6).all()
    for edge in edges:
        assert edge.source <= edge.pos and weights[edge.layer + 1, edge.pos] > 0
    fewer, thin = found.kept(0.1)
    assert set(fewer) < set(edges) and (thin <= weights + 1e-9).all() and all(edge.share >= 0.1 for edge in fewer)
    assert [row["weight"] for row in found.rows(0.1)] == [edge.share * thin[edge.layer + 1, edge.pos] for edge in fewer]
    early = flow(tiny_gpt2, PROMPT, pos=1).kept()[1]
    assert early[:, 2:].sum() == 0, "nothing flows back in time"
    strongest = found.heads()
    assert [x for _, x in strongest] == sorted((x for _, x in strongest), reverse=True) and len(strongest) <= 8


def test_a_head_that_writes_nothing_carries_nothing(tiny_gpt2: Any) -> None:
    carried = [edge for edge in flow(tiny_gpt2, PROMPT, threshold=FINEST).edges[0] if edge.head >= 0]
    layer, head = max((edge.share, edge.layer, edge.head) for edge in carried)[1:]
    slot, d = tiny_gpt2.weight(f"w_o@{layer}").parameter, tiny_gpt2.info.d_head
    kept = slot.detach().clone()
    with torch.no_grad():
        slot[head * d : (head + 1) * d] = 0
        after = flow(tiny_gpt2, PROMPT, threshold=FINEST).edges[0]
        slot.copy_(kept)
    assert not [edge for edge in after if (edge.layer, edge.head) == (layer, head)]
    assert [edge for edge in after if edge.head >= 0], "the others still do"


def test_bounds_and_families_are_refused_by_name(tiny_models: Any) -> None:
    with pytest.raises(BadKnob, match="threshold = 0"):
        flow(tiny_models["gpt2"], PROMPT, threshold=0.0)
    with pytest.raises(BadPrompt, match="token 9"):
        flow(tiny_models["gpt2"], PROMPT, pos=9)
    with pytest.raises(Obstructed, match="parallel blocks"):
        flow(tiny_models["neox"], PROMPT)
