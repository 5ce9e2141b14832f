"""Processes and signals: what must hold so that a server ends cleanly however it is told to.

A signal to the process group is the main process's to handle; no child outlives its parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from llada_exp.server.processes.fair_queue import QueueManager
from llada_exp.signals import ENDING


class StopSignals:
    """Counts the signals that mean "end" while entered, whatever a launcher had installed before. What was
    to be ignored when this process was started stays so (nohup), but for SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        always = (signal.SIGTERM, signal.SIGINT)
        stops = [s for s in ENDING if s in always or signal.getsignal(s) != signal.SIG_IGN]
        self._before = {s: signal.signal(s, self._note) for s in stops}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: Any) -> None:
        if not self.count or signum in (signal.SIGTERM, signal.SIGINT):  # a hangup comes twice by itself
            self.count += 1


@contextmanager
def signals_held() -> Iterator[None]:
    """Processes started inside never get a signal to end: one to the group is ours to handle.
    Those that come meanwhile reach us afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stop_signals() -> None:
    """In a worker: they are the main process's business, which drains, then ends us."""
    for signum in ENDING:
        signal.signal(signum, signal.SIG_IGN)


def start_manager() -> QueueManager:
    """A manager that no signal to the group reaches and that ends with this process. Not forked: it would
    keep the environment that this process was started with, and the key that may be in it."""
    manager = QueueManager(ctx=get_context("spawn"))
    with signals_held():
        resource_tracker.ensure_running()
    with signals_held():  # again: the tracker's start has let some of them through
        manager.start(initializer=exit_with, initargs=(os.getpid(),))
    return manager


def end_processes(processes: Sequence[BaseProcess], ask: Callable[[], None], timeout_s: float) -> None:
    """Ask once, wait, then kill those that are left. timeout_s 0: kill at once."""
    if timeout_s:
        with contextlib.suppress(EOFError, OSError):
            ask()
    until = time.monotonic() + timeout_s
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()


def exit_with(parent: int) -> None:
    """End this process soon after `parent` is gone, however it went. A manager or a worker would
    otherwise outlive a killed server and keep its memory and its port."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    with contextlib.suppress(RuntimeError):
        threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()
