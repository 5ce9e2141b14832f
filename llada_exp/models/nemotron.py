"""Nemotron-Labs-Diffusion (nvidia/Nemotron-Labs-Diffusion-3B, -8B): the body of Ministral 3, made from an
autoregressive model.

Prompt and finished blocks are causal; the current block sees itself both ways. A finished block is forwarded
once more, causally, and what the last row of that pass says is the first token of the next block. Rotary
positions are stretched (YaRN), and a query grows with the logarithm of its position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llada_exp.models import family
from llada_exp.models.base import Visibility
from llada_exp.models.body import Body, Names
from llada_exp.models.sizes import read_sizes

# Keys of the published config whose other values its code would compute otherwise.
_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "sliding_window": (None,),
}
_NAMES = Names(trunk="encoder", head="diffusion_head")
_BLOCK_LENGTH = 32


@dataclass(frozen=True)
class NemotronConfig(Body):
    """Shapes of a checkpoint (`models.family.Architecture`).

    causal_context: as published; without it a block and the prompt see themselves both ways at all times, and
    nothing is seeded. query_beta, query_original: q is multiplied by 1 + beta ln(1 + floor(position /
    original)).
    """

    block_length: int = _BLOCK_LENGTH
    causal_context: bool = True
    query_beta: float = 0.0
    query_original: int = 1

    @property
    def visibility(self) -> Visibility:
        if self.causal_context:
            return Visibility("causal_context", self.block_length, context="seeds")
        return Visibility("block_context", self.block_length, context="alone")

    @property
    def decoding(self) -> Mapping[str, Any]:
        return {"rule": "threshold", "threshold": 0.9, "cache": "prefix"}

    def query_scale(self, device: torch.device) -> Tensor | None:
        if not self.query_beta:
            return None
        places = torch.arange(self.max_length, device=device, dtype=torch.float32)
        return 1 + self.query_beta * torch.log(1 + torch.floor(places / self.query_original))

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> NemotronConfig:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and what this
        class implements."""
        family.refuse_others(raw, _IMPLEMENTED, where)
        sizes = read_sizes(raw, where, may_stretch=True)
        family.token_id(raw, "mask_token_id", sizes["vocab_size"], where)  # its tokenizer names none
        beta, original = _query_scale(raw, where)
        return cls(
            **sizes,
            names=_NAMES,
            block_length=family.block_length(raw, _BLOCK_LENGTH, where),
            causal_context=raw.get("causal_context") is None or family.flag(raw, "causal_context", where),
            query_beta=beta,
            query_original=original,
        )


def _query_scale(raw: family.RawConfig, where: str) -> tuple[float, int]:
    """beta, 0 where there is none, and the positions of the first training."""
    rope = raw.get("rope_parameters") or {}
    if not rope.get("llama_4_scaling_beta"):
        return 0.0, 1
    place = f"{where}: rope_parameters"
    beta = family.positive_float(rope, "llama_4_scaling_beta", place)
    return beta, family.positive_int(rope, "original_max_position_embeddings", place)


FAMILY = family.Family(
    name="nemotron",
    published="Nemotron-Labs-Diffusion-3B, Nemotron-Labs-Diffusion-8B and checkpoints of that shape",
    recognises=lambda raw: (
        raw.get("model_type") == "nemotron_labs_diffusion"
        or "NemotronLabsDiffusionModel" in (raw.get("architectures") or ())
    ),
    read=NemotronConfig.from_dict,
    settings=("mask_token_id", "block_length", "causal_context"),
)
