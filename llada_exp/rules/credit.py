"""`credit`: threshold on logits that remember what earlier steps wanted (CreditDecoding, dInfer).

A credit per block position and token, zero at the block's start. Each step it decays, the plain
argmax of every masked position earns p_max ** POWER, and candidates and confidences come from
logits + WEIGHT * log(1 + credit). Then as `threshold`.

A position earns for one token a pass, so its credits are kept as so many pairs of a token and a number: all
other tokens' are zero, and leave their logits as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llada_exp.rules.base import Observation, RowState, Rule
from llada_exp.rules.threshold import select

DECAY, POWER, WEIGHT = 0.8, 0.2, 0.7
State = tuple[Tensor, Tensor]
"""Of each position, a place for each pass: the token that it was the first to want there, int64 [B, B], -1
where there was none; and that token's credit, float32 [B, B]."""


def observe(logits: Tensor, columns: Tensor, state: State | None, row: RowState) -> Observation:
    """The logits become the fused ones."""
    if state is None:
        places = (row.block_length, row.block_length)
        state = columns.new_full(places, -1), logits.new_zeros(places)
    best, token = logits.max(dim=-1, keepdim=True)
    earned = torch.exp(best - logits.logsumexp(dim=-1, keepdim=True)) ** POWER
    decayed = state[1] * DECAY
    tokens = state[0][columns]
    credit = decayed[columns] + torch.where(tokens == token, earned, 0.0)
    is_new = ~(tokens == token).any(dim=1)
    tokens[:, row.block_step] = torch.where(is_new, token[:, 0], -1)
    credit[:, row.block_step] = torch.where(is_new, earned[:, 0], 0.0)
    fused = logits.scatter_add(1, tokens.clamp(min=0), WEIGHT * torch.log1p(credit))
    after = state[0].index_copy(0, columns, tokens), decayed.index_copy(0, columns, credit)
    return Observation(fused, state=after)


def state_bytes(block_length: int, vocab_size: int) -> int:
    return 12 * block_length**2


RULE = Rule(select, observe=observe, state_bytes=state_bytes)
