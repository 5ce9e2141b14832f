"""Models to measure: the embedded one, and random weights of larger shapes, made where they run.

Random weights cost what trained ones cost, as long as the tokens per step are fixed.
"""

from __future__ import annotations

from typing import Any

import torch

from llada_exp.models.base import Model, SpecialIds
from llada_exp.models.family import Architecture, RawConfig, empty_network
from llada_exp.models.registry import read_architecture

_LLADA: RawConfig = {
    "model_type": "llada",
    "max_sequence_length": 4096,
    "rope_theta": 5e5,
    "rms_norm_eps": 1e-5,
}
_HF: RawConfig = {"hidden_act": "silu", "tie_word_embeddings": False}
SHAPES: dict[str, RawConfig] = {
    "random_31m": {
        **_LLADA,
        "d_model": 512,
        "n_layers": 8,
        "n_heads": 8,
        "mlp_hidden_size": 1536,
        "vocab_size": 4096,
    },
    "random_31m_sdar": {  # the shape of random_31m, decoded block by block
        **_HF,
        "model_type": "sdar",
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "intermediate_size": 1536,
        "vocab_size": 4096,
        "max_position_embeddings": 4096,
        "block_size": 32,
        "rope_theta": 5e5,
        "rms_norm_eps": 1e-5,
    },
    "random_illada_8b": {
        **_HF,
        "model_type": "illada",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 155136,
        "max_position_embeddings": 8192,
        "rope_theta": 5e5,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    },
    "random_llada_moe_7b": {
        **_HF,
        "model_type": "llada",
        "architectures": ["LLaDAMoEModelLM"],
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "num_experts": 64,
        "num_experts_per_tok": 8,
        "expert_intermediate_size": 1024,
        "dense_intermediate_size": 8192,
        "qk_layernorm": True,
        "vocab_size": 157184,
        "max_position_embeddings": 8192,
        "rope_theta": 5e4,
        "rms_norm_eps": 1e-5,
    },
    "random_dream_7b": {
        **_HF,
        "model_type": "Dream",
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
        "max_position_embeddings": 2048,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
    },
    "random_llada2_mini": {
        **_HF,
        "model_type": "llada2_moe",
        "hidden_size": 2048,
        "num_hidden_layers": 20,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "intermediate_size": 5120,
        "first_k_dense_replace": 1,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "moe_intermediate_size": 512,
        "num_shared_experts": 1,
        "routed_scaling_factor": 2.5,
        "partial_rotary_factor": 0.5,
        "vocab_size": 157184,
        "max_position_embeddings": 32768,
        "rope_theta": 6e5,
        "rms_norm_eps": 1e-6,
    },
    "random_sdar_4b": {
        **_HF,
        "model_type": "sdar",
        "hidden_size": 2560,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 9728,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
    },
    "random_8b": {
        **_LLADA,
        "d_model": 4096,
        "n_layers": 32,
        "n_heads": 32,
        "mlp_hidden_size": 12288,
        "vocab_size": 126464,
    },
}
"""config.json of each, but for its special ids."""
MODELS = ("tiny", *SHAPES)


def bench_model(name: str, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Model:
    """A model of `MODELS` on `device` in `dtype`, ready to infer. Raises ValueError for another name."""
    architecture, network, special = plain_model(name, device, dtype, seed)
    return architecture.ready(network, special, release=True)


def plain_model(
    name: str, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> tuple[Architecture, Any, SpecialIds]:
    """The same as what checkpoints load into: architecture, its filled network, special ids."""
    if name == "tiny":
        from llada_exp.checkpoints.hf import load_hf
        from llada_exp.checkpoints.tiny import tiny_folder

        filled = load_hf(tiny_folder(), device, dtype)
        return filled.architecture, filled.network, filled.special
    if name not in SHAPES:
        raise ValueError(f"model is {name!r}; expected one of {', '.join(MODELS)}")
    vocab = SHAPES[name]["vocab_size"]
    mask, eos = vocab - 1, vocab - 2
    architecture = read_architecture({**SHAPES[name], "mask_token_id": mask, "eos_token_id": eos}, name)
    special = SpecialIds(mask=mask, ends=(eos,), bos=None, num_emittable=vocab)
    return architecture, random_network(architecture, device, dtype, seed), special


@torch.no_grad()
def random_network(architecture: Architecture, device: torch.device, dtype: torch.dtype, seed: int) -> Any:
    """Normal weights, std 0.02; norms are ones, and what stands beside the weights is zero."""
    network = empty_network(architecture, device, dtype)
    for buffer in network.buffers():
        buffer.zero_()
    generator = torch.Generator(device).manual_seed(seed)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=0.02, generator=generator)
        else:
            parameter.fill_(1.0)
    return network
