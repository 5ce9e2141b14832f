"""SLURM as its everyday commands tell it: squeue, scontrol, scancel. No accounting (sacct) is needed.

Knows job ids and states, nothing of what the jobs do.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from llada_exp.server.announcement import job_id_of

ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)
"""States that a job does not leave by itself; a requeued one is PENDING."""
FROM_OUTSIDE = (
    *("BOOT_FAIL", "CANCELLED", "DEADLINE", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)
"""Of these, the ends that a job does not choose: they are the reason, whatever it said itself."""
COMMAND_S = 60.0
TERMINATED = 143
_LINE = re.compile(r"(\d+(?:_(?:\d+|\[[^|]*\]))?)\|([A-Z_]+)\|([^|]*)\|(.*)")
"""Of squeue: id, state, node, name. A site's own words may stand around such lines."""


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
    jobs = [Job(*match.groups()) for line in lines if (match := _LINE.fullmatch(line.strip()))]
    return {job.id: job for job in jobs}


def current_job(environ: Mapping[str, str] = os.environ) -> str | None:
    """The job that this process belongs to, as squeue spells it. None outside of one."""
    return job_id_of(environ)


def log_of(job_id: str) -> str | None:
    """Where the job's standard output goes; None where SLURM has forgotten it. Raises SlurmError."""
    output = re.search(r"^\s*StdOut=(.+)$", _run("scontrol", "show", "job", job_id), re.M)
    return output.group(1) if output else None


@dataclass(frozen=True)
class JobEnd:
    """How a job ended. state: SLURM's word; exit_code: as SLURM writes it, code:signal; run_s, limit_s:
    seconds that it ran and that it might have, None where that is not limited."""

    id: str
    state: str
    exit_code: str
    run_s: float
    limit_s: float | None

    def __str__(self) -> str:
        if self.state == "TIMEOUT":
            return f"TIMEOUT: job {self.id} reached its time limit"
        if self.state != "FAILED":
            return f"{self.state}: job {self.id}"
        code, _, number = self.exit_code.partition(":")
        ended = f"signal {number}" if number not in ("", "0") else f"exit code {code}"
        return f"{self.state}: job {self.id}, {ended}"


def end_of(job_id: str, warned_s: float = 0.0) -> JobEnd | None:
    """None where the job has not ended or SLURM has forgotten it. A job that ended by the SIGTERM that comes
    `warned_s` (and up to a minute more) before its time limit is a TIMEOUT, though SLURM calls it FAILED.
    Raises SlurmError."""
    text = _run("scontrol", "show", "job", job_id)
    values = {n: m[1] for n in ("JobState", "ExitCode", "RunTime", "TimeLimit") if (m := _value(n, text))}
    if (state := values.get("JobState", "")) not in ENDED:
        return None
    run_s, limit_s = _seconds(values.get("RunTime", "")) or 0.0, _seconds(values.get("TimeLimit", ""))
    code = values.get("ExitCode", "0:0")
    if (
        state == "FAILED"
        and code.startswith(f"{TERMINATED}:")
        and limit_s
        and run_s >= limit_s - warned_s - 60
    ):
        state = "TIMEOUT"
    return JobEnd(job_id, state, code, run_s, limit_s)


def _value(name: str, text: str) -> re.Match[str] | None:
    return re.search(rf"(?:^|\s){name}=(\S+)", text)


def _seconds(text: str) -> float | None:
    """Of [days-]hours:minutes:seconds; None for UNLIMITED and the like."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


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
