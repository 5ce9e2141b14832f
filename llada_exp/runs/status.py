"""status.json: what became of a point, in words that survive its process.

SLURM records a failed Hydra task as completed, and a killed one writes nothing at all: so every point
says itself that it runs, and how it ended. A file that still says `running` when nothing runs any more
is a point that was killed.
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

from llada_exp.runs.files import write_whole

FILE = "status.json"
RUNNING, OK, FAILED, INTERRUPTED = "running", "ok", "failed", "interrupted"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def recorded(folder: Path, config_hash: str) -> Iterator[dict[str, Any]]:
    """The block's life, written into the folder: at its start, and at its end with the traceback of what
    ended it, which passes on. What the block adds to the yielded status is written too."""
    status = _begun(folder, config_hash)
    try:
        yield status
        status["status"] = OK
    except BaseException as error:
        status["status"] = FAILED if isinstance(error, Exception) else INTERRUPTED
        status["error"] = f"{type(error).__name__}: {error}"
        status["traceback"] = traceback.format_exc()
        raise
    finally:
        status["ended"] = now()
        _write(folder, status)


def failed(folder: Path, config_hash: str, error: str) -> None:
    """Record of what could not even begin."""
    _write(folder, {**_begun(folder, config_hash), "status": FAILED, "ended": now(), "error": error})


def _begun(folder: Path, config_hash: str) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    status: dict[str, Any] = {
        "status": RUNNING,
        "config_hash": config_hash,
        "started": now(),
        "ended": None,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "error": None,
        "traceback": None,
    }
    _write(folder, status)
    return status


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
    if status["status"] == RUNNING:
        return INTERRUPTED, f"killed: it began {status['started']} on {status['host']} and never said its end"
    return status["status"], " ".join((status["error"] or "").split())[:300]


def _write(folder: Path, status: dict[str, Any]) -> None:
    write_whole(folder / FILE, json.dumps(status, indent=1) + "\n")
