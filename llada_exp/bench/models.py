"""Models to measure: the embedded one, and random weights of larger shapes, made where they run.

Random weights cost what trained ones cost, as long as the tokens per step are fixed.
"""

from __future__ import annotations

import torch

from llada_exp.models.base import Model, SpecialIds
from llada_exp.models.llada import LLaDA, LLaDAConfig
from llada_exp.models.packed import PackedLLaDA

SHAPES = {
    "random_31m": {"d_model": 512, "n_layers": 8, "n_heads": 8, "mlp_hidden_size": 1536, "vocab_size": 4096},
    "random_8b": {
        "d_model": 4096,
        "n_layers": 32,
        "n_heads": 32,
        "mlp_hidden_size": 12288,
        "vocab_size": 126464,
    },
}
MODELS = ("tiny", *SHAPES)


def bench_model(name: str, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Model:
    """A model of `MODELS` on `device` in `dtype`, ready to infer. Raises ValueError for another name."""
    return PackedLLaDA(plain_model(name, device, dtype, seed), release=True)


def plain_model(name: str, device: torch.device, dtype: torch.dtype, seed: int = 0) -> LLaDA:
    """The same as the module that checkpoints load into."""
    if name == "tiny":
        from llada_exp.checkpoints.hf import load_hf
        from llada_exp.checkpoints.tiny import tiny_folder

        return load_hf(tiny_folder(), device, dtype)[0]
    if name not in SHAPES:
        raise ValueError(f"model is {name!r}; expected one of {', '.join(MODELS)}")
    return random_model(_config(**SHAPES[name]), device, dtype, seed)


def _config(vocab_size: int, **shape: int) -> LLaDAConfig:
    return LLaDAConfig(
        **shape,
        vocab_size=vocab_size,
        max_sequence_length=4096,
        rope_theta=5e5,
        rms_norm_eps=1e-5,
        mask_token_id=vocab_size - 1,
        eos_token_id=vocab_size - 2,
    )


@torch.no_grad()
def random_model(config: LLaDAConfig, device: torch.device, dtype: torch.dtype, seed: int) -> LLaDA:
    """Normal weights, std 0.02; norms are ones."""
    with torch.device("meta"):
        model = LLaDA(config)
    model = model.to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=0.02, generator=generator)
        else:
            parameter.fill_(1.0)
    ends = (config.eos_token_id,)
    model.set_special(SpecialIds(config.mask_token_id, ends, bos=None, num_emittable=config.vocab_size))
    return model.eval().requires_grad_(False)
