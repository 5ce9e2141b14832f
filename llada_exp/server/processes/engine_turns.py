"""A worker's turns: jobs are pulled from the queue while rows are free, then the engine steps.

Batch and streaming mode differ in one number: how long an idle worker waits for company after its
first job. Everything else is continuous: jobs join and leave the rows in flight at every step.
Several workers pull from one queue, and each leaves a job to a worker that has fewer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from queue import Empty

from llada_exp.server.processes.fair_queue import FairQueue
from llada_exp.server.processes.messages import QueuedJob, WorkerMessage
from llada_exp.server.processes.shared_state import FULL, READY, SharedState
from llada_exp.server.processes.worker import Worker

logger = logging.getLogger(__name__)

IDLE_S = 0.5
REPORT_S = 0.25
YIELD_S, LOOK_AROUND_S = 0.002, 0.02
"""While waiting for company: between looks at the other workers, and in the queue at a stretch."""
MAX_FAILED_STEPS = 3
"""Of the engine itself, in a row; then the worker ends itself, and is started anew with a fresh device. A
request whose own pass fails is no such step: whoever repeats it ends no worker."""


class EngineTurns:
    """One worker's life, a turn at a time: cancel, pull, step, report, send.

    Figures are reported before answers are sent, so that whoever has an answer finds it counted.
    max_wait_s: counted from the first job's submission.
    """

    def __init__(
        self,
        worker: Worker,
        queue: FairQueue,
        send: Callable[[WorkerMessage], None],
        shared: SharedState,
        max_wait_s: float,
    ) -> None:
        self.worker = worker
        self.engine = worker.engine
        self.queue = queue
        self.send = send
        self.shared = shared
        self.max_wait_s = max_wait_s
        self._reported = 0.0

    def run_one(self) -> bool:
        """False: the worker is to end."""
        self.worker.abort(self.shared.take_cancelled(self.worker.uids))
        self._beat()
        go_on = self._pull_waiting() if self.engine.has_work() else self._pull_first()
        if self.engine.has_work():
            self.worker.step()
        self._beat()
        self._report()
        self._flush()
        if self.worker.is_lost:
            return False
        if self.worker.num_failed_steps >= MAX_FAILED_STEPS:
            logger.error("%d steps in a row failed; the worker ends", MAX_FAILED_STEPS)
            return False
        if not go_on:
            self.worker.fail_all(503, "the server is stopping")
            self._flush()
        return go_on

    def _pull_first(self) -> bool:
        """Idle: sleep until a job comes; then wait for others, counted from the first one's time."""
        try:
            item = self.queue.get(timeout=IDLE_S, taker=self.worker.pid)
        except Empty:
            return True
        if isinstance(item, str) or not self._take(item):
            return False
        until = item[1] + self.max_wait_s
        while self.engine.has_capacity() and (left := until - time.monotonic()) > 0:
            self._beat()
            if not self._may_take():
                time.sleep(min(left, YIELD_S))
                continue
            try:
                wait_s = min(left, LOOK_AROUND_S)
                if not self._take(self.queue.get(timeout=wait_s, taker=self.worker.pid)):
                    return False
            except Empty:
                pass
        return self._pull_waiting()

    def _pull_waiting(self) -> bool:
        """Everything that is there, has a free row, and is no other worker's share."""
        while self._may_take():
            try:
                if not self._take(self.queue.get_nowait(self.worker.pid)):
                    return False
            except Empty:
                break
        return True

    def _may_take(self) -> bool:
        load = len(self.worker.uids)
        return self.engine.has_capacity() and self.shared.may_take(self.worker.worker_id, load)

    def _beat(self) -> None:
        load = len(self.worker.uids) if self.engine.has_capacity() else FULL
        self.shared.beat(self.worker.worker_id, load)

    def _take(self, item: QueuedJob | str) -> bool:
        """Start a job that is not cancelled. False where the worker is to end."""
        if isinstance(item, str):  # STOP
            return False
        uid, _, job = item
        if not self.shared.take_cancelled({uid}):
            self.worker.add(uid, job)
            self._beat()
            self._flush()
        return True

    def _flush(self) -> None:
        for message in self.worker.outbox:
            self.send(message)
        self.worker.outbox.clear()

    def _report(self) -> None:
        now = time.monotonic()
        ended = any(message["kind"] in ("done", "failed") for message in self.worker.outbox)
        if not ended and now - self._reported < REPORT_S:
            return
        self._reported = now
        self.shared.report(self.worker.worker_id, state=READY, engine=self.engine.stats())
