"""What a likelihood's passes add up to: the estimate of an answer, from the samples of its parts.

Arithmetic of engine/likelihood.py, which says what is estimated; knows no model.

Letters: P prompt, L answer length, T = P + L, s distinct masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from llada_exp.engine.masks import draw_masks, request_seed


@dataclass(frozen=True)
class LikelihoodEstimate:
    """log p(answer | prompt), natural logarithm.

    value:  the estimate. stderr: its standard error as if samples were independent; stratified as they
            are, an upper estimate; 0 where every sample is the same.
    nfe:    forward passes: distinct masks (a guided pair counts once), and those of the greedy check.
    num_positions: forwarded for them, without padding.
    prompt_tokens, answer_tokens: scored. num_cut: prompt tokens left out, the first ones, because the
            model's rows do not hold them.
    is_greedy: whether greedy decoding gives the answer; None where that was not asked.
    """

    value: float
    stderr: float
    nfe: int
    num_positions: int
    prompt_tokens: int
    answer_tokens: int
    num_cut: int
    is_greedy: bool | None = None


@dataclass(eq=False)
class Part:
    """An answer, or a block of one with what stands before it as its prompt.

    prompt int64 [P], answer int64 [L]; masks and counts once its turn comes; values float64 [s] as passes
    fill them, `num_open` still to come. request_prompt: how many of `prompt` are the whole answer's."""

    index: int
    prompt: np.ndarray
    answer: np.ndarray
    num_cut: int
    request_prompt: int
    masks: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    num_open: int = 0

    @property
    def length(self) -> int:
        """T."""
        return len(self.prompt) + len(self.answer)

    def draw(self, num_samples: int, seed: int) -> None:
        seed = request_seed(seed, self.prompt)
        self.masks, self.counts = draw_masks(len(self.answer), num_samples, seed)
        self.values = np.zeros(len(self.masks))
        self.num_open = len(self.masks)

    def ids(self, number: int, mask_id: int, blind: bool) -> np.ndarray:
        """int64 [T]: one row, masked; blind: the prompt too."""
        prompt = np.full_like(self.prompt, mask_id) if blind else self.prompt
        return np.concatenate([prompt, np.where(self.masks[number], mask_id, self.answer)])

    def estimate(self, rows_each: int) -> LikelihoodEstimate:
        num_samples = int(self.counts.sum())
        value = float((self.counts * self.values).sum() / num_samples)
        spread = float((self.counts * (self.values - value) ** 2).sum())
        error = (spread / max(num_samples - 1, 1) / num_samples) ** 0.5
        positions = len(self.masks) * self.length * rows_each
        sizes = (len(self.prompt), len(self.answer), self.num_cut)
        return LikelihoodEstimate(value, error, len(self.masks), positions, *sizes)


def add(a: LikelihoodEstimate, b: LikelihoodEstimate) -> LikelihoodEstimate:
    """Of two parts of one answer, whose draws are independent."""
    return replace(
        a,
        value=a.value + b.value,
        stderr=math.hypot(a.stderr, b.stderr),
        nfe=a.nfe + b.nfe,
        num_positions=a.num_positions + b.num_positions,
        prompt_tokens=min(a.prompt_tokens, b.prompt_tokens),
        answer_tokens=a.answer_tokens + b.answer_tokens,
    )
