"""Each formula of the glossary holds on the model that ships: what a page shows by that name is recomputed from the network itself."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pages._ui.kit.glossary import KNOWN
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.edits.lane import Lane
from workbench.resources import EMBEDDED

PROMPT, TEXT = "Question: What do carrots help most? Answer:", "The old mill stands by the river, and nobody works there."
PLAIN = {"layers": [2], "strength": 1.0, "spare": "none"}
Pair = tuple[Any, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The embedded model in a session, its network as transformers builds it, and an edit."""
    from transformers import AutoModelForCausalLM

    from workbench.opening import open_session

    session = open_session("embedded", tmp_path_factory.mktemp("formulas"), records=False)
    network = AutoModelForCausalLM.from_pretrained(EMBEDDED["embedded"], attn_implementation="eager", dtype=torch.float32).eval()
    edit = session.fit("mean_difference", "truthfulness", PLAIN).edit
    return SimpleNamespace(session=session, model=session.model, network=network, edit=edit)


def ids(made: Any, text: str) -> Any:
    return made.model.tokens(text).ids


def log_p(made: Any, text: str) -> Any:
    """The network's own log-probabilities of the next token, a row a position."""
    with torch.no_grad():
        return made.network(ids(made, text)).logits[0].double().log_softmax(-1)


def attention(made: Any) -> Pair:
    block, size = made.network.transformer.h[0], made.network.config
    with torch.no_grad():
        asked = made.network(ids(made, PROMPT), output_hidden_states=True).hidden_states[0]
        q, k, _ = block.attn.c_attn(block.ln_1(asked))[0].split(size.n_embd, -1)
    width = size.n_embd // size.n_head
    q, k = (part.view(-1, size.n_head, width).transpose(0, 1) for part in (q, k))
    later = torch.ones(q.shape[1], q.shape[1]).triu(1).bool()
    shares = (q @ k.transpose(1, 2) / width**0.5).masked_fill(later, -torch.inf).softmax(-1)
    return made.session.look("attention", PROMPT).pattern[0, 0], shares


def attribution(made: Any) -> Pair:
    gut, eyes = (made.model.tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in ("gut", "eyes"))
    told = log_p(made, PROMPT)[-1]
    return made.session.look("direct_attribution", PROMPT, " gut", " eyes").values[0].sum(), told[gut] - told[eyes]


def cosine(made: Any) -> Pair:
    from workbench.lenses.edit_angles import edit_angles

    other = made.session.fit("mean_difference", "mood", PLAIN).edit
    a, b = (next(iter(edit.vectors.values())).double() for edit in (made.edit, other))
    found = edit_angles(made.model, [TEXT], [made.edit], [other])
    return found.cosines[found.layers.index(2)][0], (a @ b).abs() / (a.norm() * b.norm())


def kl(made: Any) -> Pair:
    p, q = log_p(made, TEXT)[:-1], edited(made)[:-1]
    return damage(made, "kl_nats"), (p.exp() * (p - q)).sum(-1).mean()


def perplexity(made: Any) -> Pair:
    said = ids(made, TEXT)[0, 1:]
    before, after = (told[:-1].gather(1, said[:, None]).mean().neg().exp() for told in (log_p(made, TEXT), edited(made)))
    return damage(made, "perplexity_ratio"), after / before


def edited(made: Any) -> Any:
    """As `log_p` of the text, with the edit's vector added to what the layer gives."""
    vector, layer = made.edit.vectors[2], made.network.transformer.h[3]
    hook = layer.register_forward_pre_hook(lambda _, given: (given[0] + vector, *given[1:]))
    try:
        return log_p(made, TEXT)
    finally:
        hook.remove()


def damage(made: Any, name: str) -> float:
    from workbench.evaluate.side_effects import side_effects

    return side_effects(made.model, [TEXT], [Lane((made.edit,))], n_generations=0).metric(name).values[1].estimate


def logit(made: Any) -> Pair:
    found = made.session.look("logit_lens", PROMPT)
    with torch.no_grad():
        logits = made.network(ids(made, PROMPT)).logits[0, -1].double()
    return found.top_probabilities[0, -1, -1, 0], (logits.exp() / logits.exp().sum())[int(found.top_ids[0, -1, -1, 0])]


def margin(made: Any) -> Pair:
    from workbench.evaluate.benefit import benefit

    rows = Demonstrations((Demonstration(PROMPT, " the gut", " the eyes", split="test"),), "one")
    right, wrong = (answered(made, answer) for answer in (" the gut", " the eyes"))
    metrics = {metric.name: metric for metric in benefit(made.model, rows, []).metrics}
    return metrics["margin_nats"].values[0].estimate, right - wrong


def answered(made: Any, answer: str) -> Any:
    said = ids(made, PROMPT + answer)[0]
    n = ids(made, PROMPT).shape[1]
    told = log_p(made, PROMPT + answer)
    return sum(told[at - 1, said[at]] for at in range(n, len(said)))


def residual_stream(made: Any) -> Pair:
    from workbench.record import activations

    names = ("resid_pre@3", "attn_out@3", "mlp_out@3", "resid_post@3")
    with torch.no_grad():
        found = {str(site): x for site, x in activations(made.model, made.model.tokens(PROMPT), names).items()}
    before, *parts, after = map(found.__getitem__, names)
    return after, before + sum(parts)


def jacobian_lens(made: Any) -> Pair:
    from workbench.lenses.jacobian_fit import jacobian_fit
    from workbench.lenses.jacobian_lens import jacobian_lens as through
    from workbench.record import activations

    fitted = jacobian_fit(made.model, texts=[TEXT], first_layer=4)
    found = through(made.model, PROMPT, fitted=fitted)
    with torch.no_grad():
        (h,) = activations(made.model, made.model.tokens(PROMPT), ["resid_post@4"]).values()
        top = made.network.transformer
        told = made.network.lm_head(top.ln_f(h[0, -1] @ fitted.matrices[0].T)).double().softmax(-1)
    return found.top_probabilities[0, 0, -1, 0], told[int(found.top_ids[0, 0, -1, 0])]


FORMULAS: dict[str, Callable[[Any], Pair]] = {
    "attention": attention, "attribution": attribution, "cosine": cosine, "KL": kl, "Jacobian lens": jacobian_lens, "logit": logit,
    "margin": margin, "perplexity": perplexity, "residual stream": residual_stream,
}  # fmt: skip


def test_every_formula_is_recomputed() -> None:
    assert {term for term, one in KNOWN.items() if one.formula} == set(FORMULAS)


@pytest.mark.parametrize("term", FORMULAS)
def test_a_formula_holds_on_the_model_that_ships(made: Any, term: str) -> None:
    shown, recomputed = (np.asarray(torch.as_tensor(value).detach().double()) for value in FORMULAS[term](made))
    assert shown.shape == recomputed.shape and np.abs(recomputed).max() > 1e-3
    np.testing.assert_allclose(shown, recomputed, rtol=2e-3, atol=2e-4)
