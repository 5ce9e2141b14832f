"""status.json: what became of a point, in words that survive its process.

A killed process writes nothing at all, and SLURM forgets its jobs: so every point says itself that it waits
for a job or runs, and how it ended. A file that still says `running` when nothing runs any more is a point
that was killed; what SLURM knows of its end is added by whoever learns of it.
"""

from __future__ import annotations

import json
import os
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llada_exp.jobs import slurm
from llada_exp.runs.files import write_whole

FILE = "status.json"
WAITING, RUNNING, OK, FAILED, INTERRUPTED = "waiting", "running", "ok", "failed", "interrupted"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def recorded(folder: Path, config_hash: str) -> Iterator[dict[str, Any]]:
    """The block's life, written into the folder: at its start, and at its end with the traceback of what
    ended it (of an interruption its name alone), which passes on. What the block adds to the yielded status
    is written too."""
    status = _begun(folder, config_hash)
    try:
        yield status
        status["status"] = OK
    except BaseException as error:
        fails = isinstance(error, Exception)
        status["status"] = FAILED if fails else INTERRUPTED
        status["error"] = f"{type(error).__name__}: {error}"
        status["traceback"] = traceback.format_exc() if fails else status["error"]
        raise
    finally:
        status["ended"] = now()
        _write(folder, status)


def failed(folder: Path, config_hash: str, error: str) -> None:
    """Record of what could not even begin."""
    _write(folder, {**_begun(folder, config_hash), "status": FAILED, "ended": now(), "error": error})


def waits(folder: Path, config_hash: str, job_id: str | None) -> None:
    """Record that a job is to run it. job_id: as squeue spells it (12_3 in an array), None before there is
    one."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, {**_new(config_hash), "status": WAITING, "slurm_job_id": job_id})


def ended_by(folder: Path, end: slurm.JobEnd) -> None:
    """Add what SLURM says of the end of the point's job."""
    if (status := read(folder)) and status.get("slurm_job_id") == end.id:
        _write(folder, {**status, "slurm_state": end.state, "slurm_end": str(end)})


def _begun(folder: Path, config_hash: str) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    status = _new(config_hash)
    _write(folder, status)
    return status


def _new(config_hash: str) -> dict[str, Any]:
    return {
        "status": RUNNING,
        "config_hash": config_hash,
        "started": now(),
        "ended": None,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "slurm_job_id": slurm.current_job(),
        "slurm_state": None,
        "error": None,
        "traceback": None,
    }


def read(folder: Path) -> dict[str, Any]:
    """{} where there is none."""
    try:
        return json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}


def finished(folder: Path, config_hash: str) -> bool:
    """Whether this very configuration was measured here to its end."""
    status = read(folder)
    return status.get("status") == OK and status.get("config_hash") == config_hash


def verdict(folder: Path) -> tuple[str, str]:
    """(status, reason in a line) of a point that runs no more."""
    status = read(folder)
    if not status:
        return FAILED, "never started"
    state, why = status["status"], " ".join((status.get("error") or "").split())[:300]
    end: str = status.get("slurm_end") or ""
    if state == WAITING:
        gone = f"job {status.get('slurm_job_id')} is gone"
        return FAILED, f"never started; {end or gone}"
    if state == RUNNING:
        why = end or f"killed: it began {status['started']} on {status['host']} and never said its end"
        return INTERRUPTED, why
    if state != OK and status.get("slurm_state") in slurm.FROM_OUTSIDE:
        why = end if state == INTERRUPTED else f"{end}: {why}"
    return state, why


def _write(folder: Path, status: dict[str, Any]) -> None:
    write_whole(folder / FILE, json.dumps(status, indent=1) + "\n")
