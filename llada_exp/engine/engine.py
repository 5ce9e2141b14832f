"""Requests in, tokens out: admission, one step of every chosen request, finish.

Knows token ids only: tokenizer, HTTP and configuration are other layers' business. Not
thread-safe: one thread calls it.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llada_exp.engine.attention import pool_positions
from llada_exp.engine.budget import step_positions
from llada_exp.engine.commits import Commit
from llada_exp.engine.decoder import Decoder
from llada_exp.engine.effective import effective
from llada_exp.engine.errors import explained, is_out_of_memory
from llada_exp.engine.finish import ends_of, finished, visible_length
from llada_exp.engine.forward import forward_of
from llada_exp.engine.halves import in_halves
from llada_exp.engine.layout import Layout
from llada_exp.engine.needs import need_of
from llada_exp.engine.prompt_ids import checked_ids
from llada_exp.engine.request import FindStop, Request
from llada_exp.engine.scheduler import Scheduler
from llada_exp.engine.sharing import complete, proceed
from llada_exp.fields import ContextLengthError
from llada_exp.models.base import Model
from llada_exp.types import DecodingParams, FinishReason, Progress, RequestOutput

OnFailure = Callable[[str, Exception], None]
"""(request id, why it cannot go on)."""
COUNTERS = (
    "num_out_of_memory", "num_failed", "num_steps", "num_nfe", "num_finished", "num_aborted",
    "num_output_tokens", "num_store_passes", "num_positions", "num_tokens_forwarded", "num_logit_rows",
    "num_attention_pairs",
)  # fmt: skip


class EngineCore:
    """batch_size: rows in flight. max_positions: forwarded in one step, None = as suits the device.
    max_length: longest row (prompt and canvas), None = the model's own.
    kv_positions: of the K/V memory that rows in flight share: each takes prompt and canvas, rounded up
                  to 64 where `exact`, else to 16. None = `batch_size` rows of `max_length`.
    share_prefixes: requests share K/V of the blocks that their prompts begin with, where a model's blocks see
                  nothing beyond themselves.
    scheduling: continuous, or lockstep (a baseline to measure against).
    exact: keep a request's bits independent of its company; None = on the CPU, where it is cheap.
    attention: kernel where not `exact`: sdpa, flex, varlen; None = varlen where it is there, else sdpa.
    capture: steps of few tokens there: none, cuda_graph, inductor, trace; None = cuda_graph on CUDA.

    Raises ValueError naming the argument.
    """

    def __init__(
        self,
        model: Model,
        *,
        batch_size: int = 16,
        max_positions: int | None = None,
        max_length: int | None = None,
        kv_positions: int | None = None,
        share_prefixes: bool = True,
        scheduling: str = "continuous",
        exact: bool | None = None,
        attention: str | None = None,
        capture: str | None = None,
    ) -> None:
        longest = model.shape.max_length
        if max_length is not None and not 1 <= max_length <= longest:
            raise ValueError(f"max_length is {max_length}; expected from 1 to the model's {longest}")
        self.model = model
        self.max_length = max_length or longest
        budget = step_positions(max_positions, model.device)
        self._prompt_positions = budget
        self.scheduler = Scheduler(batch_size, budget, scheduling)
        forward = forward_of(model, batch_size, exact, attention, capture)
        pool = pool_positions(kv_positions, batch_size, self.max_length, forward is None)
        self.decoder = Decoder(model, pool, forward, share_prefixes)
        self._requests: dict[str, Request] = {}
        self._names = itertools.count()
        self._counters: Counter[str] = Counter()
        self._batch_sizes: Counter[int] = Counter()

    def prepare(self) -> None:
        """Before the first request: capture steps on a device, which else the first requests wait for."""
        self.decoder.prepare(self.max_length)

    def add_request(
        self,
        prompt_ids: Sequence[int],
        params: DecodingParams,
        *,
        request_id: str | None = None,
        find_stop: FindStop | None = None,
    ) -> str:
        """Queue a request; it is admitted by a later `step` when its rows are free.

        Raises ValueError for an empty prompt, a row that is too long (also for the K/V memory), ids out of
        range, mask ids in the prompt, a request id in use, and guided requests where batch_size is 1.
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
            ends=ends_of(params, self.model.special.ends),
            find_stop=find_stop,
            chunk=self._chunk(layout, params),
            arrived=time.monotonic(),
        )
        return request_id

    def has_capacity(self, num_rows: int = 1) -> bool:
        """Whether a request of so many rows would be admitted by the next step."""
        return self.scheduler.free_rows >= num_rows

    def has_work(self) -> bool:
        return bool(self._requests)

    def step(self, on_failure: OnFailure | None = None) -> list[Progress]:
        """One pass of the requests whose turn it is; returns what changed. Never blocks.

        on_failure: called for each request whose pass raises, by itself or by what it needs of memory: it is
                    forgotten, and the others go on as if it had never been there. Without it the first such
                    error is raised, and no request has changed.

        Raises DeviceLostError where only a new process helps.
        """
        requests = self._schedule()
        results = self._run(requests)
        errors = [result for result in results if isinstance(result, Exception)]
        if errors and on_failure is None:
            raise errors[0]
        progress = []
        for request, result in zip(requests, results, strict=True):
            try:
                if isinstance(result, Exception):
                    raise result
                progress += self._apply(request, result)
            except Exception as error:
                if on_failure is None:
                    raise
                self._forget(request)
                self._counters["num_failed"] += 1
                on_failure(request.request_id, explained(error))
        return progress

    def abort(self, request_id: str) -> bool:
        """Forget a request at any time; its rows are free in the next step. False if unknown."""
        if request_id not in self._requests:
            return False
        self._forget(self._requests[request_id])
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
            **self.decoder.kv.stats(),
            **{name: c[name] for name in COUNTERS},
            "useful_position_ratio": c["num_logit_rows"] / max(1, c["num_positions"]),
            "packing_efficiency": c["num_tokens_forwarded"] / max(1, c["num_positions"]),
            "batch_size_histogram": dict(sorted(self._batch_sizes.items())),
        }

    def check(self, prompt_ids: Sequence[int], params: DecodingParams) -> None:
        """Raises ValueError as `add_request` does where such a request cannot be decoded."""
        self._layout(len(self._checked_prompt(prompt_ids)), self.effective(params))

    def longest_prompt(self, params: DecodingParams) -> int:
        """Tokens of the longest prompt for which such a request's row is held; below 1: none."""
        block_length = self.effective(params).block_length
        assert block_length is not None
        limit = self._longest_row(params)
        if self.model.visibility.anchored:
            limit -= limit % block_length
        return limit - params.max_tokens

    def effective(self, params: DecodingParams) -> DecodingParams:
        """The parameters by which this model decodes such a request: `block_length` None becomes the
        checkpoint's own, `seed` None 0, `early_eos` false where the family ends after a block alone. Raises
        DecodingError for what its visibility rules out."""
        return effective(params, self.model)

    def decodes(self, params: DecodingParams) -> bool:
        """Whether the model's visibility rules nothing of it out."""
        try:
            self.effective(params)
        except ValueError:
            return False
        return True

    def _longest_row(self, params: DecodingParams) -> int:
        """Positions of the longest row of such a request: the K/V memory, too, may set it."""
        most = self.decoder.longest_row(params.num_rows)
        return min(self.max_length, most) if self.decoder.holds_memory(params) else self.max_length

    def _layout(self, prompt_length: int, params: DecodingParams) -> Layout:
        """Raises ValueError where the row is too long."""
        assert params.block_length is not None
        model, limit = self.model, self._longest_row(params)
        layout = Layout(prompt_length, params.max_tokens, params.block_length, model.visibility, model.shift)
        if layout.length > limit:
            blocks = layout.length if model.visibility.anchored else None
            raise ContextLengthError(limit, prompt_length, params.max_tokens, params.block_length, blocks)
        return layout

    def _chunk(self, layout: Layout, params: DecodingParams) -> int:
        """Positions of a pass that only stores: whole blocks, as many as the budget holds."""
        if layout.visibility.kind == "block_context":  # all of a prompt sees all of it
            return layout.length
        whole = self._prompt_positions // params.num_rows // layout.block_length * layout.block_length
        return max(whole, layout.block_length)

    def _checked_prompt(self, prompt_ids: Sequence[int]) -> np.ndarray:
        return checked_ids(prompt_ids, self.model.shape.vocab_size, self.model.special.mask)

    def _schedule(self) -> list[Request]:
        """Admit what fits, and choose among all that runs."""
        now = time.monotonic()
        self.scheduler.admit(lambda request_id: self.decoder.reserve(self._requests[request_id]))
        running = [self._requests[request_id] for request_id in self.scheduler.running]
        needs = {r.request_id: need_of(r) for r in running if proceed(self.decoder.kv, r)}
        chosen = [self._requests[request_id] for request_id in self.scheduler.choose(needs)]
        for request in chosen:
            request.started = now if request.started is None else request.started
        return chosen

    def _run(self, requests: Sequence[Request]) -> list[Commit | Exception]:
        """One pass of each, or why there is none. Where a pass of several raises, it is run again in halves:
        a pass that raises has changed no request."""
        if not requests:
            return []
        before = self._counters["num_out_of_memory"]
        results = in_halves(self._pass, requests, self.model.device, self._lower_budget)
        if self._counters["num_out_of_memory"] == before:
            self.scheduler.count_whole_step()
        return results

    def _lower_budget(self, requests: Sequence[Request]) -> None:
        """These did not fit together. (A request that fits in no company says nothing of the budget.)"""
        self.scheduler.lower_budget(sum(need_of(r).positions for r in requests) - 1)

    def _pass(self, requests: Sequence[Request]) -> list[Commit | Exception]:
        try:
            result = self.decoder.run(requests)
        except Exception as error:
            self._counters["num_out_of_memory"] += is_out_of_memory(error)
            raise
        self._counters.update(result.counts)
        self._batch_sizes[len(requests)] += 1
        return list(result.commits)

    def _apply(self, request: Request, commit: Commit) -> list[Progress]:
        """What was decided; where the text grew or the request is done, what is new."""
        request.num_positions += need_of(request).positions
        request.commit(commit)
        complete(self.decoder.kv, request)
        done = request.ending or finished(request)
        length = done[0] if done else visible_length(request)[0]
        token_ids, logprobs = request.release(length)
        request.ending = done
        output = self._finish(request, *done) if done and request.is_stored else None
        if not token_ids and output is None:
            return []
        return [Progress(request.request_id, token_ids, output, logprobs)]

    def _finish(self, request: Request, length: int, reason: FinishReason) -> RequestOutput:
        self._forget(request)
        self._counters["num_finished"] += 1
        self._counters["num_output_tokens"] += length
        return request.output(length, reason)

    def _forget(self, request: Request) -> None:
        self._requests.pop(request.request_id, None)
        self.scheduler.remove(request.request_id)
        self.decoder.forget(request)
