"""`linear`: a share of the masks per step, after Dream's times (Ye et al., arXiv 2508.15487).

With S steps a block, t runs evenly from 1 to 0.001 over S + 1 points; step k commits int(m (1 - t_{k+1} /
t_k)) of the m masks that are left, the most confident ones, and the last step all of them. That is often
none. As in the published code all of it is float32. `steps_per_block` names S; `steps` counts over the
whole canvas and is rounded up per block; neither means as many steps as there are masks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from llada_exp.rules.base import Candidates, Commits, RowState, Rule, column

_LAST_TIME = 1e-3


def num_steps(row: RowState) -> int:
    """S, of a block."""
    return row.steps_per_block or row.block_masks


def share(row: RowState) -> float:
    """Of the masks that are left, what this step commits; the rest goes with the last."""
    shares = _shares(num_steps(row))
    return shares[row.block_step] if row.block_step < len(shares) else 1.0


@functools.lru_cache(maxsize=64)  # requests choose S, up to 16384
def _shares(steps: int) -> Sequence[float]:
    """Of every step."""
    times = torch.linspace(1, _LAST_TIME, steps + 1, device="cpu")
    return tuple((1 - times[1:] / times[:-1]).tolist())


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    """Commit the share's most confident candidates."""
    masks = candidates.masked.sum(dim=1, keepdim=True).to(candidates.odds.dtype)
    quotas = (masks * column([share(row) for row in rows], masks)).long()
    return Commits(candidates.masked & (candidates.ranks() < quotas))


RULE = Rule(select, max_passes=num_steps)
