"""The socket: where the server listens."""

from __future__ import annotations

import errno
import socket

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
