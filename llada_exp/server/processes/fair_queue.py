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
from collections.abc import Collection, Sequence
from multiprocessing.managers import SyncManager
from queue import Empty
from typing import TYPE_CHECKING

from llada_exp.server.processes.messages import QueuedJob


class FairQueue:
    """As queue.Queue, where a job is put with the name of its request. What is no job (STOP) comes before all
    jobs. Notes who took which job, in the same moment: a worker may be killed before it says a word of it, or
    while it waits here, and a job is then handed to nobody. Any thread may call it."""

    def __init__(self) -> None:
        self._takers: dict[str, int] = {}  # of jobs by uid, until they are settled
        self._lines: OrderedDict[str, deque[QueuedJob]] = OrderedDict()  # the next turn first; none is empty
        self._words: deque[str] = deque()
        self._changed = threading.Condition()

    def put(self, item: QueuedJob | str, request: str = "", first: bool = False) -> None:
        """request: whose turn the job takes. first: before the request's other jobs, as one that was lost."""
        if not isinstance(item, str):
            self.put_all([item], request, first)
            return
        with self._changed:
            self._words.append(item)
            self._changed.notify()

    def put_all(self, items: Sequence[QueuedJob], request: str = "", first: bool = False) -> None:
        """As `put`, of several at once, in their order."""
        with self._changed:
            line = self._lines.setdefault(request, deque())
            if first:
                line.extendleft(reversed(items))
            else:
                line.extend(items)
            self._changed.notify(len(items))

    def get(self, block: bool = True, timeout: float | None = None, taker: int = 0) -> QueuedJob | str:
        """The next job of the request whose turn it is; taker: the process that asks. Raises queue.Empty."""
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
            self._takers[item[0]] = taker
            return item

    def get_nowait(self, taker: int = 0) -> QueuedJob | str:
        return self.get(block=False, taker=taker)

    def qsize(self) -> int:
        """Jobs that wait."""
        with self._changed:
            return sum(map(len, self._lines.values()))

    def discard(self, request: str) -> list[str]:
        """Take out a request's jobs; the uids of those that were there."""
        with self._changed:
            return [item[0] for item in self._lines.pop(request, ())]

    def are_settled(self, num_jobs: int) -> bool:
        """Whether so many jobs wait here: where nobody waits for more, all that were taken are settled."""
        with self._changed:
            if settled := sum(map(len, self._lines.values())) == num_jobs:
                self._takers.clear()
            return settled

    def takers(self, uids: Collection[str]) -> dict[str, int]:
        """Who took those of the uids that do not wait here. uids: all jobs that are not settled."""
        with self._changed:
            present = {item[0] for line in self._lines.values() for item in line}
            self._takers = {uid: self._takers.get(uid, 0) for uid in uids if uid not in present}
            return dict(self._takers)


class QueueManager(SyncManager):
    """Holds what processes share: a `FairQueue`, and what every manager has."""

    if TYPE_CHECKING:

        def FairQueue(self) -> FairQueue: ...


QueueManager.register(
    "FairQueue",
    FairQueue,
    exposed=("put", "put_all", "get", "get_nowait", "qsize", "discard", "are_settled", "takers"),
)
