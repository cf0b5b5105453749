"""The fit of the Jacobian lens: for each layer one matrix that carries what the stream holds there into the last layer's stream.

Law: J_l = mean over texts and tokens t of Σ_{t' ≥ t} ∂h_last,t' / ∂h_l,t, of the untouched model, with the first tokens of a text, which
the others lean on, and its last left out. Ref: docs/methods/shared.md §9.13; the numbers are those of TransformerLens's
`JacobianLens.fit`, called for one text at a time, so that the model's lock is free between texts.

One gradient gives one row of all matrices at once: a text costs d_model of them, taken several at a time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformer_lens.tools.analysis import JacobianLens

from workbench.errors import BadKnob, BadPrompt
from workbench.lenses.bridged import bridged, edited_bridge
from workbench.methods.shared.ground import plain_texts
from workbench.models.base import LanguageModel
from workbench.models.bridge import BridgeModel
from workbench.models.load_check import one_line
from workbench.progress import Progress, silent
from workbench.shapes import Float, Tensor

FIT_TEXTS, FIT_TOKENS, SKIPPED = 4, 32, 4
_AT_ONCE = 512
"""Tokens that a gradient goes back through at once: a row of the matrices a text's length."""
_SHARE_OF_PEAK = 0.3
"""How fast gradients run, as a share of a single product of matrices; from .26 to .45 on the embedded model and smollm2-135m."""


@dataclass(frozen=True)
class JacobianFit:
    """Matrices of the layers in `layers`, fitted on `n_texts` texts of at most `n_tokens` tokens; `weights` is the model's fingerprint.

    `agreement` is the cosine of the matrices that two halves of the texts give, a layer; NaN for a single text.
    """

    model: str
    weights: str
    layers: tuple[int, ...]
    matrices: Float[Tensor, "layer d_model d_model"]
    source: str
    n_texts: int
    n_tokens: int
    agreement: tuple[float, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row a layer: how long the matrix is beside the identity, which the logit lens takes for it, the cosine of the two, and how far
        two halves of the texts agree."""
        length = self.matrices.flatten(1).norm(dim=1)
        trace = self.matrices.diagonal(dim1=1, dim2=2).sum(1)
        root = math.sqrt(self.matrices.shape[1])
        told = zip(self.layers, (length / root).tolist(), (trace / (length * root)).tolist(), self.agreement)
        names = ("layer", "length_of_identity", "cosine_to_identity", "cosine_of_halves")
        return [dict(zip(names, row)) for row in told]

    @property
    def told(self) -> str:
        """What it was fitted on, in words."""
        return f"{self.source}, at most {self.n_tokens} tokens of each"

    def carried(self, stream: Float[Tensor, "... d_model"], layer: int) -> Float[Tensor, "... d_model"]:
        """What a layer's stream is carried to in the last layer's; the last one's as it is."""
        if layer not in self.layers:
            return stream
        matrix = self.matrices[self.layers.index(layer)].to(stream.device)
        return stream.float() @ matrix.T


@dataclass(frozen=True)
class FitCost:
    """What a fit costs: gradients, floating-point operations, about so many seconds as busy as this machine is, bytes that are kept."""

    n_gradients: int
    operations: float
    seconds: float
    n_bytes: int


def obstacle(model: LanguageModel) -> str:
    """Why TransformerLens's Jacobian lens cannot be fitted on a bridged model; empty if it can."""
    if model.info.n_layers < 2:
        return f"It carries a layer's stream to the last layer's; {model.info.name} has one layer."
    if not isinstance(model, BridgeModel):
        return ""  # told by the registry: there is no bridge
    width = model.info.d_model
    try:
        JacobianLens({0: torch.zeros(width, width)}, n_prompts=1, d_model=width).validate_model(model.bridge)
    except (TypeError, ValueError) as error:
        return f"TransformerLens fits it on other models: {one_line(error).rstrip('.')}."
    return ""


def fit_cost(model: LanguageModel, n: int = FIT_TEXTS, first_layer: int = 0) -> FitCost:
    """What `jacobian_fit` costs with the same arguments: counted, the seconds estimated from how fast one product of matrices is now.

    Raises: Obstructed: the model has no TransformerLens bridge.
    """
    owner = bridged(model, "jacobian_fit")
    width, length = owner.info.d_model, min(FIT_TOKENS, owner.info.n_ctx)
    weights = sum(p.numel() for block in owner.bridge.blocks[first_layer + 1 :] for p in block.parameters())
    operations = 2.0 * weights * length * width * n
    seconds = operations / _speed(owner) / _SHARE_OF_PEAK
    n_layers = owner.info.n_layers - 1 - first_layer
    return FitCost(n * width, operations, seconds, 4 * n_layers * width * width)


def _speed(model: BridgeModel) -> float:
    """Floating-point operations a second of a product as wide as the model's; the best of three, as the first prepares."""
    a = torch.ones(_AT_ONCE // 2, model.info.d_model, device=model.device)
    b, taken = torch.ones(model.info.d_model, 4 * model.info.d_model, device=model.device), list[float]()
    for _ in range(3):
        started = time.perf_counter()
        float((a @ b)[0, 0])  # waits for devices that answer before they are through
        taken.append(time.perf_counter() - started)
    return 2.0 * a.numel() * b.shape[1] / max(1e-9, min(taken))


def jacobian_fit(
    model: LanguageModel,
    *,
    texts: Sequence[str] | None = None,
    n: int = FIT_TEXTS,
    first_layer: int = 0,
    progress: Progress | None = None,
) -> JacobianFit:
    """Fit the Jacobian lens of the untouched model.

    Args:
        texts: what it is fitted on; None takes `n` texts of the kind that the model reads (`ground.plain_texts`).
        first_layer: the first whose matrix is fitted. Gradients go back no further, so later ones cost less.

    Raises:
        Obstructed: TransformerLens cannot fit it on this model. BadKnob: no such layer. BadPrompt: a text is too short, or there is none.
    """
    owner, tell = bridged(model, "jacobian_fit"), progress or silent()
    last = owner.info.n_layers - 1
    if not 0 <= first_layer < last:
        raise BadKnob(f"first_layer = {first_layer}; what can be carried to layer {last} is layer 0 to {last - 1}.", "Give one of them.")
    length = min(FIT_TOKENS, owner.info.n_ctx)
    if texts is None:
        tell(0.0, "Choosing texts")
        texts, source = plain_texts(owner, n, SKIPPED + 2)
    else:
        source = f"{len(texts)} given texts"
    sizes = [owner.tokens(text).ids.shape[1] for text in texts]
    short = [(i, size) for i, size in enumerate(sizes) if size < SKIPPED + 2]
    if short or not sizes:
        got = f"Text {short[0][0] + 1} has {short[0][1]} tokens" if short else "There is no text"
        raise BadPrompt(f"{got}; {SKIPPED + 2} are needed, as the first {SKIPPED} and the last are not counted.", "Give longer texts.")
    layers, parts = list(range(first_layer, last)), list[JacobianLens]()
    for i, text in enumerate(texts):
        part = tell.part(i / len(texts), (i + 1) / len(texts))
        doing = f"Gradients of text {i + 1} of {len(texts)}"
        parts.append(_of_text(owner, text, layers, length, lambda share, part=part, doing=doing: part(share, doing)))
    tell(1.0, "Done")
    facts = (source, len(texts), length, _agreement(parts))
    return JacobianFit(owner.info.name, owner.fingerprint.weights, tuple(layers), _merged(parts), *facts)


def _merged(parts: list[JacobianLens]) -> Float[Tensor, "layer d_model d_model"]:
    lens = JacobianLens.merge(parts)
    return torch.stack([lens.jacobians[layer] for layer in lens.source_layers])


def _agreement(parts: list[JacobianLens]) -> tuple[float, ...]:
    if len(parts) == 1:
        return (math.nan,) * len(parts[0].source_layers)
    one, other = (_merged(parts[start::2]).flatten(1) for start in (0, 1))
    return tuple(torch.cosine_similarity(one, other).tolist())


def _of_text(model: BridgeModel, text: str, layers: list[int], length: int, tell: Callable[[float], None]) -> JacobianLens:
    """TransformerLens's own fit on one text, of at most `length` tokens."""
    width = model.info.d_model
    rows = max(1, min(width, _AT_ONCE // length))
    with edited_bridge(model) as bridge, _as_read_here(model), _counted(bridge, math.ceil(width / rows), tell):
        return JacobianLens.fit(
            bridge, [text], corpus="texts", source_layers=layers, dim_batch=rows, max_seq_len=length, skip_first_positions=SKIPPED,
            show_progress=False,
        )  # fmt: skip


@contextmanager
def _as_read_here(model: BridgeModel) -> Generator[None]:
    """Let the bridge cut texts as every run here does: its own way puts a token before some models' texts, and drops others'."""
    model.bridge.to_tokens = lambda text: model.tokens(text).ids
    try:
        yield
    finally:
        del model.bridge.to_tokens


@contextmanager
def _counted(bridge: Any, n: int, tell: Callable[[float], None]) -> Generator[None]:
    """Tell how many of `n` gradients have entered the last block, from behind."""
    done = 0

    def one(_: Tensor) -> None:
        nonlocal done
        tell(done / n)
        done += 1

    def entering(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs.get("hidden_states")
        if isinstance(x, Tensor) and x.requires_grad:
            x.register_hook(one)

    handle = bridge.blocks[-1].register_forward_pre_hook(entering, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
