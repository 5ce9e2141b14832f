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
from typing import Any

from llada_exp.server.processes.fair_queue import FairQueue
from llada_exp.server.processes.messages import DecodeJob, WorkerMessage
from llada_exp.server.processes.shared_state import SharedState
from llada_exp.server.state.worker_books import WorkerBooks

logger = logging.getLogger(__name__)

WATCH_S = 0.25
LOST_S = 2.0
"""A job that a dead worker took, and of which no word came for so long, never began."""
MAX_TRIES = 3
"""So many workers may die with a job in hand that never began; then it is suspected of ending them."""
FORGET_EVERY = 40


@dataclass
class Ticket:
    """One job on its way, or several whose prompts are only read. pid: the worker that admitted it, None
    while it waits. missed: when who took it was first seen to be dead; num_tries: times it was submitted."""

    uid: str
    job: DecodeJob | list[DecodeJob]
    group: JobGroup
    submitted: float
    pid: int | None = None
    missed: float | None = None
    num_tries: int = 1
    worker: int | None = None  # once it is in the engine

    @property
    def is_decoded(self) -> bool:
        return not isinstance(self.job, list)


class WaitingRequests:
    """queue: of the workers' jobs; alive: pids of live workers."""

    def __init__(self, queue: FairQueue, shared: SharedState, alive: Callable[[], set[int]]) -> None:
        self._queue = queue
        self._shared = shared
        self._alive = alive
        self._tickets: dict[str, Ticket] = {}
        self._groups: set[JobGroup] = set()
        self._admitted_until = 0.0  # submission time of the latest job that was admitted
        self.books = WorkerBooks()
        self.num_requests = 0  # over HTTP, since the start
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
        return sum(t.pid is None and t.is_decoded for t in self._tickets.values())

    @property
    def num_processing(self) -> int:
        return sum(t.pid is not None and t.is_decoded for t in self._tickets.values())

    def num_running(self, worker: int) -> int:
        """Answers that a worker has in its engine."""
        return sum(t.worker == worker for t in self._tickets.values())

    def open(self, jobs: Sequence[DecodeJob]) -> JobGroup:
        """Submit jobs that one client waits for. Close the group in a `finally`.

        Raises EOFError or ConnectionError where the queue is gone.
        """
        self.counters["submitted"] += len(jobs)
        self.num_requests += 1
        return self._open(jobs)

    def open_reading(self, jobs: list[DecodeJob]) -> JobGroup:
        """Have the prompts of jobs read, which are not decoded: the group has one message at its end, `Read`
        or `Failed`. Close it in a `finally`. Raises as `open`."""
        return self._open([jobs])

    def _open(self, jobs: Sequence[DecodeJob | list[DecodeJob]]) -> JobGroup:
        group = JobGroup(self)
        self._groups.add(group)
        for job in jobs:
            ticket = Ticket(uuid.uuid4().hex, job, group, time.monotonic())
            group.uids.append(ticket.uid)
            self._tickets[ticket.uid] = ticket
        try:
            self._submit([self._tickets[uid] for uid in group.uids])
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
        if ticket.is_decoded:
            self._admitted_until = max(self._admitted_until, ticket.submitted)
        if message["kind"] == "admitted" and (worker := message.get("worker")) is not None:
            ticket.worker = worker
            self.books.began(worker)
        if message["kind"] in ("done", "failed", "read"):
            del self._tickets[ticket.uid]
            if ticket.is_decoded:
                self.counters["completed" if message["kind"] == "done" else "failed"] += 1
            if ticket.worker is not None:
                self.books.ended(ticket.worker, is_good=message["kind"] == "done")
        ticket.group.put(message)

    def close(self, group: JobGroup) -> None:
        """Forget a group; what is still running is cancelled."""
        self._groups.discard(group)
        left = [ticket for uid in group.uids if (ticket := self._tickets.pop(uid, None))]
        self.counters["cancelled"] += sum(ticket.is_decoded for ticket in left)
        self._cancel(left)

    def fail_all(self, message: str) -> None:
        """Give up everything, as a server does that must end now: workers, too, for they look for the word to
        stop only where a row is free."""
        tickets = list(self._tickets.values())
        for ticket in tickets:
            self._fail(ticket, message)
        self._cancel(tickets)

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

    def _submit(self, tickets: list[Ticket], again: bool = False) -> None:
        """Tickets of one group, by one message: thousands of them would hold up the event loop."""
        items: list[Any] = [(ticket.uid, ticket.submitted, ticket.job) for ticket in tickets]
        self._queue_of(tickets[0]).put_all(items, tickets[0].group.name, again)

    def _cancel(self, tickets: list[Ticket]) -> None:
        """Take jobs out of their queue; whichever worker has them already is to drop them."""
        places = {ticket.group.name: self._queue_of(ticket) for ticket in tickets}
        with contextlib.suppress(EOFError, ConnectionError):  # no worker is left that could drop them
            queued = {uid for name, queue in places.items() for uid in queue.discard(name)}
            if running := [ticket.uid for ticket in tickets if ticket.uid not in queued]:
                self._shared.cancel(running)

    def _queue_of(self, ticket: Ticket) -> FairQueue:
        return self._queue if ticket.is_decoded else self._shared.prompts

    def _fail(self, ticket: Ticket, message: str) -> None:
        self._tickets.pop(ticket.uid, None)
        self.counters["failed"] += ticket.is_decoded
        if ticket.worker is not None:
            self.books.ended(ticket.worker, is_good=False)
        ticket.group.put({"kind": "failed", "uid": ticket.uid, "pid": 0, "status": 503, "message": message})

    def _fail_orphans(self) -> None:
        held = {t.pid for t in self._tickets.values() if t.pid is not None}
        for pid in held - self._alive() if held else ():
            for ticket in [t for t in self._tickets.values() if t.pid == pid]:
                self._fail(ticket, "the worker that decoded this request died; please send it again")

    def _find_lost(self) -> None:
        """A job that waits for nobody, though no word of it came: its worker may be busy, or dead."""
        for are_decoded, queue in ((True, self._queue), (False, self._shared.prompts)):
            waiting = [t.uid for t in self._tickets.values() if t.pid is None and t.is_decoded == are_decoded]
            if not queue.are_settled(len(waiting)):
                takers, alive = queue.takers(waiting), self._alive()
                self._look_for([uid for uid, taker in takers.items() if taker not in alive])

    def _look_for(self, missing: list[str]) -> None:
        now = time.monotonic()
        for uid in missing:
            ticket = self._tickets[uid]
            if ticket.missed is None:
                ticket.missed = now
            elif ticket.missed < now - LOST_S:
                self._submit_again(ticket)

    def _submit_again(self, ticket: Ticket) -> None:
        """Under another name: what the dead worker may yet turn out to have said is about no job of ours."""
        if ticket.num_tries >= MAX_TRIES:
            self._fail(ticket, f"{MAX_TRIES} workers died as they began with this request")
            return
        logger.warning("a request was swallowed by a worker that died; submitting it again")
        self.counters["resubmitted"] += ticket.is_decoded
        del self._tickets[ticket.uid]
        uid = uuid.uuid4().hex
        ticket.group.rename(ticket.uid, uid)
        self._tickets[uid] = ticket
        ticket.uid, ticket.missed, ticket.num_tries = uid, None, ticket.num_tries + 1
        self._submit([ticket], again=True)


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

    def rename(self, uid: str, new_uid: str) -> None:
        self.uids[self.uids.index(uid)] = new_uid

    async def next(self) -> tuple[int, WorkerMessage]:
        """The next message, with the index of its job."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        return self.uids.index(message["uid"]), message

    def close(self) -> None:
        self._waiting.close(self)
