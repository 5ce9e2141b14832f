"""The watch over worker processes: a dead one is started anew, a hung one is killed first.

Knows processes and what workers report of themselves; knows nothing of HTTP and of jobs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from llada_exp.server.processes.shared_state import FAILED, READY, STARTING, SharedState
from llada_exp.server.processes.start_stop import signals_held

logger = logging.getLogger(__name__)

MAX_RESTARTS, RESTARTS_WITHIN_S = 10, 60.0
"""Of one worker, on average; more are too many."""


class StartError(Exception):
    """The server cannot come up, or cannot go on; the message says why."""


class WorkerWatch:
    """processes: one per worker id; launch: starts the worker of an id; hang_seconds: how long a worker
    may be silent in a step, 0 = for ever."""

    def __init__(
        self,
        processes: list[BaseProcess],
        launch: Callable[[int], BaseProcess],
        shared: SharedState,
        hang_seconds: float,
    ) -> None:
        self.processes = processes
        self._launch = launch
        self._shared = shared
        self._hang_seconds = hang_seconds
        self._restarts: list[float] = []  # when
        self._condemned: set[int] = set()

    @property
    def num_workers(self) -> int:
        return len(self.processes)

    def states(self) -> dict[int, dict[str, Any]]:
        """Worker id -> its last report. One that is dead by now is not ready, whatever it reported."""
        alive, states = self.alive(), dict(self._shared.states)
        for worker_id, process in enumerate(self.processes):
            if process.pid not in alive and states.get(worker_id, {}).get("state") == READY:
                states[worker_id] = states[worker_id] | {"state": STARTING}
        return states

    def alive(self) -> set[int]:
        """Pids of workers that may still answer. One that hangs in its device may outlive its kill."""
        pids = {process.pid for process in self.processes if process.is_alive() and process.pid}
        return pids - self._condemned

    def check(self, was_ready: bool) -> None:
        """Kill what hangs, start anew what is dead. Raises StartError where that is no use."""
        for worker_id, process in enumerate(self.processes):
            if process.is_alive():
                self._check_hung(worker_id, process)
            else:
                self._replace(worker_id, process, was_ready)

    def _check_hung(self, worker_id: int, process: BaseProcess) -> None:
        silent_s = self._shared.silent_s(worker_id)
        if not self._hang_seconds or silent_s < self._hang_seconds or process.pid in self._condemned:
            return
        logger.error("worker %d has been silent for %.0f s; killing it", worker_id, silent_s)
        assert process.pid is not None
        self._condemned.add(process.pid)
        process.kill()

    def _replace(self, worker_id: int, process: BaseProcess, was_ready: bool) -> None:
        self._shared.leave(worker_id)
        state = self.states().get(worker_id, {})
        if not was_ready:
            reason = state.get("error", f"worker {worker_id} ended with exit code {process.exitcode}")
            raise StartError(f"the model does not load: {reason}")
        if state.get("state") == FAILED:  # it would fail again
            if not self.alive():
                raise StartError(f"no worker is left; the model does not load again: {state['error']}")
            return
        now = time.monotonic()
        self._restarts = [t for t in self._restarts if now - t < RESTARTS_WITHIN_S] + [now]
        if len(self._restarts) > MAX_RESTARTS * self.num_workers:
            raise StartError("workers die again and again; their reasons are above")
        logger.warning("worker %d died (exit code %s); starting it anew", worker_id, process.exitcode)
        self._shared.states[worker_id] = {"state": STARTING, "pid": 0, "beat": now}
        with signals_held():
            self.processes[worker_id] = self._launch(worker_id)
