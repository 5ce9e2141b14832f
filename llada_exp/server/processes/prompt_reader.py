"""A worker's thread that reads the prompts of a list, so that all are good before the first is decoded.

Beside the engine's turns: neither does a step wait for a text to become tokens, nor the text for a free row.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from queue import Empty, Queue
from threading import Thread

from llada_exp.server.processes.job_prompts import JobPrompts, PromptError, Take
from llada_exp.server.processes.messages import QueuedPrompts, WorkerMessage

logger = logging.getLogger(__name__)

IDLE_S = 0.5
"""At a stretch in the queue: a worker that dies there may swallow one entry within it."""


class PromptReader(Thread):
    """check: raises ValueError for what the engine would refuse."""

    def __init__(
        self,
        prompts: JobPrompts,
        check: Take,
        queue: Queue[QueuedPrompts],
        send: Callable[[WorkerMessage], None],
    ) -> None:
        super().__init__(name="prompts", daemon=True)
        self.prompts = prompts
        self.check = check
        self.queue = queue
        self.send = send

    def run(self) -> None:
        while True:
            try:
                item = self.queue.get(timeout=IDLE_S)
            except Empty:
                continue
            except (OSError, EOFError):
                return  # the manager is gone: the server is ending
            self.read_all(item)

    def read_all(self, item: QueuedPrompts) -> None:
        """Answer with the ids of all prompts, or with the first one's fault."""
        uid, _, jobs = item
        pid = os.getpid()
        self.send({"kind": "reading", "uid": uid, "pid": pid})
        try:
            ids = [self.prompts.read(job, self.check)[0] for job in jobs]
        except PromptError as error:
            self.send({"kind": "failed", "uid": uid, "pid": pid, **error.refusal})
        except Exception:
            logger.exception("prompts could not be read")
            message = "internal error while preparing the request"
            self.send({"kind": "failed", "uid": uid, "pid": pid, "status": 500, "message": message})
        else:
            self.send({"kind": "read", "uid": uid, "pid": pid, "prompts": ids})
