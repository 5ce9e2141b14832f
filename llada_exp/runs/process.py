"""How a run's process ends: by a signal as by an exception, so that everything is put away."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

TERMINATED = 143


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the block as an exception does, so that servers are stopped and the end is recorded.

    Installed inside the task: launchers install handlers of their own before it, and swallow the signal.
    """

    def end(number: int, frame: object) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
