"""Parts that families are made of: norm, rotary tables, and fused projections as inference runs them.

A family's module for checkpoints and its layers for inference use them; none knows a family. Letters are
those of models/base.py; R: rows of the M that logits are computed of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llada_exp.models.linear import Gated, Linear, gated, linear
from llada_exp.models.yarn import Yarn


class RMSNorm(nn.Module):
    """Computed in float32, cast back, then scaled: the published order, which bf16 bits depend on."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype is torch.float32:  # no cast, so no order: one operation
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return self.weight * F.rms_norm(x, self.weight.shape, None, self.eps)


class WideRMSNorm(RMSNorm):
    """As `RMSNorm`, but scaled before the cast: other bits in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class HeadNorms:
    """The norms of queries and of keys, each over D, as one for q and k together: no copy to join them."""

    def __init__(self, norms: Sequence[RMSNorm], num_heads: Sequence[int]) -> None:
        """norms: of queries and keys, of one kind; num_heads: H and K."""
        weights = [n.weight.detach().expand(count, -1) for n, count in zip(norms, num_heads, strict=True)]
        self._weight, self._eps = torch.cat(weights), norms[0].eps
        self._is_wide = isinstance(norms[0], WideRMSNorm)

    def __call__(self, x: Tensor) -> Tensor:
        """x [M, H + K, D]; the bits of each norm alone."""
        wide = x.float() if self._is_wide else x
        return (F.rms_norm(wide, self._weight.shape[1:], None, self._eps) * self._weight).to(x.dtype)


def rope_tables(
    width: int, theta: float, length: int, device: torch.device, yarn: Yarn | None = None
) -> tuple[Tensor, Tensor]:
    """cos, sin float32 [length, width // 2]. A table is no parameter, so a meta-device build has none,
    and a lookup (unlike a cos over a ragged length) gives the same bits for a position whatever is
    computed beside it."""
    if yarn is None:
        steps = torch.arange(0, width, 2, device=device, dtype=torch.float32)
        frequencies = 1.0 / (theta ** (steps / width))
    else:
        frequencies = yarn.frequencies(width, theta, device)
    places = torch.arange(length, device=device, dtype=torch.float32)
    angles = places[:, None] * frequencies[None, :]
    cos, sin = angles.cos(), angles.sin()
    return (cos, sin) if yarn is None else (cos * yarn.magnitude, sin * yarn.magnitude)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotary embedding in float32. x [M, H, D]; cos, sin float32 [M, 1, D // 2]."""
    low, high = x.float().chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1).to(x.dtype)


class Rotary:
    """Half-split rotary embedding for inference: `rotate` with fewer kernels.

    cos, sin: of `rope_tables`; dtype: that they are cast to and that is computed in.
    """

    def __init__(self, cos: Tensor, sin: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self._cos = torch.cat((cos, cos), dim=-1)[:, None].to(dtype)
        self._sin = torch.cat((-sin, sin), dim=-1)[:, None].to(dtype)

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions int64 [M] -> the tables' rows [M, 1, D], for `turn`."""
        return self._cos.index_select(0, positions), self._sin.index_select(0, positions)

    @staticmethod
    def turn(x: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
        """x [M, heads, D] (q and k together) at its positions: the same sums as `rotate`. Of tables that are
        narrower than D, the first dimensions; the others pass."""
        cos, sin = at
        if cos.shape[-1] < x.shape[-1]:
            turned, passed = x.split((cos.shape[-1], x.shape[-1] - cos.shape[-1]), dim=-1)
            return torch.cat((Rotary.turn(turned, at), passed), dim=-1)
        wide = x.to(cos.dtype)
        half = x.shape[-1] // 2
        swapped = torch.cat((wide[..., half:], wide[..., :half]), dim=-1)
        return (wide * cos).add_(swapped.mul_(sin)).to(x.dtype)


class FusedQKV:
    """Query, key and value projections as one product; with biases, where all three have one."""

    def __init__(self, parts: Sequence[nn.Linear], n_heads: int, n_kv_heads: int, release: bool) -> None:
        self._product = linear(torch.cat([part.weight for part in parts]))
        biases = [part.bias.detach() for part in parts if part.bias is not None]
        assert len(biases) in (0, len(parts))
        self._bias = torch.cat(biases) if biases else None
        if release:
            let_go(*parts)
        self._heads = n_heads, n_kv_heads

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [M, d] -> q and k [M, H + K, D], v [M, K, D]."""
        n_heads, n_kv_heads = self._heads
        product = self._product(x)
        if self._bias is not None:
            product.add_(self._bias)
        heads = product.view(len(x), n_heads + 2 * n_kv_heads, -1)
        return heads[:, : n_heads + n_kv_heads], heads[:, n_heads + n_kv_heads :]


class GatedMLP:
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, gate: nn.Linear, up: nn.Linear, down: nn.Linear, release: bool) -> None:
        assert gate.bias is None
        assert up.bias is None
        self._gated: Gated = gated(gate.weight.detach(), up.weight.detach())
        if release:
            let_go(gate, up)
        self._down: Linear = linear_of(down, release)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """x, residual [M, d] -> the layer's output added to `residual`."""
        return self._down.plus(self._gated(x), residual)


def tied_head(embedding: Tensor) -> Callable[[Tensor], Tensor]:
    """Products with the embedding [V, d] itself: laid out anew, it would be held twice."""
    return lambda hidden: F.linear(hidden, embedding)


def linear_of(part: nn.Linear, release: bool) -> Linear:
    """The weight of a module without bias, laid out for products; release: and taken away from it."""
    assert part.bias is None
    packed = linear(part.weight.detach())
    if release:
        let_go(part)
    return packed


def let_go(*parts: nn.Linear) -> None:
    """Take the weights away from their modules."""
    for part in parts:
        part.weight = None  # type: ignore[assignment]
