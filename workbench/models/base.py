"""The one interface to a language model: tokens in, logits out, and addresses where a forward can be read and written.

A model says which module stands behind a site (`point`, `weight`); reading and writing there is `hooks.Hooks`, for every model alike.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import torch
from torch import nn

from workbench.conversations import Prompt
from workbench.errors import BadSite, UnknownSite
from workbench.models.generation import GenerationDefaults, generation_defaults
from workbench.models.hooks import CallReader, Hooks, Point, ReadWrite, WeightTerm
from workbench.models.tokens import TokenBatch, running
from workbench.resources import EMBEDDED, PLANTED
from workbench.shapes import Float, Int, Logits, Tensor
from workbench.sites import Site
from workbench.sites import site as site_of


@dataclass(frozen=True)
class ModelInfo:
    """Facts of a model. `n_key_value_heads` is smaller than `n_heads` under grouped-query attention; both are 0 where nothing attends.

    `n_experts` counts the experts of a mixture that can be addressed one by one. `uncached` and `unseen` are empty, or say why generation
    runs without a cache and why TransformerLens's lenses cannot look; `quantised` is empty, or says in what the weights are kept.
    `adds_up`: what attention and MLP return is what joins the stream.
    """

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
    n_experts: int = 0
    uncached: str = ""
    unseen: str = ""
    adds_up: bool = True
    quantised: str = ""


@dataclass(frozen=True)
class Fingerprint:
    """Which model an edit belongs to: `weights` is a hash of all bytes of every parameter.

    `sampled` is one of sampled values, which edits of older versions have as their `weights`; theirs is empty.
    """

    name: str
    revision: str
    dtype: str
    processing: str
    weights: str
    sampled: str = ""

    def same_model(self, other: Fingerprint) -> bool:
        """Whether an edit fitted on one may be applied to the other; a folder may move, so names are not compared."""
        by_samples = self.weights == other.sampled and not self.sampled or other.weights == self.sampled and not other.sampled
        same_weights = self.weights == other.weights or by_samples
        return same_weights and (self.dtype, self.processing) == (other.dtype, other.processing)

    def as_json(self) -> dict[str, str]:
        """As JSON types, as `edit.json` holds it."""
        return {name: value for name, value in asdict(self).items() if value or name != "sampled"}

    @property
    def old_weights(self) -> str:
        """The hash that older versions gave the same weights: ids of edits stay what they were."""
        return self.sampled or self.weights


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


# The models that ship never say that a text has ended: a sentence, or a line, is what they say.
_ENDS_OF_A_SENTENCE = (".", "\n")


class LanguageModel(ABC):
    """A language model with addresses. Final subclasses: `BridgeModel`, `BackpackModel`."""

    info: ModelInfo
    fingerprint: Fingerprint
    tokenizer: Any
    bridge_hooks: frozenset[str] = frozenset()
    """Hook points that TransformerLens's tree of this model shows; none where it has no such tree."""
    entangled: frozenset[str] = frozenset()
    """Parameters of modules that are no map from one tensor to one (experts, routers, mixers), beside which no delta can act."""
    lock: threading.RLock
    """Held by exclusive uses (lenses that set hooks of their own, export); edits through contexts need no lock."""
    holds: frozenset[str] = frozenset()
    """Ids of the edits that this model was exported with."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._hooks = Hooks()

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The torch module whose parameters these are."""

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(self.network.parameters()).device

    @property
    def is_spread(self) -> bool:
        """Whether the parameters lie on several devices."""
        return len({parameter.device for parameter in self.network.parameters()}) > 1

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the parameters."""
        return next(self.network.parameters()).dtype

    @property
    def generation(self) -> GenerationDefaults:
        """How the model's own folder wants it to generate."""
        own = generation_defaults(getattr(self.network, "generation_config", None), self.tokenizer)
        return replace(own, stop=_ENDS_OF_A_SENTENCE) if self.info.name in (*EMBEDDED, PLANTED) else own

    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """Every activation and weight site, in the order of the forward; `param:` sites are not listed."""

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
        """An empty cache for `step`; None where `info.uncached` says why there is none."""

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The blocks in order, where each hands one residual stream to the next and a run may begin at any; else none."""
        return ()

    @abstractmethod
    def selected(self, cache: Any, rows: Int[Tensor, " chosen"]) -> Any:
        """A cache of some rows of another, in this order, repeats allowed; the other stays as it is."""

    @contextmanager
    def watching(
        self, calls: Sequence[tuple[nn.Module, CallReader]], outputs: Sequence[tuple[nn.Module, ReadWrite]] = ()
    ) -> Generator[None]:
        """Within this context, show how modules are called, and what they return, to functions that only read."""
        with self._hooks.asked([(Point(m, "out"), fn) for m, fn in outputs], (), [(Point(m, "call"), fn) for m, fn in calls]):
            yield

    @abstractmethod
    def unembed(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        """Read residual vectors through the final norm and the unembedding (the logit lens' map)."""

    # ── what every model does the same way ──────────────────────────────────────────────────────────────────────────────────────────────
    def width(self, site: Site | str) -> int:
        """Width of an activation site.

        Raises:
            UnknownSite: the model has no such site; the message names the nearest.
        """
        address = site_of(site)
        if address.head is None:
            self.require(address, [item for item in self.sites() if not item.is_weight])
        elif address.layer is None or address.layer >= self.info.n_layers or address.head >= self.info.n_heads:
            raise UnknownSite(str(address), [str(item) for item in self.sites() if item.kind == "head_z"])
        if address.kind == "head_z":
            return self.info.d_head * (self.info.n_heads if address.head is None else 1)
        return self.info.d_mlp if address.kind == "mlp_post" else self.info.d_model

    @final
    def layers_of(self, kind: str) -> tuple[int, ...]:
        """The layers that have a site of this kind: all, some (hybrids), or none."""
        return tuple(sorted({site.layer for site in self.sites() if site.kind == kind and site.layer is not None}))

    @final
    def raw_parameter(self, site: Site) -> WeightSlot:
        """The live parameter that a `param:` site names, as it is stored.

        Raises:
            UnknownSite: the network has no parameter of this name. BadSite: it has, but a delta of it has no place (`entangled`).
        """
        name = site.name or ""
        known = dict(self.network.named_parameters(remove_duplicate=False))
        if name not in known:
            raise UnknownSite(str(site), [f"param:{key}" for key in known])
        if name in self.entangled:
            raise BadSite(
                f"A delta of {name} has no place beside its module, which takes or gives more than one tensor.",
                "Change a parameter of a plain matrix, norm or table.",
            )
        return WeightSlot(known[name], name, self.network.get_submodule(name.rpartition(".")[0]), is_table=True)

    @final
    def tokens(self, text: Prompt | Sequence[Prompt], continuation: str | Sequence[str] | None = None) -> TokenBatch:
        """Tokenise prompts (texts, or conversations by the model's template), and with them continuations that are tokenised apart and
        appended; pad on the left.

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
        """Run the tokens of `batch` from position `n_before` on, with a cache of those before; return last logits and the cache.

        Without a cache (`new_cache` gave None) all tokens run again.
        """
        if cache is None:
            n_before = 0
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
        with self.interception(readers, weights)():
            yield

    @final
    def interception(
        self, readers: Sequence[tuple[Site | str, ReadWrite]], weights: Sequence[tuple[Site | str, WeightTerm]] = ()
    ) -> Callable[[], AbstractContextManager[None]]:
        """Look the sites up once and return what enters `intercepts`, for loops that enter it token by token."""
        at = [(self.point(site_of(address)), fn) for address, fn in readers]
        beside = [(Point(self.weight(address).module, "weight"), fn) for address, fn in weights]
        return lambda: self._hooks.asked(at, beside)

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
