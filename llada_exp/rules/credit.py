"""`credit`: threshold on logits that remember what earlier steps wanted (CreditDecoding, dInfer).

A credit per block position and token, zero at the block's start. Each step it decays, the plain
argmax of every masked position earns p_max ** POWER, and candidates and confidences come from
logits + WEIGHT * log(1 + credit). Then as `threshold`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llada_exp.rules.threshold import threshold as credit_select

DECAY, POWER, WEIGHT = 0.8, 0.2, 0.7

__all__ = ["credit_select", "earn"]


def earn(logits: Tensor, columns: Tensor, state: Tensor | None, block_length: int) -> tuple[Tensor, Tensor]:
    """logits float32 [k, V] at block positions `columns` int64 [k]; state float32 [B, V] or None at
    the block's start -> (fused logits [k, V], new state). Nothing is changed in place."""
    if state is None:
        state = logits.new_zeros(block_length, logits.shape[1])
    state = state * DECAY
    best, token = logits.max(dim=-1)
    probability = torch.exp(best - logits.logsumexp(dim=-1))
    state[columns, token] += probability**POWER
    return logits + WEIGHT * torch.log1p(state[columns]), state
