"""What a step decided, from the device to the host in one transfer, and taken apart: a commit per request."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.batch import Batch
from llada_exp.engine.commits import Commit
from llada_exp.engine.errors import NotFiniteError
from llada_exp.engine.pass_plan import PassPlan
from llada_exp.rules import RULES, Candidates, Commits
from llada_exp.rules.base import RowState

WRITE, REMASK, STAY = 1, 2, 4


def flags_of(commits: Commits, write: Tensor) -> Tensor:
    """float64 [n, B]: WRITE where `write`, and what else the commits hold."""
    flags = write.double()
    if commits.remask is not None:
        flags = flags + REMASK * commits.remask
    if commits.stay is not None:
        flags = flags + STAY * commits.stay.unsqueeze(1)
    return flags


def to_host(
    batch: Batch, candidates: Candidates, flags: Tensor, dtype: torch.dtype
) -> list[Commit | NotFiniteError]:
    """One transfer, then arrays per request. Odds that are NaN, and so a confidence, are of logits that were
    not finite; they reach no other row."""
    small = torch.stack(
        [flags, candidates.token_ids.double(), candidates.confidence.double()]
    )  # ids below 2**53 are exact in float64
    sums, ids, confidence = small.cpu().numpy()
    sums, ids = sums.astype(np.int64), ids.astype(np.int64)
    written, remasked, stays = ((sums & flag) > 0 for flag in (WRITE, REMASK, STAY))
    is_finite = ~np.isnan(confidence).any(axis=1)
    commits: list[Commit | NotFiniteError] = []
    for i, (plan, row) in enumerate(zip(batch.plans, batch.rows, strict=True)):
        if is_finite[i]:
            decided = written[i], remasked[i], bool(stays[i, 0])
            commits.append(_commit(plan, row, decided, ids[i], confidence[i]))
        else:
            commits.append(NotFiniteError(dtype))
    return commits


def _commit(
    plan: PassPlan,
    row: RowState,
    decided: tuple[np.ndarray, np.ndarray, bool],
    tokens: np.ndarray,
    confidence: np.ndarray,
) -> Commit:
    """decided: what is written bool [B], what is masked again bool [B], and whether the block stays open.
    tokens int64, confidence: [B]. In the last pass that its rule allows a block, all masks commit; and so
    does the one position that an opening pass is for."""
    written, remasked, stays = decided
    places, masks = written.nonzero()[0], remasked.nonzero()[0]
    if row.block_step + 1 >= RULES[row.params.rule].max_passes(row) or plan.opens:
        written[plan.open_positions - plan.start] = True
        places, masks, stays = written.nonzero()[0], masks[:0], False
    return Commit(
        positions=plan.start + places,
        token_ids=tokens[places],
        confidences=confidence[places],
        remasked=plan.start + masks,
        stays=stays,
    )
