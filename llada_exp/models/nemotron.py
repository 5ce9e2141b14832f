"""Nemotron-Labs-Diffusion (nvidia/Nemotron-Labs-Diffusion-3B, -8B): the body of Ministral 3, a causal context
and a block that sees itself both ways.

A finished block takes a causal pass of its own, whose last row's most likely token begins the next block; so
does the prompt. With `causal_context` false all sees both ways and nothing seeds a block. Rotary positions
are stretched by YaRN (Peng et al., arXiv 2309.00071), and q grows with the logarithm of its position.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llada_exp.models import family
from llada_exp.models.base import SpecialIds, Visibility
from llada_exp.models.body import Body, PackedLayer, Trunk, read_sizes
from llada_exp.models.packed import PackedModel
from llada_exp.models.parts import Rotary, linear_of, rope_frequencies, rope_tables

# Keys of the published config whose other values its code would compute otherwise.
_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "sliding_window": (None,),
    "dlm_paradigm": (None, "bidirectional"),
}
_ROPE = {"rope_type": ("yarn",), "type": ("yarn",), "truncate": (True,), "partial_rotary_factor": (1,)}


@dataclass(frozen=True)
class Yarn:
    """`rope_parameters` of config.json. original: positions that the unstretched rotation was trained for.
    attention: factor of cos and sin. beta: of q's growth, 0 for none."""

    factor: float
    original: int
    beta_fast: float
    beta_slow: float
    attention: float
    beta: float

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> Yarn:
        """Raises ValueError naming where, key, value and what is expected."""
        family.refuse_others(raw, _ROPE, where)
        factor = family.positive_float(raw, "factor", where)
        attention = raw.get("attention_factor")
        scales = ("mscale", "mscale_all_dim")
        if attention is None and all(raw.get(key) for key in scales):
            upper, lower = (_growth(factor, family.positive_float(raw, key, where)) for key in scales)
            attention = upper / lower
        elif attention is None:
            attention = _growth(factor, 1.0)
        beta = raw.get("llama_4_scaling_beta")
        return cls(
            factor=factor,
            original=family.positive_int(raw, "original_max_position_embeddings", where),
            beta_fast=family.positive_float({"beta_fast": 32.0, **raw}, "beta_fast", where),
            beta_slow=family.positive_float({"beta_slow": 1.0, **raw}, "beta_slow", where),
            attention=float(attention),
            beta=0.0 if not beta else family.positive_float(raw, "llama_4_scaling_beta", where),
        )

    def frequencies(self, width: int, theta: float, device: torch.device) -> Tensor:
        """float32 [width // 2]: fast rotations as they are, slow ones stretched, a ramp between them."""

        def place(rotations: float) -> float:
            return width * math.log(self.original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

        low = max(math.floor(place(self.beta_fast)), 0)
        high = min(math.ceil(place(self.beta_slow)), width - 1)
        places = torch.arange(width // 2, device=device, dtype=torch.float32)
        share = 1 - ((places - low) / ((high - low) or 0.001)).clamp(0, 1)
        plain = rope_frequencies(width, theta, device)
        return plain / self.factor * (1 - share) + plain * share


def _growth(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


@dataclass(frozen=True)
class NemotronConfig(Body):
    """Shapes of a Nemotron-Labs-Diffusion checkpoint (`models.family.Architecture`)."""

    yarn: Yarn | None = None
    block_length: int | None = None
    causal_context: bool = True

    @property
    def visibility(self) -> Visibility:
        if self.causal_context:
            return Visibility("causal_context", self.block_length, context="seeds")
        return Visibility("block_context", self.block_length, context="alone")

    def positions(self, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Any]:
        """Rows of the rotary tables, and q's factor [M, 1, 1]."""
        yarn = self.yarn
        assert yarn is not None
        frequencies = yarn.frequencies(self.head_dim, self.rope_theta, device)
        tables = rope_tables(self.head_dim, self.rope_theta, self.max_length, device, frequencies)
        rotary = Rotary(tables[0] * yarn.attention, tables[1] * yarn.attention, dtype)
        places = torch.arange(self.max_length, device=device)
        growth = (1 + yarn.beta * torch.log(1 + torch.floor(places / yarn.original))).to(dtype)[:, None, None]
        return lambda positions: (rotary(positions), growth.index_select(0, positions))

    def turn(self, qk: Tensor, at: Any) -> Tensor:
        rotation, growth = at
        qk = Rotary.turn(qk, rotation)
        qk[:, : self.n_heads] *= growth
        return qk

    def network(self) -> NemotronNetwork:  # type: ignore[override]
        return NemotronNetwork(self)

    @torch.no_grad()
    def ready(self, network: Any, special: SpecialIds, release: bool = False) -> PackedModel:
        """`models.family.Architecture.ready`."""
        trunk = network.encoder
        return self.packed(
            special,
            trunk.embed_tokens.weight.detach(),
            [PackedLayer(self, layer.parts(release)) for layer in trunk.layers],
            trunk.norm,
            None if self.tied else linear_of(network.diffusion_head, release),
        )

    @classmethod
    def from_dict(cls, raw: family.RawConfig, where: str) -> NemotronConfig:
        """Read a config.json. Raises ValueError naming `where`, the key, what stands there and what this
        class implements."""
        family.refuse_others(raw, _IMPLEMENTED, where)
        rope = raw.get("rope_parameters")
        if not isinstance(rope, dict):
            raise ValueError(f"{where}: rope_parameters is {rope!r}; expected an object of rope_type 'yarn'")
        theta = rope.get("rope_theta", raw.get("rope_theta"))
        causal = raw.get("causal_context")
        if causal not in (None, True, False):
            raise ValueError(f"{where}: causal_context is {causal!r}; expected true or false")
        return cls(
            **read_sizes({**raw, "rope_parameters": None, "rope_theta": theta}, where),
            yarn=Yarn.from_dict(rope, f"{where}, rope_parameters"),
            block_length=family.block_length(raw, "block_size", where),
            causal_context=causal is not False,
        )


class NemotronNetwork(nn.Module):
    """The weights as checkpoints hold them. It does not compute: see `NemotronConfig.ready`."""

    def __init__(self, body: NemotronConfig) -> None:
        super().__init__()
        self.encoder = Trunk(body)
        self.diffusion_head = nn.Linear(body.d_model, body.vocab_size, bias=False)
        if body.tied:
            self.diffusion_head.weight = self.encoder.embed_tokens.weight


FAMILY = family.Family(
    name="nemotron",
    published="Nemotron-Labs-Diffusion-3B, Nemotron-Labs-Diffusion-8B and checkpoints of that shape",
    recognises=lambda raw: (
        raw.get("model_type") == "nemotron_labs_diffusion"
        or "NemotronLabsDiffusionModel" in (raw.get("architectures") or ())
    ),
    read=NemotronConfig.from_dict,
    settings=("mask_token_id", "block_length", "causal_context"),
    mask_token="<|mask|>",
)
