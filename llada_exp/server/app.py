"""LitServe's server with our life cycle: up before the model is, drained before it is down.

Of `LitServer` we keep the process model (spawned workers, device fan-out), the FastAPI app, the queue
and the transport. Its `run` is replaced: it accepts no port 0, answers nothing until a worker is
ready, leaves orphans on SIGTERM and hangs on Ctrl-C with work in flight.

Processes: this one (main thread: supervision; one thread: HTTP), the manager, the workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing import resource_tracker
from multiprocessing.managers import SyncManager
from socket import socket
from typing import Any

from fastapi import FastAPI, Request
from litserve import LitServer
from litserve.server import response_queue_to_buffer
from litserve.transport.factory import create_transport_from_config

from llada_exp.clients.http import health
from llada_exp.server.announcement import (
    SAMPLE_QUESTION,
    InfoFile,
    curl_line,
    job_facts,
    local_url,
    memory_words,
    public_url,
    say,
)
from llada_exp.server.log import set_up
from llada_exp.server.processes.backend import Build, ModelAPI, load_backend
from llada_exp.server.processes.engine_turns import STOP
from llada_exp.server.processes.listening import bind
from llada_exp.server.processes.shared_state import READY, STARTING, Shared
from llada_exp.server.processes.start_stop import (
    HttpThread,
    StopSignals,
    end_processes,
    pick_device,
    signals_held,
    start_manager,
)
from llada_exp.server.processes.worker_watch import Guard, StartError
from llada_exp.server.routes.auth import KeyCheck
from llada_exp.server.routes.errors import ApiError, install_handlers
from llada_exp.server.routes.openapi import describe_api
from llada_exp.server.routes.request_decoding import fresh_seed
from llada_exp.server.routes.request_log import Recorder
from llada_exp.server.state.figures import Figures
from llada_exp.server.state.status import overall, versions, with_block_length
from llada_exp.server.state.waiting import Exchange
from llada_exp.settings import ServeSettings
from llada_exp.types import DecodingParams

logger = logging.getLogger(__name__)

TICK_S = 0.1
STOP_WORKER_S = 5.0
FORCED = 130


def run_server(settings: ServeSettings, build: Build = load_backend) -> int:
    """Serve until told to stop; the exit code. Raises ValueError where the port cannot be had."""
    sock = bind(settings.host, settings.port)
    set_up(settings.log_level)
    return Server(settings, build).run_on(sock)


class Server(LitServer):
    def __init__(self, settings: ServeSettings, build: Build = load_backend) -> None:
        self.settings = settings
        self.instance_id = uuid.uuid4().hex
        self.created = int(time.time())
        self.exchange: Exchange
        self.guard: Guard
        self.shared: Shared
        self._preset = settings.decoding
        self._seeds = random.Random(settings.seed) if settings.seed is not None else None
        self._signals = StopSignals()
        self._draining = False
        self._was_ready = False
        self._info = InfoFile(settings.server_info)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.key_check = KeyCheck(settings.api_key_file)
        self.api = ModelAPI(settings, build)
        device = pick_device(settings.device, settings.devices)
        super().__init__(
            self.api,
            accelerator=device,
            devices=settings.devices if device == "cuda" else 1,
            workers_per_device=settings.workers,
            timeout=False,
            restart_workers=False,  # LitServe's monitor is not used; `_supervise` restarts
            max_payload_size=settings.server.max_body_mb * 2**20,
        )
        install_handlers(self.app)
        describe_api(self.app, versions()["llada_exp"])
        self.figures = Figures(self)
        self.app.add_middleware(
            Recorder,
            tell=self.figures.metrics.book,
            max_headers=settings.server.max_headers,
            max_body=settings.server.max_body_mb * 2**20,
        )

    # -- what the routes ask

    def status(self) -> str:
        """As /health says it. Not ready before requests are taken."""
        if not self._was_ready and not self._draining:
            return STARTING
        return overall(self.guard.states(), self.num_workers, self._draining)

    def check_ready(self) -> None:
        """Raises a 503 ApiError before the first worker is ready and while the server stops. While a
        worker restarts, requests queue."""
        if self._draining or not self._was_ready:
            raise ApiError(503, f"the server is {self.status()}", code="not_ready")

    def health(self) -> dict[str, Any]:
        status = self.status()
        return {
            "status": status,
            "instance_id": self.instance_id,
            "model": self.settings.model.name,
            "model_loaded": status in ("ready", "degraded") or self._draining,
            "device": ",".join(str(d[0] if isinstance(d, list) else d) for d in self.devices),
            "mode": self.settings.mode,
            "batch_processor_active": bool(self.guard.alive()) and not self._draining,
        }

    def check_queue(self, num_jobs: int) -> None:
        """Raises a 429 ApiError where the queue cannot take so many more."""
        limit, exchange = self.settings.server.max_queue, self.exchange
        if not limit or exchange.num_open + num_jobs <= limit:  # asked first: it costs nothing
            return
        if (waiting := exchange.num_pending) + num_jobs > limit:
            raise ApiError(429, f"the queue is full: {waiting} of at most {limit} answers wait; try again",
                           code="queue_full")  # fmt: skip

    def preset(self) -> DecodingParams:
        """The decoding of a request that names nothing, as far as it is known: once a worker is ready, the
        model's own block length stands where the configuration has none."""
        if self._preset.block_length is None and (about := dict(self.shared.about)):
            self._preset = with_block_length(self._preset, about)
        return self._preset

    def fresh_seed(self) -> int:
        return self._seeds.randrange(2**53) if self._seeds else fresh_seed()

    # -- life

    @property
    def num_workers(self) -> int:
        return len(self._inference_workers_config_for_api(self.api.api_path))

    def run_on(self, sock: socket) -> int:
        """Serve on a bound socket until SIGTERM or SIGINT; the exit code."""
        host, port = sock.getsockname()[:2]
        http: HttpThread | None = None
        manager: SyncManager | None = None
        code = 1
        with self._signals:
            try:
                manager = self._init_manager(1)
                self._launch()
                http = HttpThread(self.app, sock)
                code = self._supervise(str(host), int(port), http)
            except StartError as error:
                say(f"error: {error}\n", sys.stderr)
            except (EOFError, ConnectionError):
                say("error: the process that holds the queues died\n", sys.stderr)
            finally:
                self._shut_down(manager, http)
                self._mark(str(host), int(port), "stopped")
        return code

    def _init_manager(self, num_api_servers: int) -> SyncManager:
        """As LitServe's, from a manager of our own making."""
        manager = start_manager()
        self.transport_config.manager = manager
        self.transport_config.num_consumers = num_api_servers
        self.workers_setup_status = manager.dict()
        self._shutdown_event = manager.Event()
        self.litapi_request_queues[self.api.api_path] = manager.Queue()
        self._transport = create_transport_from_config(self.transport_config)
        self.shared = self.api.shared = self.api.loop.shared = Shared(manager, self.num_workers)
        self.exchange = Exchange(
            self._get_request_queue(self.api.api_path),
            self.response_buffer,
            self.shared,
            lambda: self.guard.alive(),  # made after the queues
        )
        self.app.response_queue_id = 0
        return manager

    def setup_auth(self, lit_api: Any = None) -> Callable[[Request], None]:
        """Ours, in this process alone; LitServe's takes no Bearer token and would lock /health."""
        return self.key_check.check

    def _register_internal_endpoints(self) -> None:
        """None of LitServe's own: `OpenSpec` has every route."""

    def _launch(self) -> None:
        # Threads that spin at a barrier make small steps many times slower where cores are shared.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        resource_tracker.ensure_running()  # its start unblocks the signals held below
        with signals_held():
            processes = self.launch_inference_worker(self.api)
        self.guard = Guard(
            processes,
            lambda worker_id: self.launch_single_inference_worker(self.api, worker_id),
            self.shared,
            self.settings.server.hang_seconds,
        )

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """In the HTTP thread: messages in, and the watch over jobs."""
        self._loop = asyncio.get_running_loop()
        tasks = [
            asyncio.create_task(self._receive()),
            asyncio.create_task(self.exchange.watch()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        """LitServe's receiver ends at its first error; nobody would be answered any more."""
        while True:
            await response_queue_to_buffer(self._transport, self.response_buffer, 0, self.litapi_connector)
            await asyncio.sleep(TICK_S)  # a point to cancel it

    def _supervise(self, host: str, port: int, http: HttpThread) -> int:
        """The main thread's life: announce, restart dead workers, drain when told. The exit code."""
        while not self._signals.count:
            time.sleep(TICK_S)
            if not http.is_alive():
                raise StartError("the HTTP server ended unexpectedly")
            self.guard.check(self._was_ready)
            if not self._was_ready and self._all_loaded():
                self._announce(host, port)
            self._info.retry()
        self._mark(host, port, "draining")
        return self._drain()

    def _all_loaded(self) -> bool:
        return overall(self.guard.states(), self.num_workers, draining=False) == READY

    def _announce(self, host: str, port: int) -> None:
        """Once our own /health answers: publish, and say so."""
        told = health(local_url(host, port)).get("instance_id")
        if told is None:
            return  # a busy machine: at the next tick
        if told != self.instance_id:
            raise StartError(f"another server answers on {local_url(host, port)}")
        self._was_ready = True
        self._mark(host, port, "ready")
        url, settings = public_url(host, port), self.settings
        memory = memory_words(self.shared.about.get(0, {}), settings.batch_size)
        say(
            f"ready: {url} model={settings.model.name} mode={settings.mode} batch_size={settings.batch_size} "
            f"memory per worker: {memory}\n{curl_line(url, SAMPLE_QUESTION, self.key_check.shell_word)}\n"
        )

    def _drain(self) -> int:
        """Admit nothing, finish what is in flight up to the limit or a second signal."""
        self._draining = True
        until = time.monotonic() + self.settings.server.drain_seconds
        if busy := self.exchange.num_unanswered:
            say(f"stopping: finishing {busy} requests; again to stop now\n", sys.stderr)
        while self.exchange.num_unanswered and self.guard.alive():
            if self._signals.count > 1 or time.monotonic() > until:
                break
            time.sleep(TICK_S / 2)
        return FORCED if self._signals.count > 1 else 0

    def _shut_down(self, manager: SyncManager | None, http: HttpThread | None) -> None:
        """Give up what is left, then end HTTP, workers and manager, in this order."""
        self._draining = True
        if http is not None:
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self.exchange.fail_all, "the server is stopping")
            http.stop()
            self._transport.close(send_sentinel=True)
            http.join(timeout=STOP_WORKER_S)
        if hasattr(self, "guard"):
            self._end_workers()
        if manager is not None:
            manager.shutdown()

    def _end_workers(self) -> None:
        def ask() -> None:
            for _ in self.guard.processes:
                self._get_request_queue(self.api.api_path).put(STOP)

        patient = self._was_ready and self._signals.count < 2
        end_processes(self.guard.processes, ask, STOP_WORKER_S if patient else 0.0)

    def _mark(self, host: str, port: int, status: str) -> None:
        """Write the server-info file, where one is wanted and the server ever was ready."""
        if not self._was_ready:
            return
        key_file = self.settings.api_key_file
        info = {
            "instance_id": self.instance_id,
            "url": public_url(host, port),
            "host": host,
            "port": port,
            "pid": os.getpid(),
            "model": self.settings.model.name,
            "mode": self.settings.mode,
            "status": status,
            "started": self.created,
            "api_key_file": key_file and os.path.abspath(key_file),
            **job_facts(port),
        }
        self._info.write(info)
