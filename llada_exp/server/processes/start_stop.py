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
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from socket import socket
from typing import Any

import uvicorn
from fastapi import FastAPI

from llada_exp.server.processes.fair_queue import QueueManager

KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection: closing first would race with their next request."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Counts SIGTERM and SIGINT while entered, whatever a launcher had installed before."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        self._before = {s: signal.signal(s, self._note) for s in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: Any) -> None:
        self.count += 1


@contextmanager
def signals_held() -> Iterator[None]:
    """Processes started inside never get SIGTERM or SIGINT: a signal to the group is ours to handle.
    Those that come meanwhile reach us afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stop_signals() -> None:
    """In a worker: they are the main process's business, which drains, then ends us."""
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def start_manager() -> QueueManager:
    """A manager that no signal to the group reaches and that ends with this process."""
    manager = QueueManager(ctx=get_context("fork"))
    with signals_held():
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


class HttpThread(threading.Thread):
    """uvicorn, beside the main thread."""

    def __init__(self, app: FastAPI, sock: socket) -> None:
        super().__init__(name="http", daemon=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        config.timeout_keep_alive = KEEP_ALIVE_S
        self._server = uvicorn.Server(config)
        self._sock = sock
        self.start()

    def run(self) -> None:
        self._server.run(sockets=[self._sock])

    def stop(self) -> None:
        self._server.should_exit = True
