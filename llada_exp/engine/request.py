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

    canvas: int64 [P + G], the prompt, then committed ids or the mask id.
    masked: bool [G], which answer positions are undecided.
    block, block_step, block_masks: the cursor; masks counted at the block's first step.
    prefix: committed answer positions without a gap, from 0.
    released: answer ids handed out so far.
    """

    request_id: str
    prompt: np.ndarray
    params: DecodingParams
    mask_id: int
    find_stop: FindStop | None = None
    arrived: float = 0.0
    status: Status = Status.WAITING
    block: int = 0
    block_step: int = 0
    block_masks: int = 0
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
        answer = np.full(self.params.canvas_length, self.mask_id, dtype=np.int64)
        self.canvas = np.concatenate([self.prompt.astype(np.int64), answer])
        self.masked = np.ones(len(answer), dtype=bool)
        self.block_masks = self.params.block_length

    @property
    def prompt_length(self) -> int:
        return len(self.prompt)

    @property
    def length(self) -> int:
        """P + G."""
        return len(self.canvas)

    @property
    def block_start(self) -> int:
        """Answer position at which the current block begins."""
        return self.block * self.params.block_length

    @property
    def next_pass(self) -> Pass:
        """What its cache policy forwards next. A function of the request alone."""
        start = self.prompt_length + self.block_start
        return CACHES[self.params.cache](
            Cursor(
                prompt_length=self.prompt_length,
                length=self.length,
                block=self.block,
                block_start=start,
                block_end=start + self.params.block_length,
                block_step=self.block_step,
                params=self.params,
            )
        )

    @property
    def open_positions(self) -> np.ndarray:
        """Answer positions of the current block that are still masked, ascending."""
        start = self.block_start
        return start + np.flatnonzero(self.masked[start : start + self.params.block_length])

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
        end = self.block_start + self.params.block_length
        if not self.masked[self.block_start : end].any():
            self.block += 1
            self.block_step = 0
