"""The watch over worker processes: a dead one is started anew, a hung one is killed first.

Knows processes and what workers report of themselves; knows nothing of HTTP and of jobs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from llada_exp.server.processes.shared_state import FAILED, READY, STARTING, SharedState
from llada_exp.server.processes.start_stop import signals_held

logger = logging.getLogger(__name__)

STABLE_S = 10.0
"""A worker that has decoded for so long was well: if it dies later, that is no further time in a row."""
MAX_DEATHS = 10
"""In a row; then the worker is given up, and the server ends where no other is left."""
FIRST_DELAY_S, MAX_DELAY_S = 1.0, 30.0
"""Before the second start in a row, doubled for each further one. The first is at once."""


class StartError(Exception):
    """The server cannot come up, or cannot go on; the message says why."""


@dataclass
class _Life:
    """Of the workers of one id. num_deaths: in a row; up_since: of the present one, since it decodes;
    start_at: when the next one is started, None while there is one."""

    num_deaths: int = 0
    up_since: float | None = None
    start_at: float | None = None
    is_over: bool = False


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
        self._lives = [_Life() for _ in processes]
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
        now = time.monotonic()
        for worker_id, (process, life) in enumerate(zip(list(self.processes), self._lives, strict=True)):
            if life.is_over:
                continue
            if life.start_at is not None:
                if now >= life.start_at:
                    self._start(worker_id, life)
            elif process.is_alive():
                self._check_hung(worker_id, process)
                if life.up_since is None and self._shared.has_beaten(worker_id):
                    life.up_since = now
            else:
                self._note_death(worker_id, life, was_ready)

    def _check_hung(self, worker_id: int, process: BaseProcess) -> None:
        silent_s = self._shared.silent_s(worker_id)
        if not self._hang_seconds or silent_s < self._hang_seconds or process.pid in self._condemned:
            return
        logger.error("worker %d has been silent for %.0f s; killing it", worker_id, silent_s)
        assert process.pid is not None
        self._condemned.add(process.pid)
        process.kill()

    def _note_death(self, worker_id: int, life: _Life, was_ready: bool) -> None:
        code, state = self.processes[worker_id].exitcode, self.states().get(worker_id, {})
        self._shared.leave(worker_id)
        if not was_ready:
            reason = state.get("error", f"worker {worker_id} ended with exit code {code}")
            raise StartError(f"the model does not load: {reason}")
        if state.get("state") == FAILED and state.get("is_final"):  # it would fail again
            self._give_up(life, f"the model does not load again: {state['error']}")
            return
        if life.up_since is not None and time.monotonic() - life.up_since >= STABLE_S:
            life.num_deaths = 0
        self._start_later(worker_id, life, state.get("error") or f"died (exit code {code})")

    def _start_later(self, worker_id: int, life: _Life, reason: str) -> None:
        """At once for the first time in a row. Raises StartError where no worker is left."""
        life.num_deaths += 1
        life.up_since = None
        if life.num_deaths >= MAX_DEATHS:
            error = f"{reason}, for the {life.num_deaths}th time in a row"
            self._shared.states[worker_id] = {
                "state": FAILED,
                "pid": 0,
                "beat": time.monotonic(),
                "error": error,
            }
            self._give_up(life, f"worker {worker_id}: {error}")
            return
        delay = FIRST_DELAY_S * 2 ** (life.num_deaths - 2) if life.num_deaths > 1 else 0.0
        life.start_at = (now := time.monotonic()) + min(delay, MAX_DELAY_S)
        words = f"{reason}; starting it anew" + (f" in {min(delay, MAX_DELAY_S):g} s" if delay else "")
        logger.warning("worker %d: %s", worker_id, words)
        self._shared.states[worker_id] = {"state": STARTING, "pid": 0, "beat": now, "error": words}

    def _start(self, worker_id: int, life: _Life) -> None:
        """Where there is no process, memory or descriptor to be had, that is as if it had died."""
        life.start_at = None
        now = time.monotonic()
        self._shared.states[worker_id] = {"state": STARTING, "pid": 0, "beat": now}
        try:
            with signals_held():
                self.processes[worker_id] = self._launch(worker_id)
        except OSError as error:
            self._start_later(worker_id, life, f"cannot be started ({error.strerror or error})")

    def _give_up(self, life: _Life, reason: str) -> None:
        life.is_over = True
        logger.error("%s; it is not started again", reason)
        if all(other.is_over for other in self._lives):
            raise StartError(f"no worker is left; {reason}")
