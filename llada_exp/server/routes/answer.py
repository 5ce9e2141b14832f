"""One request's answer, put together from its workers' messages: whole, or as events of a stream.

A stream's first piece is awaited before its headers go out, so that an early failure has a real HTTP
status; a later one is an error event that makes clients raise. When a client goes, its jobs are cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from llada_exp.server.processes.messages import Failed, WorkerMessage
from llada_exp.server.routes.errors import GONE, ApiError
from llada_exp.server.routes.replies import DONE, Choice, Reply, sse, usage
from llada_exp.server.state.request_facts import CLIENT_GONE, DEADLINE, RequestFacts, outcome_of
from llada_exp.server.state.waiting import JobGroup

logger = logging.getLogger(__name__)

T = TypeVar("T")


class RequestAnswer:
    """jobs: one for each choice, in their order; max_s: in all, None: no limit; spent_s: of it, so far."""

    def __init__(
        self,
        jobs: JobGroup,
        choices: list[Choice],
        reply: Reply,
        facts: RequestFacts,
        max_s: float | None,
        spent_s: float = 0.0,
    ) -> None:
        self.jobs = jobs
        self.choices = choices
        self.reply = reply
        self.facts = facts
        self.max_s = max_s
        self.until = None if max_s is None else asyncio.get_running_loop().time() + max_s - spent_s

    async def whole(self, http: Request) -> Response:
        try:
            return await unless_gone(http, self._collect())
        finally:
            self.close()

    async def stream(self, http: Request) -> Response:
        try:
            first = await unless_gone(http, self._next_text())
        except BaseException:
            self.close()
            raise
        self.facts.outcome, self.facts.error = "cancelled", GONE  # unless the events come to their end
        return EventStream(self._events(first), self.close)

    def close(self) -> None:
        """Cancel what still runs, and note what there was."""
        self.jobs.close()
        tokens = usage(self.choices)
        self.facts.prompt_tokens = tokens["prompt_tokens"]
        self.facts.output_tokens = tokens["completion_tokens"]

    async def _collect(self) -> Response:
        while not all(choice.done for choice in self.choices):
            choice, text = await self._next_text()
            choice.text += text
        return JSONResponse(self.reply.whole(self.choices))

    async def _events(self, first: tuple[Choice, str]) -> AsyncIterator[str]:
        """Text, ends, usage, [DONE]; or an error as the last event. They may never be asked for."""
        try:
            choice, text = first
            while True:
                if text:
                    self.facts.first_text()
                    yield self.reply.piece(choice, text)
                if choice.done:
                    yield self.reply.end(choice)
                if all(c.done for c in self.choices):
                    break
                choice, text = await self._next_text()
            if self.reply.include_usage:
                yield self.reply.usage_chunk(self.choices)
            self.facts.outcome, self.facts.error = "ok", None
            yield DONE
        except ApiError as error:
            self.facts.outcome, self.facts.error = outcome_of(error.status), error.logged()
            yield sse(error.body())
        except Exception:
            logger.exception("a stream failed")
            self.facts.outcome, self.facts.error = "failed", "internal error; the traceback is above"
            yield sse(ApiError(500, "internal server error").body())
        finally:
            self.close()

    async def _next_text(self) -> tuple[Choice, str]:
        """The next choice that got text or ended. Raises ApiError for a failed one."""
        while True:
            try:
                async with asyncio.timeout_at(self.until):
                    index, message = await self.jobs.next()
            except TimeoutError:
                raise _too_late(self.max_s) from None
            choice = self.choices[index]
            text = take_in(choice, message)
            if choice.done:
                self.facts.finished.append(choice.done)
            if text or choice.done:
                return choice, text


class EventStream(StreamingResponse):
    """Server-sent events. Calls `close` in any case: if the client is gone by now, the events are
    never asked for, and nothing inside them would run."""

    def __init__(self, events: AsyncIterator[str], close: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._close = close

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


async def read_prompts(http: Request, jobs: JobGroup, max_s: float | None) -> Sequence[array[int]]:
    """The ids of a list's prompts, once a worker has read them. Raises ApiError where one is at fault."""

    async def read() -> Sequence[array[int]]:
        while (message := (await jobs.next())[1])["kind"] != "read":
            if message["kind"] == "failed":
                raise _failure(message)
        return message["prompts"]

    try:
        async with asyncio.timeout(max_s):
            return await unless_gone(http, read())
    except TimeoutError:
        raise _too_late(max_s) from None


def _failure(message: Failed) -> ApiError:
    return ApiError(
        message["status"], message["message"], param=message.get("param"), code=message.get("code")
    )


def _too_late(max_s: float | None) -> ApiError:
    assert max_s is not None
    return ApiError(DEADLINE, f"not done within its max_time of {max_s:g} s", code="deadline_exceeded")


def take_in(choice: Choice, message: WorkerMessage) -> str:
    """Write a message into its choice; its text. Raises ApiError for a failure."""
    if message["kind"] == "failed":
        raise _failure(message)
    if message["kind"] == "admitted":
        choice.prompt_tokens, choice.max_tokens = message["prompt_tokens"], message.get("max_tokens")
        return ""
    assert message["kind"] == "piece" or message["kind"] == "done"
    choice.tokens += message.get("tokens", ())
    if message["kind"] == "piece":
        choice.num_tokens = message["num_tokens"]
    else:
        choice.done = message
        choice.num_tokens, choice.prompt_tokens = message["completion_tokens"], message["prompt_tokens"]
    return message["text"]


async def unless_gone(http: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; it is cancelled, and a 499 raised, if the client hangs up first."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hang_up(http))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(CLIENT_GONE, GONE)
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _hang_up(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
