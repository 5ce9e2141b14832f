"""One weight of a linear layer, laid out once for the device that multiplies with it.

On a CPU that is oneDNN's own blocked layout: no repacking of the weight in every call, which at the
few rows of a block step is a third to a half of the product's time, and the neighbouring
elementwise operation runs inside the product. Elsewhere, and where oneDNN does not know the dtype,
it is a plain product. Knows no layer and no model.

Letters: M rows (callers pad them, see engine/batch.py), i inputs, o outputs.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Linear(Protocol):
    """Products of x [M, i] with a weight [o, i], in its dtype; each returns a new [M, o]."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def silu(self, x: Tensor) -> Tensor:
        """silu(x W')."""
        ...

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """x W' * other; other [M, o] may be overwritten."""
        ...

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """x W' + other; other [M, o]."""
        ...


def linear(weight: Tensor) -> Linear:
    """weight [o, i] -> its products. The weight itself is not needed afterwards."""
    return _OneDnn(weight) if _onednn_knows(weight) else _Plain(weight)


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

    def silu(self, x: Tensor) -> Tensor:
        return F.silu(F.linear(x, self._weight), inplace=True)

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        return other.mul_(F.linear(x, self._weight))

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        return F.linear(x, self._weight).add_(other)


class _OneDnn:
    """The operators that torch's own compiler puts into frozen CPU graphs."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._unary = torch.ops.mkldnn._linear_pointwise.default
        self._binary = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x: Tensor) -> Tensor:
        return self._unary(x, self._weight, None, "none", [], "")

    def silu(self, x: Tensor) -> Tensor:
        return self._unary(x, self._weight, None, "swish", [], "")

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        return self._binary(x, other, self._weight, None, "mul")

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        return self._binary(x, other, self._weight, None, "add")
