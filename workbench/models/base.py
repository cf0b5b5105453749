"""The one interface to a language model: tokens in, logits out, and addresses where a forward can be read and written.

Hooks live here and nowhere else. A hook is put on the module behind a site while some context uses the site, counted, and taken off by its
own handle when the last user leaves. It does nothing unless the *running* context asked for it: what is asked for is data in a context
variable, so threads with different edits on one model never meet, and there is nothing on the model to restore.
"""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from workbench.errors import UnknownSite
from workbench.models.tokens import Forward, TokenBatch, running
from workbench.shapes import Activations, Float, Logits, Tensor
from workbench.sites import Site
from workbench.sites import site as site_of

ReadWrite = Callable[[Activations], "Activations | None"]
WeightTerm = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ModelInfo:
    """Facts of a model. `n_key_value_heads` is smaller than `n_heads` under grouped-query attention."""

    name: str
    architecture: str
    n_layers: int
    n_heads: int
    n_key_value_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    n_parameters: int
    dtype: str
    device: str
    has_senses: bool = False
    tied_embeddings: bool = False
    parallel_blocks: bool = False


@dataclass(frozen=True)
class Fingerprint:
    """Which model an edit belongs to: `weights` is a hash of sampled values of every parameter."""

    name: str
    revision: str
    dtype: str
    processing: str
    weights: str

    def same_model(self, other: Fingerprint) -> bool:
        """Whether an edit fitted on one may be applied to the other; a folder may move, so names are not compared."""
        return (self.weights, self.dtype, self.processing) == (other.weights, other.dtype, other.processing)


@dataclass(frozen=True)
class WeightSlot:
    """A live parameter behind a weight site.

    `is_transposed`: stored (in, out), as GPT-2's Conv1D. `columns`: output columns of a fused matrix that belong to the site, None for all.
    A matrix delta is always given as (out, in) of the slot; other parameters (`param:` sites) take a delta of their stored shape.
    """

    parameter: nn.Parameter
    parameter_name: str
    module: nn.Module
    is_transposed: bool = False
    columns: Tensor | None = None
    is_table: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape that a delta must have."""
        if self.parameter.ndim != 2 or self.is_table:
            return tuple(self.parameter.shape)
        rows, cols = self.parameter.shape[::-1] if self.is_transposed else self.parameter.shape
        return (rows if self.columns is None else int(self.columns.numel()), cols)


@dataclass(frozen=True)
class Point:
    """Where a hook sits: the input or output of a module, or the weight term beside it. `columns` are a head's slice of the width."""

    module: nn.Module
    side: Literal["in", "out", "weight"]
    columns: slice | None = None

    @property
    def key(self) -> tuple[int, str]:
        return (id(self.module), self.side)


_plan: ContextVar[Mapping[tuple[int, str], tuple[Any, ...]]] = ContextVar("plan", default={})  # noqa: B039 - never mutated


@dataclass
class _Handles:
    """Hooks that are on the modules now, with the number of contexts that use each."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counted: dict[tuple[int, str], tuple[RemovableHandle, int]] = field(default_factory=dict)

    def take(self, point: Point) -> None:
        with self.lock:
            handle, count = self.counted.get(point.key, (None, 0))
            self.counted[point.key] = (handle or _install(point), count + 1)

    def give(self, point: Point) -> None:
        with self.lock:
            handle, count = self.counted.pop(point.key)
            if count > 1:
                self.counted[point.key] = (handle, count - 1)
            else:
                handle.remove()


class LanguageModel(ABC):
    """A language model with addresses. Final subclasses: `BridgeModel`, `BackpackModel`."""

    info: ModelInfo
    fingerprint: Fingerprint
    tokenizer: Any
    lock: threading.RLock
    """Held by exclusive uses (lenses that set hooks of their own, export); edits through contexts need no lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._handles = _Handles()

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The torch module whose parameters these are."""

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """Every activation and weight site, in the order of the forward; `param:` sites are not listed."""

    @abstractmethod
    def width(self, site: Site | str) -> int:
        """Width of an activation site.

        Raises:
            UnknownSite: the model has no such site; the message names the nearest.
        """

    @abstractmethod
    def point(self, site: Site) -> Point:
        """The module behind an activation site."""

    @abstractmethod
    def weight(self, site: Site | str) -> WeightSlot:
        """The live parameter behind a weight site.

        Raises:
            UnknownSite: the model has no such site.
        """

    @abstractmethod
    def run(self, batch: TokenBatch, cache: Any = None, *, last_only: bool = False) -> tuple[Logits, Any]:
        """Run the network on `batch.ids` (the new tokens when `cache` holds earlier ones); return logits and the cache.

        Called inside a `running(...)` context; use `logits` or `step` instead.
        """

    @abstractmethod
    def new_cache(self) -> Any:
        """An empty key/value cache for `step`."""

    @abstractmethod
    def unembed(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        """Read residual vectors through the final norm and the unembedding (the logit lens' map)."""

    # ── what every model does the same way ──────────────────────────────────────────────────────────────────────────────────────────────
    @final
    def tokens(self, text: str | Sequence[str], continuation: str | Sequence[str] | None = None) -> TokenBatch:
        """Tokenise prompts, and with them continuations that are tokenised apart and appended; pad on the left.

        Raises:
            BadPrompt: a prompt or continuation is empty, or longer than the context.
        """
        return TokenBatch.encode(self.tokenizer, text, continuation, n_ctx=self.info.n_ctx, device=self.device)

    @final
    def logits(self, batch: TokenBatch) -> Logits:
        """Run a whole batch without a cache."""
        with running(batch.forward()):
            return self.run(batch)[0]

    @final
    def step(self, batch: TokenBatch, cache: Any, n_before: int) -> tuple[Float[Tensor, "batch d_vocab"], Any]:
        """Run the tokens of `batch` from position `n_before` on, with a cache of those before; return last logits and the cache."""
        new = batch.after(n_before)
        with running(batch.forward(n_before)):
            logits, cache = self.run(new, cache, last_only=True)
        return logits[:, -1], cache

    @contextmanager
    def intercept(self, site: Site | str, fn: ReadWrite) -> Generator[None]:
        """Within this context, show `fn` each activation at `site`; what it returns replaces the activation, None leaves it.

        Only forwards of this thread's context are touched. Contexts nest; the outer one acts first.

        Raises:
            UnknownSite: the model has no such site.
        """
        with self.intercepts([(site, fn)]):
            yield

    @contextmanager
    def intercepts(
        self, readers: Sequence[tuple[Site | str, ReadWrite]], weights: Sequence[tuple[Site | str, WeightTerm]] = ()
    ) -> Generator[None]:
        """As `intercept`, for many sites at once, and for terms beside weights: `fn(module, input, output) -> output`."""
        entries = [_entry(self.point(site_of(address)), fn) for address, fn in readers]
        entries += [(Point(self.weight(address).module, "weight"), fn) for address, fn in weights]
        plan = dict(_plan.get())
        for point, fn in entries:
            plan[point.key] = (*plan.get(point.key, ()), fn)
        taken: list[Point] = []
        token = _plan.set(plan)
        try:
            for point, _ in entries:
                self._handles.take(point)
                taken.append(point)
            yield
        finally:
            _plan.reset(token)
            for point in taken:
                self._handles.give(point)

    def hook_count(self) -> int:
        """Number of forward hooks on all modules, ours and anybody's: equal before and after any use."""
        modules = self.network.modules()
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)  # pyright: ignore[reportPrivateUsage]

    def require(self, site: Site, known: Sequence[Site]) -> Site:
        """Return the site if it is among the known.

        Raises:
            UnknownSite: it is not.
        """
        if site not in known:
            raise UnknownSite(str(site), [str(item) for item in known])
        return site


def _entry(point: Point, fn: ReadWrite) -> tuple[Point, ReadWrite]:
    if point.columns is None:
        return point, fn
    columns = point.columns

    def on_columns(x: Activations) -> Activations | None:
        part = fn(x[..., columns])
        if part is None:
            return None
        whole = x.clone()
        whole[..., columns] = part
        return whole

    return point, on_columns


def _install(point: Point) -> RemovableHandle:
    key = point.key

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        fns = _plan.get().get(key)
        if not fns:
            return None
        if args:
            return (_through(fns, args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": _through(fns, kwargs["hidden_states"])}

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        fns = _plan.get().get(key)
        if not fns:
            return None
        if isinstance(output, tuple):
            return (_through(fns, output[0]), *output[1:])
        return _through(fns, output)

    def beside(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        fns = _plan.get().get(key)
        if not fns:
            return None
        for fn in fns:
            output = fn(module, args[0], output)
        return output

    if point.side == "in":
        return point.module.register_forward_pre_hook(before, with_kwargs=True)
    return point.module.register_forward_hook(after if point.side == "out" else beside)


def _through(fns: tuple[ReadWrite, ...], x: Tensor) -> Tensor:
    for fn in fns:
        changed = fn(x)
        x = x if changed is None else changed
    return x


def fingerprint_of(network: nn.Module, name: str, revision: str, processing: str = "raw") -> Fingerprint:
    """Hash 64 evenly spaced values of every parameter, by name, in their own precision."""
    digest = hashlib.sha256()
    for key, parameter in sorted(network.named_parameters()):
        flat = parameter.detach().reshape(-1)
        picked = flat[torch.linspace(0, flat.numel() - 1, 64).long().to(flat.device)]
        digest.update(key.encode() + str(tuple(parameter.shape)).encode())
        digest.update(picked.to("cpu", torch.float64).numpy().tobytes())
    dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
    return Fingerprint(name, revision, dtype, processing, digest.hexdigest()[:32])


__all__ = ["Fingerprint", "Forward", "LanguageModel", "ModelInfo", "Point", "WeightSlot", "fingerprint_of"]
