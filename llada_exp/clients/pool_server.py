"""One server of a pool: one request to it, and what its /health says.

Knows HTTP and what our own /health answers; a server of another make may have none. Decides nothing: whom to
ask, and how often, is the pool's business.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import aiohttp

from llada_exp.clients.http import bearer

UP, CLOSED, DOWN = "up", "closed", "down"
"""Takes requests; answers but takes no new ones; does not answer."""

PAUSE_S = 0.2
MAX_TEXT = 300
MAX_ANSWER = 64 * 2**20
"""Bytes; more is no answer, and would fill our memory."""


@dataclass(frozen=True)
class HttpReply:
    """What came back. status 0: no whole answer; fault says why; refused: nothing listens there."""

    status: int = 0
    data: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    refused: bool = False

    @property
    def is_success(self) -> bool:
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
    def is_broken(self) -> bool:
        """A success without the JSON object that it should bring, or with an error in its place."""
        return self.is_success and (self.tree is None or self.has_error)

    @property
    def has_error(self) -> bool:
        """Whether the body is an error, whatever the status says."""
        return bool((self.tree or {}).get("error")) and not (self.tree or {}).get("choices")

    @property
    def failure(self) -> str:
        """Why it is no answer, with the beginning of what came instead."""
        if self.status == 0:
            return self.fault
        what = "a body that is no JSON object" if self.is_success else "the answer"
        return f"HTTP {self.status}, {what}: {self.data[:MAX_TEXT].decode(errors='replace')!r}"

    @property
    def code(self) -> Any:
        """Of an error in OpenAI's shape."""
        error = (self.tree or {}).get("error")
        return error.get("code") if isinstance(error, dict) else None

    @property
    def retry_after_s(self) -> float:
        """By its header, seconds or a date; 0 without one that makes sense."""
        text = self.headers.get("Retry-After", "")
        try:
            seconds = float(text)
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
            except ValueError:
                return 0.0
        return max(0.0, seconds) if math.isfinite(seconds) else 0.0


class PoolServer:
    """State only. instance: the process that was ready there; load: requests that are at it, or whose failure
    is being judged; flights: the tasks of those at it; turn: when it was last picked; look: held by who looks
    at its health; looked_at: when the last finished look began."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url
        self.headers = bearer(key)
        self.state = UP  # until it shows otherwise
        self.reason = ""
        self.instance: str | None = None
        self.load = 0
        self.turn = 0
        self.flights: set[asyncio.Task[HttpReply]] = set()
        self.look = asyncio.Lock()
        self.looked_at = -math.inf


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
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with session.request(
            method, server.url + path, data=data, headers=headers, allow_redirects=False, timeout=timeout
        ) as response:
            answer = bytearray()
            async for piece in response.content.iter_any():
                answer += piece
                if len(answer) > MAX_ANSWER:
                    return HttpReply(fault=f"an answer of more than {MAX_ANSWER >> 20} MiB")
            return HttpReply(response.status, bytes(answer), response.headers)
    except TimeoutError:
        return HttpReply(fault=f"no whole answer within {timeout_s:g} s")
    except (aiohttp.ClientError, OSError) as error:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        return HttpReply(fault=_fault(cause), refused=isinstance(cause, ConnectionRefusedError))


def _fault(error: Exception) -> str:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "connection closed"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return f"{type(error).__name__}: {error}"[:MAX_TEXT]


async def look_at(session: aiohttp.ClientSession, server: PoolServer, timeout_s: float) -> tuple[str, str]:
    """UP, CLOSED or DOWN by its /health, and why it is not UP.

    A refused connection is final; for whatever else does not answer a second look decides, as a machine that
    is busy, here or there, may miss a beat. degraded (fewer workers than there should be) takes requests. So
    does starting, of a server that was ready before: it starts a worker anew, and queues what comes; another
    one takes nothing yet. Whatever a server without /health answers, it is there.
    """
    reply = await ask(session, "GET", server, "/health", None, timeout_s)
    if reply.status == 0 and not reply.refused:
        await asyncio.sleep(PAUSE_S)
        reply = await ask(session, "GET", server, "/health", None, timeout_s)
    if reply.status == 0:
        return DOWN, reply.fault
    tree = reply.tree or {}
    status, instance = tree.get("status"), tree.get("instance_id")
    if reply.is_success:
        server.instance = instance if isinstance(instance, str) else server.instance
        return UP, ""
    restarts = status == "starting" and instance is not None and instance == server.instance
    if reply.status < 500 or status == "degraded" or restarts:
        return UP, ""
    word = f": {status}" if isinstance(status, str) else ""
    return CLOSED, f"/health says {reply.status}{word}"[:MAX_TEXT]
