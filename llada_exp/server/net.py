"""The socket and the middleware: small things between the network and the routes."""

from __future__ import annotations

import errno
import socket
import uuid
from typing import Any

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. It listens at once: two sockets that are only bound could share a port.

    Raises ValueError naming the key at fault.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ValueError(f"host is {host!r}; it cannot be resolved ({error.strerror})") from None
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"port is {port}; it is in use on {host}: choose another, or port=0 for a free one"
            ) from None
        reason = error.strerror
        raise ValueError(f"host is {host!r} and port is {port}; cannot listen there: {reason}") from None
    return sock


class RequestId:
    """ASGI middleware: every response carries x-request-id, the client's own where it sent one."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"")
        name = given if 0 < len(given) <= 200 else uuid.uuid4().hex.encode()

        async def send_named(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", name)]}
            await send(message)

        await self.app(scope, receive, send_named)
