"""Dream (Ye et al., arXiv 2508.15487; Dream-org/Dream-v0-Base-7B, -Instruct-7B) and kin (apple/DiffuCoder):
the body of Qwen2 without a causal mask, whose row i speaks of position i + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llada_exp.models import family
from llada_exp.models.body import Body
from llada_exp.models.sizes import read_sizes

# Keys of the published config whose other values its code would compute otherwise.
_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "use_sliding_window": (None, False),
}


@dataclass(frozen=True)
class DreamConfig(Body):
    """Shapes of a Dream checkpoint (`models.family.Architecture`)."""

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> DreamConfig:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and what this
        class implements."""
        family.refuse_others(raw, _IMPLEMENTED, where)
        return cls(**read_sizes(raw, where), qkv_bias=True, shift=1)


FAMILY = family.Family(
    name="dream",
    published="Dream-v0-Base-7B, Dream-v0-Instruct-7B, DiffuCoder and checkpoints of that shape",
    recognises=lambda raw: (
        raw.get("model_type") == "Dream" or "DreamModel" in (raw.get("architectures") or ())
    ),
    read=DreamConfig.from_dict,
    settings=("mask_token_id",),
    end_tokens=("<|im_end|>",),
    mask_token="<|mask|>",
)
