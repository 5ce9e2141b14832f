"""One address in front of several servers, for harnesses of others that know just one.

    with relay(["http://a:8000", "http://b:8000"], key=None, record=Path("requests.jsonl"), timeout_s=600,
               max_retries=4, patience_s=600) as there:
        ... run the harness with there.address ...
    if there.error: ...

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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from aiohttp import web

from llada_exp.clients.pool import Pace, Pool, PoolResponse, ServersGone, to_stderr

GENERATION = ("/v1/chat/completions", "/v1/completions")
MAX_BODY = 64 * 2**20
CLIENT_GONE = 499
STOP_S = 1.0
NO_STREAM = (
    "stream is true, and the relay in front of the servers sends a request again if its server goes, which a"
    " stream that has begun allows not: send stream=false, or the request to the server itself"
)
KEPT = ("Content-Type", "Retry-After", "X-Request-Id")


@contextmanager
def relay(
    urls: Sequence[str],
    *,
    key: str | Mapping[str, str | None] | None,
    record: Path | None = None,
    timeout_s: float,
    max_retries: int,
    patience_s: float,
    alive: Callable[[], str | None] = lambda: None,
    tell: Callable[[str], None] = to_stderr,
    concurrency: int | None = None,
    pace: Pace | None = None,
) -> Iterator[Relay]:
    """As `Pool`, whose arguments these are. `alive` and `tell` are called in the relay's thread.

    record: gets a JSON line for each request for text as it ends: path, body (as it was sent), status,
    url, attempts, seconds, usage, llada (what our server says of seed, decoding and cost), finish_reasons,
    texts, error. It is appended to. concurrency: requests at the servers at once; further ones wait.

    Raises ValueError for no url or one that is none, and OSError where the record cannot be opened.
    """
    pool = Pool(urls, key=key, timeout_s=timeout_s, max_retries=max_retries, patience_s=patience_s,
                alive=alive, tell=tell, pace=pace)  # fmt: skip
    with _appending(record) if record else nullcontext() as file:
        own = Relay(pool, file, concurrency, tell)
        thread = threading.Thread(target=own._run, name="relay", daemon=True)
        thread.start()
        try:
            own.address = own._started.result()
            yield own
        finally:
            own._stop()
            thread.join()


class Relay:
    """address: without /v1; error: why it answers 503 to everything, once it does."""

    def __init__(
        self, pool: Pool, record: FileIO | None, concurrency: int | None, tell: Callable[[str], None]
    ) -> None:
        self.address = ""
        self.error: str | None = None
        self._pool = pool
        self._record = record
        self._concurrency = concurrency
        self._tell = tell
        self._started: Future[str] = Future()
        self._loop: asyncio.AbstractEventLoop

    # -- life

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            self.error = self.error or f"the relay failed: {error!r}"

    def _stop(self) -> None:
        with suppress(RuntimeError):  # it ended by itself
            if self._started.exception() is None:
                self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._gate = asyncio.Semaphore(self._concurrency) if self._concurrency else nullcontext()
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._in_shape])
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Cancelling a handler whose client left takes its request from the server, too.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_S)
        async with self._pool:
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self._started.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")
                await self._stopped.wait()
            finally:
                await runner.cleanup()

    # -- requests

    @web.middleware
    async def _in_shape(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Every failure of our own as OpenAI's clients read it."""
        try:
            if self.error is None:
                return await handler(request)
        except ServersGone as gone:
            self.error = str(gone)
        except web.HTTPException as error:
            return _failure(error.status, error.text or error.reason)
        except Exception as error:
            self._tell(f"the relay failed at {request.method} {request.path}: {error!r}")
            return _failure(500, f"the relay failed: {error!r}")
        return _failure(503, self.error or "", "servers_gone")

    async def _handle(self, request: web.Request) -> web.Response:
        data = await request.read() if request.can_read_body else None
        if request.method == "POST" and request.path in GENERATION:
            return await self._generate(request, data or b"")
        return _answer(await self._pool.send(request.method, request.path_qs, data))

    async def _generate(self, request: web.Request, data: bytes) -> web.Response:
        try:
            asked = json.loads(data)
        except (ValueError, RecursionError):
            asked = data.decode(errors="replace")  # the server has words for it
        if isinstance(asked, dict) and asked.get("stream"):
            return _failure(400, NO_STREAM)
        began, exchange, error, status = time.monotonic(), None, None, 503
        try:
            async with self._gate:
                exchange = await self._pool.send("POST", request.path_qs, data, repeat=True)
        except asyncio.CancelledError:
            status, error = CLIENT_GONE, "the relay stopped" if self._stopped.is_set() else "the client went"
            raise
        except ServersGone as gone:
            error = str(gone)
            raise
        finally:
            head = {"path": request.path, "body": asked}
            if exchange is None:
                self._note({**head, **_nothing(status, error, time.monotonic() - began)})
            else:
                self._note({**head, **_summary(exchange)})
        return _answer(exchange)

    def _note(self, line: Mapping[str, Any]) -> None:
        """A record with a hole in it proves nothing: where it cannot be written the relay is at its end."""
        if self._record is None:
            return
        data = json.dumps(line).encode() + b"\n"
        try:
            if self._record.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.error = f"the record {self._record.name} cannot be written: {error.strerror}"
            self._tell(self.error)


def _summary(exchange: PoolResponse) -> dict[str, Any]:
    body = exchange.body
    told = body.get("choices")
    choices = [choice for choice in told if isinstance(choice, dict)] if isinstance(told, list) else []
    return {
        "status": exchange.status,
        "url": exchange.url,
        "attempts": exchange.attempts,
        "seconds": round(exchange.seconds, 6),
        "usage": body.get("usage"),
        "llada": body.get("llada"),
        "finish_reasons": [choice.get("finish_reason") for choice in choices],
        "texts": [_text(choice) for choice in choices],
        "error": None if exchange.status == 200 else body.get("error", body),
    }


def _text(choice: Mapping[str, Any]) -> Any:
    message = choice.get("message")
    return message.get("content") if isinstance(message, dict) else choice.get("text")


def _nothing(status: int, error: str | None, seconds: float) -> dict[str, Any]:
    """The summary of a request that got no answer."""
    unknown = PoolResponse(status, {"error": {"message": error}}, "", 0, seconds)
    return _summary(unknown) | {"url": None}


def _answer(exchange: PoolResponse) -> web.Response:
    """As the server sent it; a 502 where it sent nothing that could be passed on."""
    if exchange.status == 0:
        return web.json_response(exchange.body, status=502)
    headers = {name: exchange.headers[name] for name in KEPT if name in exchange.headers}
    return web.Response(status=exchange.status, body=exchange.data, headers=headers)


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
