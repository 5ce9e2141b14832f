"""`klass`: what is sure and has settled (KLASS, arXiv 2511.05664).

Commits every candidate of a confidence above `threshold` whose distribution moved by less than `kl_threshold`
in each of the block's last `history` passes: D(p_t || p_{t-1}) in nats, of the clean, full softmax. Where
there is none, the most confident candidate commits. So the first `history` passes of a block commit one token
each.

Both comparisons are strict, as in the authors' code, which differs from this in three ways: without a settled
candidate it commits its schedule's quota, which is one where it has a step for each token; it sees positions
of later blocks, too, so that theirs may have settled before their block begins; and at temperature > 0 it
takes the distributions after the noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llada_exp.rules.base import Candidates, Commits, Observation, RowState, Rule, column

State = tuple[Tensor, Tensor]
"""float32 [B, V], log-probabilities of the last pass, NaN where it gave none; float32 [B], passes in a row
that moved each position by less than `kl_threshold`."""


def observe(logits: Tensor, columns: Tensor, state: State | None, row: RowState) -> Observation:
    """The evidence is the number of such passes."""
    if state is None:
        before = logits.new_full((row.block_length, logits.shape[1]), torch.nan)
        state = before, logits.new_zeros(row.block_length)
    before, settled = state[0][columns], state[1][columns]
    now = logits.log_softmax(dim=-1)
    p = now.exp()
    moved = torch.where(p > 0, p * (now - before), 0.0).sum(dim=-1).clamp(min=0)  # below 0 by rounding alone
    settled = torch.where(moved < row.params.kl_threshold, settled + 1, 0.0)  # NaN is not below
    return Observation(
        logits,
        evidence=settled,
        state=(state[0].index_copy(0, columns, now), state[1].index_copy(0, columns, settled)),
    )


def select(candidates: Candidates, rows: Sequence[RowState]) -> Commits:
    confidence, settled = candidates.confidence, candidates.evidence
    assert settled is not None
    is_sure = confidence > column([row.params.threshold for row in rows], confidence)
    has_settled = settled >= column([row.params.history for row in rows], settled)
    ready = candidates.masked & is_sure & has_settled
    fallback = ~ready.any(dim=1, keepdim=True) & (candidates.ranks() == 0)
    return Commits(candidates.masked & (ready | fallback))


def state_bytes(block_length: int, vocab_size: int) -> int:
    return 4 * block_length * (vocab_size + 1)


RULE = Rule(select, observe, state_bytes)
