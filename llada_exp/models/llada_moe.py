"""LLaDA-MoE (Zhu et al., arXiv 2509.24389; inclusionAI/LLaDA-MoE-7B-A1B-Base, -Instruct): a LLaDA whose MLPs
are experts.

Its config.json says model_type "llada", as LLaDA-8B's does; the architecture tells them apart. The router's
probabilities are over all experts, in float32; those of the chosen ones are their shares as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from llada_exp.models import family
from llada_exp.models.base import ModelShape
from llada_exp.models.body import Body, DenseMLP
from llada_exp.models.experts import Experts
from llada_exp.models.linear import Linear
from llada_exp.models.parts import linear_of
from llada_exp.models.sizes import read_sizes

# Keys of the published config whose other values its code would compute otherwise.
_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (None, False),
    "clip_qkv": (None,),
    "moe_router_enable_expert_bias": (None, False),
    "partial_rotary_factor": (1, None),
    "shared_expert_intermediate_size": (None,),
}


class ExpertMLP(nn.Module):
    """The router, and its experts."""

    def __init__(self, d_model: int, hidden: int, num_experts: int, num_chosen: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, num_experts, bias=False)
        self.experts: Any = nn.ModuleList(DenseMLP(d_model, hidden) for _ in range(num_experts))
        self.num_chosen = num_chosen

    def packed(self, release: bool) -> _PackedExpertMLP:
        parts = [(e.gate_proj, e.up_proj, e.down_proj) for e in self.experts]
        return _PackedExpertMLP(linear_of(self.gate, release), Experts(parts, release), self.num_chosen)


class _PackedExpertMLP:
    def __init__(self, router: Linear, experts: Experts, num_chosen: int) -> None:
        self._router, self._experts, self._num_chosen = router, experts, num_chosen

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """`models.body.PackedMLP`."""
        shares, chosen = self._router(x).float().softmax(-1).topk(self._num_chosen, dim=-1)
        return residual + self._experts(x, chosen, shares.to(x.dtype))


@dataclass(frozen=True)
class LLaDAMoEConfig(Body):
    """Shapes of a LLaDA-MoE checkpoint (`models.family.Architecture`).

    dense_hidden: width of the MLP of the layers that are no experts; is_expert: of each layer, whether it is.
    """

    num_experts: int = 0
    num_chosen: int = 0
    expert_hidden: int = 0
    dense_hidden: int = 0
    is_expert: tuple[bool, ...] = ()

    @property
    def shape(self) -> ModelShape:
        idle = self.num_experts - self.num_chosen
        passed = self.num_chosen * self.expert_hidden
        return replace(
            super().shape,
            num_idle_parameters=sum(self.is_expert) * idle * 3 * self.d_model * self.expert_hidden,
            mlp_widths=tuple(passed if flag else self.dense_hidden for flag in self.is_expert),
            experts_per_token=self.num_chosen if any(self.is_expert) else 0,
        )

    def mlp(self, layer: int) -> nn.Module:
        if self.is_expert[layer]:
            return ExpertMLP(self.d_model, self.expert_hidden, self.num_experts, self.num_chosen)
        return DenseMLP(self.d_model, self.dense_hidden)

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> LLaDAMoEConfig:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and what this
        class implements."""
        family.refuse_others(raw, _IMPLEMENTED, where)
        sizes = read_sizes(raw, where, "expert_intermediate_size")
        num_experts = family.positive_int(raw, "num_experts", where)
        num_chosen = family.positive_int(raw, "num_experts_per_tok", where)
        if num_chosen > num_experts:
            message = f"num_experts_per_tok is {num_chosen}; expected at most num_experts ({num_experts})"
            raise ValueError(f"{where}: {message}")
        is_expert = _frequencies(raw, sizes["n_layers"], where)
        expert_hidden = sizes["mlp_hidden"]
        dense = 0 if all(is_expert) else family.positive_int(raw, "dense_intermediate_size", where)
        passed = num_chosen * expert_hidden if any(is_expert) else 0
        return cls(
            **{**sizes, "mlp_hidden": max(passed, dense)},
            qk_norm=_qk_norm(raw, where),
            num_experts=num_experts,
            num_chosen=num_chosen,
            expert_hidden=expert_hidden,
            dense_hidden=dense,
            is_expert=is_expert,
        )


def _frequencies(raw: family.RawConfig, n_layers: int, where: str) -> tuple[bool, ...]:
    """One flag a layer; all are experts where config.json does not say."""
    value = raw.get("moe_layer_freq")
    flags = [1] * n_layers if value is None else value
    if not isinstance(flags, list) or len(flags) != n_layers or any(flag not in (0, 1) for flag in flags):
        raise ValueError(f"{where}: moe_layer_freq is {value!r}; expected {n_layers} of 0 and 1")
    return tuple(bool(flag) for flag in flags)


def _qk_norm(raw: family.RawConfig, where: str) -> bool:
    value = raw.get("qk_layernorm")
    if not isinstance(value, bool):
        raise ValueError(f"{where}: qk_layernorm is {value!r}; expected true or false")
    return value


FAMILY = family.Family(
    name="llada_moe",
    published="LLaDA-MoE-7B-A1B-Base, LLaDA-MoE-7B-A1B-Instruct and checkpoints of that shape",
    # Of LLaDA-8B's model_type.
    recognises=lambda raw: (
        "LLaDAMoEModelLM" in (raw.get("architectures") or ())
        or (raw.get("model_type") == "llada" and bool(raw.get("num_experts")))
    ),
    read=LLaDAMoEConfig.from_dict,
    settings=("mask_token_id",),
    end_tokens=("<|role_end|>",),
    mask_token="<|mask|>",
)
