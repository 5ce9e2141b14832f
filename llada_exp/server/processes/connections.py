"""What one connection may cost before anybody has looked at who it is: bytes of its head, time, descriptors.

uvicorn's protocol bounds none of them: a header grows as long as bytes come, a client that sends a byte a
minute stays, and so does one that sends nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger(__name__)

MAX_HEAD = 2**16
"""Bytes of a request's line and headers; also of what else is no body (chunk extensions, trailers)."""
MAX_PIPELINED = 100
"""Requests on one connection that may wait for the answer to another."""
BODY_PACE = 2**20
"""Bytes of a body that are to come in each read_seconds, unless its end does."""
LINGER_S = 2.0
"""So long a refused client may go on sending: closing at once would take our answer from it."""
SPARE_DESCRIPTORS = 256
"""For all that is no connection: workers that are started anew, queues, files."""


class ConnectionLimits:
    """max_connections: open at once, as far as descriptors go; read_seconds: for a head, and for each
    `BODY_PACE` bytes of a body; idle_seconds: without a request. Keeps count of those that are idle."""

    def __init__(self, max_connections: int, read_seconds: float, idle_seconds: float) -> None:
        self.max_connections = with_descriptors(max_connections)
        self.read_seconds = read_seconds
        self.idle_seconds = idle_seconds
        self._idle: dict[BoundedProtocol, None] = {}  # the longest so first

    def set_idle(self, connection: BoundedProtocol, idle: bool) -> None:
        self._idle.pop(connection, None)
        if idle:
            self._idle[connection] = None

    def make_room(self, num_connections: int, newest: BoundedProtocol) -> None:
        """Close the connection that was idle for longest where there is one too many: the newest, where all
        others are at work."""
        if num_connections > self.max_connections:
            oldest = next(iter(self._idle), newest)
            self._idle.pop(oldest, None)
            oldest.transport.abort()


def with_descriptors(max_connections: int) -> int:
    """Have descriptors for so many connections; the number that this process gets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = max_connections + SPARE_DESCRIPTORS
    if soft < enough:
        soft = enough if hard < 0 else min(enough, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    possible = max(soft - SPARE_DESCRIPTORS, soft // 2)
    if possible < max_connections:
        logger.warning("descriptors for %d connections only: see ulimit -Hn", possible)
    return min(max_connections, possible)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. What is too much is a 431, what is too slow a 408, then it is closed."""

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **names: Any) -> None:
        super().__init__(*arguments, **names)
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._head_bytes = 0
        self._unclaimed = 0  # bytes since the parser last had something for us
        self._body_bytes = 0  # since the timer was set
        self._pieces: list[bytes] = []  # of a body, from the bytes that came last

    # -- of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limits.set_idle(self, True)
        self._limits.make_room(len(self.connections), self)
        self._set_timer(self._limits.idle_seconds, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._limits.set_idle(self, False)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unclaimed += len(data)
        super().data_received(data)
        self._hand_over()
        if self._refused or self.transport.is_closing():
            return
        if self._unclaimed > MAX_HEAD:
            self._refuse(431, f"the request's line and headers have more than {MAX_HEAD} bytes")
        elif self._timer is None and self._answered:  # bytes that begin no request
            self._set_timer(self._limits.read_seconds, self._close)

    def eof_received(self) -> None:
        if self._refused:
            self._close()

    # -- of the parser

    def on_message_begin(self) -> None:
        if not self._refused:
            super().on_message_begin()
            self._unclaimed = self._head_bytes = 0
            self._set_timer(self._limits.read_seconds, self._head_is_slow)

    def on_url(self, url: bytes) -> None:
        if self._fits(len(url)):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._fits(len(name) + len(value) + 4):
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._refused:
            return
        self._unclaimed = self._body_bytes = 0
        self._limits.set_idle(self, False)
        self._set_timer(self._limits.read_seconds, self._body_is_slow)
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self._refuse(400, f"more than {MAX_PIPELINED} requests on one connection wait for their answers")

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            self._unclaimed = 0
            self._body_bytes += len(body)
            self._pieces.append(body)  # a chunk may be a byte, and what came before is copied for each

    def on_message_complete(self) -> None:
        if not self._refused:
            self._unclaimed = 0
            self._stop_timer()
            self._hand_over()
            super().on_message_complete()
            self._limits.set_idle(self, self._answered)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._answered and self._timer is None:  # the request is read to its end, too
            self._limits.set_idle(self, True)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    # -- ours

    def _hand_over(self) -> None:
        """What came of a body, to whoever reads it."""
        if self._pieces:
            body = b"".join(self._pieces)
            self._pieces.clear()
            if not self._refused:
                super().on_body(body)

    @property
    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _fits(self, num_bytes: int) -> bool:
        self._head_bytes += num_bytes
        if not self._refused and self._head_bytes > MAX_HEAD:
            self._refuse(431, f"the request's line and headers have more than {MAX_HEAD} bytes")
        return not self._refused

    def _set_timer(self, seconds: float, at_end: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, at_end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_slow(self) -> None:
        self._refuse(408, f"the request's headers did not come within {self._limits.read_seconds:g} s")

    def _body_is_slow(self) -> None:
        waits_for_us = self.flow.read_paused or bool(self.pipeline)
        if self._answered:  # without its body
            self._close()
            return
        if waits_for_us or self._body_bytes >= BODY_PACE:
            self._body_bytes = 0
            self._set_timer(self._limits.read_seconds, self._body_is_slow)
            return
        pace = f"{BODY_PACE} bytes of the body, or its end, within {self._limits.read_seconds:g} s"
        self._refuse(408, f"the body came too slowly; expected {pace}")

    def _refuse(self, status: int, message: str) -> None:
        """Answer in the app's place, unless it has begun an answer, and close."""
        self._stop_timer()
        self._unset_keepalive_if_required()
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        logger.info("a connection was refused: %d %s", status, message)
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started or self.pipeline:
                self._close()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self.transport.write(refusal(status, message))
        self.transport.write_eof()  # whoever reads to the end has it; what still comes is passed over
        self._set_timer(LINGER_S, self._close)

    def _close(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.close()


def refusal(status: int, message: str) -> bytes:
    """A whole response, in the shape of all errors."""
    kind = "timeout_error" if status == 408 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": None}
    body = json.dumps({"error": error}).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {uuid.uuid4().hex}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
