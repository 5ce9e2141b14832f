"""iLLaDA (GSAI-ML/iLLaDA-8B-Base, -Instruct): a LLaDA of 2026 with grouped key heads and tied embeddings.

Neither config.json nor the tokenizer names its mask token, which is `<[MASK]>` by the LLaDA repository.
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
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "layer_norm_eps": (None,),  # not null: LayerNorm in the place of RMSNorm
}


@dataclass(frozen=True)
class ILLaDAConfig(Body):
    """Shapes of an iLLaDA checkpoint (`models.family.Architecture`)."""

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> ILLaDAConfig:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and what this
        class implements."""
        family.refuse_others(raw, _IMPLEMENTED, where)
        return cls(**read_sizes(raw, where))


FAMILY = family.Family(
    name="illada",
    published="iLLaDA-8B-Base, iLLaDA-8B-Instruct and checkpoints of that shape",
    recognises=lambda raw: (
        raw.get("model_type") == "illada" or "ILLaDAForCausalLM" in (raw.get("architectures") or ())
    ),
    read=ILLaDAConfig.from_dict,
    settings=("mask_token_id",),
    mask_token="<[MASK]>",
)
