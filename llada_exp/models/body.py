"""The body that many families share, under the names that Hugging Face gives its parts: pre-norm layers of
attention and a gated MLP, rotary positions over the whole head.

A family says what is its own (biases, norms of q and k, experts, tied embeddings, shift) in a `Body` and
leaves the rest as it is. Rotary tables are computed in float32, cast to the model's dtype and applied in
it, as the published code of these families does. Knows no rows, padding or caches; letters are those of
models/base.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from llada_exp.models import family
from llada_exp.models.base import FULL, Attend, ModelShape, SpecialIds, Visibility
from llada_exp.models.packed import PackedModel
from llada_exp.models.parts import (
    FusedQKV,
    GatedMLP,
    HeadNorms,
    RMSNorm,
    Rotary,
    linear_of,
    rope_tables,
    tied_head,
)
from llada_exp.models.yarn import Yarn


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
class Names:
    """What a checkpoint calls the parts of a body; as Hugging Face does, where a family says nothing else.

    qkv: of the projections; one name where the three are one tensor (all rows of q, then of k, then of v).
    """

    trunk: str = "model"
    embedding: str = "embed_tokens"
    attention: str = "self_attn"
    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    qk_norms: tuple[str, str] = ("q_norm", "k_norm")
    out: str = "o_proj"
    head: str = "lm_head"


@dataclass(frozen=True)
class Body:
    """Shapes of one checkpoint (`models.family.Architecture`).

    mlp_hidden: as `ModelShape` has it. tied: the head is the embedding. qkv_bias: of the three projections.
    qk_norm: RMSNorm of each head of q and k, before the rotation. rotary_dim: the first dimensions of a head
    that are rotated; None: all. yarn: how rotary positions are stretched. mask_token_id None: config.json has
    none.
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
    rotary_dim: int | None = None
    yarn: Yarn | None = None
    shift: Literal[0, 1] = 0
    names: Names = Names()

    @property
    def visibility(self) -> Visibility:
        return FULL

    @property
    def decoding(self) -> Mapping[str, Any]:
        """`Model.decoding`."""
        return {}

    def norm(self, width: int) -> RMSNorm:
        """Every norm of the body."""
        return RMSNorm(width, self.rms_norm_eps)

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

    def query_scale(self, device: torch.device) -> Tensor | None:
        """float32 [max_length]: what q is multiplied by at each position, after the rotation. None: by
        nothing."""
        return None

    def mlp(self, layer: int) -> nn.Module:
        """A `LayerMLP`: the same gated MLP in all layers, unless a family has others."""
        return DenseMLP(self.d_model, self.mlp_hidden)

    def network(self) -> BodyNetwork:
        return BodyNetwork(self)

    @torch.no_grad()
    def ready(self, network: BodyNetwork, special: SpecialIds, release: bool = False) -> PackedModel:
        """`models.family.Architecture.ready`."""
        embedding = network.trunk.embedding.weight.detach()
        width = self.rotary_dim or self.head_dim
        tables = rope_tables(width, self.rope_theta, self.max_length, embedding.device, self.yarn)
        rotary = Rotary(*tables, dtype=embedding.dtype)
        scale = self.query_scale(embedding.device)
        return PackedModel(
            shape=self.shape,
            special=special,
            embedding=embedding,
            place=rotary if scale is None else _ScaledRotary(rotary, scale.to(embedding.dtype)),
            layers=[_PackedLayer(layer, release) for layer in network.trunk.layers],
            final_norm=network.trunk.norm,
            to_logits=tied_head(embedding) if self.tied else linear_of(network.head, release),
            visibility=self.visibility,
            shift=self.shift,
            decoding=self.decoding,
        )


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
        names = body.names
        widths = (queries, keys, keys) if len(names.qkv) == 3 else (queries + 2 * keys,)
        for name, width in zip(names.qkv, widths, strict=True):
            self.add_module(name, nn.Linear(d, width, bias=body.qkv_bias))
        self.add_module(names.out, nn.Linear(queries, d, bias=False))
        if body.qk_norm:
            for name in names.qk_norms:
                self.add_module(name, body.norm(body.head_dim))


class BodyLayer(nn.Module):
    """One layer's weights."""

    def __init__(self, body: Body, number: int) -> None:
        super().__init__()
        self.body = body
        self.input_layernorm = body.norm(body.d_model)
        self.post_attention_layernorm = body.norm(body.d_model)
        self.add_module(body.names.attention, _Attention(body))
        self.mlp = body.mlp(number)


class _Trunk(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        self._embedding = body.names.embedding
        self.add_module(self._embedding, nn.Embedding(body.vocab_size, body.d_model))
        self.layers: Sequence[BodyLayer] = nn.ModuleList(  # type: ignore[assignment]
            BodyLayer(body, number) for number in range(body.n_layers)
        )
        self.norm = body.norm(body.d_model)

    @property
    def embedding(self) -> Any:
        return self.get_submodule(self._embedding)


class BodyNetwork(nn.Module):
    """The weights as checkpoints hold them. It does not compute: see `Body.ready`."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self._names = body.names
        self.add_module(body.names.trunk, _Trunk(body))
        self.add_module(body.names.head, nn.Linear(body.d_model, body.vocab_size, bias=False))
        if body.tied:
            self.head.weight = self.trunk.embedding.weight

    @property
    def trunk(self) -> Any:
        return self.get_submodule(self._names.trunk)

    @property
    def head(self) -> Any:
        return self.get_submodule(self._names.head)


class _ScaledRotary:
    """What the layers rotate by, and what they scale q by."""

    def __init__(self, rotary: Rotary, scale: Tensor) -> None:
        self._rotary, self._scale = rotary, scale[:, None, None]

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """positions int64 [M] -> the tables' rows [M, 1, D], and of q [M, 1, 1]."""
        return *self._rotary(positions), self._scale.index_select(0, positions)


class _PackedLayer:
    """A `BodyLayer` as inference runs it: q, k and v are one product."""

    def __init__(self, layer: BodyLayer, release: bool) -> None:
        body = layer.body
        attention: Any = layer.get_submodule(body.names.attention)
        self._input_norm, self._mlp_norm = layer.input_layernorm, layer.post_attention_layernorm
        projections = [getattr(attention, name) for name in body.names.qkv]
        self._n_heads = body.n_heads
        self._qkv = FusedQKV(projections, body.n_heads, body.n_kv_heads, release)
        self._norms: HeadNorms | None = None
        if body.qk_norm:
            norms = [getattr(attention, name) for name in body.names.qk_norms]
            self._norms = HeadNorms(norms, (body.n_heads, body.n_kv_heads))
        self._out = linear_of(getattr(attention, body.names.out), release)
        self._mlp: PackedMLP = layer.mlp.packed(release)  # type: ignore[operator]

    def __call__(
        self, x: Tensor, at: tuple[Tensor, ...], number: int, attend: Attend, rows: Tensor | None
    ) -> Tensor:
        """`models.packed.Layer`."""
        qk, v = self._qkv(self._input_norm(x))
        if self._norms is not None:
            qk = self._norms(qk)
        cos, sin, *scales = at
        qk = Rotary.turn(qk, (cos, sin))
        q, k = qk[:, : self._n_heads], qk[:, self._n_heads :]
        for scale in scales:
            q = q * scale
        mixed = attend(number, q, k, v).flatten(1)
        if rows is not None:
            x, mixed = x.index_select(0, rows), mixed.index_select(0, rows)
        x = self._out.plus(mixed, x)
        return self._mlp.plus(self._mlp_norm(x), x)
