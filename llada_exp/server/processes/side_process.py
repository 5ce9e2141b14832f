"""One function in a process of its own, call by call: what takes long, or much memory, away from those who
must go on meanwhile. It is started at the first call, anew where it died, and ends with this process.

Knows nothing of what it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from llada_exp.server.processes.start_stop import exit_with, ignore_stop_signals, signals_held

logger = logging.getLogger(__name__)

_CONTEXT = get_context("spawn")
MAX_TRIES = 2
_LOADING_S = 120.0


class SideProcessError(Exception):
    """The call has no result: its process died, was too slow, or cannot be started; the message says it."""


class SideProcess:
    """function: by name; of bytes and other arguments, all picklable, as its result is; what it raises is a
    bug, and fails the call. max_s: of a call; max_bytes: of memory, beside what it has once loaded."""

    def __init__(self, function: Callable[..., Any], max_s: float, max_bytes: int) -> None:
        self._function = function
        self._max_s = max_s
        self._max_bytes = max_bytes
        self._caller = ThreadPoolExecutor(1, "side-process")  # so that calls wait for one another
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    async def call(self, pieces: Sequence[bytes], *arguments: Any) -> Any:
        """pieces: of the bytes; they are not joined on this side, for a copy would hold up every thread.
        Raises SideProcessError, also where the process died at this call twice."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._caller, self._call, pieces, arguments)

    def close(self) -> None:
        self._caller.shutdown(wait=False, cancel_futures=True)
        self._end()

    async def close_at_end(self) -> None:
        """Runs until cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            self.close()

    def _call(self, pieces: Sequence[bytes], arguments: tuple[Any, ...]) -> Any:
        for _ in range(MAX_TRIES):
            try:
                pipe = self._pipe or self._start()
            except OSError as error:
                self._end()
                raise SideProcessError(f"no process can be started: {error.strerror}") from None
            try:
                pipe.send((len(pieces), arguments))
                for piece in pieces:
                    pipe.send_bytes(piece)
                if not pipe.poll(self._max_s):
                    self._end()
                    raise SideProcessError(f"not done within {self._max_s:g} s")
                good, result = pipe.recv()
            except (EOFError, OSError):
                logger.warning("a process beside the server died; it is started anew")
                self._end()
                continue
            if not good:
                raise SideProcessError(result)
            return result
        raise SideProcessError("its process died")

    def _start(self) -> Connection:
        """The pipe to a process that is ready. Raises OSError."""
        pipe, there = _CONTEXT.Pipe()
        self._pipe = pipe
        with there, signals_held():  # with no copy of its end here, either sees when the other is gone
            process = _CONTEXT.Process(
                target=_serve, args=(self._function, there, os.getpid(), self._max_bytes), daemon=True
            )
            process.start()
        self._process = process
        if not pipe.poll(_LOADING_S):
            raise TimeoutError(0, "it does not come up")
        with contextlib.suppress(EOFError):  # died: as at a call
            pipe.recv()
        return pipe

    def _end(self) -> None:
        pipe, process, self._pipe, self._process = self._pipe, self._process, None, None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.kill()
            process.join()
            process.close()


def _serve(function: Callable[..., Any], pipe: Connection, parent: int, max_bytes: int) -> None:
    """In the process: calls until the other end is gone."""
    ignore_stop_signals()
    exit_with(parent)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + max_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
    with contextlib.suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            num_pieces, arguments = pipe.recv()
            pipe.send(_result(function, b"".join(pipe.recv_bytes() for _ in range(num_pieces)), arguments))


def _result(function: Callable[..., Any], whole: bytes, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, function(whole, *arguments)
    except MemoryError:
        return False, "it takes too much memory"
    except Exception as error:
        logger.exception("a call beside the server failed")
        return False, type(error).__name__


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as facts:
        return int(facts.read().split()[0]) * resource.getpagesize()
