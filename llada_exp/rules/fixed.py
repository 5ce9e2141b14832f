"""`fixed`: a quota of tokens per step (LLaDA's own sampler, Nie et al., arXiv 2502.09992).

With S steps a block, step i of a block of m masks commits m // S positions, one more in the first
m % S steps. `steps_per_block` names S; `steps` counts over the whole canvas and is rounded up per block;
neither means one token a step. `tokens_per_step` names the quota itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llada_exp.rules.base import Candidates, RowState


def quota(row: RowState) -> int:
    """Positions to commit in this step, at least 1."""
    params = row.params
    if params.tokens_per_step is not None:
        return params.tokens_per_step
    if params.steps is None and params.steps_per_block is None:
        return 1
    per_block = params.steps_per_block or -(-(params.steps or 1) // row.num_blocks)
    whole, rest = divmod(row.block_masks, per_block)
    return max(1, whole + (row.block_step < rest))


def fixed(candidates: Candidates, rows: Sequence[RowState]) -> Tensor:
    """Commit the quota's most confident candidates. Returns bool [n, B]."""
    quotas = torch.tensor([quota(row) for row in rows], device=candidates.odds.device)
    return candidates.masked & (candidates.ranks() < quotas.unsqueeze(1))
