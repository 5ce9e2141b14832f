"""Attention over the pool by torch's packed FlashAttention (`torch.nn.attention.varlen`, arXiv 2307.08691):
one call for rows of any widths and lengths, nothing padded, nothing gathered. CUDA, half precision.

A row is one piece; where its tokens see differently, one piece for each run of tokens that see alike.
Split-KV is off where torch knows the switch: its splits follow the longest row, and with it the bits of all
others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.kernels.base import FixedSizes, KernelInputs, PoolAttention
from llada_exp.engine.pooled import PooledRows, padded

DTYPES = (torch.bfloat16, torch.float16)


class VarLen:
    name, reads_pool = "varlen", False

    def fits(self, rows: PooledRows, fixed: FixedSizes | None) -> bool:
        """Rows whose pages are one run: the kernel's own pages are larger than the pool's."""
        is_run = all(slot.index is None for slot in rows.slots)
        return is_run and (fixed is None or len(_pieces(rows)) <= fixed.num_rows)

    def inputs(self, rows: PooledRows, fixed: FixedSizes | None, num_places: int) -> KernelInputs:
        """The last piece ends with the step, padding among it; empty pieces follow, of one key."""
        starts = _pieces(rows)
        row_of = np.searchsorted(rows.starts, starts, side="right") - 1
        num_tokens = rows.num_tokens if fixed is None else fixed.num_tokens
        num_pieces = len(starts) if fixed is None else fixed.num_rows
        first_keys = np.array([slot.start for slot in rows.slots])[row_of]
        empty = num_pieces - len(starts)
        ints = {
            "starts": np.concatenate([starts, np.full(empty + 1, num_tokens)]),
            "first_keys": padded(first_keys, num_pieces + 1),
            "used": np.concatenate([rows.limits[starts], np.ones(empty, dtype=np.int64)]),
        }
        # Bounds that a captured call keeps for all steps that it serves.
        most_tokens = int(np.diff(ints["starts"]).max()) if fixed is None else num_tokens
        most_keys = int(rows.keys.max()) if fixed is None else num_places
        return KernelInputs(ints, (most_tokens, most_keys))

    def attention(self, tensors: Mapping[str, Tensor], sizes: Hashable, dtype: torch.dtype) -> PoolAttention:
        assert isinstance(sizes, tuple)
        most_tokens, most_keys = sizes
        call, switches = _operator()
        starts, first_keys, used = (tensors[n].to(torch.int32) for n in ("starts", "first_keys", "used"))

        def attend(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            groups = {"enable_gqa": True} if keys.shape[1] != q.shape[1] else {}
            return call(
                q, keys, values, starts, first_keys, most_tokens, most_keys,
                seqused_k=used, **switches, **groups,
            )  # fmt: skip

        return attend


def is_available(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether this torch has it for this device, dtype and width of heads."""
    if device.type != "cuda" or dtype not in DTYPES or head_dim > 256 or head_dim % 8:
        return False
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    try:
        call, _ = _operator()
    except ImportError:
        return False
    return "seqused_k" in inspect.signature(call).parameters


@lru_cache(maxsize=1)
def _operator() -> tuple[Callable[..., Any], dict[str, int]]:
    """torch's call and the switch that this torch knows. Raises ImportError where it has none."""
    from torch.nn.attention.varlen import varlen_attn

    knows = inspect.signature(varlen_attn).parameters
    return varlen_attn, {"num_splits": 1} if "num_splits" in knows else {}


def _pieces(rows: PooledRows) -> np.ndarray:
    """int64: the packed tokens at which a row begins, or one sees otherwise than the one before."""
    begins = np.zeros(rows.num_tokens, dtype=bool)
    begins[rows.starts[:-1]] = True
    begins[1:] |= rows.limits[1:] != rows.limits[:-1]
    return np.flatnonzero(begins)
