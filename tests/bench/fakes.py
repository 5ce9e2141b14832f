"""An endpoint that answers as it is told, from a thread of the test: what real servers do rarely."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from aiohttp import web


class Endpoint:
    """Set `handler` to an aiohttp handler; `bodies` holds what was asked, `most` the most at once."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[dict] = []
        self.handler: Callable = answer("#### 55")
        self.now = self.most = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self.handler(request, self.bodies[-1])
        finally:
            self.now -= 1


def chunk(text: str | None = None, **extra) -> bytes:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return b"data: " + json.dumps({"choices": choices, **extra}).encode() + b"\n\n"


USAGE = {"usage": {"prompt_tokens": 7, "completion_tokens": 5}}


def answer(text: str, seconds: float = 0.0) -> Callable:
    """A whole answer, or one in two pieces `seconds` apart."""

    async def handle(request: web.Request, body: dict) -> web.StreamResponse:
        if not body["stream"]:
            await asyncio.sleep(seconds)
            message = {"message": {"content": text}, "finish_reason": "stop"}
            return web.json_response({"choices": [message], **USAGE})
        half = len(text) // 2
        return await stream(request, [chunk(text[:half]), seconds, chunk(text[half:]), chunk(**USAGE), DONE])

    return handle


DONE = b"data: [DONE]\n\n"


async def stream(request: web.Request, parts: list[bytes | float]) -> web.StreamResponse:
    """Bytes are sent as they are, numbers are waits."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for part in parts:
        await (asyncio.sleep(part) if isinstance(part, float) else response.write(part))
    return response


def saying(*parts: bytes | float) -> Callable:
    async def handle(request: web.Request, body: dict) -> web.StreamResponse:
        return await stream(request, list(parts))

    return handle


@contextmanager
def served() -> Iterator[Endpoint]:
    endpoint, ready, loop = Endpoint(), threading.Event(), asyncio.new_event_loop()

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", endpoint.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(task))
    task = loop.create_task(_quiet(run()))
    thread.start()
    assert ready.wait(30)
    try:
        yield endpoint
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(30)
        loop.close()


async def _quiet(work) -> None:
    with suppress(asyncio.CancelledError):
        await work
