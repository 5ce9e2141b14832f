"""Every route of the server, on one queue and one authorisation.

A stream's first piece is awaited before its headers go out, so that an early failure has a real HTTP
status; a later one is an error event that makes clients raise. When a client goes, its jobs are
cancelled. Knows HTTP and OpenAI's protocol; knows nothing of workers and engines.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from litserve.specs.base import LitSpec
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from llada_exp.decoding import describe
from llada_exp.server.processes.messages import Job, Message
from llada_exp.server.processes.shared_state import STARTING
from llada_exp.server.routes.errors import ApiError, bad_request
from llada_exp.server.routes.replies import DONE, Choice, Reply, sse, usage
from llada_exp.server.routes.request_decoding import algorithms, for_choice, resolve
from llada_exp.server.routes.request_log import CLIENT_GONE, DEADLINE, Record
from llada_exp.server.routes.schema import MAX_CHOICES, ChatRequest, CompletionRequest, Generation, parse
from llada_exp.server.state.status import Names
from llada_exp.server.state.waiting import Flight
from llada_exp.settings import ServeSettings

if TYPE_CHECKING:
    from llada_exp.server.app import Server

logger = logging.getLogger(__name__)

T = TypeVar("T")
MAX_JOBS = 4096
WAIT_TICK_S = 0.1


class OpenSpec(LitSpec):
    def __init__(self, settings: ServeSettings) -> None:
        super().__init__()
        self.api_path = "/v1"
        self.settings = settings
        self.names = Names(settings.model)
        for path, endpoint, method in (
            ("/v1/chat/completions", self.chat, "POST"),
            ("/v1/completions", self.completions, "POST"),
            ("/v1/models", self.models, "GET"),
            ("/v1/models/{model:path}", self.model, "GET"),
            ("/", self.wait, "PUT"),
            ("/v1", self.wait, "PUT"),
            ("/v1", self.root, "GET"),
            ("/health", self.health, "GET"),
            ("/batch/stats", self.batch_stats, "GET"),
            ("/generation/algorithms", self.algorithms, "GET"),
            ("/stats", self.stats, "GET"),
            ("/worker-status", self.worker_status, "GET"),
            ("/metrics", self.metrics, "GET"),
            ("/info", self.info, "GET"),
        ):
            self.add_endpoint(path, endpoint, [method])

    def __getstate__(self) -> dict[str, Any]:
        """A worker needs nothing of this; the response buffer could not be pickled under load."""
        return {"_server": None, "api_path": self.api_path, "settings": self.settings}

    @property
    def stream(self) -> bool:
        return True

    def setup(self, server: Any) -> None:
        """The exchange has the queue and the buffer."""

    @property
    def server(self) -> Server:
        return self._server

    async def chat(self, http: Request) -> Response:
        request = parse(ChatRequest, await http.body(), self.settings.server.extra_fields == "ignore")
        limit = self.settings.server.max_messages
        if len(request.messages) > limit:
            raise bad_request(f"messages has {len(request.messages)} entries; at most {limit}", "messages")
        messages = [message.plain() for message in request.messages]
        return await self._answer(http, request, True, [messages])

    async def completions(self, http: Request) -> Response:
        request = parse(CompletionRequest, await http.body(), self.settings.server.extra_fields == "ignore")
        return await self._answer(http, request, False, request.prompts())

    async def models(self) -> Response:
        return JSONResponse({"object": "list", "data": [self.names.card(self.server.created)]})

    async def model(self, model: str) -> Response:
        self.names.check(model)
        return JSONResponse(self.names.card(self.server.created))

    async def root(self) -> Response:
        return JSONResponse({"status": self.server.status()})

    async def wait(self) -> Response:
        """NeMo-Skills waits for any answer here, whatever its status, then asks all at once and gives up at
        the first error: so there is none while the model is loaded."""
        while self.server.status() == STARTING:
            await asyncio.sleep(WAIT_TICK_S)
        return await self.root()

    async def health(self) -> Response:
        body = self.server.health()
        return JSONResponse(body, 200 if body["status"] == "ready" else 503)

    async def batch_stats(self) -> Response:
        return JSONResponse(self.server.figures.batch_stats())

    async def stats(self) -> Response:
        return JSONResponse(self.server.figures.stats())

    async def worker_status(self) -> Response:
        return JSONResponse({"workers": self.server.figures.worker_status()})

    async def metrics(self) -> Response:
        return Response(self.server.figures.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def info(self) -> Response:
        return JSONResponse(self.server.figures.info())

    async def algorithms(self) -> Response:
        return JSONResponse({"algorithms": algorithms()})

    async def _answer(self, http: Request, request: Generation, chat: bool, prompts: list[Any]) -> Response:
        record: Record = http.scope["record"]
        record.stream, record.model = bool(request.stream), self.names.name
        record.prompt = prompts if self.settings.server.log_prompts else None
        self.names.check(request.model)
        self.server.check_ready()
        num = request.n or 1
        if num * len(prompts) > MAX_JOBS:
            raise ApiError(400, f"n times prompts is {num * len(prompts)}; at most {MAX_JOBS}", param="n")
        assert num <= MAX_CHOICES
        seed = request.given("seed")
        decoding = resolve(request, self.server.preset(), self.server.fresh_seed() if seed is None else seed)
        per_choice = [for_choice(decoding.params, i) for i in range(num)]
        jobs: list[Job] = [
            {"kind": _kind(chat, prompt), "prompt": prompt, "params": own, "stream": bool(request.stream)}
            for prompt in prompts
            for own in per_choice
        ]
        self.server.check_queue(len(jobs))
        record.num_choices, record.seed = len(jobs), decoding.params.seed
        choices = [Choice(i, job["params"].seed, i // num) for i, job in enumerate(jobs)]
        options = request.stream_options
        reply = Reply(
            chat=chat,
            model=request.model or self.names.name,
            decoding=describe(decoding.params),
            warnings=decoding.warnings,
            include_usage=bool(options and options.include_usage),
            continuous_usage=bool(options and options.continuous_usage_stats),
        )
        try:
            flight = self.server.exchange.open(jobs)
        except (EOFError, ConnectionError):
            raise ApiError(503, "the server is stopping", code="not_ready") from None
        limit = request.max_time or self.settings.server.max_time
        talk = Talk(flight, choices, reply, record, limit)
        return await (talk.stream(http) if request.stream else talk.whole(http))


def _kind(chat: bool, prompt: Any) -> Literal["chat", "text", "ids"]:
    if chat:
        return "chat"
    return "text" if isinstance(prompt, str) else "ids"


class Talk:
    """One request's answer being put together from its flight. max_s: from now; None: no limit."""

    def __init__(
        self, flight: Flight, choices: list[Choice], reply: Reply, record: Record, max_s: float | None
    ) -> None:
        self.flight = flight
        self.choices = choices
        self.reply = reply
        self.record = record
        self.max_s = max_s
        self.until = None if max_s is None else asyncio.get_running_loop().time() + max_s

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
        self.record.outcome = "cancelled"  # unless the events come to their end
        return EventStream(self._events(first), self.close)

    def close(self) -> None:
        """Cancel what still runs, and note what there was."""
        self.flight.close()
        told = usage(self.choices)
        self.record.prompt_tokens, self.record.output_tokens = (
            told["prompt_tokens"],
            told["completion_tokens"],
        )

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
                    self.record.first_text()
                    yield self.reply.piece(choice, text, self.choices)
                if choice.done:
                    yield self.reply.end(choice, self.choices)
                if all(c.done for c in self.choices):
                    break
                choice, text = await self._next_text()
            if self.reply.include_usage:
                yield self.reply.usage_chunk(self.choices)
            self.record.outcome = "ok"
            yield DONE
        except ApiError as error:
            self.record.failed(error)
            yield sse(error.body())
        except Exception:
            logger.exception("a stream failed")
            self.record.outcome = "failed"
            yield sse(ApiError(500, "internal server error").body())
        finally:
            self.close()

    async def _next_text(self) -> tuple[Choice, str]:
        """The next choice that got text or ended. Raises ApiError for a failed one."""
        while True:
            try:
                async with asyncio.timeout_at(self.until):
                    index, message = await self.flight.next()
            except TimeoutError:
                raise ApiError(
                    DEADLINE, f"not done within its max_time of {self.max_s:g} s", code="deadline_exceeded"
                ) from None
            choice = self.choices[index]
            text = _book(choice, message)
            if choice.done:
                self.record.finished.append(choice.done)
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


def _book(choice: Choice, message: Message) -> str:
    """Write a message into its choice; its text."""
    if message["kind"] == "failed":
        raise ApiError(
            message["status"], message["message"], param=message.get("param"), code=message.get("code")
        )
    if message["kind"] == "admitted":
        choice.prompt_tokens = message["prompt_tokens"]
        return ""
    if message["kind"] == "piece":
        choice.num_tokens = message["num_tokens"]
        return message["text"]
    choice.done = message
    choice.num_tokens, choice.prompt_tokens = message["completion_tokens"], message["prompt_tokens"]
    return message["text"]


async def unless_gone(http: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; it is cancelled, and a 499 raised, if the client hangs up first."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hang_up(http))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(CLIENT_GONE, "the client closed the connection")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _hang_up(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
