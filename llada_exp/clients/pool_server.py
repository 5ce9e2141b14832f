"""One server as a client sees it: one request to it, and what its /health says.

Knows HTTP and what our own /health answers; a server of another make may have none. Decides nothing:
whom to ask, and how often, is the pool's business.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import os
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import aiohttp

from llada_exp.clients.http import bearer

UP, CLOSED, DOWN = "up", "closed", "down"
"""Takes requests; answers but takes no new ones; does not answer."""

PAUSE_S = 0.2
MAX_TEXT = 300
MAX_FILES = 2**16


@dataclass(frozen=True)
class HttpReply:
    """What came back. status 0: no whole answer; fault says why."""

    status: int = 0
    data: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    refused: bool = False

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300

    @cached_property
    def tree(self) -> dict[str, Any] | None:
        """The body, if it is a JSON object."""
        try:
            tree = json.loads(self.data)
        except (ValueError, RecursionError):
            return None
        return tree if isinstance(tree, dict) else None

    @property
    def text(self) -> str:
        """The body's beginning."""
        return self.data[:MAX_TEXT].decode(errors="replace")

    @property
    def code(self) -> Any:
        """Of an error in OpenAI's shape."""
        error = (self.tree or {}).get("error")
        return error.get("code") if isinstance(error, dict) else None

    @property
    def retry_after_s(self) -> float:
        """Seconds; 0 where it is not said, or not understood. A date is understood, too."""
        said = self.headers.get("Retry-After", "")
        try:
            seconds = float(said)
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(said).timestamp() - time.time()
            except ValueError:
                return 0.0
        return max(0.0, seconds) if math.isfinite(seconds) else 0.0


@dataclass(frozen=True)
class Health:
    """reason: why not UP; instance: the process that answered, where it says that it is ready."""

    state: str
    reason: str = ""
    instance: str | None = None


class PoolServer:
    """State only. load: requests that are at it, or whose failure is being judged; flights: the tasks of
    those at it; turn: when it was last picked; seen_at: when the last finished look at its health began;
    look: one that is going on."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url
        self.headers = bearer(key)
        self.state = UP  # until it shows otherwise
        self.reason = ""
        self.instance: str | None = None
        self.load = 0
        self.turn = 0
        self.flights: set[asyncio.Task[HttpReply]] = set()
        self.look: asyncio.Task[None] | None = None
        self.seen_at = -math.inf

    def tasks(self) -> Iterator[asyncio.Task[Any]]:
        yield from self.flights
        if self.look is not None:
            yield self.look


def most_connections() -> int:
    """Half of the files that this process may have open, once it may have as many as the system allows;
    a relay takes the other half. Without that a thousand requests end as "too many open files"."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MAX_FILES // 2 if soft == resource.RLIM_INFINITY else max(16, soft // 2 - 64)


async def ask(
    session: aiohttp.ClientSession,
    method: str,
    server: PoolServer,
    path: str,
    data: bytes | None,
    timeout_s: float,
) -> HttpReply:
    """One request, once. Raises nothing for whatever happens to it. Redirections are not followed: a
    POST would arrive as a GET."""
    headers = server.headers | ({"Content-Type": "application/json"} if data is not None else {})
    try:
        async with (
            asyncio.timeout(timeout_s),
            session.request(
                method, server.url + path, data=data, headers=headers, allow_redirects=False
            ) as answer,
        ):
            return HttpReply(answer.status, await answer.read(), answer.headers)
    except TimeoutError:
        return HttpReply(fault=f"no whole answer within {timeout_s:g} s")
    except (aiohttp.ClientError, OSError) as error:
        inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        return HttpReply(fault=_reason(inner), refused=isinstance(inner, ConnectionRefusedError))


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "connection closed"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return f"{type(error).__name__}: {error}"[:MAX_TEXT]


async def ask_health(session: aiohttp.ClientSession, server: PoolServer, timeout_s: float) -> Health:
    """How a server is. A refused connection is final; for whatever else does not answer a second look
    decides, as a machine that is busy, here or there, may miss a beat."""
    reply = await ask(session, "GET", server, "/health", None, timeout_s)
    if reply.status == 0 and not reply.refused:
        await asyncio.sleep(PAUSE_S)
        reply = await ask(session, "GET", server, "/health", None, timeout_s)
    if reply.status == 0:
        return Health(DOWN, reply.fault)
    return _read(reply, server)


def _read(reply: HttpReply, server: PoolServer) -> Health:
    """degraded: fewer workers than there should be, and requests are taken. starting: a server that was
    ready before starts a worker anew, and queues what comes; another one takes nothing yet. Whatever a
    server without /health answers, it is there."""
    tree = reply.tree or {}
    status, instance = tree.get("status"), tree.get("instance_id")
    if reply.is_good:
        return Health(UP, instance=instance if isinstance(instance, str) else None)
    if reply.status < 500 or status == "degraded":
        return Health(UP)
    if status == "starting" and instance is not None and instance == server.instance:
        return Health(UP)
    said = f": {status}" if isinstance(status, str) else ""
    return Health(CLOSED, f"/health says {reply.status}{said}"[:MAX_TEXT])
