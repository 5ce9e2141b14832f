"""LLaDA2 (Bie et al., arXiv 2512.15745; inclusionAI/LLaDA2.0-mini, LLaDA2.1-mini): block-causal, its MLPs
experts but for those of the first layers.

A router scores each expert by itself (sigmoid), in float32 whatever the model's dtype. A bias of each expert
counts in the choice alone, first of groups of experts, then of experts in them; a shared one stands beside.
Nothing in config.json tells LLaDA2.1, which edits tokens of its block, from 2.0: the setting `edits` does,
and says no more than by which rule such a model decodes where nothing is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from llada_exp.models import family
from llada_exp.models.base import ModelShape, Visibility
from llada_exp.models.body import Body, DenseMLP, Names, PackedMLP
from llada_exp.models.experts import Experts
from llada_exp.models.linear import linear
from llada_exp.models.parts import let_go
from llada_exp.models.sizes import read_sizes

# Keys of the published config whose other values its code would compute otherwise.
_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "use_bias": (False, None),
    "use_qkv_bias": (False, None),
    "use_qk_norm": (True, None),
    "use_rmsnorm": (True, None),
    "norm_head": (False, None),
    "norm_softmax": (False, None),
    "use_sliding_window": (False, None),  # `sliding_window` alone means nothing
    "score_function": ("sigmoid", None),
    "router_dtype": ("fp32", "float32", None),
    "moe_router_enable_expert_bias": (True, None),
    "norm_topk_prob": (True, None),
}
_NAMES = Names(
    embedding="word_embeddings",
    attention="attention",
    qkv=("query_key_value",),
    qk_norms=("query_layernorm", "key_layernorm"),
    out="dense",
)
_BLOCK_LENGTH = 32


@dataclass(frozen=True)
class Routing:
    """E experts in groups, of which a token passes k.

    num_groups, num_open: groups, and those of them that a token chooses from. scale: of the shares.
    hidden: e, width of an expert; shared: of the one that all tokens pass, 0: there is none.
    """

    num_experts: int
    num_chosen: int
    num_groups: int
    num_open: int
    scale: float
    hidden: int
    shared: int

    def choose(self, scores: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """scores float32 [M, E] from 0 to 1, bias float32 [E] -> experts int64 [M, k], their shares float32
        [M, k]. A group counts as its two best; shares are of the scores without their bias."""
        biased = scores + bias
        groups = biased.unflatten(1, (self.num_groups, -1))
        best = groups.topk(2, dim=-1).values.sum(-1).topk(self.num_open, dim=-1).indices  # [M, groups]
        closed = torch.ones_like(groups[..., 0], dtype=torch.bool).scatter_(1, best, False)
        chosen = groups.masked_fill(closed[..., None], -torch.inf).flatten(1).topk(self.num_chosen, dim=-1)
        shares = scores.gather(1, chosen.indices)
        if self.num_chosen > 1:  # of one it stays as it is, as published
            shares = shares / (shares.sum(-1, keepdim=True) + 1e-20)
        return chosen.indices, shares * self.scale


class Router(nn.Module):
    """The weights of the choice. Nothing is cast: expert_bias is float32 in a model of any dtype."""

    def __init__(self, d_model: int, num_experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, d_model))
        self.register_buffer("expert_bias", torch.zeros(num_experts, dtype=torch.float32))


class RoutedMLP(nn.Module):
    """The router, its experts and the shared one."""

    def __init__(self, d_model: int, routing: Routing) -> None:
        super().__init__()
        self.routing = routing
        self.gate: Any = Router(d_model, routing.num_experts)
        self.experts: Any = nn.ModuleList(
            DenseMLP(d_model, routing.hidden) for _ in range(routing.num_experts)
        )
        self.shared_experts = DenseMLP(d_model, routing.shared) if routing.shared else None

    def packed(self, release: bool) -> _PackedRouted:
        """`models.body.LayerMLP`."""
        return _PackedRouted(self, release)


class _PackedRouted:
    def __init__(self, module: RoutedMLP, release: bool) -> None:
        self._routing, self._bias = module.routing, module.gate.expert_bias
        self._router = linear(module.gate.weight.detach().float())
        parts = [(e.gate_proj, e.up_proj, e.down_proj) for e in module.experts]
        self._experts = Experts(parts, release)
        shared = module.shared_experts
        self._shared: PackedMLP | None = None if shared is None else shared.packed(release)
        if release:
            let_go(module.gate)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """`models.body.PackedMLP`."""
        chosen, shares = self._routing.choose(self._router(x.float()).sigmoid(), self._bias)
        routed = self._experts(x, chosen, shares)
        return residual + (routed if self._shared is None else self._shared.plus(x, routed))


@dataclass(frozen=True)
class LLaDA2Config(Body):
    """Shapes of a LLaDA2 checkpoint (`models.family.Architecture`).

    dense_hidden: width of the MLP of the first `num_dense` layers, which are no experts. edits: LLaDA2.1.
    """

    block_length: int = _BLOCK_LENGTH
    num_dense: int = 0
    dense_hidden: int = 0
    routing: Routing | None = None
    edits: bool = False

    @property
    def visibility(self) -> Visibility:
        return Visibility("block_causal", self.block_length, stops="on_commit", caps_steps=True)

    @property
    def decoding(self) -> Mapping[str, Any]:
        published = {"threshold": 0.95, "cache": "prefix"}
        if self.edits:
            return {**published, "rule": "edit", "editing_threshold": 0.9, "max_post_steps": 16}
        return {**published, "rule": "dynamic", "steps_per_block": 32}

    @property
    def shape(self) -> ModelShape:
        shape, routing = super().shape, self.routing
        if routing is None:
            return shape
        num_routed = self.n_layers - self.num_dense
        idle = (routing.num_experts - routing.num_chosen) * 3 * self.d_model * routing.hidden
        passed = routing.num_chosen * routing.hidden + routing.shared
        return replace(
            shape,
            num_idle_parameters=num_routed * idle,
            num_wide_parameters=num_routed * routing.num_experts * (self.d_model + 1),
            mlp_widths=(self.dense_hidden,) * self.num_dense + (passed,) * num_routed,
            experts_per_token=routing.num_chosen,
        )

    def mlp(self, layer: int) -> nn.Module:
        if self.routing is None or layer < self.num_dense:
            return DenseMLP(self.d_model, self.dense_hidden)
        return RoutedMLP(self.d_model, self.routing)

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> LLaDA2Config:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and what this
        class implements."""
        family.refuse_others(raw, _IMPLEMENTED, where)
        sizes = read_sizes(raw, where)
        num_dense = min(family.count(raw, "first_k_dense_replace", where), sizes["n_layers"])
        routing = read_routing(raw, where) if num_dense < sizes["n_layers"] else None
        passed = routing.num_chosen * routing.hidden + routing.shared if routing else 0
        dense_hidden = sizes["mlp_hidden"]
        return cls(
            **{**sizes, "mlp_hidden": max(passed, dense_hidden if num_dense else 0)},
            qk_norm=True,
            rotary_dim=_rotary_dim(raw, sizes["head_dim"], where),
            names=_NAMES,
            block_length=family.block_length(raw, _BLOCK_LENGTH, where),
            num_dense=num_dense,
            dense_hidden=dense_hidden,
            routing=routing,
            edits="edits" in raw and family.flag(raw, "edits", where),
        )


def read_routing(raw: family.RawConfig, where: str) -> Routing:
    """Raises ValueError as `LLaDA2Config.from_dict`."""
    keys = ("num_experts", "num_experts_per_tok", "n_group", "topk_group")
    experts, chosen, groups, num_open = (family.positive_int(raw, key, where) for key in keys)
    if experts % groups or experts // groups < 2:
        expected = f"a divisor of num_experts ({experts}) and groups of 2 or more"
        raise ValueError(f"{where}: n_group is {groups}; expected {expected}")
    if num_open > groups:
        raise ValueError(f"{where}: topk_group is {num_open}; expected at most n_group ({groups})")
    if chosen > (most := num_open * experts // groups):
        raise ValueError(
            f"{where}: num_experts_per_tok is {chosen}; expected at most the {most} of topk_group groups"
        )
    hidden = family.positive_int(raw, "moe_intermediate_size", where)
    shared = 0 if raw.get("num_shared_experts") is None else family.count(raw, "num_shared_experts", where)
    scale = family.positive_float(raw, "routed_scaling_factor", where)
    return Routing(experts, chosen, groups, num_open, scale, hidden, shared * hidden)


def _rotary_dim(raw: family.RawConfig, head_dim: int, where: str) -> int:
    """The first dimensions of a head, which are rotated."""
    factor = 1.0
    if raw.get("partial_rotary_factor") is not None:
        factor = family.positive_float(raw, "partial_rotary_factor", where)
    width = int(head_dim * factor)
    if factor > 1 or width < 2 or width % 2:
        expected = f"a part of head_dim ({head_dim}) that is even"
        raise ValueError(f"{where}: partial_rotary_factor is {factor}; expected {expected}")
    if raw.get("rotary_dim", width) not in (width, None):
        expected = f"{width}, head_dim x partial_rotary_factor"
        raise ValueError(f"{where}: rotary_dim is {raw['rotary_dim']!r}; expected {expected}")
    return width


FAMILY = family.Family(
    name="llada2",
    published="LLaDA2.0-mini, LLaDA2.1-mini and checkpoints of that shape",
    recognises=lambda raw: (
        raw.get("model_type") == "llada2_moe" or "LLaDA2MoeModelLM" in (raw.get("architectures") or ())
    ),
    read=LLaDA2Config.from_dict,
    settings=("mask_token_id", "block_length", "edits"),
    end_tokens=("<|role_end|>",),
    mask_token="<|mask|>",
)
