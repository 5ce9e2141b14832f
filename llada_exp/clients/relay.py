"""One address in front of several servers, for harnesses of others that know just one.

    pool = Pool(["http://a:8000", "http://b:8000"], key=None, timeout_s=600, max_retries=4, patience_s=600)
    with relay(pool, record=Path("requests.jsonl")) as address:
        ... run the harness with address.url ...
    if address.error: ...

A small HTTP server on the loopback interface, in a thread of its own, that sends everything on through a
pool: harnesses get its patience, and the key is sent for them. It writes down what was asked and what the
server says that it used, which is what a score stands on. Knows OpenAI's protocol; knows no harness.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from io import FileIO
from pathlib import Path
from typing import Any

from aiohttp import web

from llada_exp.clients.pool import Pool, PoolResponse, ServersGone
from llada_exp.clients.reply import error_text, plain_reply

GENERATION = ("/v1/chat/completions", "/v1/completions")
MAX_BODY = 64 * 2**20
CLIENT_GONE = 499
STOP_S = 1.0
NO_STREAM = (
    "stream is true, and the relay in front of the servers sends a request again if its server goes, which a"
    " stream that has begun allows not: send stream=false, or the request to the server itself"
)
StandsIn = Callable[[int, str, Any], bool]
PASSED_HEADERS = ("Content-Type", "Retry-After", "X-Request-Id")


@contextmanager
def relay(pool: Pool, record: Path | None = None, stands_in: StandsIn | None = None) -> Iterator[Relay]:
    """pool: not entered yet; what it is made with is called in the relay's thread.

    record: gets a JSON line for each request for text as it ends: path, body (as it was sent), status,
    url, attempts, seconds, usage, llada (what our server says of seed, decoding and cost), finish_reasons,
    texts, error. It is appended to.

    stands_in: for a harness that dies of one bad answer: (status, why, body) of a request for text that
    failed in the end, or whose answer is none by its shape -> whether an empty text is answered for it. The
    record has it as a failure. Good answers are then passed on in OpenAI's plain shape; without it all are as
    they came.

    Raises OSError where the record cannot be opened.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="relay", daemon=True)

    def run(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result()

    with _appending(record) if record else nullcontext() as file:
        thread.start()
        try:
            stack, address = AsyncExitStack(), Relay(pool, file, stands_in)
            run(stack.enter_async_context(address.serving()))
            try:
                yield address
            finally:
                run(stack.aclose())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class Relay:
    """url: without /v1; error: why it answers 503 to everything, once it does."""

    def __init__(self, pool: Pool, record: FileIO | None, stands_in: StandsIn | None) -> None:
        self.url = ""
        self.error: str | None = None
        self._pool = pool
        self._record = record
        self._stands_in = stands_in
        self._stopping = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._shape_failures])
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Cancelling a handler whose client left takes its request from the server, too.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_S)
        async with self._pool:
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield
            finally:
                self._stopping = True
                await runner.cleanup()

    @web.middleware
    async def _shape_failures(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Every failure of the relay's as OpenAI's clients read it."""
        try:
            if self.error is None:
                return await handler(request)
        except ServersGone as gone:
            self.error = str(gone)
        except web.HTTPException as error:
            return _failure(error.status, error.text or error.reason)
        except Exception as error:
            self._pool.tell(f"the relay failed at {request.method} {request.path}: {error!r}")
            return _failure(500, f"the relay failed: {error!r}")
        return _failure(503, self.error or "", "servers_gone")

    async def _handle(self, request: web.Request) -> web.Response:
        data = await request.read() if request.can_read_body else None
        if request.method == "POST" and request.path in GENERATION:
            return await self._generate(request, data or b"")
        return _passed_on(await self._pool.send(request.method, request.path_qs, data))

    async def _generate(self, request: web.Request, data: bytes) -> web.Response:
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            body = data.decode(errors="replace")  # the server has words for it
        if isinstance(body, dict) and body.get("stream"):
            return _failure(400, NO_STREAM)
        began = time.monotonic()
        try:
            response = await self._pool.send("POST", request.path_qs, data, repeat=True)
        except BaseException as error:
            status, reason = 503, str(error)
            if isinstance(error, asyncio.CancelledError):
                status, reason = CLIENT_GONE, "the relay stopped" if self._stopping else "the client went"
            nothing = {"error": {"message": reason}}
            self._note(request.path, body, PoolResponse(status, nothing, "", 0, time.monotonic() - began))
            raise
        self._note(request.path, body, response)
        why, is_chat = _failure_of(response), "chat" in request.path
        if self._stands_in is None:
            return _passed_on(response)
        if why is None:
            return web.json_response(plain_reply(response.body, is_chat))
        if self._stands_in(response.status, why, body):
            return web.json_response(_empty(body, is_chat))
        return _passed_on(response)

    def _note(self, path: str, body: Any, response: PoolResponse) -> None:
        """A record with a hole in it proves nothing: where it cannot be written the relay is at its end."""
        if self._record is None:
            return
        data = json.dumps({"path": path, "body": body, **_summary(response)}).encode() + b"\n"
        try:
            if self._record.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.error = f"the record {self._record.name} cannot be written: {error.strerror}"
            self._pool.tell(self.error)


def _failure_of(response: PoolResponse) -> str | None:
    """Why it is no answer, in words; None where it is one."""
    if response.status != 200:
        return error_text(response.body)
    try:
        plain_reply(response.body, is_chat=True)
        return None
    except ValueError as error:
        return str(error)


def _empty(body: Any, is_chat: bool) -> dict[str, Any]:
    """An answer without text."""
    model = body.get("model") if isinstance(body, dict) else None
    return plain_reply({"id": "failed", "model": model, "choices": [{"text": ""}]}, is_chat)


def _summary(response: PoolResponse) -> dict[str, Any]:
    body, why = response.body, _failure_of(response)
    choices = body["choices"] if why is None else []
    return {
        "status": response.status,
        "url": response.url or None,
        "attempts": response.attempts,
        "seconds": round(response.seconds, 6),
        "usage": body.get("usage"),
        "llada": body.get("llada"),
        "finish_reasons": [choice.get("finish_reason") for choice in choices],
        "texts": [_text(choice) for choice in choices],
        "error": _error(response, why),
    }


def _error(response: PoolResponse, why: str | None) -> Any:
    return {"message": why} if why and response.status == 200 else response.body.get("error", why)


def _text(choice: dict[str, Any]) -> Any:
    message = choice.get("message")
    return message.get("content") if isinstance(message, dict) else choice.get("text")


def _passed_on(response: PoolResponse) -> web.Response:
    """As the server sent it; a 502 where it sent nothing that could be passed on."""
    if response.status == 0:
        return web.json_response(response.body, status=502)
    headers = {name: response.headers[name] for name in PASSED_HEADERS if name in response.headers}
    return web.Response(status=response.status, body=response.data, headers=headers)


def _failure(status: int, message: str, code: str | None = None) -> web.Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=status)


def _appending(path: Path) -> FileIO:
    """Opened for whole lines: half of one, from a run that was killed, is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b", buffering=0)  # a line is there once it is written
    if file.tell():
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.write(b"\n")
    return file
