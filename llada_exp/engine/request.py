"""One request's passive state: its canvas, where it stands, what it cost.

Knows no tensor and makes no decision beyond its own cursor arithmetic; the scheduler chooses, the
decoder computes, the engine calls `commit` with what came out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from llada_exp.caches import CACHES, Cursor, Pass
from llada_exp.engine.commits import NO_COMMIT, Commit, CommitScores
from llada_exp.engine.layout import Layout
from llada_exp.rules import RULES
from llada_exp.types import MAX_COUNT, BlockCommit, DecodingParams, FinishReason, RequestOutput, TokenLogprob

FindStop = Callable[[Sequence[int]], int | None]
"""Answer ids so far -> number of leading ids up to the one that completes a stop string, or None."""


@dataclass(eq=False)
class Request:
    """A row (two, under guidance) from arrival to finish.

    layout: of its row; params: with every `None` that the model decides filled in.
    canvas: int64 [T], the prompt, then committed ids or the mask id.
    masked: bool [T - P], which answer positions are undecided.
    block, block_step: the cursor. full_steps: passes of the block that began without a mask in it.
    context: row positions from 0 that were forwarded in their last state, where blocks see nothing beyond
             themselves.
    chunk:  positions that a pass over such ones alone forwards at most.
    ending: length and reason of the answer, while the last block's own such pass is yet to be run.
    prefix: answer positions from 0 without a gap that are committed and can no longer change.
    released: answer ids handed out so far. last_tokens: int64, those of the last pass that gave any.
    scores: of committed answer positions, where log-probabilities are asked for.
    """

    request_id: str
    prompt: np.ndarray
    params: DecodingParams
    mask_id: int
    layout: Layout
    find_stop: FindStop | None = None
    arrived: float = 0.0
    block: int = 0
    block_step: int = 0
    full_steps: int = 0
    context: int = 0
    chunk: int = MAX_COUNT
    ending: tuple[int, FinishReason] | None = None
    prefix: int = 0
    released: int = 0
    nfe: int = 0
    store_passes: int = 0
    num_positions: int = 0
    trace: list[BlockCommit] = field(default_factory=list)
    started: float | None = None
    first_text: float | None = None
    canvas: np.ndarray = field(init=False)
    masked: np.ndarray = field(init=False)
    last_tokens: np.ndarray = field(default_factory=lambda: NO_COMMIT.token_ids)
    scores: CommitScores | None = None

    def __post_init__(self) -> None:
        answer = np.full(self.layout.length - len(self.prompt), self.mask_id, dtype=np.int64)
        self.canvas = np.concatenate([self.prompt.astype(np.int64), answer])
        self.masked = np.ones(len(answer), dtype=bool)
        if self.params.logprobs is not None:
            self.scores = CommitScores.empty(len(answer), self.params.logprobs)

    @property
    def seed(self) -> int:
        return self.params.seed or 0

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
        return CACHES[self.params.cache].next_pass(
            Cursor(
                prompt_length=self.prompt_length,
                length=self.length,
                block=self.block,
                block_start=start,
                block_end=end,
                block_step=self.block_step,
                sees_suffix=self.layout.visibility.sees_suffix,
                context=self.context,
                context_end=self.context_end,
                owns_pass=self.layout.visibility.context != "joined",
                chunk=self.chunk,
                params=self.params,
            )
        )

    @property
    def context_end(self) -> int:
        """Row positions from 0 that must be context before the current block is denoised, or the request
        ends."""
        visibility = self.layout.visibility
        if visibility.sees_suffix:
            return 0
        if visibility.context == "joined":
            return self.layout.bounds(max(0, self.block - 1))[0]
        return self.layout.bounds(self.block)[self.ending is not None and self.block_begun]

    @property
    def block_begun(self) -> bool:
        """Whether the current block holds a token already."""
        start = max(0, self.block_start)
        return not self.masked[start : self.block_end].all()

    @property
    def seeds(self) -> bool:
        """Whether the next pass is one over finished positions whose last row says the current block's first
        token."""
        if self.layout.visibility.context != "seeds" or self.ending is not None:
            return False
        row_pass = self.next_pass
        return row_pass.stores and row_pass.stop == self.layout.bounds(self.block)[0] < self.length

    @property
    def stores(self) -> bool:
        """Whether the next pass is no step of denoising: it forwards finished positions alone."""
        return not self.layout.visibility.sees_suffix and self.next_pass.stores

    @property
    def is_stored(self) -> bool:
        """Whether an answer that is decided needs no pass any more."""
        return self.layout.visibility.context == "joined" or self.context >= self.context_end

    @property
    def opens(self) -> bool:
        """Whether the next pass commits the block's first position and nothing else."""
        return self.seeds or self.opens_shifted

    @property
    def shift(self) -> int:
        """0 where rows of the next pass speak of their own positions, 1: of the next."""
        return 1 if self.seeds else self.layout.shift

    @property
    def opens_shifted(self) -> bool:
        """Whether the next pass commits the block's first position and nothing else: shifted by one, its
        logits are the row's before the block, which later passes of a cached block do not forward (as in
        Fast-dLLM's Dream, arXiv 2505.22618)."""
        start = max(0, self.block_start)
        return bool(
            self.layout.shift
            and self.block_step == 0
            and start == self.block_start
            and self.next_pass.keep
            and self.masked[start]
        )

    @property
    def open_positions(self) -> np.ndarray:
        """Answer positions of the current block that are still masked and may commit next, ascending."""
        start = max(0, self.block_start)
        if self.opens:
            return np.array([start])
        if self.stores:
            return np.empty(0, dtype=np.int64)
        return start + np.flatnonzero(self.masked[start : self.block_end])

    @property
    def revises(self) -> bool:
        """Whether tokens of the current block may still change."""
        return RULES[self.params.rule].revises

    @property
    def logit_positions(self) -> np.ndarray:
        """Answer positions whose logits the next pass is to give, ascending: the open ones, or for a rule
        that revises all of the block that the pass has logits of."""
        if not self.revises or self.opens or self.stores:
            return self.open_positions
        start = max(0, self.block_start)
        if self.layout.shift and self.prompt_length + start - 1 < self.next_pass.start:
            start += 1  # the row that speaks of it is not forwarded
        return np.arange(start, self.block_end)

    @property
    def answer(self) -> np.ndarray:
        return self.canvas[self.prompt_length :]

    def commit(self, commit: Commit) -> None:
        """Take what a pass decided of the current block; close it when it is full and not held open."""
        seeds = self.seeds
        if self.stores:
            self.context, self.store_passes = self.next_pass.stop, self.store_passes + 1
            if not seeds:
                return
        if self.params.trace:
            self._record(commit)
        start, end = max(0, self.block_start), self.block_end
        begins_full = not self.masked[start:end].any()
        is_final = not self.revises
        assert not is_final or self.masked[commit.positions].all(), "a committed token never changes"
        assert not is_final or (not len(commit.remasked) and not commit.stays)
        touched = np.concatenate([commit.positions, commit.remasked])
        assert ((start <= touched) & (touched < end)).all(), "other blocks never change"
        self.answer[commit.remasked] = self.mask_id
        self.masked[commit.remasked] = True
        self.answer[commit.positions] = commit.token_ids
        self.masked[commit.positions] = False
        self.last_tokens = commit.token_ids
        if self.scores is not None and commit.scores is not None:
            self.scores.write(commit.positions, commit.scores)
        if not seeds:
            self.nfe += 1
            self.block_step += 1
            self.full_steps += begins_full
            self.context = max(self.context, self.layout.bounds(self.block)[0])
        is_closed = not commit.stays and not self.masked[start:end].any()
        if is_closed:
            self.block += 1
            self.block_step = self.full_steps = 0
        if is_closed or is_final:
            while self.prefix < len(self.masked) and not self.masked[self.prefix]:
                self.prefix += 1

    def _record(self, commit: Commit) -> None:
        self.trace.append(
            BlockCommit(
                request_id=self.request_id,
                step=self.nfe,
                positions=tuple(commit.positions.tolist()),
                token_ids=tuple(commit.token_ids.tolist()),
                confidences=tuple(commit.confidences.tolist()),
                remasked=tuple(commit.remasked.tolist()),
            )
        )

    def release(self, length: int) -> tuple[tuple[int, ...], tuple[TokenLogprob, ...]]:
        """Answer ids up to `length` that were not handed out yet, and their log-probabilities."""
        start, self.released = self.released, max(length, self.released)
        token_ids = tuple(self.answer[start:length].tolist())
        if token_ids and self.first_text is None:
            self.first_text = time.monotonic()
        return token_ids, self._logprobs(start, length)

    def _logprobs(self, start: int, stop: int) -> tuple[TokenLogprob, ...]:
        if self.scores is None:
            return ()
        return tuple(self.scores.of(i, int(self.answer[i])) for i in range(start, stop))

    def output(self, length: int, reason: FinishReason) -> RequestOutput:
        """Of a request that is done now, with so many answer tokens."""
        assert self.started is not None
        return RequestOutput(
            request_id=self.request_id,
            prompt_tokens=self.prompt_length,
            token_ids=tuple(self.answer[:length].tolist()),
            finish_reason=reason,
            nfe=self.nfe,
            store_passes=self.store_passes,
            num_positions=self.num_positions,
            queue_ms=1000 * (self.started - self.arrived),
            ttft_ms=None if self.first_text is None else 1000 * (self.first_text - self.arrived),
            e2el_ms=1000 * (time.monotonic() - self.arrived),
            trace=tuple(self.trace),
            seed=self.seed,
            logprobs=self._logprobs(0, length),
        )
