"""`fixed`: a quota of tokens per step (LLaDA's own sampler, Nie et al., arXiv 2502.09992).

With S steps a block, step i of a block of m positions commits m // S of them, one more in the first m % S
steps, also where the block holds the prompt's end (as SDAR's `low_confidence_static`). `steps_per_block`
names S; `steps` counts over the whole canvas and is rounded up per block; neither means one token a step.
`tokens_per_step` names the quota itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llada_exp.rules.base import Candidates, Commits, RowState, Rule


def quota(row: RowState) -> int:
    """Positions to commit in this step, at least 1."""
    params = row.params
    if params.tokens_per_step is not None:
        return params.tokens_per_step
    if (steps := row.steps_per_block) is None:
        return 1
    whole, rest = divmod(row.block_length, steps)
    return max(1, whole + (row.block_step < rest))


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    """Commit the quota's most confident candidates."""
    quotas = torch.tensor([quota(row) for row in rows], device=candidates.odds.device)
    return Commits(candidates.masked & (candidates.ranks() < quotas.unsqueeze(1)))


RULE = Rule(select)
