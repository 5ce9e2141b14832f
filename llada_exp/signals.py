"""How a process of ours ends: by a signal as by an exception, so that what it started is stopped.

Every signal that means "end" goes this one way: Ctrl-C, SIGTERM, a terminal that closes (SIGHUP), Ctrl-\\,
and those that clusters warn with (SIGXCPU, SIGUSR1, SIGUSR2). SIGKILL cannot be caught: a child watches its
starter instead (`Starter`).

Standard library only. Knows signals and process ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")

ENDING = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT,
    signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
STARTER_VARIABLE = "LLADA_STARTER_PID"
IMPATIENT = 3
"""So many Ctrl-C end the process whatever it is about; what it started sees that it is gone."""


class EndedBySignal(SystemExit):
    """code: 128 + the signal's number, as shells have it. results: what is not lost, and where; again: the
    command that goes on; both for people, "" where nobody said."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)
        self.results = self.again = ""

    def __str__(self) -> str:
        return self.signal.name

    def __reduce__(self) -> tuple[Any, ...]:
        return EndedBySignal, (int(self.signal),)

    def line(self) -> str:
        """For people."""
        parts = [f"interrupted by {self}", self.results, f"to go on: {self.again}" if self.again else ""]
        return "; ".join(filter(None, parts))


class _Ending:
    """The first signal raises; the next find the process on its way out."""

    def __init__(self) -> None:
        self.has_raised = False
        self.num_interrupts = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.num_interrupts += number == signal.SIGINT
        if self.num_interrupts >= IMPATIENT:
            os._exit(128 + number)
        if not self.has_raised:
            self.has_raised = True
            raise EndedBySignal(number)


@contextlib.contextmanager
def terminable(but: Collection[signal.Signals] = ()) -> Iterator[None]:
    """A signal ends the block as EndedBySignal does, so that everything is put away; a further one does not
    disturb that.

    To be entered inside a task too: launchers install handlers of their own before it, and swallow SIGTERM.
    What is ignored stays so (nohup), and what somebody else handles, but for SIGTERM and SIGINT. but: signals
    that are left alone. Of no effect outside of the main thread.
    """
    with _handled(_Ending(), [number for number in ENDING if number not in but and _is_free(number)]):
        yield


def _is_free(number: int) -> bool:
    now = signal.getsignal(number)
    if isinstance(now, _Ending) or now in (None, signal.SIG_IGN):
        return False
    return number in (signal.SIGTERM, signal.SIGINT) or now == signal.SIG_DFL


@contextlib.contextmanager
def deferred(
    then: Callable[[], object] = lambda: None, numbers: Collection[signal.Signals] = ENDING
) -> Iterator[None]:
    """A signal that would end the block comes at its end instead; then: called as each comes; numbers: which
    signals. The IMPATIENT Ctrl-C ends the process here, too. Of no effect outside of the main thread."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if came.count(signal.SIGINT) >= IMPATIENT:
            os._exit(128 + number)
        then()

    try:
        with _handled(note, [n for n in numbers if signal.getsignal(n) not in (None, signal.SIG_IGN)]):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


def run_in_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run`, which a signal ends by cancelling `work`; the signal comes when the loop is closed.

    Raised within a callback it would be an exception of that task and of all that wait for it, and asyncio
    prints those that nobody asks for. A launcher's handler is left alone: it may go on with the work. Outside
    of the main thread it is `asyncio.run`.
    """
    running: list[asyncio.Task[Any]] = []
    has_ended = False

    def end() -> None:
        nonlocal has_ended
        has_ended = True
        for task in running:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it is at its end
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def whole() -> Result:
        task = asyncio.current_task()
        assert task is not None
        running.append(task)
        if has_ended:
            task.cancel()
        return await work

    with deferred(end, [number for number in ENDING if _would_end(number)]):
        return asyncio.run(whole())


def _would_end(number: int) -> bool:
    now = signal.getsignal(number)
    if isinstance(now, _Ending):
        return not now.has_raised
    return now in (signal.SIG_DFL, signal.default_int_handler)


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], object], numbers: Collection[int]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class Starter:
    """The process that started this one and means it to end with it, where there is one."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        word = environ.get(STARTER_VARIABLE, "")
        self._pid = int(word) if word.isdigit() else None
        self._file: int | None = None
        if self._pid is not None:
            with contextlib.suppress(OSError, AttributeError):  # AttributeError: not Linux
                self._file = os.pidfd_open(self._pid)

    def is_gone(self) -> bool:
        """However it ended. Quick; always False where there is none."""
        if self._pid is None:
            return False
        if self._file is not None:
            return bool(select.select([self._file], [], [], 0)[0])
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def with_starter() -> dict[str, str]:
    """The variable that makes a child of ours watch this process."""
    return {STARTER_VARIABLE: str(os.getpid())}
