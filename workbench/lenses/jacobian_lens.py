"""The Jacobian lens: what the stream after each layer comes to in the model's answer, by what the layers behind it do on average.

The logit lens reads a layer's stream as if nothing came after it. Here a matrix a layer (`jacobian_fit`) first carries it to where the
last layer's stream is, so that what a layer holds in directions of its own can be read too. The matrices are the untouched model's in
every lane: what differs between lanes is the stream, the final norm and the unembedding. The last layer is read as it is.
Ref: docs/methods/shared.md §9.13; the numbers are those of TransformerLens's `JacobianLens.readout`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workbench.conversations import Prompt
from workbench.edits.base import Edit
from workbench.errors import Obstructed
from workbench.lenses.jacobian_fit import JacobianFit, jacobian_fit
from workbench.lenses.logit_lens import LogitLens, lens_through
from workbench.models.base import LanguageModel
from workbench.progress import Progress, silent
from workbench.shapes import Float, Tensor


def jacobian_lens(
    model: LanguageModel,
    prompt: Prompt,
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    targets: Sequence[str] = (),
    top_k: int = 5,
    window: tuple[int, int] | None = None,
    fitted: JacobianFit | None = None,
    progress: Progress | None = None,
) -> LogitLens:
    """Return the Jacobian lens of one prompt under each stack of edits: an entry a fitted layer, the last layer's behind them.

    Args:
        fitted: the matrices; None fits them here, with the defaults of `jacobian_fit`. A session keeps them for each model.

    Raises:
        Obstructed: the matrices are of another model. Others: as `jacobian_fit` and `logit_lens`.
    """
    tell = progress or silent()
    fit = fitted or jacobian_fit(model, progress=tell.part(0.0, 0.9))
    if fit.weights != model.fingerprint.weights:
        raise Obstructed(f"This Jacobian lens was fitted on {fit.model}; {model.info.name} is loaded.", "Fit one for the loaded model.")
    last = model.info.n_layers - 1

    def carried(labels: Sequence[str], stream: Float[Tensor, "entry batch pos d_model"]) -> tuple[list[str], Tensor]:
        at = {label: (last if label == "final_post" else int(label.partition("_")[0]) - 1) for label in labels}
        kept = {i: layer for i, (_, layer) in enumerate(at.items()) if layer in fit.layers or layer == last}
        return [labels[i] for i in kept], torch.stack([fit.carried(stream[i], layer).float() for i, layer in kept.items()])

    reading = tell if fitted else tell.part(0.9, 1.0)
    return lens_through(model, prompt, stacks, "jacobian_lens", (targets, top_k, False), window, reading, carried, fit.told)
