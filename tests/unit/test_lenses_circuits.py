"""Head kinds, direct attribution, patching, directions: exact where they claim to be, with a known answer each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import FAMILIES, words
from tests.operations import edit_of, hooks_on, noise, shift
from workbench.edits.engine import applied
from workbench.errors import BadPrompt
from workbench.lenses.attention import attention
from workbench.lenses.attribution import direct_attribution
from workbench.lenses.head_kinds import head_kinds
from workbench.lenses.heads import HEAD_KINDS, _scores, head_scores, name_movers
from workbench.lenses.patching import activation_patching, attribution_patching
from workbench.models.direction_tokens import direction_tokens
from workbench.operations import AddToWeight
from workbench.sites import Site

PROMPT = words(3, 7, 12, 3, 7)


def test_a_head_that_looks_where_its_kind_looks_scores_one_and_an_even_one_scores_chance(tiny_gpt2: Any) -> None:
    found = head_scores(tiny_gpt2, n=2, length=10)
    assert found.scores.shape == (1, 3, 3, 4) and found.n == 2
    assert np.all((found.scores >= 0) & (found.scores <= 1))
    ids = tiny_gpt2.tokens(words(1, 2, 3, 4, 1, 2, 3, 4)).ids
    n = ids.shape[1]
    from workbench.lenses.heads import _chance, _places

    for kind in HEAD_KINDS:
        places = _places(kind, ids)
        perfect = places / places.sum(1, keepdim=True).clamp_min(1) + torch.eye(n) * (~places.any(1))[:, None]
        even = torch.tril(torch.ones(n, n))
        even = even / even.sum(1, keepdim=True)
        scores = _scores(torch.stack([perfect, even]), places)
        assert scores == pytest.approx([1.0, _chance(places)], abs=1e-6)
    first = n - 8
    induction = _places("induction", ids)
    assert induction[first + 4].nonzero().flatten().tolist() == [first + 1], "the second w1 looks at the w2 after the first"


def test_head_scores_follow_an_edit_and_need_a_repetition(tiny_gpt2: Any) -> None:
    edit = edit_of(tiny_gpt2, AddToWeight(Site("w_q", 1), 3 * noise(32, 32)))
    found = head_scores(tiny_gpt2, [(), (edit,)], texts=[words(1, 2, 1, 2, 3), words(5, 5, 6, 5, 6)])
    assert np.allclose(found.scores[0, :, 0], found.scores[1, :, 0]) and not np.allclose(found.scores[0, :, 1], found.scores[1, :, 1])
    layer, head, score = found.top("induction", 1)[0]
    assert score == found.scores[0, 2].max() == found.scores[0, 2, layer, head]
    assert len(found.rows()) == 2 * 3 * 4 and np.array_equal(head_scores(tiny_gpt2, n=1).scores, head_scores(tiny_gpt2, n=1).scores)
    with pytest.raises(BadPrompt, match="No text repeats"):
        head_scores(tiny_gpt2, texts=[words(1, 2, 3)])


def test_kinds_read_off_one_prompt_are_transformer_lens_scores_on_it(tiny_gpt2: Any) -> None:
    """Two ways to one number: places found from words and summed at once, or TransformerLens's patterns head by head."""
    text = words(3, 7, 12, 3, 7, 9, 3)
    theirs = head_scores(tiny_gpt2, texts=[text])
    ours = head_kinds(attention(tiny_gpt2, text))
    named = zip(("looks at the token before", "looks at the same word", "looks back to what came after"), HEAD_KINDS, strict=True)
    for i, (name, kind) in enumerate(named):
        assert theirs.kinds[i] == kind
        np.testing.assert_allclose(ours[name], theirs.scores[:, i], atol=1e-6)  # float32 shares of attention
    assert not np.allclose(ours["looks at the first token"], ours["looks at the token before"], atol=1e-2)
    assert np.isnan(head_kinds(attention(tiny_gpt2, words(1, 2, 3)))["looks at the same word"]).all(), "nothing comes again"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unit", ["component", "head"])
def test_attributions_sum_to_the_difference_of_logits(unit: Any, family: str, tiny_models: Any) -> None:
    model = tiny_models[family]
    edit = edit_of(model, shift(model.info.d_model, site="resid_post@1"))
    found = direct_attribution(model, PROMPT, " w5", " w9", [(), (edit,)], unit=unit)
    for lane, stack in enumerate([(), (edit,)]):
        with torch.no_grad(), applied(model, *stack):
            logits = model.logits(model.tokens(PROMPT))[0, -1]
        # float32 logits of order 1, through the bridge in another order of sums.
        assert found.values[lane].sum() == pytest.approx(float(logits[5] - logits[9]), abs=2e-5)
    rest = found.values[:, found.labels.index("rest")]
    constant = found.values[:, found.labels.index("constant")]
    if unit == "component":
        assert abs(rest[0]) < 1e-4 < 1e-2 < abs(rest[1]), "without an edit nothing is left over, with one its addition is"
    assert constant[0] == pytest.approx(constant[1], abs=1e-4), "what no component says is the same for every stream"
    assert len(found.rows()) == len(found.labels)


def test_attributions_equal_transformer_lens_on_a_folded_second_model(tiny_gpt2: Any, tiny_folders: dict[str, Path]) -> None:
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis import direct_logit_attribution

    folded: Any = TransformerBridge.boot_transformers(str(tiny_folders["gpt2"]), tokenizer=tiny_gpt2.tokenizer, device="cpu")
    folded.enable_compatibility_mode()
    ids = tiny_gpt2.tokens(PROMPT).ids
    theirs: Any = direct_logit_attribution(folded, ids, answer_tokens=5, incorrect_tokens=9, unit="component")
    ours = direct_attribution(tiny_gpt2, PROMPT, " w5", " w9")
    wanted = {label: float(value) for label, value in zip(theirs.labels, theirs.attribution.detach().flatten())}
    found = dict(zip(ours.labels, ours.values[0]))
    shared = [label for label in wanted if label in found]
    assert len(shared) == 8, "two embeddings, three attentions, three MLPs"
    # Folding rounds the weights of the second model once more.
    assert [found[label] for label in shared] == pytest.approx([wanted[label] for label in shared], abs=1e-4)
    assert max(abs(found[label]) for label in shared) > 0.1


def test_a_name_mover_is_measured_at_the_names_places(tiny_gpt2: Any) -> None:
    from workbench.lenses.attention import attention

    found = name_movers(tiny_gpt2, PROMPT, " w7", " w9")
    pattern = attention(tiny_gpt2, PROMPT).pattern[0, :, :, -1]
    places = [i for i, token in enumerate(attention(tiny_gpt2, PROMPT).tokens) if token == "w7"]
    assert len(places) == 2 and np.allclose(found.attention[0], pattern[..., places].sum(-1))
    heads = direct_attribution(tiny_gpt2, PROMPT, " w7", " w9", unit="head").values[0, :12].reshape(3, 4)
    assert np.allclose(found.push[0], heads)
    with pytest.raises(BadPrompt, match="does not stand in the prompt"):
        name_movers(tiny_gpt2, PROMPT, " w50", " w9")


def test_patching_everything_at_the_start_brings_the_clean_run_back_and_small_effects_are_estimated(tiny_gpt2: Any) -> None:
    before = hooks_on(tiny_gpt2)
    clean, corrupt = words(3, 7, 12, 5), words(3, 8, 12, 5)
    edit = edit_of(tiny_gpt2, shift(32, site="resid_post@1"))
    found = activation_patching(tiny_gpt2, clean, corrupt, " w5", " w9", [(), (edit,)])
    place = [i for i, (one, other) in enumerate(zip(found.clean_tokens, found.corrupt_tokens)) if one != other]
    assert len(place) == 1
    # The changed token's stream at the first layer is all that differs; the last token's stream at its own place differs nowhere there.
    assert found.streams[:, 0, 0, place[0]] == pytest.approx([1.0, 1.0], abs=1e-4)
    assert np.abs(found.streams[:, :, :, : place[0]]).max() < 1e-4, "nothing differs before the changed token"
    for lane, stack in enumerate([(), (edit,)]):
        with torch.no_grad(), applied(tiny_gpt2, *stack):
            logits = tiny_gpt2.logits(tiny_gpt2.tokens([clean, corrupt]))[:, -1]
        gaps = (logits[:, 5] - logits[:, 9]).tolist()
        assert [found.clean[lane], found.corrupt[lane]] == pytest.approx(gaps, abs=2e-5)
    guess = attribution_patching(tiny_gpt2, clean, corrupt, " w5", " w9", [(), (edit,)])
    assert guess.is_estimate and np.isnan(guess.streams[0, 0]).all()
    # First order: good for the direction of small effects, not their exact size.
    measured, estimated = found.streams[0, 2].ravel(), guess.streams[0, 2].ravel()
    assert np.corrcoef(measured, estimated)[0, 1] > 0.7
    assert hooks_on(tiny_gpt2) == before
    with pytest.raises(BadPrompt, match="equal lengths"):
        activation_patching(tiny_gpt2, clean, words(1, 2), " w5", " w9")
    with pytest.raises(BadPrompt, match="nothing to bring back"):
        activation_patching(tiny_gpt2, clean, clean, " w5", " w9")


def test_a_direction_promotes_the_tokens_it_points_at(tiny_gpt2: Any) -> None:
    direction = tiny_gpt2.weight("w_u").parameter[42].clone()
    found = direction_tokens(tiny_gpt2, direction, 5)
    assert "w42" in [token for token, _ in found.promoted]
    back = direction_tokens(tiny_gpt2, -direction, 5)
    assert [token for token, _ in back.suppressed] == [token for token, _ in found.promoted]
