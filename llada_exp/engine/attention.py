"""Packed rows attend over their own keys and nothing else: there is no mask to get wrong.

One scaled-dot-product call per row, over exactly its keys: with token rows padded to multiples of
16 (engine/batch.py) a row's logits are bit-equal to running alone.

Letters: M packed tokens, H heads, D head width, T keys of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from llada_exp.engine.batch import Segment
from llada_exp.models.base import Attend


def packed_attention(segments: Sequence[Segment], kept: tuple[Tensor, Tensor] | None = None) -> Attend:
    """Attention of each segment over its own row. Packed tokens of no segment (padding) come out
    zero.

    kept: K and V of the slots, each [L, S, T, H, D]; written and read by segments with a slot.
    """

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.zeros_like(q)
        for segment in segments:
            rows = slice(segment.start, segment.stop)
            keys, values = k[rows], v[rows]
            if segment.slot is not None:
                assert kept is not None
                keys, values = _through_slot(segment, kept[0][layer], kept[1][layer], keys, values)
            one = F.scaled_dot_product_attention(_heads(q[rows]), _heads(keys), _heads(values))
            out[rows] = one.squeeze(0).transpose(0, 1)
        return out

    return attend


def _through_slot(
    segment: Segment, kept_k: Tensor, kept_v: Tensor, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Keep the segment's fresh K/V; return all the K/V that it sees, [keys, H, D]."""
    own = slice(segment.first, segment.first + len(k))
    kept_k[segment.slot, own] = k
    kept_v[segment.slot, own] = v
    if segment.whole:
        return k, v
    return kept_k[segment.slot, : segment.keys], kept_v[segment.slot, : segment.keys]


def _heads(x: Tensor) -> Tensor:
    """[T, H, D] -> [1, H, T, D], a view."""
    return x.transpose(0, 1).unsqueeze(0)
