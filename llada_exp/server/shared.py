"""What the API process and the workers share: worker states, cancelled jobs, orders to stop.

Made in the main process from one manager, then pickled into every worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from multiprocessing import get_context
from multiprocessing.managers import SyncManager
from typing import Any

STARTING, READY, FAILED = "starting", "ready", "failed"
_CONTEXT = get_context("spawn")


class Shared:
    """states: worker id -> what the worker last said of itself; about: what it said of its model, once.

    Cancelled uids are in a manager's dict; a plain shared counter says when it has news, so that a
    worker's look at it costs nothing in the usual step.
    """

    def __init__(self, manager: SyncManager) -> None:
        self.states = manager.dict()
        self.about = manager.dict()
        self._cancelled = manager.dict()
        self._news = _CONTEXT.RawValue("Q", 0)  # no lock: one writer, and a killed reader must not keep it

    def report(self, worker_id: int, **state: Any) -> None:
        """A worker says how it is; `pid` and the time are added."""
        self.states[worker_id] = state | {"pid": os.getpid(), "beat": time.monotonic()}

    def cancel(self, uids: Iterable[str]) -> None:
        """Ask whichever worker has or gets these jobs to drop them."""
        self._cancelled.update(dict.fromkeys(uids, time.monotonic()))
        self._news.value += 1

    def forget(self, before: float) -> None:
        """Drop older marks that no worker took: their jobs ended before the mark was read."""
        for uid, marked in self._cancelled.items():
            if marked < before:
                self._cancelled.pop(uid, None)

    def reader(self) -> CancelReader:
        return CancelReader(self)


class CancelReader:
    """A worker's view of the cancelled jobs."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._seen = 0
        self._uids: set[str] = set()

    def take(self, uids: set[str]) -> set[str]:
        """Those of `uids` that are cancelled; each is told once."""
        news = self._shared._news.value
        if news != self._seen:
            self._seen = news
            self._uids = set(self._shared._cancelled.keys())
        mine = self._uids & uids
        for uid in mine:
            self._uids.discard(uid)
            self._shared._cancelled.pop(uid, None)
        return mine
