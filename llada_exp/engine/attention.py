"""Packed rows attend over their own keys and nothing else: there is no mask to get wrong.

One scaled-dot-product call per row. Letters: M packed tokens, H heads, D head width, T row length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from llada_exp.engine.batch import Segment
from llada_exp.models.base import Attend


def packed_attention(segments: Sequence[Segment]) -> Attend:
    """Full attention within each segment; packed tokens of no segment (padding) come out zero."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.zeros_like(q)
        for segment in segments:
            rows = slice(segment.start, segment.stop)
            one = F.scaled_dot_product_attention(_heads(q[rows]), _heads(k[rows]), _heads(v[rows]))
            out[rows] = one.squeeze(0).transpose(0, 1)
        return out

    return attend


def _heads(x: Tensor) -> Tensor:
    """[T, H, D] -> [1, H, T, D], a view."""
    return x.transpose(0, 1).unsqueeze(0)
