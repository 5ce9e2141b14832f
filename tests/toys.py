"""Small random models for tests: same code as the real ones, weights from a seed.

Toys of other families: tests/families, each written against the public seam alone.
"""

from __future__ import annotations

from typing import Any

import torch

from llada_exp.models import llada_moe
from llada_exp.models.base import SpecialIds
from llada_exp.models.family import Architecture, Family
from llada_exp.models.llada import LLaDA, LLaDAConfig
from llada_exp.models.packed import PackedModel
from tests.families import block_causal, causal_context, grouped, shifted

MASK, EOS, EOT, BOS = 63, 62, 61, 60
NUM_EMITTABLE = 64
SPECIAL = SpecialIds(mask=MASK, ends=(EOS, EOT), bos=BOS, num_emittable=NUM_EMITTABLE)


def toy_model(seed: int = 0, vocab: int = 72, max_length: int = 512) -> PackedModel:
    """`toy_module`, ready to infer."""
    module = toy_module(seed, vocab, max_length)
    return module.config.ready(module, SPECIAL)


def toy_module(seed: int = 0, vocab: int = 72, max_length: int = 512) -> LLaDA:
    """d 32, 2 layers; ids 64..71 have no text; weights large enough that answers vary."""
    config = LLaDAConfig(
        d_model=32,
        n_layers=2,
        n_heads=2,
        n_kv_heads=2,
        mlp_hidden_size=64,
        vocab_size=vocab,
        max_sequence_length=max_length,
        rope_theta=10000.0,
        rms_norm_eps=1e-5,
        mask_token_id=MASK,
        eos_token_id=EOS,
    )
    return with_random_weights(LLaDA(config), seed)


def with_random_weights(network: Any, seed: int = 0) -> Any:
    """Weights large enough that answers vary; norms are ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.25)
    return network.eval().requires_grad_(False)


def toy_grouped(seed: int = 0) -> PackedModel:
    """4 heads of 12 over 2 key heads, d 32; tied embeddings."""
    return _toy(grouped.FAMILY, seed)


def toy_shifted(seed: int = 0) -> PackedModel:
    """Row i speaks of position i + 1."""
    return _toy(shifted.FAMILY, seed)


def toy_block_causal(seed: int = 0, block_length: int = 8, max_length: int = 512) -> PackedModel:
    """Block-causal on a grid anchored at 0, of blocks of its own length."""
    return _toy(block_causal.FAMILY, seed, block_length=block_length, max_position_embeddings=max_length)


def toy_causal_context(seed: int = 0, block_length: int = 8, max_length: int = 512) -> PackedModel:
    """Causal before the current block, which sees itself both ways."""
    return _toy(causal_context.FAMILY, seed, block_length=block_length, max_position_embeddings=max_length)


def toy_experts(seed: int = 0) -> PackedModel:
    """A LLaDA-MoE: 5 experts of which a token passes 2, d 32; the first layer has none."""
    raw = {
        **grouped.config_json("llada"),
        "architectures": ["LLaDAMoEModelLM"],
        "tie_word_embeddings": False,
        "head_dim": None,
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "expert_intermediate_size": 24,
        "dense_intermediate_size": 40,
        "moe_layer_freq": [0, 1],
        "qk_layernorm": True,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "mask_token_id": MASK,
    }
    architecture = llada_moe.FAMILY.read(raw, "llada_moe")
    model = architecture.ready(with_random_weights(architecture.network(), seed), SPECIAL, release=False)
    assert isinstance(model, PackedModel)
    return model


def toy_architecture(family: Family, **settings: object) -> Architecture:
    """Of the family's toy config.json."""
    raw = grouped.config_json(family.name)
    return family.read({**raw, "mask_token_id": MASK, **settings}, family.name)


def _toy(family: Family, seed: int, **settings: object) -> PackedModel:
    architecture = toy_architecture(family, **settings)
    network = with_random_weights(architecture.network(), seed)
    model = architecture.ready(network, SPECIAL, release=False)
    assert isinstance(model, PackedModel)
    return model
