"""Everything that we take from LitServe, in one place. Pinned to 0.2.19: most of it is undocumented.

LitServe gives us the process model (spawned workers, fanned out over devices), the FastAPI application with
its limit of a body's size, and the transport that carries workers' messages back. What else it does is
replaced: its `run` accepts no port 0, answers nothing until a worker is ready, leaves orphans on SIGTERM and
hangs on Ctrl-C with work in flight; its routes and its batching are not ours.

What is used of its inside, and why (`tests/server/test_litserve_contract.py` holds each of these):

| of LitServe | what for |
| --- | --- |
| `LitServer.register_endpoints` | overridden: it would add `/predict`, `/health` and `/info` of its own |
| `LitServer.lifespan` | overridden: its receiver ends at its first error, and all would wait for ever |
| `_init_manager` | replaced by `connect`: the same attributes, from a manager that survives signals |
| `launch_inference_worker`, `launch_single_inference_worker` | all workers at the start, one anew |
| `_inference_workers_config_for_api`, `devices` | how many workers there are, on which devices |
| `inference_worker` | runs in a worker: `LitAPI.setup`, past which SystemExit goes, then the loop |
| `LITSERVE_WORKER_ID` | tells `LitAPI.setup` which worker it is in |
| `transport.send`, `areceive`, `close` | messages back; an `areceive` without one returns None each second |
| `check_cuda_with_nvidia_smi` | counts GPUs without torch |

What travels is ours alone: jobs in the request queue, and `processes.messages` in the transport. Knows
processes; knows nothing of routes and of what they ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from litserve import LitAPI, LitServer
from litserve.connector import check_cuda_with_nvidia_smi
from litserve.loops import LitLoop
from litserve.transport.base import MessageTransport
from litserve.transport.factory import create_transport_from_config

from llada_exp.server.log import set_up
from llada_exp.server.processes.backend import Build, load_backend
from llada_exp.server.processes.engine_turns import EngineTurns
from llada_exp.server.processes.fair_queue import FairQueue, QueueManager
from llada_exp.server.processes.messages import WorkerMessage
from llada_exp.server.processes.prompt_reader import PromptReader
from llada_exp.server.processes.shared_state import FAILED, READY, STARTING, SharedState
from llada_exp.server.processes.start_stop import exit_with, ignore_stop_signals
from llada_exp.server.processes.worker import Backend, Worker
from llada_exp.settings import ServeSettings

logger = logging.getLogger(__name__)

TURN_S = 0.1
SETUP_FAILED = 3
"""Exit code of a worker whose model does not load."""
API_PROCESS = 0
"""The transport's one consumer."""


class LladaServer(LitServer):
    """Raises ValueError for devices that are not there."""

    def __init__(self, settings: ServeSettings, build: Build = load_backend) -> None:
        device = pick_device(settings.device, settings.devices)
        self.model_api = ModelAPI(settings, build)
        self._http_loop: asyncio.AbstractEventLoop | None = None
        self._http_tasks: list[Callable[[], Coroutine[Any, Any, None]]] = []
        super().__init__(
            self.model_api,
            accelerator=device,
            devices=settings.devices if device == "cuda" else 1,
            workers_per_device=settings.workers,
            timeout=False,
            restart_workers=False,  # LitServe's monitor is not used; `WorkerWatch` restarts
            max_payload_size=settings.server.max_body_mb * 2**20,
        )

    def register_endpoints(self) -> None:
        """None of LitServe's own: `routes` has every one."""

    @property
    def num_workers(self) -> int:
        return len(self._inference_workers_config_for_api(self.model_api.api_path))

    @property
    def device_names(self) -> list[str]:
        return [device[0] if isinstance(device, list) else device for device in self.devices]

    def connect(self, manager: QueueManager) -> tuple[FairQueue, SharedState]:
        """Make what connects this process with the workers: the queue of their jobs, and the shared state."""
        self.transport_config.manager = manager
        self.transport_config.num_consumers = 1
        self.workers_setup_status = manager.dict()
        self._transport: MessageTransport = create_transport_from_config(self.transport_config)
        queue = self.litapi_request_queues[self.model_api.api_path] = manager.FairQueue()
        shared = self.model_api.shared = self.model_api.loop.shared = SharedState(manager, self.num_workers)
        return queue, shared

    def launch_workers(self) -> list[Any]:
        return self.launch_inference_worker(self.model_api)

    def launch_worker(self, worker_id: int) -> Any:
        return self.launch_single_inference_worker(self.model_api, worker_id)

    def close_transport(self) -> None:
        self._transport.close(send_sentinel=True)

    # -- in the HTTP thread

    def run_beside_http(self, *tasks: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let these run in the HTTP thread's loop for as long as it does. Before the thread starts."""
        self._http_tasks += tasks

    def call_in_http_thread(self, function: Callable[..., None], *arguments: Any) -> None:
        """From another thread. Nothing happens where the HTTP thread is gone, or has not begun."""
        if self._http_loop is not None:
            with contextlib.suppress(RuntimeError):
                self._http_loop.call_soon_threadsafe(function, *arguments)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        self._http_loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(task()) for task in self._http_tasks]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def receive(self, deliver: Callable[[WorkerMessage], None]) -> None:
        """Workers' messages, until cancelled."""
        while True:
            message: Any = await self._transport.areceive(API_PROCESS)
            if message is not None:
                try:
                    deliver(message)
                except Exception:
                    logger.exception("a worker's message could not be delivered")


class ModelAPI(LitAPI):
    """The model in a worker. backend: set there by `setup`; shared: set before workers start."""

    def __init__(self, settings: ServeSettings, build: Build) -> None:
        super().__init__(stream=True, loop=EngineLoop(settings.max_wait_time))
        self.settings = settings
        self.build = build
        self.server_pid = os.getpid()
        self.shared: SharedState | None = None
        self.backend: Backend | None = None

    def setup(self, device: str) -> None:
        """Load the model. A failure is reported to the main process, then ends the worker."""
        ignore_stop_signals()
        exit_with(self.server_pid)
        set_up(self.settings.log_level, self.settings.log_format)
        assert self.shared is not None
        worker_id = int(os.environ["LITSERVE_WORKER_ID"])
        self.shared.report(worker_id, state=STARTING)
        try:
            self._wait_turn(worker_id, self.shared)
            self.backend = self.build(self.settings, device)
        except Exception as error:
            if not isinstance(error, ValueError | OSError):
                logger.exception("the model does not load")
            message = " ".join(str(error).split()) or type(error).__name__
            is_final = isinstance(error, ValueError)
            self.shared.report(worker_id, state=FAILED, error=message, is_final=is_final)
            sys.exit(SETUP_FAILED)  # past LitServe's handler, which would print a traceback
        self.shared.about[worker_id] = self.backend.about
        self.shared.report(worker_id, state=READY, engine=self.backend.engine.stats())

    def _wait_turn(self, worker_id: int, shared: SharedState) -> None:
        """Workers load one after another: together they would share the disk, and add up in memory what
        loading needs beside the model."""
        waiting = True
        while waiting:  # a worker that has reported nothing yet is starting
            states = dict(shared.states)
            waiting = any(states.get(i, {}).get("state", STARTING) == STARTING for i in range(worker_id))
            time.sleep(TURN_S * waiting)


class EngineLoop(LitLoop):
    """What LitServe calls in a worker once the model is loaded. shared: set before workers start."""

    def __init__(self, max_wait_s: float) -> None:
        super().__init__()
        self.max_wait_s = max_wait_s
        self.shared: SharedState | None = None

    def __call__(
        self,
        lit_api: Any,
        device: str,
        worker_id: int,
        request_queue: FairQueue,
        transport: MessageTransport,
        workers_setup_status: dict[int, str],
        callback_runner: Any,
    ) -> None:
        def send(message: WorkerMessage) -> None:
            transport.send(message, API_PROCESS)

        assert self.shared is not None
        worker = Worker(lit_api.backend, worker_id)
        PromptReader(worker.prompts, worker.engine.check, self.shared, send).start()
        turns = EngineTurns(worker, request_queue, send, self.shared, self.max_wait_s)
        try:
            while turns.run_one():
                pass
        except (EOFError, ConnectionError):
            logger.info("the server is gone; worker %d ends", worker_id)
        logging.shutdown()
        os._exit(0)  # all is sent, and taking torch down in order would take seconds


def pick_device(device: str, devices: str | int) -> str:
    """auto: a GPU where torch can use one. torch is imported only on machines that have a GPU.

    Raises ValueError where GPUs are wanted and none can be counted.
    """
    several = isinstance(devices, int) and devices > 1
    if device == "cpu":
        if several:
            raise ValueError(f"devices is {devices}, which counts GPUs, but device is 'cpu'; see workers")
        return device
    has_gpu = check_cuda_with_nvidia_smi() > 0
    if device == "cuda":
        if devices == "auto" and not has_gpu:
            raise ValueError("device is 'cuda'; nvidia-smi shows no GPU here (devices=N says how many)")
        return device
    if not has_gpu:
        if several:
            raise ValueError(f"devices is {devices}; nvidia-smi shows no GPU here; on the CPU: workers=2")
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
