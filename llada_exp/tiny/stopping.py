"""A signal that asks to end, heard between two steps: Ctrl-C, SIGTERM and SIGHUP alike."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Stop:
    """Inside its block the first signal is only noted; a second one ends the process as it would without.

    reason: the signal's name, None while none came; code: the exit code of a process that one ended.
    Outside of the main thread, where Python hears no signals, it does nothing.
    """

    INTERRUPTED = 128 + signal.SIGINT

    def __init__(self) -> None:
        self.reason: str | None = None
        self.code = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in NAMES:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays what it is
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: object) -> None:
        self.reason, self.code = NAMES[signal.Signals(number)], 128 + number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
