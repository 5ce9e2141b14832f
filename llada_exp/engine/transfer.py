"""The one transfer of a step: what its rules decided, from the device to the requests' commits.

Letters are those of engine/batch.py.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.batch import Batch
from llada_exp.engine.commits import Commit
from llada_exp.engine.errors import NotFiniteError
from llada_exp.engine.request import Request
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
    every, tokens, confidence = small.cpu().numpy()
    return [
        NotFiniteError(dtype) if np.isnan(planes[-1]).any() else _commit(request, row, *planes)
        for request, row, *planes in zip(
            batch.requests, batch.rows, every.astype(np.int64), tokens, confidence, strict=True
        )
    ]


def _commit(
    request: Request, row: RowState, flags: np.ndarray, tokens: np.ndarray, confidence: np.ndarray
) -> Commit:
    """flags, tokens, confidence: [B]. In the last pass that its rule allows a block, all masks commit; and so
    does the one position that an opening pass is for."""
    start = request.block_start
    written, remasked = (flags & WRITE) > 0, (flags & REMASK) > 0
    stays = bool(flags[0] & STAY)
    if row.block_step + 1 >= RULES[row.params.rule].max_passes(row) or request.opens:
        written[request.open_positions - start] = True
        remasked[:], stays = False, False
    places = np.flatnonzero(written)
    return Commit(
        positions=start + places,
        token_ids=tokens[places].astype(np.int64),
        confidences=confidence[places],
        remasked=start + np.flatnonzero(remasked),
        stays=stays,
    )
