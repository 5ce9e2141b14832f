"""One measured point at a time on a host, and a truthful word where it was not so.

Points that are measured together spoil each other's timings. `turn` waits until no other point of
this host is measured; with `exclusive` off it does not wait, and whoever overlapped learns of it.
Locks are the kernel's (flock), so that a killed point leaves none behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

KEEP_S = 86400.0


class Presence:
    """Says after the measurement whether another point was measured meanwhile. point: its folder, which those
    who wait for it are told."""

    def __init__(self, folder: Path, point: Path | None) -> None:
        self.folder = folder
        self.began = time.time()
        self.path = folder / f"{uuid.uuid4().hex}.point"
        self.file = self.path.open("w")
        fcntl.flock(self.file, fcntl.LOCK_EX)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self.file.write(f"process {os.getpid()} of {_user()}, {point and point.absolute()}, since {since}\n")
        self.file.flush()

    def overlapped(self) -> bool:
        """Another one runs now, or ended since we began."""
        others = [p for p in self.folder.glob("*.point") if p != self.path]
        return any(_held(p) or _ended(p) > self.began for p in others)

    def close(self) -> None:
        """Leave a trace of when we ended, for those who began before."""
        with contextlib.suppress(OSError):
            os.utime(self.path)
        self.file.close()
        for path in self.folder.glob("*.point"):
            if time.time() - _ended(path) > KEEP_S and not _held(path):
                path.unlink(missing_ok=True)


@contextmanager
def turn(exclusive: bool, folder: Path | None = None, point: Path | None = None) -> Iterator[Presence]:
    """The host for ourselves (or not, with exclusive off), for as long as the block lasts. folder: of the
    locks; point: the folder of what is measured."""
    folder = folder or default_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        folder.chmod(0o1777)  # other users of this host take turns with us
    with contextlib.ExitStack() as stack:
        if exclusive:
            _wait(stack.enter_context(_open_lock(folder / "turn.lock")), folder)
        presence = Presence(folder, point)
        stack.callback(presence.close)
        yield presence


def default_folder() -> Path:
    return Path(os.environ.get("LLADA_TURN_DIR") or Path(tempfile.gettempdir()) / "llada_exp-bench")


def _open_lock(path: Path) -> IO[str]:
    """Another user's file can be locked by opening it for reading alone."""
    with contextlib.suppress(FileExistsError, PermissionError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
    return path.open()


def _wait(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        whose = "; ".join(_measured(folder)) or "it does not tell whose"
        print(
            f"another point is measured on this host ({whose}): waiting for it; exclusive=false would not"
            " wait, and mark the row as overlapped",
            file=sys.stderr,
            flush=True,
        )
        fcntl.flock(lock, fcntl.LOCK_EX)


def _measured(folder: Path) -> list[str]:
    """Which points are measured now, as they tell."""
    with contextlib.suppress(OSError):
        return [path.read_text().strip() for path in folder.glob("*.point") if _held(path)]
    return []


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def _held(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def _ended(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
