"""Sends requests to several interchangeable servers, and outlives trouble with any of them.

    async with Pool(["http://a:8000", "http://b:8000"], key=None, timeout_s=600, max_retries=4,
                    patience_s=600) as pool:
        response = await pool.post("/v1/chat/completions", {"messages": [...]})

A request goes to the server with the fewest in flight. One that fails although its server is healthy is
tried again, at longer and longer intervals, and is given back as a failure in the end; one that fails
because its server went goes to another, or waits for one to come back, and no try is counted. Only where
no server is left for too long does it all end. Knows HTTP, and of servers only /health; knows no
problems, prompts and scores. docs/design.md says why no proxy does this.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from llada_exp.clients.http import base_url
from llada_exp.clients.pool_server import HttpReply, PoolServer, ask
from llada_exp.clients.pool_watch import Pace, ServersGone, Watch
from llada_exp.clients.session import new_session

__all__ = ["Pace", "Pool", "PoolResponse", "ServersGone", "to_stderr"]

REPEATED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
OF_A_HEALTHY_SERVER = frozenset({408, 409, 425, 429})
NOT_READY = "not_ready"  # the code of our server's 503 before it is ready and while it stops
MAX_FILES = 2**16


@dataclass(frozen=True)
class PoolResponse:
    """What became of one request.

    status: 0 where no whole answer came, or one that is no JSON object or an error, whatever its status says;
    body: of failures without a JSON object an error as OpenAI's. url: of the server that was asked last;
    attempts: how often it was sent, wherever to; seconds: from the call to the end, waits included; headers,
    data: of the answer as it came.
    """

    status: int
    body: dict[str, Any]
    url: str
    attempts: int
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    data: bytes = field(default=b"", repr=False)


def to_stderr(line: str) -> None:
    """A terminal that is gone is no reason to stop."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class Pool:
    """An async context manager, for one event loop.

    urls: of servers that answer alike, with or without /v1; key: sent as a Bearer token, or one for each
    url; timeout_s: for one try; max_retries: further tries of a request that fails at healthy servers;
    patience_s: how long to wait while no server takes requests; alive: called twice a second while there are
    requests, returns a reason for giving up at once, or None; tell: gets a line for every change.

    Raises ValueError for no url, or one that is none.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        key: str | Mapping[str, str | None] | None,
        timeout_s: float,
        max_retries: int,
        patience_s: float,
        alive: Callable[[], str | None] = lambda: None,
        tell: Callable[[str], None] = to_stderr,
        pace: Pace | None = None,
    ) -> None:
        if not urls:
            raise ValueError("url names no server; expected one URL or more")
        keys = key if isinstance(key, Mapping) else dict.fromkeys(urls, key)
        by_address = {base_url(url): url for url in urls}
        self._servers = [PoolServer(address, keys.get(url)) for address, url in by_address.items()]
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._patience_s = patience_s
        self._alive = alive
        self.tell = tell
        self._pace = pace or Pace()
        self._turns = itertools.count(1)

    async def __aenter__(self) -> Self:
        # A connection for each request: one kept alive may be closed by its server just as it is used again,
        # which looks like a server that dies.
        self._session = new_session(limit=_most_connections(), keep_alive=False)
        self._looks = new_session(keep_alive=False)  # never behind requests that wait for a connection
        self._watch = Watch(self._servers, self._looks, patience_s=self._patience_s, alive=self._alive,
                            tell=self.tell, pace=self._pace)  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._watch.close()
        await self._session.close()
        await self._looks.close()

    async def post(self, path: str, body: Mapping[str, Any]) -> PoolResponse:
        """One request to its end, good or bad. path: with its /v1.

        Raises ServersGone; nothing for a request that fails.
        """
        return await self.send("POST", path, json.dumps(body).encode(), repeat=True)

    async def send(
        self, method: str, path: str, data: bytes | None = None, *, repeat: bool = False
    ) -> PoolResponse:
        """`post` for any method and body. repeat: also for what a server answers, as `post` does; else
        every answer is as good as another, JSON or not."""
        began = asyncio.get_running_loop().time()
        request = _Request(method, path, data, repeat)
        self._watch.num_open += 1
        try:
            while not await self._attempt(request):
                pass
        finally:
            self._watch.num_open -= 1
        reply, body = request.reply, request.reply.tree
        if body is None:
            kind = "server_error" if reply.status else "connection_error"
            body = {"error": {"message": reply.failure, "type": kind, "param": None, "code": None}}
        status = 0 if repeat and reply.is_broken else reply.status
        seconds = asyncio.get_running_loop().time() - began
        return PoolResponse(status, body, request.url, request.attempts, seconds, reply.headers, reply.data)

    async def _attempt(self, request: _Request) -> bool:
        """Send it once more; whether that was the end of it. Raises ServersGone."""
        up = await self._watch.ready()
        server = min(up, key=lambda s: (request.failures[s], s.load, s.turn))
        server.turn = next(self._turns)
        request.attempts, request.url = request.attempts + 1, server.url
        server.load += 1
        try:
            reply = await self._fly(server, request)
            if reply is None:  # cancelled: the server went
                return request.moved(server, server.reason, self._pace.max_moves)
            request.reply = reply
            if request.is_answer(reply):
                return True
            healthy = (
                reply.status in OF_A_HEALTHY_SERVER or reply.is_success or await self._watch.judge(server)
            )
        finally:
            server.load -= 1
        if not healthy or reply.code == NOT_READY:
            if request.moved(server, server.reason or reply.failure, self._pace.max_moves):
                return True
        elif request.failed(server, self._max_retries):
            return True
        if healthy:
            await asyncio.wait([self._watch.gone], timeout=self._wait_s(request.failures.total(), reply))
        return False

    async def _fly(self, server: PoolServer, request: _Request) -> HttpReply | None:
        """What the server answers; None where it went, or all ended, before it did."""
        flight = asyncio.create_task(
            ask(self._session, request.method, server, request.path, request.data, self._timeout_s)
        )
        server.flights.add(flight)
        try:
            await asyncio.wait([flight])
        finally:
            server.flights.discard(flight)
            flight.cancel()  # where it is we who are cancelled
        return None if flight.cancelled() else flight.result()

    def _wait_s(self, count: int, reply: HttpReply) -> float:
        doubled = min(self._pace.longest, self._pace.first * 2 ** min(count - 1, 30))
        return max(
            min(self._pace.longest_retry_after, reply.retry_after_s), doubled * random.uniform(0.5, 1.5)
        )


@dataclass
class _Request:
    """One request on its way. tries: failures of its own; moves: of servers; failures: both, by server."""

    method: str
    path: str
    data: bytes | None
    repeat: bool
    attempts: int = 0
    tries: int = 0
    moves: int = 0
    url: str = ""
    reply: HttpReply = field(default_factory=HttpReply)
    failures: Counter[PoolServer] = field(default_factory=Counter)

    def is_answer(self, reply: HttpReply) -> bool:
        """Whether it is to be given back and not sent again."""
        return reply.status != 0 and not (self.repeat and (reply.status in REPEATED or reply.is_broken))

    def failed(self, server: PoolServer, max_retries: int) -> bool:
        """Count a try; whether it was the last."""
        self.failures[server] += 1
        self.tries += 1
        return self.tries > max_retries

    def moved(self, server: PoolServer, reason: str, max_moves: int) -> bool:
        """Count a server that went; whether it was one too many: a request may be what ends servers."""
        self.failures[server] += 1
        self.moves += 1
        if self.moves <= max_moves:
            return False
        self.reply = HttpReply(
            fault=f"given up: {self.moves} times its server went; the last was {server.url} ({reason})"
        )
        return True


def _most_connections() -> int:
    """Half of the files that this process may have open, once it may have as many as the system allows;
    a relay takes the other half. Without that a thousand requests end as "too many open files"."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return MAX_FILES // 2 if soft == resource.RLIM_INFINITY else max(16, soft // 2 - 64)
