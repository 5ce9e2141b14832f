"""`credit`: threshold on logits that remember what earlier steps wanted (CreditDecoding, dInfer).

A credit per block position and token, zero at the block's start. Each step it decays, the plain
argmax of every masked position earns p_max ** POWER, and candidates and confidences come from
logits + WEIGHT * log(1 + credit). Then as `threshold`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llada_exp.rules.base import Observation, RowState, Rule
from llada_exp.rules.threshold import select

DECAY, POWER, WEIGHT = 0.8, 0.2, 0.7


def observe(logits: Tensor, columns: Tensor, state: Tensor | None, row: RowState) -> Observation:
    """state: float32 [B, V], the credit. The logits become the fused ones."""
    if state is None:
        state = logits.new_zeros(row.block_length, logits.shape[1])
    state = state * DECAY
    best, token = logits.max(dim=-1)
    probability = torch.exp(best - logits.logsumexp(dim=-1))
    state[columns, token] += probability**POWER
    return Observation(logits + WEIGHT * torch.log1p(state[columns]), state=state)


def state_bytes(block_length: int, vocab_size: int) -> int:
    return 4 * block_length * vocab_size


RULE = Rule(select, observe=observe, state_bytes=state_bytes)
