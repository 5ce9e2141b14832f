"""SDAR (Cheng et al., arXiv 2510.06303; JetLM/SDAR-*-Chat): the body of Qwen3, decoded block after block.

Blocks lie on a grid from row position 0 and see nothing beyond themselves. A finished block takes a pass of
its own that writes its keys and values. The block length is the checkpoint's own (4 to 64 are published).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llada_exp.models import family
from llada_exp.models.base import Visibility
from llada_exp.models.body import Body, read_sizes
from llada_exp.models.parts import WideRMSNorm

# Keys of the published config whose other values its code would compute otherwise.
_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (None, False),
    "use_sliding_window": (None, False),
}


@dataclass(frozen=True)
class SDARConfig(Body):
    """Shapes of an SDAR checkpoint (`models.family.Architecture`). block_length None: nothing says it."""

    block_length: int | None = None

    @property
    def visibility(self) -> Visibility:
        return Visibility("block_causal", self.block_length, context="alone", stops="after")

    def norm(self, width: int) -> WideRMSNorm:
        return WideRMSNorm(width, self.rms_norm_eps)

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> SDARConfig:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and what this
        class implements."""
        family.refuse_others(raw, _IMPLEMENTED, where)
        return cls(
            **read_sizes(raw, where), qk_norm=True, block_length=family.block_length(raw, "block_size", where)
        )


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
