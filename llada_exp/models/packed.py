"""LLaDA's forward as the engine runs it: the same network as `models/llada.py`, its weights fused and
laid out for their device, its last layer computed only where logits are wanted.

That class is what checkpoints load into and what trains; this one only infers. Numbers agree to
float32 rounding (tests/models). Letters are those of models/base.py; R: rows wanted of the M.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from llada_exp.models.base import Attend, ModelShape, SpecialIds, Visibility
from llada_exp.models.linear import Linear, linear
from llada_exp.models.llada import Block, LLaDA, LLaDAConfig, check_ids, rope_tables, uniform_attention


class _Layer:
    """One block's weights; q, k and v are one product."""

    def __init__(self, block: Block, release: bool) -> None:
        self.attn_norm, self.ff_norm = block.attn_norm, block.ff_norm
        self.n_heads = block.n_heads
        self.qkv = linear(torch.cat([block.q_proj.weight, block.k_proj.weight, block.v_proj.weight]))
        if release:
            _release(block.q_proj, block.k_proj, block.v_proj)
        parts = (block.attn_out, block.ff_proj, block.up_proj, block.ff_out)
        self.attn_out, self.gate, self.up, self.down = (_taken(part, release) for part in parts)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, layer: int, attend: Attend, wanted: Tensor | None
    ) -> Tensor:
        """x [M, d] -> [M, d], or [R, d] where only `wanted` int64 [R] go on."""
        qkv = self.qkv(self.attn_norm(x)).view(len(x), 3, self.n_heads, -1)
        qk = rotate_halves(qkv[:, :2], cos, sin)
        mixed = attend(layer, qk[:, 0], qk[:, 1], qkv[:, 2]).reshape(x.shape)
        if wanted is not None:
            x, mixed = x.index_select(0, wanted), mixed.index_select(0, wanted)
        x = self.attn_out.plus(mixed, x)
        normed = self.ff_norm(x)
        return self.down.plus(self.up.times(normed, self.gate.silu(normed)), x)


class PackedLLaDA:
    """A LLaDA for inference (`models/base.py` is the contract).

    release: take the weights away from `model`, part by part, so that memory holds them once; it
    cannot be used afterwards.
    """

    visibility = Visibility("full")
    shift: Literal[0, 1] = 0

    def __init__(self, model: LLaDA, special: SpecialIds | None = None, release: bool = False) -> None:
        self.config: LLaDAConfig = model.config
        self.shape: ModelShape = model.shape
        self.special: SpecialIds = special or model.special
        self.device, self.dtype = model.device, model.dtype
        with torch.no_grad():
            transformer: dict[str, Any] = dict(model.transformer.items())
            self._embedding: Tensor = transformer["wte"].weight.detach()
            self._layers = [_Layer(block, release) for block in transformer["blocks"]]
            self._final_norm = transformer["ln_f"]
            self._head = _taken(transformer["ff_out"], release)
            cos, sin = rope_tables(self.config, self.device)
        self._cos = torch.cat((cos, cos), dim=-1)[:, None, None]
        self._sin = torch.cat((-sin, sin), dim=-1)[:, None, None]

    def hidden(self, ids: Tensor, positions: Tensor, attend: Attend, wanted: Tensor | None = None) -> Tensor:
        """ids, positions int64 [M] -> hidden states [M, d], final norm applied; or [R, d] at packed
        rows `wanted` int64 [R] alone."""
        cos, sin = self._cos.index_select(0, positions), self._sin.index_select(0, positions)
        x = self._embedding.index_select(0, ids)
        last = len(self._layers) - 1
        for number, layer in enumerate(self._layers):
            x = layer.forward(x, cos, sin, number, attend, wanted if number == last else None)
        return self._final_norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        """hidden [n, d] -> logits float32 [n, V]."""
        return self._head(hidden).float()

    def logits(self, ids: Tensor, block_length: int | None = None) -> Tensor:
        """ids int64 [N, T] -> logits float32 [N, T, V]: every position sees its whole row.

        Raises ValueError where T exceeds the model's maximum length or an id its vocabulary.
        """
        n_rows, length = check_ids(ids, self.config)
        positions = torch.arange(length, device=self.device).repeat(n_rows)
        with torch.inference_mode():
            hidden = self.hidden(ids.to(self.device).reshape(-1), positions, uniform_attention(n_rows))
            return self.head(hidden).view(n_rows, length, -1)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotary embedding in float32. x [M, 2, H, D] (q and k); cos, sin float32
    [M, 1, 1, D], the tables twice over, sin's first half negated: the same sums as
    `models.llada.rotate`."""
    wide = x.float()
    half = x.shape[-1] // 2
    swapped = torch.cat((wide[..., half:], wide[..., :half]), dim=-1)
    return (wide * cos).add_(swapped.mul_(sin)).to(x.dtype)


def _taken(module: nn.Linear, release: bool) -> Linear:
    """The module's weight, laid out; and taken from it."""
    packed = linear(module.weight.detach())
    if release:
        _release(module)
    return packed


def _release(*modules: nn.Linear) -> None:
    for module in modules:
        module.weight = None  # type: ignore[assignment]
