"""Requests in, tokens out: admission, one step of every chosen request, finish.

Knows token ids only: tokenizer, HTTP and configuration are other layers' business. Not
thread-safe: one thread calls it.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from llada_exp.engine.decoder import Decoder, StepResult
from llada_exp.engine.finish import finished, visible_length
from llada_exp.engine.layout import Layout
from llada_exp.engine.request import Commit, FindStop, Request
from llada_exp.engine.scheduler import Need, Phase, Scheduler
from llada_exp.fields import DecodingError
from llada_exp.models.base import DEFAULT_BLOCK_LENGTH, Model
from llada_exp.types import BlockCommit, DecodingParams, FinishReason, Progress, RequestOutput

DEFAULT_MAX_POSITIONS = 8192


class EngineCore:
    """batch_size: rows in flight. max_positions: positions forwarded in one step, None = 8192.
    max_length: longest row (prompt and canvas), None = the model's own.
    scheduling: continuous, or lockstep (a baseline to measure against).
    exact: keep a request's bits independent of its company; None = on the CPU, where it is cheap.

    Raises ValueError naming the argument.
    """

    def __init__(
        self,
        model: Model,
        *,
        batch_size: int = 16,
        max_positions: int | None = None,
        max_length: int | None = None,
        scheduling: str = "continuous",
        exact: bool | None = None,
    ) -> None:
        longest = model.shape.max_length
        if max_length is not None and not 1 <= max_length <= longest:
            raise ValueError(f"max_length is {max_length}; expected from 1 to the model's {longest}")
        self.model = model
        self.max_length = max_length or longest
        budget = DEFAULT_MAX_POSITIONS if max_positions is None else max_positions
        self.scheduler = Scheduler(batch_size, budget, scheduling)
        self.decoder = Decoder(
            model, batch_size, self.max_length, model.device.type == "cpu" if exact is None else exact
        )
        self._requests: dict[str, Request] = {}
        self._names = itertools.count()
        self._counters: Counter[str] = Counter()
        self._batch_sizes: Counter[int] = Counter()

    def add_request(
        self,
        prompt_ids: Sequence[int],
        params: DecodingParams,
        *,
        request_id: str | None = None,
        find_stop: FindStop | None = None,
    ) -> str:
        """Queue a request; it is admitted by a later `step` when its rows are free.

        Raises ValueError for an empty or too long prompt, ids out of range, mask ids in the
        prompt, a request id in use, and guided requests where batch_size is 1.
        """
        params = self.effective(params)
        prompt = self._checked_prompt(prompt_ids)
        layout = self._layout(len(prompt), params)
        request_id = request_id if request_id is not None else f"request-{next(self._names)}"
        if request_id in self._requests:
            raise ValueError(f"request_id {request_id!r} is in use")
        self.scheduler.add(request_id, params.num_rows)
        self._requests[request_id] = Request(
            request_id=request_id,
            prompt=prompt,
            params=params,
            mask_id=self.model.special.mask,
            layout=layout,
            find_stop=find_stop,
            arrived=time.monotonic(),
        )
        return request_id

    def has_capacity(self, num_rows: int = 1) -> bool:
        """Whether a request of so many rows would be admitted by the next step."""
        return self.scheduler.free_rows >= num_rows

    def has_work(self) -> bool:
        return bool(self._requests)

    def step(self) -> list[Progress]:
        """Admit, run one pass of the chosen requests, return what changed. Never blocks."""
        now = time.monotonic()
        self.scheduler.admit()
        chosen = self._choose()
        if not chosen:
            return []
        for request in chosen:
            request.started = now if request.started is None else request.started
        return [p for r, commit in self._pass(chosen) if (p := self._apply(r, commit))]

    def abort(self, request_id: str) -> bool:
        """Forget a request at any time; its rows are free in the next step. False if unknown."""
        request = self._requests.pop(request_id, None)
        if request is None:
            return False
        self._leave(request)
        self._counters["num_aborted"] += 1
        return True

    def abort_all(self) -> list[str]:
        """Forget every request, as after a step that raised. Returns their ids."""
        return [request_id for request_id in list(self._requests) if self.abort(request_id)]

    def stats(self) -> dict[str, Any]:
        """Counters since construction, and what is in flight now."""
        c = self._counters
        return {
            "rows_in_flight": self.scheduler.rows_in_flight,
            "requests_running": len(self.scheduler.running),
            "requests_waiting": len(self.scheduler.waiting),
            "max_positions": self.scheduler.max_positions,
            "num_out_of_memory": c["num_out_of_memory"],
            "num_steps": c["num_steps"],
            "num_nfe": c["num_nfe"],
            "num_finished": c["num_finished"],
            "num_aborted": c["num_aborted"],
            "num_output_tokens": c["num_output_tokens"],
            "num_positions": c["num_positions"],
            "num_tokens_forwarded": c["num_tokens"],
            "num_logit_rows": c["num_masked"],
            "num_attention_pairs": c["num_pairs"],
            "useful_position_ratio": c["num_masked"] / max(1, c["num_positions"]),
            "packing_efficiency": c["num_tokens"] / max(1, c["num_positions"]),
            "batch_size_histogram": dict(sorted(self._batch_sizes.items())),
        }

    def longest_prompt(self, params: DecodingParams) -> int:
        """Tokens of the longest prompt for which such a request's row is held; below 1: none."""
        block_length = self.effective(params).block_length
        assert block_length is not None
        limit = self.max_length
        if self.model.visibility.anchored:
            limit -= limit % block_length
        return limit - params.max_tokens

    def effective(self, params: DecodingParams) -> DecodingParams:
        """The parameters by which this model decodes such a request: `block_length` None becomes the
        checkpoint's own. Raises DecodingError for what its visibility rules out."""
        visibility = self.model.visibility
        if params.block_length is None:
            params = replace(params, block_length=visibility.block_length or DEFAULT_BLOCK_LENGTH)
        if not visibility.sees_suffix:
            faults = {}
            if params.cache == "dual":
                faults["cache"] = (
                    "cache is 'dual'; this model's blocks see nothing beyond themselves: expected none or "
                    "prefix, which is exact here"
                )
            if params.refresh != "every_block":
                faults["refresh"] = (
                    f"refresh is {params.refresh!r}; this model's K/V of finished blocks never change: "
                    "expected every_block"
                )
            if faults:
                raise DecodingError("; ".join(faults.values()), next(iter(faults)))
        return params

    def decodes(self, params: DecodingParams) -> bool:
        """Whether the model's visibility rules nothing of it out."""
        try:
            self.effective(params)
        except ValueError:
            return False
        return True

    def _layout(self, prompt_length: int, params: DecodingParams) -> Layout:
        """Raises ValueError where the row is too long."""
        assert params.block_length is not None
        model, limit = self.model, self.max_length
        layout = Layout(prompt_length, params.max_tokens, params.block_length, model.visibility, model.shift)
        if layout.length > limit:
            whole = f" ({layout.length} positions in whole blocks of {params.block_length})"
            raise ValueError(
                f"This model's maximum context length is {limit} tokens. However, you requested "
                f"{params.max_tokens} output tokens{whole * model.visibility.anchored} and your request has "
                f"{prompt_length} input tokens. Please reduce the length of the messages or max_tokens."
            )
        return layout

    def _checked_prompt(self, prompt_ids: Sequence[int]) -> np.ndarray:
        prompt = np.asarray(prompt_ids, dtype=np.int64)
        vocab = self.model.shape.vocab_size
        if prompt.ndim != 1 or len(prompt) == 0:
            raise ValueError("the prompt is empty; expected at least one token")
        if prompt.min() < 0 or prompt.max() >= vocab:
            raise ValueError(f"prompt token ids must be from 0 to {vocab - 1}")
        if (prompt == self.model.special.mask).any():
            raise ValueError("the prompt holds the mask token, which only the decoder may place")
        return prompt

    def _choose(self) -> list[Request]:
        running = [self._requests[r] for r in self.scheduler.running]
        return [self._requests[r] for r in self.scheduler.choose({r.request_id: _need(r) for r in running})]

    def _pass(self, requests: list[Request]) -> list[tuple[Request, Commit]]:
        """One pass of each. Out of device memory: the same in two halves, and a smaller budget."""
        try:
            result = self.decoder.run(requests)
        except torch.OutOfMemoryError:
            self._counters["num_out_of_memory"] += 1
            if len(requests) == 1:
                raise
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            cost = sum(_need(r).positions for r in requests)
            self.scheduler.max_positions = max(1, min(self.scheduler.max_positions, cost - 1))
            middle = len(requests) // 2
            return self._pass(requests[:middle]) + self._pass(requests[middle:])
        self._count(requests, result)
        return list(zip(requests, result.commits, strict=True))

    def _count(self, chosen: list[Request], result: StepResult) -> None:
        self._counters["num_steps"] += 1
        self._counters["num_nfe"] += len(chosen)
        self._counters["num_positions"] += result.num_positions
        self._counters["num_tokens"] += result.num_tokens
        self._counters["num_masked"] += result.num_masked
        self._counters["num_pairs"] += result.num_pairs
        self._batch_sizes[len(chosen)] += 1

    def _apply(self, request: Request, commit: Commit) -> Progress | None:
        request.num_positions += _need(request).positions
        if request.params.trace:
            request.trace.append(_block_commit(request, commit))
        request.commit(commit)
        done = finished(request, self.model.special.ends)
        length = done[0] if done else visible_length(request, self.model.special.ends)[0]
        fresh = tuple(request.answer[request.released : length].tolist())
        request.released = max(length, request.released)
        if fresh and request.first_text is None:
            request.first_text = time.monotonic()
        if done:
            return Progress(request.request_id, fresh, self._finish(request, *done))
        return Progress(request.request_id, fresh) if fresh else None

    def _finish(self, request: Request, length: int, reason: FinishReason) -> RequestOutput:
        now = time.monotonic()
        self._leave(self._requests.pop(request.request_id))
        self._counters["num_finished"] += 1
        self._counters["num_output_tokens"] += length
        assert request.started is not None
        first = request.first_text
        return RequestOutput(
            request_id=request.request_id,
            prompt_tokens=request.prompt_length,
            token_ids=tuple(request.answer[:length].tolist()),
            finish_reason=reason,
            nfe=request.nfe,
            num_positions=request.num_positions,
            queue_ms=1000 * (request.started - request.arrived),
            ttft_ms=None if first is None else 1000 * (first - request.arrived),
            e2el_ms=1000 * (now - request.arrived),
            trace=tuple(request.trace),
        )

    def _leave(self, request: Request) -> None:
        self.scheduler.remove(request.request_id)
        self.decoder.forget(request)


def _need(request: Request) -> Need:
    """What the request's next pass costs."""
    own = request.next_pass
    first = request.block_step == 0 and request.layout.visibility.sees_suffix
    phase = Phase.REFRESH if own.whole or first else Phase.BLOCK
    return Need(phase, own.num_positions * request.params.num_rows)


def _block_commit(request: Request, commit: Commit) -> BlockCommit:
    return BlockCommit(
        request_id=request.request_id,
        step=request.nfe,
        positions=tuple(commit.positions.tolist()),
        token_ids=tuple(commit.token_ids.tolist()),
        confidences=tuple(commit.confidences.tolist()),
        remasked=tuple(commit.remasked.tolist()),
    )
