"""Small random models for tests: same module as the real ones, weights from a seed."""

from __future__ import annotations

import torch

from llada_exp.models.base import SpecialIds
from llada_exp.models.llada import LLaDA, LLaDAConfig
from llada_exp.models.packed import PackedLLaDA

MASK, EOS, EOT, BOS = 63, 62, 61, 60
NUM_EMITTABLE = 64


def toy_model(seed: int = 0, vocab: int = 72, max_length: int = 512) -> PackedLLaDA:
    """`toy_module`, ready to infer."""
    return PackedLLaDA(toy_module(seed, vocab, max_length))


def toy_module(seed: int = 0, vocab: int = 72, max_length: int = 512) -> LLaDA:
    """d 32, 2 layers; ids 64..71 have no text; weights large enough that answers vary."""
    config = LLaDAConfig(
        d_model=32,
        n_layers=2,
        n_heads=2,
        mlp_hidden_size=64,
        vocab_size=vocab,
        max_sequence_length=max_length,
        rope_theta=10000.0,
        rms_norm_eps=1e-5,
        mask_token_id=MASK,
        eos_token_id=EOS,
    )
    model = LLaDA(config, SpecialIds(mask=MASK, ends=(EOS, EOT), bos=BOS, num_emittable=NUM_EMITTABLE))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.25)
    return model.eval().requires_grad_(False)
