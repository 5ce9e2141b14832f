"""The API process's side of the queue: jobs out, messages in, nobody left waiting.

A `Flight` is one HTTP request's jobs. `Exchange` keeps the books: which jobs wait, which worker has
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
from typing import Any

from litserve.utils import ResponseBufferItem

from llada_exp.server.processes.messages import Job, Message
from llada_exp.server.processes.shared_state import Shared

logger = logging.getLogger(__name__)

WATCH_S = 0.25
LOST_S = 2.0
"""The queue is first in, first out: a job that waits while the queue is empty, or while jobs that were
submitted so much later are admitted, was swallowed by a worker that died."""
FORGET_EVERY = 40


@dataclass
class Ticket:
    """One job on its way. pid: the worker that admitted it first, None while it waits."""

    uid: str
    job: Job
    flight: Flight
    submitted: float
    pid: int | None = None


class Exchange:
    """queue: LitServe's request queue; buffer: its response buffer; alive: pids of live workers."""

    def __init__(
        self,
        queue: Any,
        buffer: dict[str, ResponseBufferItem],
        shared: Shared,
        alive: Callable[[], set[int]],
    ) -> None:
        self._queue = queue
        self._buffer = buffer
        self._shared = shared
        self._alive = alive
        self._tickets: dict[str, Ticket] = {}
        self._flights: set[Flight] = set()
        self._admitted_until = 0.0  # submission time of the latest job that was admitted
        self.counters = {"submitted": 0, "completed": 0, "failed": 0, "cancelled": 0, "resubmitted": 0}

    @property
    def num_open(self) -> int:
        """Jobs that somebody waits for. May be asked from any thread."""
        return len(self._tickets)

    @property
    def num_unanswered(self) -> int:
        """HTTP requests whose answer is not yet read to its end. May be asked from any thread."""
        return len(self._flights)

    @property
    def num_pending(self) -> int:
        """Jobs that no worker has admitted yet."""
        return sum(t.pid is None for t in self._tickets.values())

    @property
    def num_processing(self) -> int:
        return sum(t.pid is not None for t in self._tickets.values())

    @property
    def num_buffers(self) -> int:
        """Entries of LitServe's response buffer; it leaks by itself, so it is watched."""
        return len(self._buffer)

    def open(self, jobs: Sequence[Job]) -> Flight:
        """Submit jobs that one client waits for. Close the flight in a `finally`.

        Raises EOFError or ConnectionError where the queue is gone.
        """
        flight = Flight(self)
        self._flights.add(flight)
        for job in jobs:
            ticket = Ticket(uuid.uuid4().hex, job, flight, time.monotonic())
            flight.uids.append(ticket.uid)
            self._tickets[ticket.uid] = ticket
            self._buffer[ticket.uid] = ResponseBufferItem(event=flight.ready, response_queue=flight)
        self.counters["submitted"] += len(jobs)
        try:
            for uid in flight.uids:
                self._submit(self._tickets[uid])
        except BaseException:
            self._flights.discard(flight)
            for uid in flight.uids:
                self._retire(uid)
            raise
        return flight

    def accept(self, message: Message) -> bool:
        """Book a message; False if it is not to be passed on (a second worker's, or too late)."""
        ticket = self._tickets.get(message["uid"])
        if ticket is None or (ticket.pid is not None and message["pid"] != ticket.pid):
            return False
        ticket.pid = message["pid"]
        self._admitted_until = max(self._admitted_until, ticket.submitted)
        if message["kind"] in ("done", "failed"):
            self._retire(ticket.uid)
            self.counters["completed" if message["kind"] == "done" else "failed"] += 1
        return True

    def close(self, flight: Flight) -> None:
        """Forget a flight; what is still running is cancelled."""
        self._flights.discard(flight)
        left = [uid for uid in flight.uids if uid in self._tickets]
        for uid in left:
            self._retire(uid)
        if left:
            self.counters["cancelled"] += len(left)
            with contextlib.suppress(EOFError, ConnectionError):  # nobody is left to be told
                self._shared.cancel(left)

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

    def _submit(self, ticket: Ticket) -> None:
        self._queue.put((0, ticket.uid, ticket.submitted, ticket.job))

    def _retire(self, uid: str) -> None:
        self._tickets.pop(uid, None)
        self._buffer.pop(uid, None)

    def _fail(self, ticket: Ticket, message: str) -> None:
        self._retire(ticket.uid)
        self.counters["failed"] += 1
        ticket.flight.failed(ticket.uid, 503, message)

    def _fail_orphans(self) -> None:
        held = {t.pid for t in self._tickets.values() if t.pid is not None}
        for pid in held - self._alive() if held else ():
            for ticket in [t for t in self._tickets.values() if t.pid == pid]:
                self._fail(ticket, "the worker that decoded this request died; please send it again")

    def _find_lost(self) -> None:
        before = time.monotonic() - LOST_S
        lost = [t for t in self._tickets.values() if t.pid is None and t.submitted < before]
        if lost and self._queue.qsize() > 0:
            lost = [t for t in lost if t.submitted < self._admitted_until - LOST_S]
        for ticket in lost:
            logger.warning("a request was swallowed by a worker that died; submitting it again")
            ticket.submitted = time.monotonic()
            self.counters["resubmitted"] += 1
            self._submit(ticket)


class Flight:
    """The messages of one HTTP request's jobs, in the order of arrival.

    In LitServe's buffer it stands for the response queue: `append` and the event are what LitServe
    uses. Messages are booked as they arrive, not as they are read: a client that reads slowly must not
    look like a job that runs.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.uids: list[str] = []
        self.ready = asyncio.Event()
        self._messages: deque[Message] = deque()
        self._exchange = exchange

    def append(self, response: Sequence[Any]) -> None:
        """LitServe's receiver has [message, status] for one of our jobs."""
        if self._exchange.accept(response[0]):
            self._messages.append(response[0])

    async def next(self) -> tuple[int, Message]:
        """The next message, with the index of its job."""
        while not self._messages:
            self.ready.clear()
            await self.ready.wait()
        message = self._messages.popleft()
        return self.uids.index(message["uid"]), message

    def failed(self, uid: str, status: int, message: str) -> None:
        """Put a failure of this side into the messages."""
        self._messages.append({"kind": "failed", "uid": uid, "pid": 0, "status": status, "message": message})
        self.ready.set()

    def close(self) -> None:
        self._exchange.close(self)
