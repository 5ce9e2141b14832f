"""`hierarchical`: threshold, and beyond it one token per gap (dInfer, arXiv 2510.08666).

Commits every candidate of at least `threshold`, and the most confident one of each contiguous run
of masked positions where it has at least `low_threshold`; at least one in all.
"""

from __future__ import annotations

from collections.abc import Sequence

from llada_exp.rules.base import Candidates, Commits, RowState, Rule, column


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    confidence, masked, ranks = candidates.confidence, candidates.masked, candidates.ranks()
    high = column([row.params.threshold for row in rows], confidence)
    low = column([row.params.low_threshold for row in rows], confidence)
    width = masked.shape[1]
    run = (~masked).long().cumsum(dim=1)  # masked positions between two decided ones share a number
    first = ranks.new_full((len(rows), width + 1), width)
    first = first.scatter_reduce(1, run, ranks.masked_fill(~masked, width), "amin")
    best_of_run = ranks == first.gather(1, run)
    return Commits(masked & ((confidence >= high) | (best_of_run & (confidence >= low)) | (ranks == 0)))


RULE = Rule(select)
