"""The Backpack language model, in one file from tokens to logits.

    C(x) = SenseNet(E x)            (d_vocab, sense, d_model): what each word type can contribute, whatever its context
    α    = WeightNet(Body(x_1..n))  (sense, pos, pos): causal; row t of sense l sums to 1 over the positions read
    o_t  = Σ_l Σ_{j≤t} α[l,t,j] C(x_j)_l ;   logits_t = E o_t        linear in the senses: no norm, bias or scale after the sum

E is one matrix: the body's input embedding, the sense network's input and the unembedding. Module names are those of the released
state dict, so its tensors load by name. The `hook_*` modules are identities at the places that an edit or a lens may address.

Ref: canonical.md §8; *Backpack Language Models*, arXiv 2305.16765.
Differs: attention mask, KV cache and left padding (the released class has none); C is computed once per word type of a batch.
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
from workbench.models.backpack_cache import BackpackCache, GrowingRows, SenseMemo
from workbench.models.backpack_files import (
    ARCHITECTURE,
    BackpackConfig,
    canonical_state,
    is_backpack,
    read_config,
    read_weights,
    write_folder,
)

__all__ = ["ARCHITECTURE", "BackpackCache", "BackpackConfig", "BackpackNetwork", "is_backpack"]

Allowed = Bool[Tensor, "batch 1 new pos"] | None  # None: plain causal reading, nothing padded


class Conv1D(nn.Module):
    """An affine map y = x W + b whose weight is stored (in, out), as GPT-2 stores it."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Float[Tensor, "*lead n_in"]) -> Float[Tensor, "*lead n_out"]:
        """Map the last dimension."""
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


class Mlp(nn.Module):
    """Two affine maps with gelu_new(x) = ½x(1+tanh(√(2/π)(x+0.044715x³))) between them."""

    def __init__(self, n_in: int, n_hidden: int, n_out: int) -> None:
        super().__init__()
        self.c_fc = Conv1D(n_in, n_hidden)
        self.c_proj = Conv1D(n_hidden, n_out)
        self.hook_post = nn.Identity()

    def forward(self, x: Float[Tensor, "*lead n_in"]) -> Float[Tensor, "*lead n_out"]:
        """Map the last dimension."""
        return self.c_proj(self.hook_post(F.gelu(self.c_fc(x), approximate="tanh")))


class Attention(nn.Module):
    """Causal attention whose scores are divided by √d_head and, when the config says so, by layer index + 1."""

    def __init__(self, config: BackpackConfig, layer: int) -> None:
        super().__init__()
        self.n_head, self.d_head = config.n_head, config.d_head
        self.scale = 1 / (math.sqrt(self.d_head) * (layer + 1 if config.scale_attn_by_inverse_layer_idx else 1))
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.hook_q, self.hook_k, self.hook_v, self.hook_z = (nn.Identity() for _ in range(4))

    def forward(
        self, x: Float[Tensor, "batch new d_model"], allowed: Allowed, past: tuple[GrowingRows, GrowingRows] | None
    ) -> Float[Tensor, "batch new d_model"]:
        """Attend from the new positions to all positions so far."""
        b, s, d = x.shape
        q, k, v = (part.view(b, s, self.n_head, self.d_head) for part in self.c_attn(x).split(d, dim=2))
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        if past is not None:
            k, v = past[0].append(k), past[1].append(v)  # (b, pos, head, d_head)
        z = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
            attn_mask=allowed, is_causal=allowed is None and s > 1, scale=self.scale,
        )  # fmt: skip
        z = self.hook_z(z.transpose(1, 2))  # (b, new, head, d_head)
        return self.c_proj(z.reshape(b, s, d))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: BackpackConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = Mlp(config.n_embd, config.d_mlp, config.n_embd)
        self.hook_resid_pre, self.hook_attn_out, self.hook_resid_mid = nn.Identity(), nn.Identity(), nn.Identity()
        self.hook_mlp_out, self.hook_resid_post = nn.Identity(), nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch new d_model"], allowed: Allowed, past: tuple[GrowingRows, GrowingRows] | None
    ) -> Float[Tensor, "batch new d_model"]:
        """Add attention's and the MLP's output to the residual stream."""
        x = self.hook_resid_pre(x)
        x = self.hook_resid_mid(x + self.hook_attn_out(self.attn(self.ln_1(x), allowed, past)))
        return self.hook_resid_post(x + self.hook_mlp_out(self.mlp(self.ln_2(x))))


class Body(nn.Module):
    """A GPT-2 body: embeddings, blocks, final norm."""

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(
        self,
        ids: Int[Tensor, "batch new"],
        positions: Int[Tensor, "batch new"],
        allowed: Allowed,
        cache: BackpackCache | None,
    ) -> Float[Tensor, "batch new d_model"]:
        """Return the final norm's output at the new positions."""
        x = self.wte(ids) + self.wpe(positions)
        for layer, block in enumerate(self.h):
            x = block(x, allowed, cache.body[layer] if cache is not None else None)
        return self.ln_f(x)


class SenseBlock(nn.Module):
    """r2 = MLP1(LN2(r1 ...)): see `SenseNetwork`; its two norms bracket the sum, unlike a transformer block's."""

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = Mlp(config.n_embd, 4 * config.n_embd, config.n_embd)

    def forward(
        self, normed: Float[Tensor, "type d_model"], e: Float[Tensor, "type d_model"]
    ) -> Float[Tensor, "type d_model"]:
        """Return u2 = LN2(MLP1(LN1(normed + e)) + normed + e)."""
        r1 = normed + e
        return self.ln_2(self.mlp(self.ln_1(r1)) + r1)


class SenseNetwork(nn.Module):
    """C(x): the sense vectors of a word type, from its embedding alone; sense l is columns d·l … d·(l+1)−1."""

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__()
        self.n_senses = config.num_senses
        self.ln = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.block = SenseBlock(config)
        self.final_mlp = Mlp(
            config.n_embd, config.sense_intermediate_scale * config.n_embd, config.num_senses * config.n_embd
        )

    def forward(self, e: Float[Tensor, "type d_model"]) -> Float[Tensor, "type sense d_model"]:
        """Return the senses of each embedding; the norm's output is added to the embedding itself, as released."""
        return self.final_mlp(self.block(self.ln(e), e)).view(e.shape[0], self.n_senses, e.shape[1])


class SenseWeightNet(nn.Module):
    """Queries and keys of the k contextualisation heads."""

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__()
        self.n_senses, self.d_head = config.num_senses, config.d_weight_head
        self.c_attn = nn.Linear(config.n_embd, 2 * self.n_senses * self.d_head)
        self.hook_weights = nn.Identity()

    def queries_keys(self, x: Float[Tensor, "batch new d_model"]) -> tuple[Tensor, Tensor]:
        """Return queries and keys, each (batch, new, sense, d_weight_head)."""
        q, k = self.c_attn(x).view(*x.shape[:2], 2, self.n_senses, self.d_head).unbind(2)
        return q, k

    def forward(self, q: Tensor, k: Tensor, allowed: Allowed) -> Float[Tensor, "batch sense new pos"]:
        """Return α = softmax_j(q·k/√d_weight_head) over the positions allowed."""
        scores = torch.matmul(q.permute(0, 2, 1, 3) / math.sqrt(self.d_head), k.permute(0, 2, 3, 1))
        if allowed is None and q.shape[1] > 1:
            allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()[None, None]
        if allowed is not None:
            scores = scores.masked_fill_(~allowed, -math.inf)
        return self.hook_weights(scores.softmax(dim=-1))


class Backpack(nn.Module):
    """The parts of a Backpack under the names of the released state dict."""

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__()
        self.gpt2_model = Body(config)
        self.sense_network = SenseNetwork(config)
        self.sense_weight_net = SenseWeightNet(config)


class BackpackNetwork(nn.Module):
    """A Backpack language model.

    `mask` is True at real tokens; positions count real tokens, so left padding changes nothing at them. A padded position reads itself
    only, which keeps its numbers finite; nobody else reads it.
    """

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.backpack = Backpack(config)
        self.hook_senses, self.hook_mix = nn.Identity(), nn.Identity()

    def forward(
        self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch pos d_vocab"]:
        """Return the logits at every position."""
        return self.unembedded(self.mixed(ids, mask))

    def mixed(
        self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """Return o_t = Σ_l Σ_{j≤t} α[l,t,j] C(x_j)_l."""
        alpha = self.contextualisation(ids, mask)  # (b, k, s, s)
        return self.mix(alpha, self.hook_senses(self.senses(ids)))  # senses (b, s, k, d)

    def unembedded(self, o: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_vocab"]:
        """Return E o."""
        return F.linear(o, self.backpack.gpt2_model.wte.weight)

    def mix(
        self, alpha: Float[Tensor, "batch sense new pos"], senses: Float[Tensor, "batch pos sense d_model"]
    ) -> Float[Tensor, "batch new d_model"]:
        """Sum the senses with their weights, as one product over (pos, sense), so that no (batch, sense, pos, d_model) product exists."""
        b, k, t, n = alpha.shape
        weights = alpha.permute(0, 2, 3, 1).reshape(b, t, n * k)
        return self.hook_mix(weights @ senses.reshape(b, n * k, -1))

    def senses(self, token_ids: Int[Tensor, "*lead"]) -> Float[Tensor, "*lead sense d_model"]:
        """Return C of each token, computed once per distinct token."""
        types, where = token_ids.unique(return_inverse=True)
        table = self.senses_of_types(types)  # (types, k, d)
        return F.embedding(where, table.flatten(1)).view(*token_ids.shape, *table.shape[1:])

    def senses_of_types(self, types: Int[Tensor, " type"]) -> Float[Tensor, "type sense d_model"]:
        """Return C of each word type, in the order given."""
        return self.backpack.sense_network(self.backpack.gpt2_model.wte(types))

    def body(
        self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
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
    ) -> tuple[Float[Tensor, "batch new d_vocab"], BackpackCache]:
        """Read the new tokens after those in the cache and return the logits at them.

        Equal to `forward` over all tokens so far. When these outgrow the context, the window is cropped to its last ¾ and recomputed,
        so the next quarter of a context is cached again; then the result is `forward` over that window.

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
            ids, real = (
                torch.cat([old.rows(), new], dim=1)[:, -keep:] for old, new in ((cache.ids, ids), (cache.mask, real))
            )
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
        return self.mix(alpha, cache.senses.append(self.hook_senses(cache.memo(ids))))

    def _fits(self, n_tokens: int) -> None:
        if not 0 < n_tokens <= self.config.n_positions:
            raise BadPrompt(
                f"The text has {n_tokens} tokens; this Backpack reads 1 to {self.config.n_positions}.",
                "Shorten the text, or cut it into pieces.",
            )

    @torch.no_grad()
    def init_weights(self, seed: int | torch.Generator = 0) -> Self:
        """Draw fresh weights: N(0, r²) for matrices, every c_proj N(0, (r/√(2·n_layer))²), biases 0, norms (1, 0); r = initializer_range."""
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
        """Load a Hugging Face folder in the released format; aliases and mask buffers are understood, all else must match by name.

        Raises:
            ModelUnavailable: a file is missing.
            CorruptModel: config or weights do not make this network.
        """
        folder = Path(path)
        config = read_config(folder)
        with torch.device("meta"):
            network = cls(config)
        state = canonical_state(
            read_weights(folder), {name: value.shape for name, value in network.state_dict().items()}
        )
        network.load_state_dict(state, assign=True)
        return network.eval()

    def save_folder(self, path: str | Path) -> None:
        """Write `config.json` and `model.safetensors`; the tied matrices are written once, under the body's names."""
        write_folder(Path(path), self.config, self.state_dict())


def _reading(
    ids: Int[Tensor, "batch new"], mask: Bool[Tensor, "batch pos"] | None
) -> tuple[Allowed, Int[Tensor, "batch new"]]:
    """Return which positions each new token may read, and the new tokens' positions; `mask` covers all tokens so far."""
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
