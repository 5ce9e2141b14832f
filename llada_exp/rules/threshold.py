"""`threshold`: every candidate at least this confident (Fast-dLLM, Wu et al., arXiv 2505.22618).

The comparison is >= (public implementations disagree); the most confident candidate always
commits, ties going to the lower position.
"""

from __future__ import annotations

from collections.abc import Sequence

from llada_exp.rules.base import Candidates, Commits, RowState, Rule, column


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    least = column([row.params.threshold for row in rows], candidates.confidence)
    return Commits(candidates.masked & ((candidates.confidence >= least) | (candidates.ranks() == 0)))


RULE = Rule(select)
