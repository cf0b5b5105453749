"""The layers of a Backpack, under the module names of the released state dict; `backpack_network` puts them together.

Ref: docs/methods/senses.md §2.3.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.models.backpack.cache import BackpackCache, GrowingRows
from workbench.models.backpack.files import BackpackConfig

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

    def forward(self, x: Float[Tensor, "*lead n_in"]) -> Float[Tensor, "*lead n_out"]:
        """Map the last dimension."""
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Attention(nn.Module):
    """Causal attention whose scores are divided by √d_head and, when the config says so, by layer index + 1."""

    def __init__(self, config: BackpackConfig, layer: int) -> None:
        super().__init__()
        self.n_head, self.d_head = config.n_head, config.d_head
        self.scale = 1 / (math.sqrt(self.d_head) * (layer + 1 if config.scale_attn_by_inverse_layer_idx else 1))
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(
        self, x: Float[Tensor, "batch new d_model"], allowed: Allowed, past: tuple[GrowingRows, GrowingRows] | None
    ) -> Float[Tensor, "batch new d_model"]:
        """Attend from the new positions to all positions so far."""
        b, s, d = x.shape
        q, k, v = (part.view(b, s, self.n_head, self.d_head) for part in self.c_attn(x).split(d, dim=2))
        if past is not None:
            k, v = past[0].append(k), past[1].append(v)  # (b, pos, head, d_head)
        z = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
            attn_mask=allowed, is_causal=allowed is None and s > 1, scale=self.scale,
        )  # fmt: skip
        return self.c_proj(z.transpose(1, 2).reshape(b, s, d))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: BackpackConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = Mlp(config.n_embd, config.d_mlp, config.n_embd)

    def forward(
        self, x: Float[Tensor, "batch new d_model"], allowed: Allowed, past: tuple[GrowingRows, GrowingRows] | None
    ) -> Float[Tensor, "batch new d_model"]:
        """Add attention's and the MLP's output to the residual stream."""
        x = x + self.attn(self.ln_1(x), allowed, past)
        return x + self.mlp(self.ln_2(x))


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

    def forward(self, normed: Float[Tensor, "*lead d_model"], e: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_model"]:
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
        self.final_mlp = Mlp(config.n_embd, config.sense_intermediate_scale * config.n_embd, config.num_senses * config.n_embd)

    def forward(self, e: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead sense d_model"]:
        """Return the senses of each embedding; the norm's output is added to the embedding itself, as released."""
        return self.final_mlp(self.block(self.ln(e), e)).unflatten(-1, (self.n_senses, -1))


class SenseWeightNet(nn.Module):
    """Queries and keys of the k contextualisation heads."""

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__()
        self.n_senses, self.d_head = config.num_senses, config.d_weight_head
        self.c_attn = nn.Linear(config.n_embd, 2 * self.n_senses * self.d_head)

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
        return scores.softmax(dim=-1)


class SenseTable(nn.Module):
    """Where a virtual table of d_vocab × (sense·d_model) would be looked up: an edit of a word type adds its row."""

    def forward(self, ids: Int[Tensor, "batch new"], senses: Float[Tensor, "batch new width"]) -> Float[Tensor, "batch new width"]:
        """Return the senses as they are; the ids are there for whoever adds to them."""
        return senses


class Unembedding(nn.Module):
    """E o, with the word embedding's own matrix, which the state dict holds once."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self._embedding = (embedding,)  # in a tuple, so that it is not registered a second time

    def forward(self, o: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_vocab"]:
        """Return the logits."""
        return F.linear(o, self._embedding[0].weight)


class Backpack(nn.Module):
    """The parts of a Backpack under the names of the released state dict."""

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__()
        self.gpt2_model = Body(config)
        self.sense_network = SenseNetwork(config)
        self.sense_weight_net = SenseWeightNet(config)
