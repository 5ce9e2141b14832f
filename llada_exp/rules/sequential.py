"""`sequential`: a quota of tokens per step, from left to right (SDAR, arXiv 2510.06303).

Step t commits the q_t masked positions that stand first, whatever their confidence; q_t as of `dynamic`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llada_exp.rules.base import Candidates, Commits, RowState, Rule
from llada_exp.rules.dynamic import quota


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    masked = candidates.masked
    quotas = torch.tensor([[quota(row)] for row in rows], device=masked.device)
    return Commits(masked & (masked.long().cumsum(dim=1) <= quotas))


RULE = Rule(select)
