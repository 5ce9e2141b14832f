"""What a kernel of attention over the K/V pool answers. Letters are those of engine/pooled.py; S positions of
the pool, H heads, K key/value heads, D head width."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.pooled import PooledRows

PoolAttention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q [M, H, D], keys and values of the pool [S, K, D], the step's own among them) -> [M, H, D]."""


@dataclass(frozen=True)
class FixedSizes:
    """What a step that is captured is padded to, so that few shapes serve all: num_tokens M, and num_rows,
    which rows that a kernel needs numbers for."""

    num_tokens: int
    num_rows: int


@dataclass(frozen=True)
class KernelInputs:
    """ints: int64 arrays that the device gets, by name. sizes: what a captured step cannot change; with the
    arrays' shapes it says which capture serves."""

    ints: Mapping[str, np.ndarray]
    sizes: Hashable = None


class Kernel(Protocol):
    """name: in `engine.attention` and /info. reads_pool: whether it multiplies with places of the pool that
    are not its rows' own, whose NaN would pass its mask."""

    name: str
    reads_pool: bool

    def fits(self, rows: PooledRows, fixed: FixedSizes | None) -> bool:
        """Whether the kernel can attend over these rows (in such sizes)."""
        ...

    def inputs(self, rows: PooledRows, fixed: FixedSizes | None, num_places: int) -> KernelInputs:
        """num_places: S."""
        ...

    def attention(self, tensors: Mapping[str, Tensor], sizes: Hashable, dtype: torch.dtype) -> PoolAttention:
        """Of all layers of a step; sizes: of `inputs`, whose arrays `tensors` hold."""
        ...
