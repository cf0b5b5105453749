"""Every causal family that transformers builds and TransformerLens bridges, each as a tiny random model in a real folder.

The list is made from the two packages, not written down: `ARCHITECTURES` are the classes of transformers' causal language models that
TransformerLens names. A config takes the sizes below wherever its class has a field of that name; what a family needs beyond that stands
in `OWN`, and what cannot be built small, with the reason, in `NOT_BUILT`.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from tests.conftest import N_WORDS, word_tokenizer

# One field or another of each family; a class takes those that it has.
_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 64),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), N_WORDS),
    "vocab_size": N_WORDS + 1,
    "head_dim": 8,
    "rotary_dim": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "state_size": 8,
    "time_step_rank": 4,
    "mamba_d_state": 8,
    "mamba_d_head": 8,
    "mamba_n_heads": 8,
    "mamba_expand": 2,
    "chunk_size": 8,
    "mamba_chunk_size": 8,
    # Latent attention (DeepSeek) and linear attention (Qwen3-Next) name their own.
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "qk_head_dim": 12,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}

# What a family needs beside its sizes; hybrids get one layer of each kind.
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "deepseek_v2": {"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "topk_method": "greedy", "num_key_value_heads": 4},
    "deepseek_v3": {"first_k_dense_replace": 1, "n_group": 2, "topk_group": 1, "num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma4_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": N_WORDS + 1,
        "global_head_dim": 8,
        "num_kv_shared_layers": 0,
    },
    "glm4_moe": {"first_k_dense_replace": 1},
    "glm4_moe_lite": {"first_k_dense_replace": 1, "num_key_value_heads": 4, "mlp_layer_types": ["dense", "sparse"]},
    "glm_moe_dsa": {
        "num_key_value_heads": 4,
        "mlp_layer_types": ["dense", "sparse"],
        "index_n_heads": 4,
        "index_head_dim": 8,
        "index_topk": 8,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 24, "position_embedding_type": "nope"},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_dt_rank": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2, "expand": 2},
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "ssm_state_size": 8,
    },
    "olmo_hybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_moe_text": {"layer_types": ["linear_attention", "full_attention"]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "lru_width": 32, "attention_window_size": 64},
    "xglm": {"pad_token_id": 1},
    "youtu": {"num_key_value_heads": 4},
}

# transformers gives several classes of config to one class of model: the one to build is named where it is not the first.
_MODEL_TYPE = {
    "GPT2LMHeadModel": "gpt2",
    "LlamaForCausalLM": "llama",
    "Llama4ForCausalLM": "llama4_text",
    "Qwen3_5ForCausalLM": "qwen3_5_text",
    "Qwen3_5MoeForCausalLM": "qwen3_5_moe_text",
}

NOT_BUILT = {
    "Zamba2ForCausalLM": "a model of two layers cannot be made: its shared block stands at layers that the config does not let one choose",
    "Gemma3ForConditionalGeneration": "a vision tower comes with it; its text half is Gemma3ForCausalLM",
    "Gemma3nForConditionalGeneration": "vision and audio towers come with it, which need the package timm",
    "Gemma4ForConditionalGeneration": "vision and audio towers come with it; its text half is Gemma4ForCausalLM",
    "Gemma4UnifiedForConditionalGeneration": "vision and audio towers come with it; its text half is Gemma4ForCausalLM",
}


def architectures() -> dict[str, str]:
    """Classes of causal language models that both packages know, each with the model type of its config, in order."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    found: dict[str, str] = {}
    known: dict[str, Any] = dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    for model_type, classes in sorted(known.items()):
        for name in [classes] if isinstance(classes, str) else classes:
            if name in SUPPORTED_ARCHITECTURES:
                found.setdefault(name, _MODEL_TYPE.get(name, model_type))
    return dict(sorted(found.items()))


def tiny_config(model_type: str, **changed: Any) -> Any:
    """A config of two narrow layers and the tests' hundred words."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind: Any = CONFIG_MAPPING[model_type]
    fields = set(getattr(kind, "attribute_map", {}))
    for base in kind.__mro__:
        fields |= set(getattr(base, "__annotations__", {})) | set(inspect.signature(base.__init__).parameters)
    return kind(**{name: size for name, size in _SIZES.items() if name in fields} | OWN.get(model_type, {}) | changed)


def family_folder(model_type: str, folder: Path, **changed: Any) -> Path:
    """Save a tiny random model of one family, with weights large enough that an edit shows, and the tests' tokenizer."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(len(model_type) * 7 + 1)
    network = AutoModelForCausalLM.from_config(tiny_config(model_type, **changed))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim in (2, 3) and "A_log" not in name and "conv" not in name:
                parameter.normal_(0, 0.15)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
    network.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder
