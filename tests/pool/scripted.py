"""Servers that fail as they are told, in the test's own event loop: what real ones do rarely."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress

from aiohttp import web

from llada_exp.clients.pool import Pace, Pool

PATH = "/v1/chat/completions"
FAST = Pace(first=0.01, longest=0.05, poll=0.05, health=0.4, tick=0.02, tell=0.1)


def lasting_port() -> int:
    """A free one that no connection is given as its own while its server is away, as it is with port 0."""
    while True:
        port = random.SystemRandom().randrange(12_000, 30_000)
        with closing(socket.socket()) as there, suppress(OSError):
            there.bind(("127.0.0.1", port))
            return port


class Scripted:
    """`script`: what the next POSTs get, one after the other, and `default` what later ones get;
    `health`: what /health gets. `bodies`: what was posted."""

    def __init__(self, *script: Step, default: Step | None = None) -> None:
        self.script = list(script)
        self.default = default or ok()
        self.health: Step = healthy
        self.bodies: list[dict] = []
        self.headers: list = []
        self.now = self.port = self.num_left = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """On the port that it had, if it had one."""
        self.port = self.port or lasting_port()
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self.runner = web.AppRunner(app, handler_cancellation=True)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()

    async def die(self) -> None:
        """As a process that is killed: connections are reset, new ones refused."""
        for site in list(self.runner.sites):
            await site.stop()
        for connection in self.runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def close(self) -> None:
        await self.die()
        await self.runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return await self.health(self, {})
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            body = {}
        self.bodies.append(body)
        self.headers.append(request.headers)
        self.now += 1
        try:
            return await (self.script.pop(0) if self.script else self.default)(self, body)
        except asyncio.CancelledError:
            self.num_left += 1
            raise
        finally:
            self.now -= 1


Step = Callable[[Scripted, dict], Awaitable[web.StreamResponse]]


async def healthy(server: Scripted, body: dict) -> web.Response:
    return web.json_response({"status": "ready", "instance_id": "1"})


def ok(seconds: float = 0.0) -> Step:
    async def step(server: Scripted, body: dict) -> web.Response:
        await asyncio.sleep(seconds)
        return web.json_response({"n": body.get("n"), "choices": []})

    return step


def status(code: int, text: str | None = None, error_code: str | None = None, **headers: str) -> Step:
    async def step(server: Scripted, body: dict) -> web.Response:
        headers_ = {name.replace("_", "-"): value for name, value in headers.items()}
        if text is not None:
            return web.Response(status=code, text=text, headers=headers_)
        error = {"message": f"told to say {code}", "type": "t", "param": None, "code": error_code}
        return web.json_response({"error": error}, status=code, headers=headers_)

    return step


def unready(word: str, instance: str = "1") -> Step:
    async def step(server: Scripted, body: dict) -> web.Response:
        return web.json_response({"status": word, "instance_id": instance}, status=503)

    return step


async def hang(server: Scripted, body: dict) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def drop(server: Scripted, body: dict) -> web.Response:
    """Close this connection alone."""
    for connection in server.runner.server.connections:
        if connection._current_request is not None and connection._current_request.method == "POST":
            connection.transport.abort()
    return await hang(server, body)


async def die(server: Scripted, body: dict) -> web.Response:
    asyncio.get_running_loop().create_task(server.die())
    return await hang(server, body)


def die_for(seconds: float) -> Step:
    """And come back on the same port."""

    async def again(server: Scripted) -> None:
        await server.die()
        await asyncio.sleep(seconds)
        await server.start()

    async def step(server: Scripted, body: dict) -> web.Response:
        server.rebirth = asyncio.get_running_loop().create_task(again(server))
        return await hang(server, body)

    return step


@asynccontextmanager
async def pooled(*servers: Scripted, **changes):
    """The servers, started, behind a pool with `lines`, what it told."""
    lines: list[str] = []
    for server in servers:
        await server.start()
    kinds = {"key": None, "timeout_s": 10, "max_retries": 3, "patience_s": 5, "tell": lines.append,
             "pace": FAST} | changes  # fmt: skip
    try:
        async with Pool([server.url for server in servers], **kinds) as pool:
            pool.lines = lines
            yield pool
    finally:
        for server in servers:
            await server.close()


async def ask_all(pool: Pool, num: int) -> list:
    return await asyncio.gather(*(pool.post(PATH, {"n": i}) for i in range(num)))


def run(work):
    """No test may hang, whatever the pool does."""
    return asyncio.run(asyncio.wait_for(work, 60))


def outcome(*servers, num=1, **changes):
    """The exchanges of `num` posts at once, and what the pool told."""

    async def work():
        async with pooled(*servers, **changes) as pool:
            return await ask_all(pool, num), pool.lines

    return run(work())


def one(*servers, **changes):
    (exchange,), _ = outcome(*servers, **changes)
    return exchange
