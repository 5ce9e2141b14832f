"""The API process's side of the queue: jobs out, messages in, nobody left waiting.

A `JobGroup` is one HTTP request's jobs. `WaitingRequests` keeps the books: which jobs wait, which worker has
which, whose worker is dead, whose client is gone. Lives in the event loop's thread. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llada_exp.server.processes.fair_queue import FairQueue
from llada_exp.server.processes.messages import DecodeJob, WorkerMessage
from llada_exp.server.processes.shared_state import SharedState

logger = logging.getLogger(__name__)

WATCH_S = 0.25
LOST_S = 2.0
"""A job that is not in the queue for so long, and at no worker, was swallowed by a worker that died."""
FORGET_EVERY = 40


@dataclass
class Ticket:
    """One job on its way. pid: the worker that admitted it first, None while it waits. missed: when it was
    first seen to be in no queue and at no worker."""

    uid: str
    job: DecodeJob
    group: JobGroup
    submitted: float
    pid: int | None = None
    missed: float | None = None


class WaitingRequests:
    """queue: of the workers' jobs; alive: pids of live workers."""

    def __init__(self, queue: FairQueue, shared: SharedState, alive: Callable[[], set[int]]) -> None:
        self._queue = queue
        self._shared = shared
        self._alive = alive
        self._tickets: dict[str, Ticket] = {}
        self._groups: set[JobGroup] = set()
        self._admitted_until = 0.0  # submission time of the latest job that was admitted
        self.counters = {"submitted": 0, "completed": 0, "failed": 0, "cancelled": 0, "resubmitted": 0}

    @property
    def num_open(self) -> int:
        """Jobs that somebody waits for. Any thread may read it."""
        return len(self._tickets)

    @property
    def num_unanswered(self) -> int:
        """HTTP requests whose answer is not yet read to its end. Any thread may read it."""
        return len(self._groups)

    @property
    def num_pending(self) -> int:
        """Jobs that no worker has admitted yet."""
        return sum(t.pid is None for t in self._tickets.values())

    @property
    def num_processing(self) -> int:
        return sum(t.pid is not None for t in self._tickets.values())

    def open(self, jobs: Sequence[DecodeJob]) -> JobGroup:
        """Submit jobs that one client waits for. Close the group in a `finally`.

        Raises EOFError or ConnectionError where the queue is gone.
        """
        group = JobGroup(self)
        self._groups.add(group)
        for job in jobs:
            ticket = Ticket(uuid.uuid4().hex, job, group, time.monotonic())
            group.uids.append(ticket.uid)
            self._tickets[ticket.uid] = ticket
        self.counters["submitted"] += len(jobs)
        try:
            for uid in group.uids:
                self._submit(self._tickets[uid])
        except BaseException:
            self._groups.discard(group)
            for uid in group.uids:
                self._tickets.pop(uid, None)
            raise
        return group

    def deliver(self, message: WorkerMessage) -> None:
        """Book a worker's message, and pass it on unless it is a second worker's, or too late. Booked as it
        arrives, not as it is read: a client that reads slowly must not look like a job that runs."""
        ticket = self._tickets.get(message["uid"])
        if ticket is None or (ticket.pid is not None and message["pid"] != ticket.pid):
            return
        ticket.pid = message["pid"]
        self._admitted_until = max(self._admitted_until, ticket.submitted)
        if message["kind"] in ("done", "failed"):
            del self._tickets[ticket.uid]
            self.counters["completed" if message["kind"] == "done" else "failed"] += 1
        ticket.group.put(message)

    def close(self, group: JobGroup) -> None:
        """Forget a group; what is still running is cancelled."""
        self._groups.discard(group)
        left = [uid for uid in group.uids if self._tickets.pop(uid, None)]
        if left:
            self.counters["cancelled"] += len(left)
            with contextlib.suppress(EOFError, ConnectionError):  # no worker is left that could drop them
                queued = set(self._queue.discard(group.name))
                if running := [uid for uid in left if uid not in queued]:
                    self._shared.cancel(running)

    def fail_all(self, message: str) -> None:
        """Give up everything, as a server does that must end now."""
        for ticket in list(self._tickets.values()):
            self._fail(ticket, message)

    async def watch(self) -> None:
        """Fail jobs whose worker died, resubmit jobs that were swallowed. Runs until cancelled."""
        turn = 0
        while True:
            await asyncio.sleep(WATCH_S)
            turn += 1
            try:
                self._fail_orphans()
                self._find_lost()
                if turn % FORGET_EVERY == 0:
                    self._shared.forget(before=self._admitted_until - LOST_S)
            except (EOFError, ConnectionError):
                return  # the manager is gone: the server is ending
            except Exception:
                logger.exception("the watch over jobs stumbled")

    def _submit(self, ticket: Ticket, again: bool = False) -> None:
        self._queue.put((ticket.uid, ticket.submitted, ticket.job), ticket.group.name, again)

    def _fail(self, ticket: Ticket, message: str) -> None:
        self._tickets.pop(ticket.uid, None)
        self.counters["failed"] += 1
        ticket.group.put({"kind": "failed", "uid": ticket.uid, "pid": 0, "status": 503, "message": message})

    def _fail_orphans(self) -> None:
        held = {t.pid for t in self._tickets.values() if t.pid is not None}
        for pid in held - self._alive() if held else ():
            for ticket in [t for t in self._tickets.values() if t.pid == pid]:
                self._fail(ticket, "the worker that decoded this request died; please send it again")

    def _find_lost(self) -> None:
        now = time.monotonic()
        waiting = [ticket.uid for ticket in self._tickets.values() if ticket.pid is None]
        if not waiting or self._queue.qsize() >= len(waiting):
            return
        for uid in self._queue.missing(waiting):
            ticket = self._tickets[uid]
            if ticket.missed is None:
                ticket.missed = now
            elif ticket.missed < now - LOST_S:
                logger.warning("a request was swallowed by a worker that died; submitting it again")
                ticket.missed = None
                self.counters["resubmitted"] += 1
                self._submit(ticket, again=True)


class JobGroup:
    """The messages of one HTTP request's jobs, in the order of arrival. uids: of its jobs, in their order;
    name: under which they take turns with other requests'."""

    def __init__(self, waiting: WaitingRequests) -> None:
        self.uids: list[str] = []
        self.name = uuid.uuid4().hex
        self._arrived = asyncio.Event()
        self._messages: deque[WorkerMessage] = deque()
        self._waiting = waiting

    def put(self, message: WorkerMessage) -> None:
        self._messages.append(message)
        self._arrived.set()

    async def next(self) -> tuple[int, WorkerMessage]:
        """The next message, with the index of its job."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        return self.uids.index(message["uid"]), message

    def close(self) -> None:
        self._waiting.close(self)
