"""What a request's next pass is: the positions that it forwards, and those of its block that are looked at.

A function of where the request stands alone, worked out once for each pass. Knows no tokens and no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llada_exp.caches import CACHES, Cursor, Pass
from llada_exp.engine.layout import Layout
from llada_exp.rules import RULES
from llada_exp.types import DecodingParams

_NO_POSITIONS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class PassPlan:
    """start, end: answer positions at which the current block begins and ends; start is negative where the
           block holds the prompt's end.
    row_pass: what the cache policy forwards.
    seeds:    whether it forwards finished positions alone, and the last row says the block's first token.
    opens:    whether it commits the block's first position and nothing else.
    shift:    0 where rows of the pass speak of their own positions, 1: of the next.
    open_positions: int64, answer positions of the block that are still masked and may commit, ascending.
    logit_positions: int64, ascending, those whose logits the pass gives: the open ones, or for a rule that
              revises all of the block that the pass has logits of.
    """

    start: int
    end: int
    row_pass: Pass
    seeds: bool
    opens: bool
    shift: int
    open_positions: np.ndarray
    logit_positions: np.ndarray

    @property
    def stores(self) -> bool:
        """Whether the pass is no step of denoising: it forwards finished positions alone."""
        return self.row_pass.stores

    @property
    def gives_logits(self) -> bool:
        return not self.row_pass.stores or self.seeds


@dataclass(frozen=True)
class Standing:
    """Where a request stands. masked: bool [T - P], which answer positions are undecided; the rest is as of
    `engine.request.Request`."""

    block: int
    block_step: int
    context: int
    context_end: int
    chunk: int
    is_ending: bool
    masked: np.ndarray


def plan_pass(layout: Layout, params: DecodingParams, at: Standing) -> PassPlan:
    """The pass that a request which stands there takes next."""
    visibility, prompt = layout.visibility, layout.prompt_length
    start, end = layout.bounds(at.block)
    row_pass = CACHES[params.cache].next_pass(
        Cursor(
            prompt_length=prompt,
            length=layout.length,
            block=at.block,
            block_start=start,
            block_end=end,
            block_step=at.block_step,
            sees_suffix=visibility.sees_suffix,
            context=at.context,
            context_end=at.context_end,
            owns_pass=visibility.context != "joined",
            chunk=at.chunk,
            params=params,
        )
    )
    first = max(start, prompt) - prompt
    seeds = (
        row_pass.stores
        and visibility.context == "seeds"
        and not at.is_ending
        and row_pass.stop == start < layout.length
    )
    opens = seeds or _opens_shifted(layout, at, row_pass, first == start - prompt, first)
    if opens:
        open_positions = np.array([first])
    elif row_pass.stores:
        open_positions = _NO_POSITIONS
    else:
        open_positions = first + at.masked[first : end - prompt].nonzero()[0]
    logit_positions = open_positions
    if RULES[params.rule].revises and not opens and not row_pass.stores:
        # Shifted by one, of the first position speaks a row that may not be forwarded.
        lacks = layout.shift and prompt + first - 1 < row_pass.start
        logit_positions = np.arange(first + 1 if lacks else first, end - prompt)
    return PassPlan(
        start=start - prompt,
        end=end - prompt,
        row_pass=row_pass,
        seeds=seeds,
        opens=opens,
        shift=1 if seeds else layout.shift,
        open_positions=open_positions,
        logit_positions=logit_positions,
    )


def _opens_shifted(layout: Layout, at: Standing, row_pass: Pass, is_whole: bool, first: int) -> bool:
    """Whether the block's first position alone commits: shifted by one, its logits are the row's before the
    block, which later passes of a cached block do not forward (as in Fast-dLLM's Dream, arXiv 2505.22618).
    is_whole: the block holds no end of the prompt."""
    return bool(layout.shift and at.block_step == 0 and is_whole and row_pass.keep and at.masked[first])
