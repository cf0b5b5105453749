"""Leave the tokens that carry the attention sink alone: a norm bound at every site of an edit of activations.

Ref: docs/methods/shared.md §4.1; arXiv 2402.17762. In a network of some depth the first token's residual stream is a hundred times as long
as the others', and all later tokens attend to it; an edit that moves it changes what all of them read. The bound is fitted once, on the
demonstrations' own tokens, and belongs to the edit: it is saved, scaled, exported as a script, and its placebo has it too. An edit of
weights cannot skip tokens and has none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from workbench import memo
from workbench.data.demonstrations import Demonstrations
from workbench.methods.registry import Fitted, Notice, with_notices
from workbench.models.base import LanguageModel
from workbench.models.sinks import norm_bounds
from workbench.operations import TransformAt

SpareKind = Literal["sinks", "none"]
HELP = "Leave the few tokens alone that are far longer than the others and that the rest of the text leans on; none edits every token."
N_PROMPTS = 32


def spared(model: LanguageModel, fitted: Fitted, demonstrations: Demonstrations, kind: SpareKind = "sinks") -> Fitted:
    """Return the fit with a norm bound wherever some tokens of the demonstrations are massive, and say so; `none` returns it as it is.

    Raises:
        As `LanguageModel.tokens`.
    """
    sites = [op.site for op in fitted.edit.operations() if isinstance(op, TransformAt)]
    prompts = list(dict.fromkeys(row.prompt for row in demonstrations.split("fit") if row.prompt))[:N_PROMPTS]
    if kind == "none" or not sites or not prompts:
        return fitted
    key = ("norm bounds", id(model), *prompts, *sites)
    bounds = memo.once(key, lambda: norm_bounds(model, model.tokens(prompts), sites))
    if not bounds:
        return fitted
    site, bound = max(bounds.items(), key=lambda item: item[1])
    what = f"Tokens whose norm at {site} is above {bound:.4g} carry the attention sink and are left alone."
    notice = Notice("note", what, "Set spare to none to edit them too; a checkpoint can only be exported then.")
    return with_notices(replace(fitted, edit=fitted.edit.sparing(bounds)), notice)
