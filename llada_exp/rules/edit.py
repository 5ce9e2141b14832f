"""`edit`: commits and overwrites by the same logits (LLaDA2.1, arXiv 2602.08676).

Masks commit as by `dynamic`, or with `tokens_per_step` as the quota. In the same pass a
token of the current block that was neither mask nor prompt is overwritten where its candidate is another one
of a confidence above `editing_threshold`. Passes that begin without a mask are counted: the block ends when
such a pass overwrites nothing, or when `max_post_steps` of them are done.

As in the published code, without `early_eos` all blocks are decoded, and the answer is cut after its first
end.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llada_exp.rules.base import Candidates, Commits, RowState, Rule, column
from llada_exp.rules.dynamic import quota, sure_or_best


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    confidence, masked = candidates.confidence, candidates.masked
    least = column([row.params.editing_threshold for row in rows], confidence)
    edits = torch.zeros_like(masked)
    if candidates.decided is not None:
        edits = candidates.decided & (candidates.token_ids != candidates.current) & (confidence > least)
    quotas = [row.params.tokens_per_step or quota(row) for row in rows]
    write = sure_or_best(candidates, rows, quotas)
    begins_masked = masked.any(dim=1)
    full_steps = torch.tensor([row.full_steps for row in rows], device=masked.device) + ~begins_masked
    allowed = torch.tensor([row.params.max_post_steps for row in rows], device=masked.device)
    stay = (full_steps < allowed) & (begins_masked | edits.any(dim=1))
    return Commits(write | edits, stay=stay)


def max_passes(row: RowState) -> int:
    return row.block_masks + row.params.max_post_steps


RULE = Rule(select, revises=True, max_passes=max_passes, runs_on=True)
