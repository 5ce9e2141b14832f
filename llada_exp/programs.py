"""How a program of ours ends: with one line for people, whatever ends it.

Standard library only. Knows no program.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from llada_exp.signals import EndedBySignal, terminable

FAILED = 1
FULL_ERROR = "HYDRA_FULL_ERROR"


def run_program(main: Callable[[], int | None]) -> NoReturn:
    """Exit with what `main` returns, 0 for None. A signal and what the system refuses (a folder that cannot
    be written, a full disk) are a line on stderr; HYDRA_FULL_ERROR=1 shows the latter's traceback instead."""
    full = wants_tracebacks()
    stdout = sys.stdout
    sys.stdout = _Output(stdout)
    try:
        with terminable():
            code = _code(main, full)
    finally:
        sys.stdout = stdout
    sys.exit(code)


def wants_tracebacks() -> bool:
    return os.environ.get(FULL_ERROR, "0") not in ("", "0")


def _code(main: Callable[[], int | None], full: bool) -> int:
    try:
        code = main()
        sys.stdout.flush()
        return code or 0
    except EndedBySignal as end:
        print(f"\n{end.line()}" if sys.stderr.isatty() else end.line(), file=sys.stderr)  # after ^C
        return 128 + end.signal
    except OSError as error:
        if full:
            raise
        print(f"error: {system_line(error)}", file=sys.stderr)
        return FAILED


def system_line(error: OSError) -> str:
    """What the system refused, of which file."""
    where = f": {error.filename}" if error.filename is not None else ""
    return f"{error.strerror or error}{where}"


class _Output:
    """stdout, of which a reader that goes (`| head`) ends nothing: what is said to nobody is passed over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._forget()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._forget()

    def _forget(self) -> None:
        """What is in the buffer must go somewhere, or the flush at exit fails again."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
