"""`threshold`: every candidate at least this confident (Fast-dLLM, Wu et al., arXiv 2505.22618).

The comparison is >= (public implementations disagree); the most confident candidate always
commits, ties going to the lower position.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from llada_exp.rules.base import Candidates, RowState, column


def threshold(candidates: Candidates, rows: Sequence[RowState]) -> Tensor:
    """Returns bool [n, B]."""
    least = column([row.params.threshold for row in rows], candidates.confidence)
    return candidates.masked & ((candidates.confidence >= least) | (candidates.ranks() == 0))
