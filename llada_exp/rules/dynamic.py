"""`dynamic`: every candidate above a confidence, and a quota at least (LLaDA2.0, arXiv 2512.15745; SDAR,
arXiv 2510.06303).

Step t commits every candidate whose confidence is above `threshold` where there are at least q_t of them,
else the q_t most confident ones. The q_t are `block_length` spread over the block's steps, the remainder
first, whatever masks the block holds; without steps each is 1. The comparison is strict, as in the published
codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llada_exp.rules.base import Candidates, Commits, RowState, Rule, column


def quota(row: RowState) -> int:
    """q_t, at least 1; there may be fewer masks."""
    if (steps := row.steps_per_block) is None:
        return 1
    whole, rest = divmod(row.params.block_length or row.block_length, steps)
    return max(1, whole + (row.block_step < rest))


def sure_or_best(candidates: Candidates, rows: Sequence[RowState], quotas: Sequence[int]) -> Tensor:
    """bool [n, B]: the masks above `threshold` where they are a row's quota, else its quota of the best."""
    confidence, masked = candidates.confidence, candidates.masked
    sure = masked & (confidence > column([row.params.threshold for row in rows], confidence))
    least = torch.tensor(quotas, device=masked.device).unsqueeze(1)
    best = masked & (candidates.ranks() < least)
    return torch.where(sure.sum(dim=1, keepdim=True) >= least, sure, best)


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    return Commits(sure_or_best(candidates, rows, [quota(row) for row in rows]))


RULE = Rule(select)
