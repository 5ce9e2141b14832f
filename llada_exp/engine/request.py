"""One request's passive state: its canvas, where it stands, what it cost.

Knows no tensor and makes no decision beyond its own cursor arithmetic; the scheduler chooses, the
decoder computes, the engine calls `commit` with what came out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from llada_exp.engine.commits import NO_COMMIT, Commit, CommitScores
from llada_exp.engine.layout import Layout
from llada_exp.engine.pass_plan import PassPlan, Standing, plan_pass
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
    ends:   ids that end the answer. first_end: answer position of the prefix's first one.
    prefix: answer positions from 0 without a gap that are committed and can no longer change.
    released: answer ids handed out so far. last_tokens: int64, those of the last pass that gave any.
    scores: of committed answer positions, where log-probabilities are asked for.
    """

    request_id: str
    prompt: np.ndarray
    params: DecodingParams
    mask_id: int
    layout: Layout
    ends: frozenset[int] = frozenset()
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
    first_end: int | None = None
    _plan: PassPlan | None = None
    _plan_at: tuple[int, ...] = ()

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
    def plan(self) -> PassPlan:
        """Its next pass. A function of where it stands, and so made anew once that has changed: decided
        positions change with the passes that are counted here."""
        is_ending = self.ending is not None
        at = (self.block, self.block_step, self.context, is_ending, self.nfe, self.store_passes)
        if self._plan is None or self._plan_at != at:
            standing = Standing(
                block=self.block,
                block_step=self.block_step,
                context=self.context,
                context_end=self.context_end,
                chunk=self.chunk,
                is_ending=is_ending,
                masked=self.masked,
            )
            self._plan, self._plan_at = plan_pass(self.layout, self.params, standing), at
        return self._plan

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
        start, end = (max(0, place - self.prompt_length) for place in self.layout.bounds(self.block))
        return not self.masked[start:end].all()

    @property
    def is_stored(self) -> bool:
        """Whether an answer that is decided needs no pass any more."""
        return self.layout.visibility.context == "joined" or self.context >= self.context_end

    @property
    def revises(self) -> bool:
        """Whether tokens of the current block may still change."""
        return RULES[self.params.rule].revises

    @property
    def answer(self) -> np.ndarray:
        return self.canvas[self.prompt_length :]

    def commit(self, commit: Commit) -> None:
        """Take what a pass decided of the current block; close it when it is full and not held open."""
        plan = self.plan
        if plan.stores:
            self.context, self.store_passes = plan.row_pass.stop, self.store_passes + 1
            if not plan.seeds:
                return
        if self.params.trace:
            self._record(commit)
        start, end = max(0, plan.start), plan.end
        block = self.masked[start:end]
        begins_full = not block.any()
        is_final = not self.revises
        assert not is_final or self.masked[commit.positions].all(), "a committed token never changes"
        assert not is_final or (not len(commit.remasked) and not commit.stays)
        for places in (commit.positions, commit.remasked):  # both ascend
            assert not len(places) or start <= places[0] <= places[-1] < end, "other blocks never change"
        answer = self.answer
        if len(commit.remasked):
            answer[commit.remasked] = self.mask_id
            self.masked[commit.remasked] = True
        answer[commit.positions] = commit.token_ids
        self.masked[commit.positions] = False
        self.last_tokens = commit.token_ids
        if self.scores is not None and commit.scores is not None:
            self.scores.write(commit.positions, commit.scores)
        if not plan.seeds:
            self.nfe += 1
            self.block_step += 1
            self.full_steps += begins_full
            self.context = max(self.context, plan.start + self.prompt_length)
        is_closed = not commit.stays and not block.any()
        if is_closed:
            self.block += 1
            self.block_step = self.full_steps = 0
        if is_closed or is_final:
            self._extend_prefix()

    def _extend_prefix(self) -> None:
        """Over what is decided by now, and look for the first end in that."""
        rest = self.masked[self.prefix :]
        count = int(rest.argmax()) if rest.any() else len(rest)
        if count and self.first_end is None and self.ends:
            for place, token_id in enumerate(self.answer[self.prefix : self.prefix + count].tolist()):
                if token_id in self.ends:
                    self.first_end = self.prefix + place
                    break
        self.prefix += count

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
