"""The life of the server: up before the model is, drained before it is down. `run_server` is the way in.

Processes: this one (main thread: the supervisor; one thread: HTTP), the manager of the queues, the workers.
Knows the order in which they start and end; what they do is the business of the folders beside it:
`routes` (HTTP) ask `state` (what waits, what is the case), which asks `processes` (workers, and their watch).
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import ExitStack
from socket import socket
from typing import Any

from llada_exp.clients.http import KEY_VARIABLE, health
from llada_exp.server.announcement import (
    InfoFile,
    curl_line,
    domain_words,
    job_facts,
    local_url,
    memory_words,
    public_url,
)
from llada_exp.server.litserve_internals import LladaServer
from llada_exp.server.log import say, set_up
from llada_exp.server.processes.backend import Build, load_backend
from llada_exp.server.processes.http_thread import HttpThread
from llada_exp.server.processes.listening import bind
from llada_exp.server.processes.messages import STOP
from llada_exp.server.processes.start_stop import (
    StopSignals,
    end_processes,
    signals_held,
    start_manager,
)
from llada_exp.server.processes.worker_watch import StartError, WorkerWatch
from llada_exp.server.routes.auth import KeyCheck
from llada_exp.server.routes.body import BodyReader
from llada_exp.server.routes.endpoints import install
from llada_exp.server.state.status import ServerStatus
from llada_exp.server.state.waiting import WaitingRequests
from llada_exp.settings import ServeSettings
from llada_exp.signals import Starter

logger = logging.getLogger(__name__)

TICK_S = 0.1
STOP_WORKER_S = 5.0
FORCED = 130


def run_server(settings: ServeSettings, build: Build = load_backend) -> int:
    """Serve until a signal says to stop; the exit code. Raises ValueError where the port cannot be had."""
    sock = bind(settings.host, settings.port)
    set_up(settings.log_level, settings.log_format)
    return Supervisor(settings, build).run_on(sock)


class Supervisor:
    """Raises ValueError for a key or for devices that are not there."""

    def __init__(self, settings: ServeSettings, build: Build) -> None:
        self.settings = settings
        self._signals = StopSignals()
        self._starter = Starter()
        self._key_check = KeyCheck(settings.api_key_file)
        os.environ.pop(KEY_VARIABLE, None)  # no process that is started from here on has it
        self._server = LladaServer(settings, build)
        self._info_file = InfoFile(settings.server_info)
        self._info: dict[str, Any] | None = None  # once the server is ready

    def run_on(self, sock: socket) -> int:
        """Serve on a bound socket until SIGTERM or SIGINT; the exit code."""
        with self._signals, ExitStack() as at_end:
            at_end.callback(self._mark, "stopped")
            try:
                http = self._start(sock, at_end)
                self._supervise(sock, http)
                return self._drain()
            except StartError as error:
                say(f"error: {error}\n", sys.stderr)
            except (EOFError, ConnectionError):
                say("error: the process that holds the queues died\n", sys.stderr)
            return 1

    def _start(self, sock: socket, at_end: ExitStack) -> HttpThread:
        """Manager, workers, HTTP; at the end they end in the opposite order."""
        manager = start_manager()
        at_end.callback(manager.shutdown)
        server = self._server
        self._queue, shared = server.connect(manager)
        # Threads that spin at a barrier make small steps many times slower where cores are shared.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        with signals_held():
            processes = server.launch_workers()
        self._workers = WorkerWatch(
            processes, server.launch_worker, shared, self.settings.server.hang_seconds
        )
        at_end.callback(self._end_workers)
        self._waiting = WaitingRequests(self._queue, shared, self._workers.alive)
        self._status = ServerStatus(self.settings, server.device_names, self._waiting, self._workers, shared)
        bodies = BodyReader(self.settings.server.max_body_mb * 2**20)
        install(server.app, self._status, self._key_check, bodies)
        server.run_beside_http(
            lambda: server.receive(self._waiting.deliver), self._waiting.watch, bodies.close_at_end
        )
        limits = self.settings.server
        http = HttpThread(server.app, sock, limits.max_connections, limits.read_seconds)
        at_end.callback(self._end_http, http)
        return http

    def _supervise(self, sock: socket, http: HttpThread) -> None:
        """Announce the server once it is ready, start dead workers anew, until a signal comes."""
        host, port = sock.getsockname()[:2]
        while not self._signals.count:
            time.sleep(TICK_S)
            if self._starter.is_gone():
                logger.warning("stopping: the process that started this server is gone")
                return
            if not http.is_alive():
                raise StartError("the HTTP server ended unexpectedly")
            self._workers.check(self._status.was_ready)
            if not self._status.was_ready and self._status.all_loaded():
                self._announce(str(host), int(port))
            self._info_file.retry()

    def _announce(self, host: str, port: int) -> None:
        """Once our own /health answers: publish where we are, and say so."""
        instance_id = health(local_url(host, port)).get("instance_id")
        if instance_id is None:
            return  # a busy machine: at the next tick
        if instance_id != self._status.instance_id:
            raise StartError(f"another server answers on {local_url(host, port)}")
        self._status.was_ready = True
        url, settings, key_file = public_url(host, port), self.settings, self.settings.api_key_file
        self._info = {
            "instance_id": instance_id,
            "url": url,
            "host": host,
            "port": port,
            "pid": os.getpid(),
            "model": settings.model.name,
            "mode": settings.mode,
            "status": "ready",
            "started": self._status.created,
            "api_key_file": key_file and os.path.abspath(key_file),
            **job_facts(port),
        }
        self._mark("ready")
        memory = memory_words(self._status.about().get(0, {}))
        say(
            f"ready: {url} model={settings.model.name} mode={settings.mode} batch_size={settings.batch_size} "
            f"memory per worker: {memory}{domain_words(settings.model)}\n"
            f"{curl_line(url, self._key_check.shell_word)}\n"
        )

    def _mark(self, status: str) -> None:
        """Into the server-info file, where one is wanted and the server ever was ready."""
        if self._info is not None:
            self._info_file.write(self._info | {"status": status})

    def _drain(self) -> int:
        """Admit nothing, finish what is in flight up to the limit or a second signal; the exit code."""
        self._mark("draining")
        self._status.draining = True
        until = time.monotonic() + self.settings.server.drain_seconds
        if busy := self._waiting.num_unanswered:
            logger.warning("stopping: finishing %d requests; again to stop now", busy)
        while self._waiting.num_unanswered and self._workers.alive():
            if self._signals.count > 1 or time.monotonic() > until:
                break
            time.sleep(TICK_S / 2)
        return FORCED if self._signals.count > 1 else 0

    def _end_http(self, http: HttpThread) -> None:
        """Give up what is left, then end."""
        self._status.draining = True
        self._server.call_in_http_thread(self._waiting.fail_all, "the server is stopping")
        http.stop()
        self._server.close_transport()
        http.join(timeout=STOP_WORKER_S)

    def _end_workers(self) -> None:
        def ask() -> None:
            for _ in range(self._workers.num_workers):
                self._queue.put(STOP)

        patient = self._status.was_ready and self._signals.count < 2
        end_processes(self._workers.processes, ask, STOP_WORKER_S if patient else 0.0)
