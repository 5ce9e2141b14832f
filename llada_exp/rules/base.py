"""What a commit rule is, and what rules share: candidates, their order, their randomness.

A rule sees one pass of n rows as `Candidates` and answers which of them become tokens. It knows neither
the model, the cache, nor which request a row belongs to. docs/extending.md writes one.

Letters: n rows, B block length, k wanted positions of one row, m of all rows together, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llada_exp.types import DecodingParams

TOKEN_STREAM = 0  # random numbers that choose tokens
RANK_STREAM = 1  # random numbers that rank positions (remasking = random)


@dataclass
class Candidates:
    """One pass of n rows, dense over the block. An entry means something where `masked`, and for a rule
    that revises at every position of the block that was forwarded.

    token_ids:  int64 [n, B], the token each position would become.
    confidence: float32 [n, B], its probability (or a uniform number), else 0.
    odds:       float32 [n, B], (1 - p) / p of it: the order by confidence that does not collapse
                near 1, where float32 probabilities do. Infinite elsewhere, and at ends that
                `eos_confidence = last` holds back.
    masked:     bool [n, B], undecided.
    evidence:   float32 [n, B], what the rule's `observe` said of each position; None where no rule of the
                pass says anything.
    decided:    bool [n, B], positions whose token the rule may change; None for rules that do not revise,
                as current: int64 [n, B], the token that stands there, and current_confidence: float32
                [n, B], its probability by now.
    """

    token_ids: Tensor
    confidence: Tensor
    odds: Tensor
    masked: Tensor
    evidence: Tensor | None = None
    decided: Tensor | None = None
    current: Tensor | None = None
    current_confidence: Tensor | None = None

    def rows(self, index: Tensor) -> Candidates:
        """Those rows only; index int64 [k]."""
        optional = (self.evidence, self.decided, self.current, self.current_confidence)
        return Candidates(
            self.token_ids[index],
            self.confidence[index],
            self.odds[index],
            self.masked[index],
            *(None if plane is None else plane[index] for plane in optional),
        )

    def ranks(self, key: Tensor | None = None) -> Tensor:
        """int64 [n, B]: 0 for the masked position with the smallest key [n, B], which is `odds` where none
        is given: the most confident one. Ties go to the lower position; ends held back come after all
        others, and what is not masked comes last."""
        largest = torch.finfo(self.odds.dtype).max
        if key is None:
            key = self.odds.clamp(max=largest)
        else:
            key = key.clamp(max=largest).masked_fill(self.odds.isinf(), largest)
        order = torch.where(self.masked, key, torch.inf).argsort(dim=-1, stable=True)
        return order.argsort(dim=-1)

    def sorted_confidence(self) -> Tensor:
        """float32 [n, B]: confidences by rank; what is not masked follows as -inf."""
        confidence = self.confidence.masked_fill(~self.masked, -torch.inf)
        return torch.empty_like(confidence).scatter_(1, self.ranks(), confidence)


@dataclass(frozen=True)
class RowState:
    """Where a row stands in its block, as far as rules may know.

    block_masks: masks with which the block began; num_blocks: of the row; block_length: of this block.
    steps:       how many of the request's `steps` fall to a block; None: an equal share, rounded up.
    most_steps:  that `steps_per_block` counts as, at most.
    full_steps:  the block's passes so far that began without a mask in it.
    """

    params: DecodingParams
    block_masks: int
    block_step: int
    num_blocks: int
    block_length: int
    steps: int | None = None
    most_steps: int | None = None
    full_steps: int = 0

    @property
    def steps_per_block(self) -> int | None:
        """Denoising steps of a block by the request's schedule, None where it has none."""
        per_block, steps = self.params.steps_per_block, self.params.steps
        if steps is not None:
            return self.steps or -(-steps // self.num_blocks)
        return min(per_block, self.most_steps) if per_block and self.most_steps else per_block


@dataclass(frozen=True)
class Commits:
    """What a rule decides in one pass of n rows.

    write:  bool [n, B], where the candidate becomes the token: masked positions, and of a rule that revises
            decided ones, too (they are overwritten).
    remask: bool [n, B], decided positions that become masks again. Only of a rule that revises.
    stay:   bool [n], rows whose block stays open although it holds no mask. Only of a rule that revises.
    """

    write: Tensor
    remask: Tensor | None = None
    stay: Tensor | None = None


@dataclass(frozen=True)
class Observation:
    """What `observe` makes of one row's pass.

    logits:   float32 [k, V] that candidates and confidences are taken from: those it was shown, or others.
    evidence: float32 [k], one number a position for `select`, or None.
    state:    for the next pass of the block: tensors of its own, not the logits it was shown.
    """

    logits: Tensor
    evidence: Tensor | None = None
    state: Any = None


Select = Callable[[Candidates, Sequence[RowState]], Commits]
Observe = Callable[[Tensor, Tensor, Any, RowState], Observation]


@dataclass(frozen=True)
class Rule:
    """A commit rule: a file of this folder exports one as `RULE`. Its decoding fields are those whose
    declaration in `llada_exp.types` names it.

    select:  pure; which positions become tokens. A rule that does not revise writes masked positions only.
    observe: `observe(logits, columns, state, row)`, for a rule that needs the distributions: one row's
             logits float32 [k, V] at block positions `columns` int64 [k], and its state after the block's
             last pass (None in its first). Changes nothing in place; called once for each row and pass.
    state_bytes: `state_bytes(block_length, vocab_size)` that a request's state takes between passes.
    revises: whether `select` may overwrite or re-mask decided positions of the current block. Its blocks'
             logits cost all positions, and its text is released by whole blocks.
    max_passes: most passes of a block, at least 1; in the last of them all masks that are left commit.
             By default one for each mask, which a rule that commits one a pass never exceeds.
    runs_on: without `early_eos` an end of text ends nothing: all blocks are decoded, and the answer is cut.
    """

    select: Select
    observe: Observe | None = None
    state_bytes: Callable[[int, int], int] = lambda block_length, vocab_size: 0
    revises: bool = False
    max_passes: Callable[[RowState], int] = lambda row: row.block_masks
    runs_on: bool = False


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
