"""Attention that all families share: one product for grouped key heads, and plain rows without a cache.

Knows shapes and what a position sees, no family and no batch. Letters are those of models/base.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from llada_exp.models.base import FULL, Attend, Visibility


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled-dot-product attention, where every H // K heads of q share one of k and v.

    q [N, H, T, D]; k, v [N, K, S, D]; mask: bool (True: seen) or additive in q's dtype, broadcast to
    [N, H, T, S]; None: all is seen. Returns [N, H, T, D].

    Torch's own grouping gives the bits of repeated heads on a CPU, and reads K/V once. Its masked CUDA
    kernels know no groups, and would fall back to a product that holds all weights: repeated there.
    """
    grouped = k.shape[1] != q.shape[1]
    if grouped and mask is not None and q.device.type != "cpu":
        k, v = (repeat_heads(x, q.shape[1]) for x in (k, v))
        grouped = False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)


def repeat_heads(x: Tensor, n_heads: int) -> Tensor:
    """[N, K, S, D] -> [N, H, S, D]: each key head, as often as heads of q share it."""
    group = n_heads // x.shape[1]
    return x.unsqueeze(2).expand(-1, -1, group, -1, -1).flatten(1, 2)


def row_attention(
    n_rows: int,
    length: int,
    visibility: Visibility = FULL,
    block_length: int | None = None,
    device: torch.device | str = "cpu",
    block_start: int | None = None,
    prompt_length: int | None = None,
) -> Attend:
    """Attention within each of `n_rows` rows of T = `length`, packed one after the other; a position sees
    what `visibility` lets it. See `Model.logits` for block_length; block_start: of the current
    block, None: it is the row's last; prompt_length: None: all before that block is prompt."""
    mask = row_mask(length, visibility, block_length, block_start, prompt_length)
    mask = None if mask is None else mask.to(device)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(0, (n_rows, length)).transpose(1, 2) for x in (q, k, v))
        return sdpa(q, k, v, mask).transpose(1, 2).flatten(0, 1)

    return attend


def row_mask(
    length: int,
    visibility: Visibility,
    block_length: int | None,
    block_start: int | None = None,
    prompt_length: int | None = None,
) -> Tensor | None:
    """bool [T, T], True where the row's position sees the key; None: everywhere. As `row_attention`."""
    if visibility.kind in ("causal_context", "block_context"):
        size = min(block_length or 0, length)
    else:
        size = visibility.blocks_of(block_length)
    block_start = length - size if block_start is None else block_start
    limits = visibility.limits(
        0, length, block_start, max(1, size), block_start if prompt_length is None else prompt_length
    )
    if limits is None:
        return None
    return torch.arange(length) < torch.from_numpy(limits)[:, None]
