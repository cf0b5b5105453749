"""GGUF files of a tiny network: written here, read back as the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workbench.errors import CorruptModel, ModelUnavailable
from workbench.models import gguf

V, D, HEADS, KV, MLP, LAYERS = 40, 64, 4, 2, 96, 2


def written(path: Path, *, quantised: bool = True, architecture: str = "llama", drop: str = "") -> dict[str, np.ndarray]:
    """Write a tiny Llama as GGUF; return its matrices as they can be read back."""
    import gguf as library

    draw = np.random.default_rng(0)
    writer: Any = library.GGUFWriter(str(path), architecture)
    writer.add_name("Tiny")
    writer.add_license("apache-2.0")
    writer.add_context_length(64)
    writer.add_embedding_length(D)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(V)
    words = ["<unk>", "<s>", "</s>", *(chr(97 + i) for i in range(26)), *(f"{chr(97 + i)}{chr(97 + i)}" for i in range(V - 29))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_merges([f"{chr(97 + i)} {chr(97 + i)}" for i in range(V - 29)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {"token_embd": (V, D), "output_norm": (D,), "output": (V, D)}
    for i in range(LAYERS):
        shapes |= {f"blk.{i}.attn_q": (D, D), f"blk.{i}.attn_k": (D // 2, D), f"blk.{i}.attn_v": (D // 2, D)}
        shapes |= {f"blk.{i}.attn_output": (D, D), f"blk.{i}.ffn_gate": (MLP, D), f"blk.{i}.ffn_up": (MLP, D)}
        shapes |= {f"blk.{i}.ffn_down": (D, MLP), f"blk.{i}.attn_norm": (D,), f"blk.{i}.ffn_norm": (D,)}
    kept: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        if name == drop:
            continue
        value = (0.2 * draw.standard_normal(shape)).astype(np.float32)
        kept[name] = value
        if quantised and len(shape) == 2:
            kind = library.GGMLQuantizationType.Q8_0
            packed = library.quants.quantize(value, kind)
            kept[name] = library.quants.dequantize(packed, kind)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def test_the_numbers_of_the_file_are_those_of_the_network(tmp_path: Path) -> None:
    kept = written(tmp_path / "tiny.gguf")
    network, tokenizer = gguf.read_gguf(tmp_path / "tiny.gguf")
    weights = dict(network.named_parameters())
    for ours, theirs in (("model.layers.1.mlp.down_proj", "blk.1.ffn_down"), ("model.embed_tokens", "token_embd"), ("lm_head", "output")):
        np.testing.assert_array_equal(weights[f"{ours}.weight"].detach().numpy(), kept[theirs])
    assert not any(p.is_meta for p in (*network.parameters(), *network.buffers()))
    ids = torch.tensor([tokenizer("abc")["input_ids"]])
    with torch.no_grad():
        assert torch.isfinite(network.eval()(ids).logits).all()


def test_a_converted_folder_is_saved_and_read_like_any_other(tmp_path: Path) -> None:
    from workbench.models.catalog import load

    written(tmp_path / "tiny.gguf")
    folder = gguf.converted(tmp_path / "tiny.gguf", tmp_path / "models" / "tiny", {"licence": "Apache-2.0"})
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny"]
    network, _ = gguf.read_gguf(tmp_path / "tiny.gguf")
    model = load(str(folder))
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model.tokens("a b c")), network.eval()(model.tokens("a b c").ids).logits, atol=1e-5, rtol=0)


def test_a_file_is_loaded_as_a_model_without_a_folder(tmp_path: Path) -> None:
    from workbench.models.catalog import load

    written(tmp_path / "tiny.gguf")
    model = load(str(tmp_path / "tiny.gguf"))
    assert (model.info.n_layers, model.info.n_heads, model.info.n_key_value_heads) == (LAYERS, HEADS, KV)
    assert torch.isfinite(model.logits(model.tokens("a b c"))).all()


def test_what_quantisation_means_is_said(tmp_path: Path) -> None:
    written(tmp_path / "q.gguf")
    written(tmp_path / "f.gguf", quantised=False)
    rounded, whole = gguf.gguf_facts(tmp_path / "q.gguf"), gguf.gguf_facts(tmp_path / "f.gguf")
    assert rounded.is_quantised and "Q8_0" in rounded.says and "does not come back" in rounded.says
    assert not whole.is_quantised and "unrounded" in whole.says
    assert rounded.licence == "apache-2.0" and rounded.n_parameters == whole.n_parameters > 0


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "tiny.gguf")
    whole = (tmp_path / "tiny.gguf").read_bytes()
    for keep in (0.2, 0.6, 0.95):
        (tmp_path / "cut.gguf").write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(CorruptModel):
            gguf.gguf_facts(tmp_path / "cut.gguf")


def test_a_file_without_one_of_its_matrices_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "tiny.gguf", drop="blk.1.ffn_down")
    with pytest.raises(CorruptModel, match="lacks 1"):
        gguf.read_gguf(tmp_path / "tiny.gguf")


def test_a_family_that_transformers_does_not_read_is_named(tmp_path: Path) -> None:
    written(tmp_path / "odd.gguf", architecture="wonderful")
    with pytest.raises(ModelUnavailable, match="wonderful"):
        gguf.read_gguf(tmp_path / "odd.gguf")
