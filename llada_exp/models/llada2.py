"""LLaDA2.0 and LLaDA2.1 (Bie et al., arXiv 2512.15745; inclusionAI/LLaDA2.0-mini, LLaDA2.1-mini): experts,
decoded block after block.

Blocks lie on a grid from row position 0 and see nothing beyond themselves. Nothing in config.json tells 2.0
from 2.1, whose decoding may overwrite tokens of the current block: a setting does, `edits`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from llada_exp.models import family
from llada_exp.models.base import ModelShape, SpecialIds, Visibility
from llada_exp.models.body import Body, DenseMLP, LayerParts, PackedLayer, PackedMLP, read_sizes
from llada_exp.models.experts import Experts
from llada_exp.models.linear import linear
from llada_exp.models.packed import PackedModel
from llada_exp.models.parts import FusedQKV, Rotary, linear_of, rope_tables

# Keys of the published config whose other values its code would compute otherwise.
_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "use_bias": (False, None),
    "use_qkv_bias": (False, None),
    "use_rmsnorm": (True, None),
    "use_qk_norm": (True,),
    "norm_head": (False, None),
    "norm_softmax": (False, None),
    "norm_topk_prob": (True,),
    "score_function": ("sigmoid",),
    "moe_router_enable_expert_bias": (True,),
    "use_sliding_window": (False, None),
}


@dataclass(frozen=True)
class Routing:
    """E = num_experts in `num_groups` groups of one size, of which the best `top_groups` stay; `num_chosen`
    of their experts a token. scale: of the chosen ones' shares, which sum to one."""

    num_experts: int
    num_chosen: int
    num_groups: int
    top_groups: int
    scale: float


class Router(nn.Module):
    """expert_bias: float32 whatever the model's dtype, for the selection alone."""

    def __init__(self, d_model: int, num_experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, d_model))
        self.register_buffer("expert_bias", torch.zeros(num_experts, dtype=torch.float32))


class RoutedMLP(nn.Module):
    """The router, its experts and those that every token passes."""

    def __init__(self, d_model: int, hidden: int, num_shared: int, routing: Routing) -> None:
        super().__init__()
        self.gate: Any = Router(d_model, routing.num_experts)
        self.experts: Any = nn.ModuleList(DenseMLP(d_model, hidden) for _ in range(routing.num_experts))
        self.shared_experts: Any = DenseMLP(d_model, num_shared * hidden) if num_shared else None
        self.routing = routing

    def packed(self, release: bool) -> _PackedRoutedMLP:
        parts = [(e.gate_proj, e.up_proj, e.down_proj) for e in self.experts]
        shared = None if self.shared_experts is None else self.shared_experts.packed(release)
        return _PackedRoutedMLP(self.gate, Experts(parts, release), shared, self.routing)


class _PackedRoutedMLP:
    def __init__(self, router: Any, experts: Experts, shared: PackedMLP | None, routing: Routing) -> None:
        self._scores = linear(router.weight.detach().float())
        self._bias = router.expert_bias
        self._experts, self._shared, self._routing = experts, shared, routing

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """`models.body.PackedMLP`. The router and the weighted sum are float32."""
        routed = self._experts(x, *self._route(x)).to(x.dtype)
        return residual + (routed if self._shared is None else self._shared.plus(x, routed))

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [M, d] -> int64 [M, k] and float32 [M, k]: the experts of each token and their shares."""
        routing = self._routing
        scores = self._scores(x.float()).sigmoid()
        ranked = scores + self._bias
        groups = ranked.unflatten(1, (routing.num_groups, -1))
        best = groups.topk(min(2, groups.shape[-1]), dim=-1).values.sum(-1)
        standing = torch.zeros_like(best, dtype=torch.bool)
        standing.scatter_(1, best.topk(routing.top_groups, dim=-1).indices, True)
        ranked = groups.masked_fill(~standing.unsqueeze(-1), -torch.inf).flatten(1)
        chosen = ranked.topk(routing.num_chosen, dim=-1).indices
        shares = scores.gather(1, chosen)
        return chosen, shares / (shares.sum(-1, keepdim=True) + 1e-20) * routing.scale


@dataclass(frozen=True)
class LLaDA2Config(Body):
    """Shapes of a LLaDA2 checkpoint (`models.family.Architecture`).

    rotary_width: dimensions of a head that are rotated, its first. dense_hidden: width of the MLP of the
    first `num_dense` layers; the others have experts.
    """

    rotary_width: int = 0
    dense_hidden: int = 0
    num_dense: int = 0
    expert_hidden: int = 0
    num_shared: int = 0
    routing: Routing | None = None
    block_length: int | None = None

    @property
    def visibility(self) -> Visibility:
        return Visibility("block_causal", self.block_length, stops="on_commit")

    @property
    def shape(self) -> ModelShape:
        routing = self.routing
        assert routing is not None
        num_routed = self.n_layers - self.num_dense
        idle = routing.num_experts - routing.num_chosen
        passed = (routing.num_chosen + self.num_shared) * self.expert_hidden
        return replace(
            super().shape,
            num_idle_parameters=num_routed * idle * 3 * self.d_model * self.expert_hidden,
            mlp_widths=(self.dense_hidden,) * self.num_dense + (passed,) * num_routed,
            experts_per_token=routing.num_chosen if num_routed else 0,
        )

    def positions(self, device: torch.device, dtype: torch.dtype) -> Rotary:
        return Rotary(*rope_tables(self.rotary_width, self.rope_theta, self.max_length, device), dtype=dtype)

    def mlp(self, layer: int) -> nn.Module:
        if layer < self.num_dense:
            return DenseMLP(self.d_model, self.dense_hidden)
        assert self.routing is not None
        return RoutedMLP(self.d_model, self.expert_hidden, self.num_shared, self.routing)

    def network(self) -> LLaDA2Network:  # type: ignore[override]
        return LLaDA2Network(self)

    @torch.no_grad()
    def ready(self, network: Any, special: SpecialIds, release: bool = False) -> PackedModel:
        """`models.family.Architecture.ready`."""
        trunk = network.model
        return self.packed(
            special,
            trunk.word_embeddings.weight.detach(),
            [PackedLayer(self, layer.parts(release)) for layer in trunk.layers],
            trunk.norm,
            None if self.tied else linear_of(network.lm_head, release),
        )

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> LLaDA2Config:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and what this
        class implements."""
        family.refuse_others(raw, _IMPLEMENTED, where)
        if raw.get("edits") not in (None, True, False):
            raise ValueError(f"{where}: edits is {raw['edits']!r}; expected true or false")
        sizes = read_sizes(raw, where)
        dense_hidden, n_layers = sizes["mlp_hidden"], sizes["n_layers"]
        num_dense = min(_count(raw, "first_k_dense_replace", where), n_layers)
        hidden = family.positive_int(raw, "moe_intermediate_size", where)
        num_shared = _count(raw, "num_shared_experts", where)
        routing = _routing(raw, where)
        passed = (routing.num_chosen + num_shared) * hidden if num_dense < n_layers else 0
        return cls(
            **{**sizes, "mlp_hidden": max(passed, dense_hidden if num_dense else 0)},
            qk_norm=True,
            rotary_width=_rotary_width(raw, sizes["head_dim"], where),
            dense_hidden=dense_hidden,
            num_dense=num_dense,
            expert_hidden=hidden,
            num_shared=num_shared,
            routing=routing,
            block_length=family.block_length(raw, "block_length", where),
        )


def _count(raw: family.RawConfig, key: str, where: str) -> int:
    return 0 if raw.get(key) in (None, 0) else family.positive_int(raw, key, where)


def _routing(raw: family.RawConfig, where: str) -> Routing:
    keys = ("num_experts", "num_experts_per_tok", "n_group", "topk_group")
    experts, chosen, groups, standing = (family.positive_int(raw, key, where) for key in keys)
    if experts % groups:
        raise ValueError(f"{where}: n_group is {groups}; expected a divisor of num_experts ({experts})")
    if standing > groups:
        raise ValueError(f"{where}: topk_group is {standing}; expected at most n_group ({groups})")
    if chosen > standing * (experts // groups):
        most = standing * (experts // groups)
        message = f"num_experts_per_tok is {chosen}; expected at most the {most} of topk_group groups"
        raise ValueError(f"{where}: {message}")
    return Routing(
        experts, chosen, groups, standing, family.positive_float(raw, "routed_scaling_factor", where)
    )


def _rotary_width(raw: family.RawConfig, head_dim: int, where: str) -> int:
    factor = family.positive_float({"partial_rotary_factor": 1.0, **raw}, "partial_rotary_factor", where)
    width = int(head_dim * factor)
    if factor > 1 or width < 2 or width % 2:
        raise ValueError(f"{where}: partial_rotary_factor is {factor}; expected an even part of {head_dim}")
    if raw.get("rotary_dim") not in (None, width):
        message = f"rotary_dim is {raw['rotary_dim']!r}; expected {width}, as partial_rotary_factor has it"
        raise ValueError(f"{where}: {message}")
    return width


class _FusedAttention(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        rows = (body.n_heads + 2 * body.n_kv_heads) * body.head_dim
        self.query_key_value = nn.Linear(body.d_model, rows, bias=False)
        self.query_layernorm, self.key_layernorm = body.norm(body.head_dim), body.norm(body.head_dim)
        self.dense = nn.Linear(body.n_heads * body.head_dim, body.d_model, bias=False)


class _FusedLayer(nn.Module):
    def __init__(self, body: Body, number: int) -> None:
        super().__init__()
        self.heads = body.n_heads, body.n_kv_heads
        self.input_layernorm = body.norm(body.d_model)
        self.post_attention_layernorm = body.norm(body.d_model)
        self.attention: Any = _FusedAttention(body)
        self.mlp: Any = body.mlp(number)

    def parts(self, release: bool) -> LayerParts:
        """As `models.body.BodyLayer`'s; rows of the fused product: all of q, all of k, all of v."""
        attention = self.attention
        return LayerParts(
            norms=(self.input_layernorm, self.post_attention_layernorm),
            qkv=FusedQKV([attention.query_key_value], *self.heads, release),
            qk_norms=(attention.query_layernorm, attention.key_layernorm),
            out=linear_of(attention.dense, release),
            mlp=self.mlp.packed(release),
        )


class _FusedTrunk(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(body.vocab_size, body.d_model)
        self.layers: Any = nn.ModuleList(_FusedLayer(body, number) for number in range(body.n_layers))
        self.norm = body.norm(body.d_model)


class LLaDA2Network(nn.Module):
    """The weights as checkpoints hold them. It does not compute: see `LLaDA2Config.ready`."""

    def __init__(self, body: LLaDA2Config) -> None:
        super().__init__()
        self.model = _FusedTrunk(body)
        self.lm_head = nn.Linear(body.d_model, body.vocab_size, bias=False)
        if body.tied:
            self.lm_head.weight = self.model.word_embeddings.weight


FAMILY = family.Family(
    name="llada2",
    published="LLaDA2.0-mini, LLaDA2.1-mini and checkpoints of that shape",
    recognises=lambda raw: (
        raw.get("model_type") in ("llada2_moe", "llada21_moe")
        or "LLaDA2MoeModelLM" in (raw.get("architectures") or ())
    ),
    read=LLaDA2Config.from_dict,
    settings=("mask_token_id", "block_length", "edits"),
    end_tokens=("<|role_end|>",),
    mask_token="<|mask|>",
)
