"""What the API process and the workers share: worker states, loads and heartbeats, cancelled jobs.

Made in the main process from one manager, then pickled into every worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from multiprocessing import get_context
from typing import Any

from llada_exp.server.processes.fair_queue import QueueManager

STARTING, READY, FAILED = "starting", "ready", "failed"
FULL = 2**31
"""The load of a worker without a free row."""
_ABSENT = -1
_FRESH_S = 1.0
"""A worker that was silent for longer is in a long step: nobody waits for it to take its share."""
_CONTEXT = get_context("spawn")


class SharedState:
    """states: worker id -> the worker's last report; about: worker id -> facts of its model, reported once;
    prompts: the queue of those that are read before they are decoded.

    Cancelled uids are in a manager's dict; a plain shared counter says when it has news, so that a
    worker's look at it costs nothing in the usual step. So are loads and heartbeats: plain memory,
    one writer for each number. Without locks, for a worker that is killed would keep them.
    """

    def __init__(self, manager: QueueManager, num_workers: int = 1) -> None:
        self.states = manager.dict()
        self.about = manager.dict()
        self.prompts = manager.FairQueue()
        self._cancelled = manager.dict()
        self._news = _CONTEXT.RawValue("Q", 0)
        self._news_read = 0  # of this process: every worker has a copy
        self._cancelled_read: set[str] = set()
        self._loads = _CONTEXT.RawArray("q", [_ABSENT] * num_workers)
        self._beats = _CONTEXT.RawArray("d", num_workers)

    def report(self, worker_id: int, **state: Any) -> None:
        """Of a worker: how it is; `pid` and the time are added."""
        self.states[worker_id] = state | {"pid": os.getpid(), "beat": time.monotonic()}

    def beat(self, worker_id: int, load: int) -> None:
        """Of a worker: that it moves, and how many jobs it has (or FULL)."""
        self._loads[worker_id] = load
        self._beats[worker_id] = time.monotonic()

    def leave(self, worker_id: int) -> None:
        """A worker is gone: nobody waits for it, and it cannot hang."""
        self._loads[worker_id] = _ABSENT
        self._beats[worker_id] = 0.0

    def has_beaten(self, worker_id: int) -> bool:
        """Whether a worker decodes: its model is loaded."""
        return bool(self._beats[worker_id])

    def silent_s(self, worker_id: int) -> float:
        """Seconds since a worker's last heartbeat; 0 before its first."""
        last = self._beats[worker_id]
        return time.monotonic() - last if last else 0.0

    def may_take(self, worker_id: int, load: int) -> bool:
        """Whether it is this worker's turn to take a job: no other that moves has fewer."""
        fresh = time.monotonic() - _FRESH_S
        return all(
            other == _ABSENT or load <= other or self._beats[i] < fresh
            for i, other in enumerate(self._loads)
            if i != worker_id
        )

    def cancel(self, uids: Iterable[str]) -> None:
        """Ask whichever worker has or gets these jobs to drop them."""
        self._cancelled.update(dict.fromkeys(uids, time.monotonic()))
        self._news.value += 1

    def forget(self, before: float) -> None:
        """Drop older marks that no worker took: their jobs ended before the mark was read."""
        for uid, marked in self._cancelled.items():
            if marked < before:
                self._cancelled.pop(uid, None)

    def take_cancelled(self, uids: set[str]) -> set[str]:
        """Of a worker: those of its `uids` that are cancelled; each is returned once."""
        if (news := self._news.value) != self._news_read:
            self._news_read = news
            self._cancelled_read = set(self._cancelled.keys())
        mine = self._cancelled_read & uids
        for uid in mine:
            self._cancelled_read.discard(uid)
            self._cancelled.pop(uid, None)
        return mine
