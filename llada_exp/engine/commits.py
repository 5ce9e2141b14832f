"""What one pass decides for one request, as plain arrays. Knows no request and no tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llada_exp.types import TokenLogprob


@dataclass(frozen=True)
class CommitScores:
    """Log-probabilities of c tokens: values float64 [c]; of the n likeliest tokens at their places top_ids
    int64 [c, n] and top_values float64 [c, n], descending, -inf where there are fewer."""

    values: np.ndarray
    top_ids: np.ndarray
    top_values: np.ndarray

    @classmethod
    def empty(cls, count: int, n: int) -> CommitScores:
        return cls(np.zeros(count), np.zeros((count, n), dtype=np.int64), np.full((count, n), -np.inf))

    def write(self, positions: np.ndarray, scores: CommitScores) -> None:
        n = scores.top_values.shape[1]
        self.values[positions] = scores.values
        self.top_ids[positions, :n] = scores.top_ids
        self.top_values[positions, :n] = scores.top_values

    def of(self, position: int, token_id: int) -> TokenLogprob:
        pairs = zip(self.top_ids[position].tolist(), self.top_values[position].tolist(), strict=True)
        top = tuple((id, value) for id, value in pairs if value > -np.inf)
        return TokenLogprob(token_id, float(self.values[position]), top)


@dataclass(frozen=True)
class Commit:
    """What one pass decided for one request, in answer positions of its current block.

    positions: ascending, where a token is written, over another one where the rule revises;
    token_ids int64, confidences: one each.
    remasked:  ascending, decided positions that become masks again.
    stays:     the block stays open even where it is full.
    scores:    of the tokens, where the request asks for log-probabilities.
    """

    positions: np.ndarray
    token_ids: np.ndarray
    confidences: np.ndarray
    remasked: np.ndarray
    stays: bool = False
    scores: CommitScores | None = None


_NONE = np.empty(0, dtype=np.int64)
NO_COMMIT = Commit(_NONE, _NONE, np.empty(0), _NONE)
"""Of a pass that gives no logits."""
