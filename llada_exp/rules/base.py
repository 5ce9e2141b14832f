"""What every commit rule shares: candidates, their confidence, their order, their randomness.

A rule sees one step of n rows as `Candidates` and answers which of them become tokens. It knows
neither the model, the cache, nor which request a row belongs to.

Letters: n rows, B block length, m masked positions of all rows together, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from llada_exp.types import DecodingParams

TOKEN_STREAM = 0  # random numbers that choose tokens
RANK_STREAM = 1  # random numbers that rank positions (remasking = random)


@dataclass
class Candidates:
    """One step of n rows, dense over the block; entries where `masked` is False mean nothing.

    token_ids:  int64 [n, B], the token each masked position would become.
    confidence: float32 [n, B], its probability (or a uniform number), 0 where not masked.
    odds:       float32 [n, B], (1 - p) / p of it: the order by confidence that does not collapse
                near 1, where float32 probabilities do. Infinite where not masked.
    masked:     bool [n, B].
    """

    token_ids: Tensor
    confidence: Tensor
    odds: Tensor
    masked: Tensor

    def rows(self, index: Tensor) -> Candidates:
        """Those rows only; index int64 [k]."""
        return Candidates(self.token_ids[index], self.confidence[index], self.odds[index], self.masked[index])

    def ranks(self) -> Tensor:
        """int64 [n, B]: 0 for the most confident masked position; ties go to the lower position,
        and what is not masked comes last."""
        largest = torch.finfo(self.odds.dtype).max
        key = torch.where(self.masked, self.odds.clamp(max=largest), torch.inf)
        order = key.argsort(dim=-1, stable=True)
        return order.argsort(dim=-1)

    def sorted_confidence(self) -> Tensor:
        """float32 [n, B]: confidences by rank; what is not masked follows as -inf."""
        confidence = self.confidence.masked_fill(~self.masked, -torch.inf)
        return torch.empty_like(confidence).scatter_(1, self.ranks(), confidence)


@dataclass(frozen=True)
class RowState:
    """Where a row stands in its block, as far as rules may know.

    block_masks: masks with which the block began; num_blocks: of the row.
    """

    params: DecodingParams
    block_masks: int
    block_step: int
    num_blocks: int


class Rule(Protocol):
    """`select(candidates, rows) -> commit bool [n, B]`: pure, at least one per row, masked only."""

    def __call__(self, candidates: Candidates, rows: Sequence[RowState]) -> Tensor: ...


def uniforms(seed: int, positions: np.ndarray, step: int, stream: int) -> np.ndarray:
    """Uniform numbers in (0, 1), float64, one per answer position.

    A hash of (seed, position, step, stream): a request's draws depend on nothing else, in any
    batch and on any device. Mixing is SplitMix64 (Steele et al., OOPSLA 2014).
    """
    with np.errstate(over="ignore"):
        state = np.array([seed], dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(stream)
        state = _mix(state) + np.uint64(step)
        state = _mix(state) + positions.astype(np.uint64)
        bits = _mix(_mix(state) + np.uint64(0x9E3779B97F4A7C15))
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """Per-row parameters as [n, 1] in the dtype and on the device of `like`."""
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)
