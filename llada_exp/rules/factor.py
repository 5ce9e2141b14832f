"""`factor`: more tokens the more confident they are together (Fast-dLLM, arXiv 2505.22618).

Down the candidates by confidence, n = 1, 2, ...: the first always commits; the n-th commits while
c(n) >= 1 - f / (n + 1); the walk stops at the first failure.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llada_exp.rules.base import Candidates, Commits, RowState, Rule, column


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    ranks = candidates.ranks()
    ordered = candidates.sorted_confidence()
    n = torch.arange(1, ordered.shape[1] + 1, device=ordered.device)
    passes = ordered >= 1 - column([row.params.factor for row in rows], ordered) / (n + 1)
    passes[:, 0] = True
    count = passes.long().cumprod(dim=1).sum(dim=1, keepdim=True)
    return Commits(candidates.masked & (ranks < count))


RULE = Rule(select)
