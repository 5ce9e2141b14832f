"""What each worker did since the server began, restarts of its process included: answers, faults, activity.

Written as workers' messages arrive, in the event loop's thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class WorkerBook:
    """served: answers given; errors: those that it failed (5xx), consecutive_errors: since the last good one;
    last_activity: by the monotonic clock, of the last answer that it began or ended."""

    served: int = 0
    errors: int = 0
    consecutive_errors: int = 0
    last_activity: float = field(default_factory=time.monotonic)


class WorkerBooks:
    def __init__(self) -> None:
        self._books: dict[int, WorkerBook] = {}

    def of(self, worker: int) -> WorkerBook:
        return self._books.setdefault(worker, WorkerBook())

    def began(self, worker: int) -> None:
        self.of(worker).last_activity = time.monotonic()

    def ended(self, worker: int, is_good: bool) -> None:
        book = self.of(worker)
        book.last_activity = time.monotonic()
        book.served += is_good
        book.errors += not is_good
        book.consecutive_errors = 0 if is_good else book.consecutive_errors + 1
