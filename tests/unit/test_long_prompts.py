"""Long prompts on wide models: patterns are read as they pass, what would be kept is counted first, and what a lens costs is told first."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import words
from tests.made_edits import shift
from workbench.errors import BadKnob, BadPrompt
from workbench.lenses import attention as patterns
from workbench.lenses.attention import attention, layers_at_once
from workbench.lenses.attribution import direct_attribution
from workbench.lenses.bridged import run, shown_to
from workbench.lenses.circuits import circuit, forwards_of
from workbench.lenses.flow import flow
from workbench.lenses.head_profile import head_profile
from workbench.lenses.heads import name_movers
from workbench.lenses.logit_lens import logit_lens
from workbench.lenses.patching import runs_of
from workbench.progress import Progress

TEXT = words(12, 13, 14, 12, 13, 15)
NAMES = [f"blocks.{layer}.attn.hook_pattern" for layer in range(3)]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_patterns_are_shown_as_they_pass_and_none_is_kept(tiny_models: Any, family: str) -> None:
    model = tiny_models[family]
    batch, seen, alive = model.tokens(TEXT), list[Any](), list[int]()

    def read(x: torch.Tensor) -> torch.Tensor:
        seen.append(weakref.ref(x))
        alive.append(sum(one() is not None for one in seen))
        return x[0, :, -1].clone()

    found = shown_to(model, batch, (), dict.fromkeys(NAMES, read))
    assert max(alive) == 1 and len(alive) == 3, "a layer's patterns are gone when the next layer's come"
    assert all(one() is None for one in seen)
    cache = run(model, batch, (), NAMES)[1]
    assert all(torch.equal(found[name], cache[name][0, :, -1]) for name in NAMES)


def test_name_movers_and_the_profile_say_what_whole_patterns_say(tiny_gpt2: Any) -> None:
    whole = attention(tiny_gpt2, TEXT)
    there = [i for i, token in enumerate(whole.tokens) if token.strip() == "w12"]
    found = name_movers(tiny_gpt2, TEXT, "w12", "w9")
    np.testing.assert_allclose(found.attention[0], whole.pattern[0][..., -1, there].sum(-1), atol=1e-6)
    np.testing.assert_allclose(found.push.reshape(1, -1), direct_attribution(tiny_gpt2, TEXT, "w12", "w9", unit="head").values[:, :12])
    profile = head_profile(tiny_gpt2, TEXT)
    first = profile.scores[profile.kinds.index("first token")]
    np.testing.assert_allclose(first, whole.pattern[0][..., 1:, 0].mean(-1), atol=1e-6)


def test_the_logit_lens_writes_out_no_pattern_unless_halves_of_layers_are_asked_for(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = logit_lens(tiny_gpt2, TEXT, [(), (shift(tiny_gpt2),)], targets=["w1"], halves=True)
    kept = [i for i, name in enumerate(halves.entries) if not name.endswith("mid")]
    assert len(kept) < len(halves.entries)
    monkeypatch.setattr(type(tiny_gpt2.bridge), "run_with_cache", None)
    found = logit_lens(tiny_gpt2, TEXT, [(), (shift(tiny_gpt2),)], targets=["w1"])
    assert found.entries == tuple(halves.entries[i] for i in kept)
    np.testing.assert_allclose(found.target_log_probs, halves.target_log_probs[:, kept], atol=1e-5)
    with pytest.raises(TypeError):
        logit_lens(tiny_gpt2, TEXT, halves=True)


def test_more_patterns_than_can_be_kept_are_refused_before_anything_runs(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    n = tiny_gpt2.tokens(TEXT).ids.shape[1]
    whole = attention(tiny_gpt2, TEXT)
    monkeypatch.setattr(patterns, "NUMBERS_KEPT", 2 * tiny_gpt2.info.n_heads * n * n)
    assert layers_at_once(tiny_gpt2.info, n) == 2 and layers_at_once(tiny_gpt2.info, n, 2) == 1 == layers_at_once(tiny_gpt2.info, 100 * n)
    with monkeypatch.context() as quiet, pytest.raises(BadKnob, match="3 layers of 4 heads .* too many"):
        quiet.setattr(patterns, "shown_to", None)
        attention(tiny_gpt2, TEXT)
    with pytest.raises(BadPrompt, match="too many"):
        flow(tiny_gpt2, TEXT)
    some = attention(tiny_gpt2, TEXT, layers=(1, 2))
    np.testing.assert_array_equal(some.pattern, whole.pattern[:, 1:])


def test_how_many_runs_patching_takes_is_known_before_it(tiny_gpt2: Any) -> None:
    info = tiny_gpt2.info
    assert runs_of(tiny_gpt2, words(12, 13, 14), words(12, 15, 14)) == info.n_layers * (3 * 2 + info.n_heads)
    with pytest.raises(BadPrompt, match="3 and 2 tokens"):
        runs_of(tiny_gpt2, words(12, 13, 14), words(12, 13))


def test_what_a_circuit_costs_is_told_first_and_is_what_it_takes(tiny_gpt2: Any) -> None:
    for n_edges in (4, 10**6):
        told: list[Any] = []
        circuit(tiny_gpt2, words(12, 13, 14), words(15, 13, 14), "w1", "w2", n_edges=n_edges, progress=Progress(told.append))
        assert sum(report.share < 1 for report in told) == forwards_of(tiny_gpt2, n_edges)
    assert forwards_of(tiny_gpt2, 10**6) < forwards_of(tiny_gpt2, 100), "of all edges there are no more, and no other draws"
