"""Whose is a run's folder now? One process writes into it at a time, and a dead one does not hold it.

The kernel's lock (flock) on FOLDER/.lock says so, and ends with its process, whatever ended that. A record in
the file tells others who it is, and its time of change is renewed while its process lives: where a file
system keeps no such locks, or keeps them to one host, the record is believed for as long as its process, its
job or that time says so. The file stays: a lock on one that was removed would be of nothing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from llada_exp.jobs import operate, slurm
from llada_exp.runs.status import now

FILE = ".lock"
BEAT_S = 15.0
SILENT_S = 90.0
"""A process of another host that renewed nothing for so long is dead."""
SETTLE_S = 0.5
"""Without the kernel's locks: the last one to write the record within this time has the folder."""
POLL_S = 1.0
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)


@dataclass(frozen=True)
class Holder:
    """A process that has a folder, by its own word. machine: of one boot of one kernel and one space of
    process ids; born: of the process, in the kernel's ticks; job: of SLURM, as squeue spells it."""

    host: str
    machine: str
    pid: int
    born: str
    since: str
    job: str | None

    def __str__(self) -> str:
        job = f", SLURM job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"


class FolderTaken(ValueError):
    """Another process has the folder. holder: None where it does not tell (yet)."""

    def __init__(self, folder: Path, holder: Holder | None) -> None:
        text = f"{folder} is written by {holder or 'another process'}"
        if holder and holder.machine != _machine():
            text += f" (were it killed, it would be free after {SILENT_S:g} s)"
        super().__init__(text)


@contextmanager
def taking(folder: Path, wait: Callable[[FolderTaken], None] | None = None) -> Iterator[None]:
    """The folder, made where it is not there, for this process alone while the block lasts.

    wait: is called once where another process has it, which is then waited for; None: FolderTaken is raised.
    Raises ValueError where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ValueError(f"{error.filename or folder}: {error.strerror}") from None
    over = threading.Event()
    try:
        _wait(folder, file, wait)
        beat = threading.Thread(target=_beat, args=(file, over), daemon=True, name="lock")
        beat.start()
        try:
            yield
        finally:
            over.set()
            beat.join()
            os.ftruncate(file, 0)
            _unlock(file)
    finally:
        os.close(file)


def _wait(folder: Path, file: int, wait: Callable[[FolderTaken], None] | None) -> None:
    while True:
        try:
            return _take(folder, file)
        except FolderTaken as refusal:
            if wait is None:
                raise
            wait(refusal)
            wait = _nothing
            time.sleep(POLL_S)


def _nothing(refusal: FolderTaken) -> None:
    pass


def _take(folder: Path, file: int) -> None:
    """Raises FolderTaken."""
    locked = _lock(folder, file)
    before = _read(file)
    if before and _lives(folder, before, locked):
        _unlock(file)
        raise FolderTaken(folder, before)
    record = json.dumps(asdict(_this_process())).encode()
    os.ftruncate(file, 0)
    os.pwrite(file, record, 0)
    if not locked:
        os.fsync(file)
        time.sleep(SETTLE_S)
        if (after := _read(file)) != _this_process(after):
            raise FolderTaken(folder, after)


def _lock(folder: Path, file: int) -> bool:
    """Whether the kernel has locked it; False where this file system has no such locks. Raises
    FolderTaken."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise FolderTaken(folder, _read_soon(file)) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _unlock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _read_soon(file: int) -> Holder | None:
    """Between the lock and the record there is a moment."""
    for _ in range(10):
        if holder := _read(file):
            return holder
        time.sleep(0.05)
    return None


def _read(file: int) -> Holder | None:
    try:
        tree = json.loads(os.pread(file, 4096, 0))
        return Holder(**{field.name: tree[field.name] for field in fields(Holder)})
    except (ValueError, KeyError, TypeError, OSError):
        return None


def _lives(folder: Path, holder: Holder, locked: bool) -> bool:
    """Of a record that was left. locked: the kernel gave us its lock, so none of this host has it."""
    here = _this_process()
    if locked and holder.machine.split()[0] == here.machine.split()[0]:
        return False
    if holder.machine == here.machine:
        return holder.born == _born(holder.pid)
    if holder.job and holder.job == here.job:
        return False  # requeued: SLURM has ended what it was before
    if _silent_s(folder) > SILENT_S:
        return False
    return not (holder.job and operate.has_ended(operate.states([holder.job])[holder.job]))


def _silent_s(folder: Path) -> float:
    """Seconds since the record was renewed, by the clock of the file system's server."""
    probe = folder / f"{FILE}.{os.getpid()}.{threading.get_ident()}"
    probe.touch()
    try:
        return probe.stat().st_mtime - (folder / FILE).stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _beat(file: int, over: threading.Event) -> None:
    while not over.wait(BEAT_S):
        try:
            os.utime(file)
        except OSError:  # for a moment, or closed: whoever waits for us believes it later
            continue


def _this_process(like: Holder | None = None) -> Holder:
    """like: a record whose time is ours, where it is one of this process."""
    pid = os.getpid()
    since = like.since if like else now()
    return Holder(platform.node(), _machine(), pid, _born(pid), since, slurm.current_job())


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _born(pid: int) -> str:
    """ "" where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
