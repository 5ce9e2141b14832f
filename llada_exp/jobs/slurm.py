"""SLURM as its everyday commands tell it: squeue, scontrol, scancel. No accounting (sacct) is needed.

Knows job ids and states, nothing of what the jobs do.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)
"""States that a job does not leave by itself; a requeued one is PENDING."""
COMMAND_S = 60.0


class SlurmError(RuntimeError):
    """A SLURM command failed or is not there; the message is its own."""


@dataclass(frozen=True)
class Job:
    """id: 12, or 12_3 in an array; state: SLURM's word; node: empty before it starts."""

    id: str
    state: str
    node: str
    name: str

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


def my_jobs() -> dict[str, Job]:
    """This user's jobs, those that ended lately included. Raises SlurmError."""
    lines = _run("squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i|%T|%N|%j").splitlines()
    jobs = [Job(*line.split("|", 3)) for line in lines]
    return {job.id: job for job in jobs}


def log_of(job_id: str) -> str | None:
    """Where the job's standard output goes; None where SLURM has forgotten it. Raises SlurmError."""
    output = re.search(r"^\s*StdOut=(.+)$", _run("scontrol", "show", "job", job_id), re.M)
    return output.group(1) if output else None


def ask_to_stop(job_id: str, step: str | None) -> None:
    """SIGTERM alone, with no SIGKILL after it: to the job's step, or without one to its batch process.

    `scancel JOB` would kill what has not ended after the cluster's KillWait (30 s by default).
    Raises SlurmError.
    """
    where = ["--batch", job_id] if step is None else [f"{job_id}.{step}"]
    _run("scancel", "--signal=TERM", *where)


def cancel(job_ids: Collection[str]) -> None:
    """SIGTERM, then SIGKILL. Raises SlurmError."""
    _run("scancel", *job_ids)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except FileNotFoundError:
        raise SlurmError(f"{command[0]} is not on the PATH; is this a machine of a SLURM cluster?") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} did not answer within {COMMAND_S:g} s") from None
    if done.returncode:
        raise SlurmError(f"{' '.join(command)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
