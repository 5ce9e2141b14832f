"""A worker's thread that reads the prompts of a list, and long ones, so that all are good before the first is
decoded.

Beside the engine's turns: neither does a step wait for a text to become tokens, nor the text for a free row.
Requests take turns here, too: a list of a thousand long prompts holds up nobody else's for long.
"""

from __future__ import annotations

import logging
import os
import time
from array import array
from collections import deque
from collections.abc import Callable
from queue import Empty
from threading import Thread
from typing import Any

from llada_exp.server.processes.job_prompts import JobPrompts, PromptError, Take
from llada_exp.server.processes.messages import DecodeJob, WorkerMessage, packed_ids
from llada_exp.server.processes.served_request import is_fault
from llada_exp.server.processes.shared_state import SharedState

logger = logging.getLogger(__name__)

IDLE_S = 0.5
"""At a stretch in the queue: a worker that dies there may swallow one entry within it."""
TURN_S = 0.1
MAX_AT_ONCE = 16


class _Reading:
    """One request's prompts, in part."""

    def __init__(self, uid: str, jobs: list[DecodeJob]) -> None:
        self.uid = uid
        self.jobs = deque(jobs)
        self.ids: list[array[int]] = []


class PromptReader(Thread):
    """check: raises ValueError for what the engine would refuse."""

    def __init__(
        self, prompts: JobPrompts, check: Take, shared: SharedState, send: Callable[[WorkerMessage], None]
    ) -> None:
        super().__init__(name="prompts", daemon=True)
        self.prompts = prompts
        self.check = check
        self.shared = shared
        self.send = send
        self._readings: deque[_Reading] = deque()

    def run(self) -> None:
        try:
            while True:
                self.run_one()
        except (OSError, EOFError):
            return  # the manager is gone: the server is ending
        except BaseException:
            logger.exception("the prompts' thread cannot go on; the worker ends")
            os._exit(1)  # else who waits for its prompts would wait for ever

    def run_one(self) -> None:
        """Take what waits, then give the next request its turn."""
        try:
            while len(self._readings) < MAX_AT_ONCE:
                self._take(self.shared.prompts.get(not self._readings, IDLE_S, os.getpid()))
        except Empty:
            pass
        if self._readings:
            reading = self._readings.popleft()
            if not self.shared.take_cancelled({reading.uid}) and self._has_more(reading):
                self._readings.append(reading)

    def _take(self, item: Any) -> None:
        uid, _, jobs = item
        self._readings.append(_Reading(uid, jobs))
        self.send({"kind": "reading", "uid": uid, "pid": os.getpid()})

    def _has_more(self, reading: _Reading) -> bool:
        """Read for a turn. At the end answer with the ids of all prompts, or with the first one's fault."""
        until = time.monotonic() + TURN_S
        pid = os.getpid()
        try:
            while reading.jobs:
                reading.ids.append(packed_ids(self.prompts.read(reading.jobs.popleft(), self.check)[0]))
                if reading.jobs and time.monotonic() > until:
                    return True
        except PromptError as error:
            self.send({"kind": "failed", "uid": reading.uid, "pid": pid, **error.refusal})
        except BaseException as error:
            if not is_fault(error):
                raise
            logger.exception("prompts could not be read")
            message = f"internal error while preparing the request ({type(error).__name__})"
            self.send({"kind": "failed", "uid": reading.uid, "pid": pid, "status": 500, "message": message})
        else:
            self.send({"kind": "read", "uid": reading.uid, "pid": pid, "prompts": reading.ids})
        return False
