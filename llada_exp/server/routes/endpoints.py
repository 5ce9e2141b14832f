"""Every route of the server, on one authorisation and one shape of error.

Knows HTTP and OpenAI's protocol, and asks the state; knows nothing of workers and engines.
"""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from contextlib import closing
from typing import Any, Literal

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from llada_exp.decoding import describe
from llada_exp.server.processes.messages import DecodeJob
from llada_exp.server.processes.shared_state import STARTING
from llada_exp.server.routes.answer import RequestAnswer, read_prompts
from llada_exp.server.routes.auth import KeyCheck
from llada_exp.server.routes.body import Body, BodyReader, Turn
from llada_exp.server.routes.documentation import install_documentation
from llada_exp.server.routes.errors import ApiError, install_handlers
from llada_exp.server.routes.model_names import ModelNames
from llada_exp.server.routes.openapi import describe_api
from llada_exp.server.routes.prompt_room import SHORT_BYTES, SHORT_IDS, PromptRoom
from llada_exp.server.routes.replies import Choice, Reply
from llada_exp.server.routes.request_decoding import MAX_SEED_SENT, algorithms, for_choices, resolve
from llada_exp.server.routes.request_log import RequestLog
from llada_exp.server.routes.schema import (
    MAX_CHOICES,
    ChatRequest,
    CompletionRequest,
    Generation,
    text_options,
)
from llada_exp.server.state.request_facts import RequestFacts
from llada_exp.server.state.status import ServerStatus, versions
from llada_exp.server.state.waiting import JobGroup

MAX_JOBS = 4096
WAIT_TICK_S = 0.1


def install(app: FastAPI, status: ServerStatus, key_check: KeyCheck, bodies: BodyReader) -> None:
    """Give an application every route, and what stands around them."""
    routes = Endpoints(status, key_check.is_set, bodies)
    for path, endpoint, method in (
        ("/v1/chat/completions", routes.chat, "POST"),
        ("/v1/completions", routes.completions, "POST"),
        ("/v1/models", routes.models, "GET"),
        ("/v1/models/{model:path}", routes.model, "GET"),
        ("/", routes.wait, "PUT"),
        ("/v1", routes.wait, "PUT"),
        ("/v1", routes.root, "GET"),
        ("/health", routes.health, "GET"),
        ("/batch/stats", routes.batch_stats, "GET"),
        ("/generation/algorithms", routes.algorithms, "GET"),
        ("/stats", routes.stats, "GET"),
        ("/worker-status", routes.worker_status, "GET"),
        ("/metrics", routes.metrics, "GET"),
        ("/info", routes.info, "GET"),
    ):
        app.add_api_route(path, endpoint, methods=[method], dependencies=[Depends(key_check.check)])
    install_documentation(app)
    install_handlers(app)
    describe_api(app, versions()["llada_exp"])
    limits = status.settings.server
    app.add_middleware(
        RequestLog,
        count=status.metrics.count,
        max_headers=limits.max_headers,
        max_body=limits.max_body_mb * 2**20,
    )


class Endpoints:
    def __init__(self, status: ServerStatus, has_key: bool, bodies: BodyReader) -> None:
        self.status = status
        self.bodies = bodies
        self.has_key = has_key
        self.limits = status.settings.server
        self.ignores_unknown = self.limits.extra_fields == "ignore"
        self.names = ModelNames(status.settings.model)
        seed = status.settings.seed
        self._seeds = random.SystemRandom() if seed is None else random.Random(seed)

    async def chat(self, http: Request) -> Response:
        with closing(self.bodies.turn()) as turn:
            request = await self._read(http, turn, ChatRequest)
            messages = [message.plain() for message in request.messages]
            return await self._answer(http, turn, request, True, [messages])

    async def completions(self, http: Request) -> Response:
        with closing(self.bodies.turn()) as turn:
            request = await self._read(http, turn, CompletionRequest)
            return await self._answer(http, turn, request, False, request.prompts())

    async def models(self) -> Response:
        return JSONResponse({"object": "list", "data": [self.names.card(self.status.created)]})

    async def model(self, model: str) -> Response:
        self.names.check(model)
        return JSONResponse(self.names.card(self.status.created))

    async def root(self) -> Response:
        return JSONResponse({"status": self.status.word()})

    async def wait(self) -> Response:
        """NeMo-Skills waits for any answer here, whatever its status, then asks all at once and gives up at
        the first error: so there is none while the model is loaded."""
        while self.status.word() == STARTING:
            await asyncio.sleep(WAIT_TICK_S)
        return await self.root()

    async def health(self) -> Response:
        body = self.status.health()
        return JSONResponse(body, 200 if body["status"] == "ready" else 503)

    async def batch_stats(self) -> Response:
        return JSONResponse(self.status.batch_stats())

    async def stats(self, http: Request) -> Response:
        return JSONResponse(self.status.stats(str(http.base_url).rstrip("/")))

    async def worker_status(self, http: Request) -> Response:
        return JSONResponse(self.status.worker_summary(str(http.base_url).rstrip("/")))

    async def metrics(self) -> Response:
        return Response(self.status.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def info(self) -> Response:
        return JSONResponse(self.status.info(self.has_key))

    async def algorithms(self) -> Response:
        return JSONResponse({"algorithms": algorithms()})

    async def _read(self, http: Request, turn: Turn, kind: type[Body]) -> Body:
        room, limits = self.status.room(), self.limits
        return await self.bodies.read(
            http, turn, kind, room and PromptRoom(*room), self.ignores_unknown, limits.max_messages
        )

    async def _answer(
        self, http: Request, turn: Turn, request: Generation, chat: bool, prompts: list[Any]
    ) -> Response:
        """turn: closed once the prompts are tokens."""
        facts: RequestFacts = http.scope["facts"]
        facts.stream, facts.model = bool(request.stream), self.names.name
        facts.prompt = [_plain(prompt) for prompt in prompts] if self.limits.log_prompts else None
        self.names.check(request.model)
        if not self.status.takes_requests():
            raise ApiError(503, f"the server is {self.status.word()}", code="not_ready")
        num = request.n or 1
        if num * len(prompts) > MAX_JOBS:
            raise ApiError(400, f"n times prompts is {num * len(prompts)}; at most {MAX_JOBS}", param="n")
        assert num <= MAX_CHOICES
        seed = request.value_of("seed")
        is_fresh = seed is None
        if is_fresh:
            seed = self._seeds.randrange(MAX_SEED_SENT)
        decoding = resolve(request, self.status.preset(), seed)
        beside = text_options(request)
        jobs: list[DecodeJob] = [
            {"kind": _kind(chat, prompts[i // num]), "prompt": prompts[i // num], "params": params,
             "stream": bool(request.stream), **beside}
            for i, params in enumerate(for_choices(decoding.params, len(prompts), num, is_fresh))
        ]  # fmt: skip
        self._check_queue(len(jobs))
        facts.num_choices, facts.seed = len(jobs), decoding.params.seed
        choices = [Choice(i, job["params"].seed or 0, i // num) for i, job in enumerate(jobs)]
        options = request.stream_options
        reply = Reply(
            chat=chat,
            model=request.model or self.names.name,
            decoding=describe(decoding.params),
            warnings=[*request.warnings, *decoding.warnings],
            include_usage=bool(options and options.include_usage),
            continuous_usage=bool(options and options.continuous_usage_stats),
            logprobs=decoding.params.logprobs is not None,
        )
        began, max_s = time.monotonic(), request.max_time or self.limits.max_time
        try:
            group = await self._submit(http, jobs, num, max_s)
        except (EOFError, ConnectionError):
            raise ApiError(503, "the server is stopping", code="not_ready") from None
        request.forget_prompts()
        prompts.clear()
        turn.close()
        answer = RequestAnswer(group, choices, reply, facts, max_s, time.monotonic() - began)
        return await (answer.stream(http) if request.stream else answer.whole(http))

    async def _submit(self, http: Request, jobs: list[DecodeJob], num: int, max_s: float | None) -> JobGroup:
        """jobs: of `num` choices a prompt. A list of prompts, or a long one, is read as a whole before any is
        decoded. Raises ApiError, EOFError and ConnectionError."""
        waiting, prompts = self.status.waiting, jobs[::num]
        if len(prompts) == 1 and _is_short(prompts[0]):
            return waiting.open(jobs)
        if len(prompts) > 1:
            for index, job in enumerate(prompts):
                job["place"] = f"prompt[{index}]"
        with closing(waiting.open_reading(prompts)) as reading:
            ids = await read_prompts(http, reading, max_s)
            for index, job in enumerate(jobs):
                job["kind"], job["prompt"] = "ids", ids[index // num]
            return waiting.open(jobs)

    def _check_queue(self, num_jobs: int) -> None:
        """Raises a 429 ApiError where the queue cannot take so many more."""
        limit, waiting = self.limits.max_queue, self.status.waiting
        if not limit or waiting.num_open + num_jobs <= limit:  # first, as it costs nothing
            return
        if (pending := waiting.num_pending) + num_jobs > limit:
            raise ApiError(429, f"the queue is full: {pending} of at most {limit} answers wait; try again",
                           code="queue_full")  # fmt: skip


def _is_short(job: DecodeJob) -> bool:
    """Whether a worker makes tokens of it between two steps, unnoticed; of others, once and beside them."""
    prompt = job["prompt"]
    if job["kind"] == "chat":
        return sum(len(message["content"]) for message in prompt) <= SHORT_BYTES
    return len(prompt) <= (SHORT_IDS if job["kind"] == "ids" else SHORT_BYTES)


def _plain(prompt: Any) -> Any:
    """As the log writes it."""
    return list(prompt) if isinstance(prompt, array) else prompt


def _kind(chat: bool, prompt: Any) -> Literal["chat", "text", "ids"]:
    if chat:
        return "chat"
    return "text" if isinstance(prompt, str) else "ids"
