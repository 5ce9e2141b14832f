"""One request's passive state: its canvas, where it stands, what it cost.

Knows no tensor and makes no decision beyond its own cursor arithmetic; the scheduler chooses, the
decoder computes, the engine calls `commit` with what came out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from llada_exp.caches import CACHES, Cursor, Pass
from llada_exp.engine.layout import Layout
from llada_exp.types import BlockCommit, DecodingParams

FindStop = Callable[[Sequence[int]], int | None]
"""Answer ids so far -> number of leading ids up to the one that completes a stop string, or None."""


class Status(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False)
class Request:
    """A row (two, under guidance) from arrival to finish.

    layout: of its row; params: with every `None` that the model decides filled in.
    canvas: int64 [T], the prompt, then committed ids or the mask id.
    masked: bool [T - P], which answer positions are undecided.
    block, block_step: the cursor.
    prefix: committed answer positions without a gap, from 0.
    released: answer ids handed out so far.
    """

    request_id: str
    prompt: np.ndarray
    params: DecodingParams
    mask_id: int
    layout: Layout
    find_stop: FindStop | None = None
    arrived: float = 0.0
    status: Status = Status.WAITING
    block: int = 0
    block_step: int = 0
    prefix: int = 0
    released: int = 0
    nfe: int = 0
    num_positions: int = 0
    trace: list[BlockCommit] = field(default_factory=list)
    started: float | None = None
    first_text: float | None = None
    canvas: np.ndarray = field(init=False)
    masked: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        answer = np.full(self.layout.length - len(self.prompt), self.mask_id, dtype=np.int64)
        self.canvas = np.concatenate([self.prompt.astype(np.int64), answer])
        self.masked = np.ones(len(answer), dtype=bool)

    @property
    def prompt_length(self) -> int:
        return len(self.prompt)

    @property
    def length(self) -> int:
        """T."""
        return len(self.canvas)

    @property
    def block_start(self) -> int:
        """Answer position at which the current block begins; negative where it holds the prompt's end."""
        return self.layout.bounds(self.block)[0] - self.prompt_length

    @property
    def block_end(self) -> int:
        """Answer position at which the current block ends."""
        return self.layout.bounds(self.block)[1] - self.prompt_length

    @property
    def next_pass(self) -> Pass:
        """What its cache policy forwards next. A function of the request alone."""
        start, end = self.layout.bounds(self.block)
        return CACHES[self.params.cache](
            Cursor(
                prompt_length=self.prompt_length,
                length=self.length,
                block=self.block,
                last_block_start=self.layout.bounds(max(0, self.block - 1))[0],
                block_start=start,
                block_end=end,
                block_step=self.block_step,
                sees_suffix=self.layout.visibility.sees_suffix,
                params=self.params,
            )
        )

    @property
    def opens_shifted(self) -> bool:
        """Whether the next pass commits the block's first position and nothing else: shifted by one, its
        logits are the row's before the block, which later passes of a cached block do not forward (as in
        Fast-dLLM's Dream, arXiv 2505.22618)."""
        start = max(0, self.block_start)
        return bool(
            self.layout.shift
            and self.params.cache != "none"
            and self.block_step == 0
            and start == self.block_start
            and self.masked[start]
        )

    @property
    def open_positions(self) -> np.ndarray:
        """Answer positions of the current block that are still masked and may commit next, ascending."""
        start = max(0, self.block_start)
        if self.opens_shifted:
            return np.array([start])
        return start + np.flatnonzero(self.masked[start : self.block_end])

    @property
    def answer(self) -> np.ndarray:
        return self.canvas[self.prompt_length :]

    def commit(self, positions: np.ndarray, token_ids: np.ndarray) -> None:
        """Write tokens at answer positions of the current block; close the block when it is full."""
        assert len(positions), "a step commits at least one position of every row in it"
        assert self.masked[positions].all(), "a committed token never changes"
        self.answer[positions] = token_ids
        self.masked[positions] = False
        self.nfe += 1
        self.block_step += 1
        while self.prefix < len(self.masked) and not self.masked[self.prefix]:
            self.prefix += 1
        if not self.masked[max(0, self.block_start) : self.block_end].any():
            self.block += 1
            self.block_step = 0
