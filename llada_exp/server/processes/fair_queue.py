"""The queue of the workers' jobs, in which every HTTP request has its turn.

A request of a thousand answers puts a thousand jobs into it at once. Workers get one job of each request that
waits, then the next of each: where k requests wait, each is served every k-th time, and its own jobs come in
their order. Who comes first and how many wait changes when a job is decoded, never its answer.

Lives in the manager's process; the others have a proxy. Knows no job's content.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Collection
from multiprocessing.managers import SyncManager
from queue import Empty
from typing import TYPE_CHECKING

from llada_exp.server.processes.messages import QueuedJob


class FairQueue:
    """As queue.Queue, where a job is put with the name of its request. What is no job (STOP) comes before all
    jobs. Any thread may call it."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[QueuedJob]] = OrderedDict()  # the next turn first; none is empty
        self._words: deque[str] = deque()
        self._changed = threading.Condition()

    def put(self, item: QueuedJob | str, request: str = "", first: bool = False) -> None:
        """request: whose turn the job takes. first: before the request's other jobs, as one that was lost."""
        with self._changed:
            if isinstance(item, str):
                self._words.append(item)
            elif first:
                self._lines.setdefault(request, deque()).appendleft(item)
            else:
                self._lines.setdefault(request, deque()).append(item)
            self._changed.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> QueuedJob | str:
        """The next job of the request whose turn it is. Raises queue.Empty."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._words and not self._lines:
                left = None if until is None else until - time.monotonic()
                if not block or (left is not None and left <= 0):
                    raise Empty
                self._changed.wait(left)
            if self._words:
                return self._words.popleft()
            request, line = self._lines.popitem(last=False)
            item = line.popleft()
            if line:
                self._lines[request] = line  # behind all others
            return item

    def get_nowait(self) -> QueuedJob | str:
        return self.get(block=False)

    def qsize(self) -> int:
        """Jobs that wait."""
        with self._changed:
            return sum(map(len, self._lines.values()))

    def discard(self, request: str) -> list[str]:
        """Take out a request's jobs; the uids of those that were there."""
        with self._changed:
            return [item[0] for item in self._lines.pop(request, ())]

    def missing(self, uids: Collection[str]) -> list[str]:
        """Those of the uids that do not wait here."""
        with self._changed:
            present = {item[0] for line in self._lines.values() for item in line}
        return [uid for uid in uids if uid not in present]


class QueueManager(SyncManager):
    """Holds what processes share: a `FairQueue`, and what every manager has."""

    if TYPE_CHECKING:

        def FairQueue(self) -> FairQueue: ...


QueueManager.register(
    "FairQueue", FairQueue, exposed=("put", "get", "get_nowait", "qsize", "discard", "missing")
)
