"""The Backpack language model, in one file from tokens to logits.

    C(x) = SenseNet(E x)            (d_vocab, sense, d_model): what each word type can contribute, whatever its context
    α    = WeightNet(Body(x_1..n))  (sense, pos, pos): causal; row t of sense l sums to 1 over the positions read
    o_t  = Σ_l Σ_{j≤t} α[l,t,j] C(x_j)_l ;   logits_t = E o_t        linear in the senses: nothing follows the sum

E is one matrix: the body's input embedding, the sense network's input and the unembedding. Module names are those of
the released state dict, so its tensors load by name.

Ref: docs/methods/senses.md §2.3; *Backpack Language Models*, arXiv 2305.16765.
Differs: attention mask, KV cache and left padding (the released class has none); C is computed once per word type of
a batch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.errors import BadPrompt
from workbench.models.backpack.cache import BackpackCache, SenseMemo
from workbench.models.backpack.files import (
    ARCHITECTURE,
    BackpackConfig,
    canonical_state,
    is_backpack,
    read_config,
    read_weights,
    write_folder,
)
from workbench.models.backpack.layers import Allowed, Backpack, SenseTable, Unembedding

__all__ = ["ARCHITECTURE", "BackpackCache", "BackpackConfig", "BackpackNetwork", "is_backpack"]


class BackpackNetwork(nn.Module):
    """A Backpack language model.

    `mask` is True at real tokens; positions count real tokens, so left padding changes nothing at them. A padded
    position reads itself only, which keeps its numbers finite; nobody else reads it.
    """

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.backpack = Backpack(config)
        self.sense_table = SenseTable()
        self.unembedding = Unembedding(self.backpack.gpt2_model.wte)

    def forward(self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None = None) -> Float[Tensor, "batch pos d_vocab"]:
        """Return the logits at every position."""
        return self.unembedded(self.mixed(ids, mask))

    def mixed(self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None = None) -> Float[Tensor, "batch pos d_model"]:
        """Return o_t = Σ_l Σ_{j≤t} α[l,t,j] C(x_j)_l."""
        alpha = self.contextualisation(ids, mask)  # (b, k, s, s)
        return self.mix(alpha, self.looked_up(ids, self.senses(ids)))

    def unembedded(self, o: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_vocab"]:
        """Return E o."""
        return self.unembedding(o)

    def looked_up(
        self, ids: Int[Tensor, "batch new"], senses: Float[Tensor, "batch new sense d_model"]
    ) -> Float[Tensor, "batch new sense d_model"]:
        """Return the senses as the table of edits leaves them; without an edit, as they are."""
        return self.sense_table(ids, senses.flatten(2)).view_as(senses)

    def mix(
        self, alpha: Float[Tensor, "batch sense new pos"], senses: Float[Tensor, "batch pos sense d_model"]
    ) -> Float[Tensor, "batch new d_model"]:
        """Sum the senses with their weights, as one product over (pos, sense) with no sum per sense in between."""
        b, k, t, n = alpha.shape
        weights = alpha.permute(0, 2, 3, 1).reshape(b, t, n * k)
        return weights @ senses.reshape(b, n * k, -1)

    def senses(self, token_ids: Int[Tensor, "*lead"]) -> Float[Tensor, "*lead sense d_model"]:
        """Return C of each token: once per distinct token, unless an edit acts inside, when rows may differ."""
        if self._senses_are_hooked():
            return self.senses_of_types(token_ids)
        types, where = token_ids.unique(return_inverse=True)
        table = self.senses_of_types(types)  # (types, k, d)
        return F.embedding(where, table.flatten(1)).view(*token_ids.shape, *table.shape[1:])

    def senses_of_types(self, types: Int[Tensor, "*lead"]) -> Float[Tensor, "*lead sense d_model"]:
        """Return C of each word type given, repeats and all."""
        return self.backpack.sense_network(self.backpack.gpt2_model.wte(types))

    def body(self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None = None) -> Float[Tensor, "batch pos d_model"]:
        """Return the body's hidden states, after its final norm."""
        self._fits(ids.shape[1])
        allowed, positions = _reading(ids, mask)
        return self.backpack.gpt2_model(ids, positions, allowed, None)

    def contextualisation(
        self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch sense pos pos"]:
        """Return α; row t of sense l says how much position t reads sense l of each position."""
        self._fits(ids.shape[1])
        allowed, positions = _reading(ids, mask)
        net = self.backpack.sense_weight_net
        return net(*net.queries_keys(self.backpack.gpt2_model(ids, positions, allowed, None)), allowed)

    def new_cache(self, memo: SenseMemo | None = None) -> BackpackCache:
        """Return an empty cache; a memo of senses may be shared by caches as long as the weights stay."""
        return BackpackCache(self.config.n_layer, memo or SenseMemo(self.config.vocab_size, self.senses_of_types))

    @torch.no_grad()
    def step(
        self,
        ids: Int[Tensor, "batch new"],
        mask: Bool[Tensor, "batch new"] | None,
        cache: BackpackCache,
        last_only: bool = False,
    ) -> tuple[Float[Tensor, "batch told d_vocab"], BackpackCache]:
        """Read the new tokens after those in the cache and return the logits at them.

        Equal to `forward` over all tokens so far. When these outgrow the context, the window is cropped to its last
        ¾ and recomputed, so the next quarter of a context is cached again; then the result is `forward` over that
        window.

        Args:
            ids: the new tokens.
            mask: which of the new tokens are real; None when all are.
            cache: from `new_cache`, or the one that the step before returned.
            last_only: logits of the last position only.
        """
        self._fits(ids.shape[1])
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        n_new = ids.shape[1]
        if cache.length + n_new > self.config.n_positions:
            keep = max(n_new, self.config.n_positions - self.config.n_positions // 4)
            ids, real = (torch.cat([old.rows(), new], dim=1)[:, -keep:] for old, new in ((cache.ids, ids), (cache.mask, real)))
            cache.clear()
        o = self._cached(ids, real, cache)[:, -1 if last_only else -n_new :]
        return self.unembedded(o), cache

    def _cached(self, ids: Tensor, real: Tensor, cache: BackpackCache) -> Float[Tensor, "batch new d_model"]:
        cache.ids.append(ids)
        allowed, positions = _reading(ids, cache.mask.append(real))
        hidden = self.backpack.gpt2_model(ids, positions, allowed, cache)  # (b, new, d)
        net = self.backpack.sense_weight_net
        q, k = net.queries_keys(hidden)
        alpha = net(q, cache.weight_keys.append(k), allowed)  # (b, k, new, pos)
        senses = self.looked_up(ids, self.senses_of_types(ids) if self._senses_are_hooked() else cache.memo(ids))
        return self.mix(alpha, cache.senses.append(senses))

    def _senses_are_hooked(self) -> bool:
        inside = (self.backpack.gpt2_model.wte, *self.backpack.sense_network.modules())
        return any(module._forward_hooks or module._forward_pre_hooks for module in inside)

    def _fits(self, n_tokens: int) -> None:
        if not 0 < n_tokens <= self.config.n_positions:
            raise BadPrompt(
                f"The text has {n_tokens} tokens; this Backpack reads 1 to {self.config.n_positions}.",
                "Shorten the text, or cut it into pieces.",
            )

    @torch.no_grad()
    def init_weights(self, seed: int | torch.Generator = 0) -> Self:
        """Draw fresh weights.

        N(0, r²) for matrices, N(0, (r/√(2·n_layer))²) for every c_proj, 0 for biases, (1, 0) for norms; r =
        initializer_range.
        """
        generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
        spread = self.config.initializer_range
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                scale = 1 / math.sqrt(2 * self.config.n_layer) if name.endswith("c_proj.weight") else 1.0
                parameter.normal_(0.0, spread * scale, generator=generator)
        return self

    @classmethod
    def load_folder(cls, path: str | Path) -> Self:
        """Load a Hugging Face folder in the released format; aliases and mask buffers are understood, all else must
        match by name.

        Raises:
            ModelUnavailable: a file is missing.
            CorruptModel: config or weights do not make this network.
        """
        folder = Path(path)
        config = read_config(folder)
        with torch.device("meta"):
            network = cls(config)
        state = canonical_state(read_weights(folder), {name: value.shape for name, value in network.state_dict().items()})
        network.load_state_dict(state, assign=True)
        return network.eval()

    def save_folder(self, path: str | Path) -> None:
        """Write `config.json` and `model.safetensors`; the tied matrices are written once, under the body's names."""
        write_folder(Path(path), self.config, self.state_dict())


def _reading(ids: Int[Tensor, "batch new"], mask: Bool[Tensor, "batch pos"] | None) -> tuple[Allowed, Int[Tensor, "batch new"]]:
    """Return which positions each new token may read, and its position; `mask` covers all tokens so far."""
    n_new = ids.shape[1]
    if mask is None:
        return None, torch.arange(n_new, device=ids.device).expand_as(ids)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -n_new:]
    n = mask.shape[1]
    everything_real = bool(mask.all())
    if everything_real and n_new in (1, n):
        return None, positions
    causal = torch.ones(n_new, n, dtype=torch.bool, device=ids.device).tril(n - n_new)
    if everything_real:
        return causal[None, None], positions
    own = torch.zeros_like(causal)
    own.diagonal(n - n_new).fill_(True)
    return (causal & mask[:, None, None, :]) | own, positions
