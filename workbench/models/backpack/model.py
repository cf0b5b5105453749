"""The Backpack as a language model of the workbench: addresses of its body, its senses and its virtual sense table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from workbench.errors import ModelUnavailable
from workbench.models.backpack.cache import BackpackCache
from workbench.models.backpack.files import ARCHITECTURE, read_config
from workbench.models.backpack.network import BackpackNetwork
from workbench.models.base import LanguageModel, ModelInfo, WeightSlot
from workbench.models.fingerprints import fingerprint_of
from workbench.models.hooks import Point, columns_of, make_stoppable
from workbench.models.tokens import TokenBatch
from workbench.shapes import Float, Int, Logits, Tensor
from workbench.sites import LAYER_ACTIVATIONS, Site
from workbench.sites import site as site_of

_FUSED = "attn.c_attn"
_LAYER_WEIGHTS = {"w_q": _FUSED, "w_k": _FUSED, "w_v": _FUSED, "w_o": "attn.c_proj", "w_in": "mlp.c_fc", "w_out": "mlp.c_proj"}
_BODY = "backpack.gpt2_model"


@final
class BackpackModel(LanguageModel):
    """A Backpack with TransformerLens's names for its body, and sites for its senses.

    `sense@l` is sense l of the word at each position, `sense` all of them side by side, both before they are mixed.
    `sense_table` is a table of d_vocab × (sense·d_model) zeros that exists nowhere: a delta of rows of it is an edit
    of word types.
    """

    def __init__(self, network: BackpackNetwork, tokenizer: Any, *, name: str, revision: str = "") -> None:
        super().__init__()
        self._network = network.eval().requires_grad_(False)
        self._body: Any = network.backpack.gpt2_model
        self.tokenizer = tokenizer
        self.n_senses = network.config.num_senses
        self.info = self._facts(name)
        self.fingerprint = fingerprint_of(network, name, revision)
        self._sites = tuple(self._all_sites())
        virtual = torch.empty(self.info.d_vocab, self.n_senses * self.info.d_model, device="meta", dtype=self.dtype)
        self._virtual_table = nn.Parameter(virtual, requires_grad=False)
        make_stoppable(self._body.h)

    @property
    def network(self) -> BackpackNetwork:
        return self._network

    @property
    def embedding(self) -> Float[Tensor, "d_vocab d_model"]:
        """E, the one matrix: word embedding and unembedding."""
        return self._body.wte.weight

    @property
    def n_tokens(self) -> int:
        """The tokenizer's true size; the rows of E beyond it are padding."""
        return min(len(self.tokenizer), self.info.d_vocab)

    def sites(self) -> tuple[Site, ...]:
        return self._sites

    def width(self, site: Site | str) -> int:
        address = site_of(site)
        width = super().width(address)
        return width * self.n_senses if address.kind == "sense" and address.layer is None else width

    def point(self, site: Site) -> Point:
        self.width(site)
        if site.kind == "ln_final":
            return Point(self._body.ln_f, "out")
        if site.kind == "sense":
            return Point(self._network.sense_table, "out", columns_of(site.layer, self.info.d_model))
        block: Any = self._body.h[site.layer or 0]
        if site.kind == "head_z":
            return Point(block.attn.c_proj, "in", columns_of(site.head, self.info.d_head))
        places: dict[str, Point] = {
            "resid_pre": Point(block, "in"),
            "attn_out": Point(block.attn, "out"),
            "mlp_post": Point(block.mlp.c_proj, "in"),
            "mlp_out": Point(block.mlp, "out"),
            "resid_post": Point(block, "out"),
        }
        return places[site.kind]

    def weight(self, site: Site | str) -> WeightSlot:
        address = site_of(site)
        if address.kind == "param":
            return self.raw_parameter(address)
        self.require(address, [item for item in self._sites if item.is_weight])
        if address.kind == "sense_table":
            return WeightSlot(self._virtual_table, "sense_table", self._network.sense_table, is_table=True)
        if address.kind == "w_u":
            return WeightSlot(self._body.wte.weight, f"{_BODY}.wte.weight", self._network.unembedding)
        if address.kind in ("w_e", "w_pos"):
            part = "wte" if address.kind == "w_e" else "wpe"
            module: Any = getattr(self._body, part)
            return WeightSlot(module.weight, f"{_BODY}.{part}.weight", module, is_table=True)
        path = f"{_BODY}.h.{address.layer}.{_LAYER_WEIGHTS[address.kind]}"
        module = self._network.get_submodule(path)
        d, part = self.info.d_model, "qkv".find(address.kind[-1])
        columns = torch.arange(part * d, (part + 1) * d, device=self.device) if address.kind in ("w_q", "w_k", "w_v") else None
        return WeightSlot(module.weight, f"{path}.weight", module, is_transposed=True, columns=columns)

    def run(self, batch: TokenBatch, cache: Any = None, *, last_only: bool = False) -> tuple[Logits, Any]:
        n_new = batch.ids.shape[1]
        if cache is not None:
            return self._network.step(batch.ids, batch.mask[:, -n_new:], cache, last_only)
        o = self._network.mixed(batch.ids, batch.mask)
        return self._network.unembedded(o[:, -1:] if last_only else o), None

    def new_cache(self) -> BackpackCache:
        return self._network.new_cache()

    def selected(self, cache: BackpackCache, rows: Int[Tensor, " chosen"]) -> BackpackCache:
        return cache.selected(rows)

    def unembed(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        """Return E x: a Backpack unembeds a weighted sum of sense vectors, with no norm before."""
        return self._network.unembedded(resid)

    def senses(self, token_ids: Int[Tensor, "*lead"]) -> Float[Tensor, "*lead sense d_model"]:
        """Return the sense vectors of tokens, without edits."""
        with torch.no_grad():
            return self._network.senses(token_ids.to(self.device))

    # ── how the addresses resolve ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _facts(self, name: str) -> ModelInfo:
        config = self._network.config
        return ModelInfo(
            name=name,
            architecture=ARCHITECTURE,
            n_layers=config.n_layer,
            n_heads=config.n_head,
            n_key_value_heads=config.n_head,
            d_model=config.n_embd,
            d_head=config.d_head,
            d_mlp=config.d_mlp,
            d_vocab=config.vocab_size,
            n_ctx=config.n_positions,
            n_parameters=sum(p.numel() for p in self._network.parameters()),
            dtype=str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            has_senses=True,
            tied_embeddings=True,
        )

    def _all_sites(self) -> list[Site]:
        found: list[Site] = []
        for layer in range(self.info.n_layers):
            found += [Site(kind, layer) for kind in (*LAYER_ACTIVATIONS, *_LAYER_WEIGHTS)]
        found += [Site("ln_final"), Site("sense"), *(Site("sense", sense) for sense in range(self.n_senses))]
        return found + [Site("w_e"), Site("w_u"), Site("w_pos"), Site("sense_table")]


def load_backpack(folder: Path, *, name: str = "", dtype: torch.dtype = torch.float32, device: str = "cpu") -> BackpackModel:
    """Load a Backpack folder in the released format, with its tokenizer.

    Raises: as `BackpackNetwork.load_folder`; ModelUnavailable: the folder has no tokenizer and GPT-2's cannot be
    reached.
    """
    network = BackpackNetwork.load_folder(folder).to(device=device, dtype=dtype)
    return BackpackModel(network, _tokenizer(folder), name=name or folder.name)


def parameter_count(folder: Path) -> int:
    """Count a Backpack's parameters from its config alone."""
    with torch.device("meta"):
        network = BackpackNetwork(read_config(folder))
    return sum(parameter.numel() for parameter in network.parameters())


def _tokenizer(folder: Path) -> Any:
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    try:
        # The released checkpoint names GPT-2's tokenizer and ships none.
        return AutoTokenizer.from_pretrained("gpt2")
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{folder} holds no tokenizer.json, and GPT-2's tokenizer could not be fetched.",
            "Put the tokenizer's files into the folder; for released Backpacks they are GPT-2's.",
        ) from error
