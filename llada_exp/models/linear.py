"""One weight of a linear layer, laid out once for the device that multiplies with it.

On a CPU that is oneDNN's own blocked layout: no repacking of the weight in every call, which at the
few rows of a block step is a third to a half of the product's time, and the neighbouring
elementwise operation runs inside the product. Elsewhere, and where oneDNN does not know the dtype,
it is a plain product. Knows no layer and no model.

Letters: M rows (callers pad them, see engine/batch.py), i inputs, o outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Linear(Protocol):
    """Products of x [M, i] with a weight [o, i], in its dtype; each returns a new [M, o]."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """x W' + other; other [M, o]."""
        ...


Gated = Callable[[Tensor], Tensor]
"""x [M, i] -> silu(x G') * (x U'), [M, o], of two weights G, U [o, i]."""


def linear(weight: Tensor) -> Linear:
    """weight [o, i] -> its products. The weight itself is not needed afterwards."""
    return _OneDnn(weight) if _onednn_knows(weight) else _Plain(weight)


def gated(gate: Tensor, up: Tensor) -> Gated:
    """gate, up [o, i] -> their product. The weights themselves are not needed afterwards."""
    return _gated_onednn(gate, up) if _onednn_knows(gate) else _gated_plain(gate, up)


def _gated_onednn(gate: Tensor, up: Tensor) -> Gated:
    """Each elementwise operation runs inside a product."""
    gate, up = (torch.ops.mkldnn._reorder_linear_weight(weight) for weight in (gate, up))
    unary = torch.ops.mkldnn._linear_pointwise.default
    binary = torch.ops.mkldnn._linear_pointwise.binary
    return lambda x: binary(x, unary(x, gate, None, "swish", [], ""), up, None, "mul")


def _gated_plain(gate: Tensor, up: Tensor) -> Gated:
    """One product: a device launches one kernel less, and reads x once."""
    weight = torch.cat((gate, up))

    def product(x: Tensor) -> Tensor:
        gate, up = F.linear(x, weight).chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    return product


def _onednn_knows(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32


class _Plain:
    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight)

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        return torch.addmm(other, x, self._weight.t())  # added inside the product


class _OneDnn:
    """The operators that torch's own compiler puts into frozen CPU graphs."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._unary = torch.ops.mkldnn._linear_pointwise.default
        self._binary = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x: Tensor) -> Tensor:
        return self._unary(x, self._weight, None, "none", [], "")

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        return self._binary(x, other, self._weight, None, "add")
