"""SDAR (Cheng et al., arXiv 2510.06303; JetLM/SDAR-1.7B-Chat, -4B-Chat, -8B-Chat): a Qwen3, block-causal.

Checkpoints of block lengths from 4 to 64 are published in the same form: `block_size` of config.json, or the
setting `block_length`, says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llada_exp.models import family
from llada_exp.models.base import Visibility
from llada_exp.models.body import Body
from llada_exp.models.parts import RMSNorm, WideRMSNorm
from llada_exp.models.sizes import read_sizes

# Keys of the published config whose other values its code would compute otherwise.
_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (None, False),
    "use_sliding_window": (None, False),  # `sliding_window` alone means nothing
}
_BLOCK_LENGTH = 4
"""Of the checkpoints whose name says none."""


@dataclass(frozen=True)
class SDARConfig(Body):
    """Shapes of an SDAR checkpoint (`models.family.Architecture`). block_length: that it was trained for."""

    block_length: int = _BLOCK_LENGTH

    @property
    def visibility(self) -> Visibility:
        return Visibility("block_causal", self.block_length, context="alone", stops="after")

    @property
    def decoding(self) -> Mapping[str, Any]:
        return {"rule": "dynamic", "threshold": 0.85, "cache": "prefix"}

    def norm(self, width: int) -> RMSNorm:
        return WideRMSNorm(width, self.rms_norm_eps)

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> SDARConfig:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and what this
        class implements."""
        family.refuse_others(raw, _IMPLEMENTED, where)
        block_length = family.block_length(raw, _BLOCK_LENGTH, where)
        return cls(**read_sizes(raw, where), qk_norm=True, block_length=block_length)


FAMILY = family.Family(
    name="sdar",
    published="SDAR-1.7B-Chat, SDAR-4B-Chat, SDAR-8B-Chat and checkpoints of that shape",
    recognises=lambda raw: (
        raw.get("model_type") == "sdar" or "SDARForCausalLM" in (raw.get("architectures") or ())
    ),
    read=SDARConfig.from_dict,
    settings=("mask_token_id", "block_length"),
    end_tokens=("<|im_end|>", "<|endoftext|>"),
    mask_token="<MASK>",
)
