"""A toy family: grouped key heads, a head width that is not d / H, tied embeddings. Full attention.

As a real one would be, it is one module that uses the seam alone (models/family.py, packed.py, parts.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llada_exp.models import family
from llada_exp.models.base import FULL, Attend, ModelShape, SpecialIds, Visibility
from llada_exp.models.packed import PackedModel
from llada_exp.models.parts import FusedQKV, GatedMLP, RMSNorm, Rotary, linear_of, rope_tables, tied_head


@dataclass(frozen=True)
class Body:
    """visibility, shift: of the toys that share this body."""

    raw: family.RawConfig
    shape: ModelShape
    mask_token_id: int
    visibility: Visibility = FULL
    shift: Literal[0, 1] = 0

    @property
    def vocab_size(self) -> int:
        return self.shape.vocab_size

    def network(self) -> Network:
        return Network(self.shape)

    def ready(self, network: Any, special: SpecialIds, release: bool) -> PackedModel:
        shape, embedding = self.shape, network.model["embed_tokens"].weight.detach()
        tables = rope_tables(shape.head_dim, 10000.0, shape.max_length, embedding.device)
        with torch.no_grad():
            layers = [_Packed(layer, shape, release) for layer in network.model["layers"]]
        final_norm = network.model["norm"]
        return PackedModel(
            shape, special, embedding, Rotary(*tables), layers, final_norm, tied_head(embedding),
            self.visibility, self.shift,
        )  # fmt: skip


def read(raw: family.RawConfig, where: str) -> Body:
    family.refuse_others(raw, {"tie_word_embeddings": (True,)}, where)
    heads, kv_heads = family.head_counts(raw, "num_attention_heads", "num_key_value_heads", where)
    vocab = family.positive_int(raw, "vocab_size", where)
    sizes: dict[str, Any] = {
        "d_model": family.positive_int(raw, "hidden_size", where),
        "n_layers": family.positive_int(raw, "num_hidden_layers", where),
        "n_heads": heads,
        "n_kv_heads": kv_heads,
        "head_dim": family.positive_int(raw, "head_dim", where),
        "mlp_hidden": family.positive_int(raw, "intermediate_size", where),
        "vocab_size": vocab,
        "max_length": family.positive_int(raw, "max_position_embeddings", where),
    }
    mask = family.token_id(raw, "mask_token_id", vocab, where)
    empty = ModelShape(**sizes, num_parameters=0)
    count = family.num_parameters(Body(raw, empty, mask))
    return Body(raw, ModelShape(**sizes, num_parameters=count), mask)


class Layer(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        d, queries, keys = shape.d_model, shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(d, 1e-6), RMSNorm(d, 1e-6)
        attention = {"q_proj": (d, queries), "k_proj": (d, keys), "v_proj": (d, keys), "o_proj": (queries, d)}
        self.self_attn = nn.ModuleDict({n: nn.Linear(*size, bias=False) for n, size in attention.items()})
        hidden = shape.mlp_hidden
        mlp = {"gate_proj": (d, hidden), "up_proj": (d, hidden), "down_proj": (hidden, d)}
        self.mlp = nn.ModuleDict({n: nn.Linear(*size, bias=False) for n, size in mlp.items()})


class Network(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(shape.vocab_size, shape.d_model),
                "layers": nn.ModuleList(Layer(shape) for _ in range(shape.n_layers)),
                "norm": RMSNorm(shape.d_model, 1e-6),
            }
        )
        self.lm_head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
        self.lm_head.weight = self.model["embed_tokens"].weight  # type: ignore[assignment]


class _Packed:
    def __init__(self, layer: Layer, shape: ModelShape, release: bool) -> None:
        attention: Any = layer.self_attn
        mlp: Any = layer.mlp
        self.norms = layer.input_layernorm, layer.post_attention_layernorm
        self.n_heads = shape.n_heads
        qkv = [attention[name] for name in ("q_proj", "k_proj", "v_proj")]
        self.qkv = FusedQKV(qkv, shape.n_heads, shape.n_kv_heads, release)
        self.out = linear_of(attention["o_proj"], release)
        self.mlp = GatedMLP(mlp["gate_proj"], mlp["up_proj"], mlp["down_proj"], release)

    def __call__(self, x: Tensor, at: Any, number: int, attend: Attend, rows: Tensor | None) -> Tensor:
        qk, v = self.qkv(self.norms[0](x))
        qk = Rotary.turn(qk, at)
        mixed = attend(number, qk[:, : self.n_heads], qk[:, self.n_heads :], v).flatten(1)
        if rows is not None:
            x, mixed = x.index_select(0, rows), mixed.index_select(0, rows)
        x = self.out.plus(mixed, x)
        return self.mlp.plus(self.norms[1](x), x)


def config_json(model_type: str) -> dict[str, Any]:
    """Of a toy checkpoint; its mask id is a setting."""
    return {
        "model_type": model_type,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "intermediate_size": 64,
        "vocab_size": 72,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "eos_token_id": 62,
    }


FAMILY = family.Family(
    name="toy_grouped",
    published="none",
    recognises=lambda raw: raw.get("model_type") == "toy_grouped",
    read=read,
    settings=("mask_token_id",),
)
