"""`frechet`: as many tokens as a lower bound on their joint probability allows (Fast-dLLM++,
arXiv 2606.02955).

Commits the n most confident candidates, for the largest n with
sum_{j <= n} c(j) - (n - 1) - (1 - c(n)) >= delta; at least one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llada_exp.rules.base import Candidates, Commits, RowState, Rule, column


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    ordered = candidates.sorted_confidence().double()
    n = torch.arange(1, ordered.shape[1] + 1, device=ordered.device)
    bound = ordered.cumsum(dim=1) - (n - 1) - (1 - ordered)
    enough = bound >= column([row.params.delta for row in rows], bound)
    count = (enough * n).amax(dim=1, keepdim=True).clamp(min=1)
    return Commits(candidates.masked & (candidates.ranks() < count))


RULE = Rule(select)
