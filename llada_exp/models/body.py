"""The body that many families share, under the names that Hugging Face gives its parts: pre-norm layers of
attention and a gated MLP, rotary positions over the whole head.

A family says what is its own (biases, norms of q and k, experts, tied embeddings, shift) in a `Body` and
leaves the rest as it is. Rotary tables are computed in float32, cast to the model's dtype and applied in
it, as the published code of these families does. Knows no rows, padding or caches; letters are those of
models/base.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from llada_exp.models import family
from llada_exp.models.base import FULL, Attend, ModelShape, SpecialIds, Visibility
from llada_exp.models.linear import Linear
from llada_exp.models.packed import PackedModel
from llada_exp.models.parts import FusedQKV, GatedMLP, RMSNorm, Rotary, linear_of, rope_tables, tied_head


class PackedMLP(Protocol):
    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """x, residual [M, d] -> the part's output added to `residual`."""
        ...


class LayerMLP(Protocol):
    """What stands at `mlp` of a layer: a module, named as its checkpoint has it."""

    def packed(self, release: bool) -> PackedMLP:
        """For inference. release: take the weights away from the module."""
        ...


@dataclass(frozen=True)
class Body:
    """Shapes of one checkpoint (`models.family.Architecture`).

    mlp_hidden: as `ModelShape` has it. tied: the head is the embedding. qkv_bias: of the three projections.
    qk_norm: RMSNorm of each head of q and k, before the rotation. mask_token_id None: config.json has none.
    """

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    mlp_hidden: int
    vocab_size: int
    max_length: int
    rope_theta: float
    rms_norm_eps: float
    mask_token_id: int | None
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    shift: Literal[0, 1] = 0

    @property
    def visibility(self) -> Visibility:
        return FULL

    @property
    def shape(self) -> ModelShape:
        return ModelShape(
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            head_dim=self.head_dim,
            mlp_hidden=self.mlp_hidden,
            vocab_size=self.vocab_size,
            max_length=self.max_length,
            num_parameters=family.num_parameters(self),
        )

    def mlp(self, layer: int) -> nn.Module:
        """A `LayerMLP`: the same gated MLP in all layers, unless a family has others."""
        return DenseMLP(self.d_model, self.mlp_hidden)

    def norm(self, width: int) -> RMSNorm:
        return RMSNorm(width, self.rms_norm_eps)

    def positions(self, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Any]:
        """`PackedModel.place`: what layers rotate by, for `turn`."""
        return Rotary(*rope_tables(self.head_dim, self.rope_theta, self.max_length, device), dtype=dtype)

    def turn(self, qk: Tensor, at: Any) -> Tensor:
        """q and k [M, H + K, D] at their positions."""
        return Rotary.turn(qk, at)

    def network(self) -> BodyNetwork:
        return BodyNetwork(self)

    @torch.no_grad()
    def ready(self, network: BodyNetwork, special: SpecialIds, release: bool = False) -> PackedModel:
        """`models.family.Architecture.ready`."""
        trunk = network.model
        return self.packed(
            special,
            trunk.embed_tokens.weight.detach(),
            [PackedLayer(self, layer.parts(release)) for layer in trunk.layers],
            trunk.norm,
            None if self.tied else linear_of(network.lm_head, release),
        )

    def packed(
        self,
        special: SpecialIds,
        embedding: Tensor,
        layers: Sequence[PackedLayer],
        final_norm: Callable[[Tensor], Tensor],
        to_logits: Callable[[Tensor], Tensor] | None,
    ) -> PackedModel:
        """The model of these parts; to_logits None: by the embedding [V, d]."""
        return PackedModel(
            shape=self.shape,
            special=special,
            embedding=embedding,
            place=self.positions(embedding.device, embedding.dtype),
            layers=layers,
            final_norm=final_norm,
            to_logits=tied_head(embedding) if to_logits is None else to_logits,
            visibility=self.visibility,
            shift=self.shift,
        )


def read_sizes(raw: family.RawConfig, where: str, mlp_key: str = "intermediate_size") -> dict[str, Any]:
    """The fields of a `Body` that config.json has under the usual keys; K and D by their defaults where it
    does not say. Raises ValueError naming where, key, value and what is expected."""
    n_heads, n_kv_heads = family.head_counts(raw, "num_attention_heads", "num_key_value_heads", where)
    d_model = family.positive_int(raw, "hidden_size", where)
    if raw.get("head_dim") is not None:
        head_dim = family.positive_int(raw, "head_dim", where)
    elif d_model % n_heads:
        raise ValueError(f"{where}: num_attention_heads is {n_heads}; expected a divisor of {d_model}")
    else:
        head_dim = d_model // n_heads
    if head_dim % 2:
        raise ValueError(f"{where}: the head width is {head_dim}; expected an even number")
    vocab = family.positive_int(raw, "vocab_size", where)
    mask = raw.get("mask_token_id")
    return {
        "d_model": d_model,
        "n_layers": family.positive_int(raw, "num_hidden_layers", where),
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads,
        "head_dim": head_dim,
        "mlp_hidden": family.positive_int(raw, mlp_key, where),
        "vocab_size": vocab,
        "max_length": family.positive_int(raw, "max_position_embeddings", where),
        "rope_theta": family.positive_float(_rope(raw, where), "rope_theta", where),
        "rms_norm_eps": family.positive_float(raw, "rms_norm_eps", where),
        "mask_token_id": None if mask is None else family.token_id(raw, "mask_token_id", vocab, where),
        "tied": family.flag(raw, "tie_word_embeddings", where),
    }


def _rope(raw: family.RawConfig, where: str) -> family.RawConfig:
    """Where `rope_theta` stands: by itself, or as transformers 5 writes it. Raises ValueError for positions
    that are scaled."""
    for key in ("rope_scaling", "rope_parameters"):
        value = raw.get(key)
        if value is None:
            continue
        kind = value.get("rope_type", value.get("type", "default")) if isinstance(value, dict) else value
        if kind != "default":
            raise ValueError(f"{where}: {key} is {value!r}; expected null, or the rope_type 'default'")
        if raw.get("rope_theta") is None and "rope_theta" in value:
            return {**raw, "rope_theta": value["rope_theta"]}
    return raw


class DenseMLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(d_model, hidden, bias=False)
        self.up_proj = nn.Linear(d_model, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, d_model, bias=False)

    def packed(self, release: bool) -> GatedMLP:
        return GatedMLP(self.gate_proj, self.up_proj, self.down_proj, release)


class _Attention(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        d, queries, keys = body.d_model, body.n_heads * body.head_dim, body.n_kv_heads * body.head_dim
        self.q_proj = nn.Linear(d, queries, bias=body.qkv_bias)
        self.k_proj = nn.Linear(d, keys, bias=body.qkv_bias)
        self.v_proj = nn.Linear(d, keys, bias=body.qkv_bias)
        self.o_proj = nn.Linear(queries, d, bias=False)
        if body.qk_norm:
            self.q_norm = body.norm(body.head_dim)
            self.k_norm = body.norm(body.head_dim)


class BodyLayer(nn.Module):
    """One layer's weights."""

    def __init__(self, body: Body, number: int) -> None:
        super().__init__()
        self.heads = body.n_heads, body.n_kv_heads
        self.input_layernorm = body.norm(body.d_model)
        self.post_attention_layernorm = body.norm(body.d_model)
        self.self_attn = _Attention(body)
        self.mlp: Any = body.mlp(number)

    def parts(self, release: bool) -> LayerParts:
        """For inference. release: take the weights away from the modules."""
        attention: Any = self.self_attn
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return LayerParts(
            norms=(self.input_layernorm, self.post_attention_layernorm),
            qkv=FusedQKV(projections, *self.heads, release),
            qk_norms=(attention.q_norm, attention.k_norm) if hasattr(attention, "q_norm") else (),
            out=linear_of(attention.o_proj, release),
            mlp=self.mlp.packed(release),
        )


class Trunk(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(body.vocab_size, body.d_model)
        self.layers: Sequence[BodyLayer] = nn.ModuleList(  # type: ignore[assignment]
            BodyLayer(body, number) for number in range(body.n_layers)
        )
        self.norm = body.norm(body.d_model)


class BodyNetwork(nn.Module):
    """The weights as checkpoints hold them. It does not compute: see `Body.ready`."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.model = Trunk(body)
        self.lm_head = nn.Linear(body.d_model, body.vocab_size, bias=False)
        if body.tied:
            self.lm_head.weight = self.model.embed_tokens.weight


@dataclass(frozen=True)
class LayerParts:
    """What a layer is made of for inference, whatever its checkpoint calls it.

    norms: before attention and before the MLP. qk_norms: of each head of q and of k, or none.
    """

    norms: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
    qkv: FusedQKV
    qk_norms: tuple[Callable[[Tensor], Tensor], ...]
    out: Linear
    mlp: PackedMLP


class PackedLayer:
    """A layer as inference runs it: q, k and v are one product."""

    def __init__(self, body: Body, parts: LayerParts) -> None:
        self._parts, self._turn, self._n_heads = parts, body.turn, body.n_heads

    def __call__(self, x: Tensor, at: Any, number: int, attend: Attend, rows: Tensor | None) -> Tensor:
        """`models.packed.Layer`."""
        parts, n_heads = self._parts, self._n_heads
        qk, v = parts.qkv(parts.norms[0](x))
        if parts.qk_norms:
            q, k = qk[:, :n_heads], qk[:, n_heads:]
            qk = torch.cat([norm(part) for norm, part in zip(parts.qk_norms, (q, k), strict=True)], dim=1)
        qk = self._turn(qk, at)
        mixed = attend(number, qk[:, :n_heads], qk[:, n_heads:], v).flatten(1)
        if rows is not None:
            x, mixed = x.index_select(0, rows), mixed.index_select(0, rows)
        x = parts.out.plus(mixed, x)
        return parts.mlp.plus(parts.norms[1](x), x)
