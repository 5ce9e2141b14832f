"""uvicorn, in a thread beside the main one, with bounds on what a connection may cost."""

from __future__ import annotations

import threading
from functools import partial
from socket import socket
from typing import Any

import uvicorn
from fastapi import FastAPI

from llada_exp.server.processes.connections import BoundedProtocol, ConnectionLimits

KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection: closing first would race with their next request."""


class HttpThread(threading.Thread):
    """max_connections, read_seconds: as in `ConnectionLimits`."""

    def __init__(self, app: FastAPI, sock: socket, max_connections: int, read_seconds: float) -> None:
        super().__init__(name="http", daemon=True)
        limits = ConnectionLimits(max_connections, read_seconds, KEEP_ALIVE_S)
        protocol: Any = partial(BoundedProtocol, limits=limits)
        config = uvicorn.Config(
            app, http=protocol, ws="none", log_config=None, log_level="error", access_log=False,
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        config.timeout_keep_alive = KEEP_ALIVE_S
        self._server = uvicorn.Server(config)
        self._sock = sock
        self.start()

    def run(self) -> None:
        self._server.run(sockets=[self._sock])

    def stop(self) -> None:
        self._server.should_exit = True
