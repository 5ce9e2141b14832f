"""What one does with endpoints: look, wait, stop, tidy up. Joins their files with SLURM's queue.

Where SLURM does not answer, nothing is taken for ended: its silence is no reason to remove a file.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from llada_exp.jobs import slurm
from llada_exp.jobs.endpoint import PublishedEndpoint, load, load_all

SERVE_NAME = "llada-serve"
"""Jobs of this name are shown before their server has published itself."""
GONE = "GONE"
UNKNOWN = "UNKNOWN"
USABLE = ("ready", "degraded")
POLL_S = 1.0
QUEUE_POLL_S = 5.0


class NotReady(RuntimeError):
    """A server that was waited for did not come; the message says why."""


class JobOver(NotReady):
    """Its job has ended."""


class NoSuchJob(NotReady):
    """Neither SLURM nor the folder of endpoints has a job of this id."""

    def __init__(self, job_id: str, place: Path) -> None:
        super().__init__(
            f"no job {job_id}: it is neither in SLURM's queue nor among the jobs that ended lately, and no"
            f" server of it is published in {place}"
        )


@dataclass(frozen=True)
class JobRow:
    """One line of the list. state: SLURM's word, GONE or UNKNOWN; health: see PublishedEndpoint.health."""

    job_id: str
    state: str
    health: str
    node: str
    url: str
    model: str


def rows(place: Path) -> tuple[list[JobRow], str | None]:
    """Every published endpoint, then the serving jobs that have published nothing yet; where SLURM does not
    answer, so that those are not known, what it says instead."""
    jobs, silence = _jobs()
    endpoints = load_all(place)
    shown = [_row(endpoint, jobs) for endpoint in endpoints]
    published = {endpoint.job_id for endpoint in endpoints}
    for job in (jobs or {}).values():
        if job.name == SERVE_NAME and job.id not in published and not job.has_ended:
            shown.append(JobRow(job.id, job.state, "not yet", job.node, "", ""))
    return shown, silence


def state_of(job_id: str, jobs: Mapping[str, slurm.Job] | None) -> str:
    if jobs is None:
        return UNKNOWN
    return jobs[job_id].state if job_id in jobs else GONE


def tasks(job_id: str, place: Path) -> list[str]:
    """The jobs behind an id: itself, or of an array (12) its tasks (12_0, 12_1 ...) that are queued or
    published. Raises SlurmError where the queue alone can tell which, and does not; inside a SLURM job, where
    its commands may be missing (a container), a job of which nothing is published yet is taken to be one."""
    published = {endpoint.job_id for endpoint in load_all(place)}
    if job_id in published:
        return [job_id]
    try:
        jobs = _jobs_in_two_tries()
    except slurm.SlurmError as error:
        if _of_array(job_id, published) or slurm.current_job() is None:
            raise slurm.SlurmError(_unknown(job_id, place, error)) from None
        return [job_id]
    return [job_id] if job_id in jobs else _of_array(job_id, {*jobs, *published}) or [job_id]


def _of_array(job_id: str, ids: Collection[str]) -> list[str]:
    """Those among ids that are of this array, by their numbers."""
    numbers = (re.fullmatch(rf"{re.escape(job_id)}_(\d+)", i) for i in ids)
    return [f"{job_id}_{number}" for number in sorted(int(match[1]) for match in numbers if match)]


def states(job_ids: Collection[str]) -> dict[str, str]:
    """SLURM's word for each, GONE or UNKNOWN."""
    jobs, _ = _jobs()
    return {job_id: state_of(job_id, jobs) for job_id in job_ids}


def has_ended(state: str) -> bool:
    return state == GONE or state in slurm.ENDED


def wait_ready(
    job_id: str, place: Path, timeout_s: float, waited_s: float = 0.0, is_submitted: bool = False
) -> PublishedEndpoint:
    """The job's endpoint once its server answers as itself. waited_s: how much of the time-out is gone;
    is_submitted: there is certainly such a job.

    Raises NotReady as soon as the job is over, and after the time-out; also where SLURM does not answer and
    nothing else tells of the job. Inside a SLURM job its commands may be missing: there, and where the job is
    known, the silence is told on stderr and the endpoint waited for.
    """
    is_submitted |= slurm.current_job() is not None
    until = time.monotonic() + timeout_s - waited_s
    next_look = 0.0
    silence: str | None = None
    while time.monotonic() < until:
        endpoint = load(place / f"{job_id}.json")
        if endpoint is not None and endpoint.health() in USABLE:
            return endpoint
        if time.monotonic() >= next_look:
            before = silence
            jobs, silence = _jobs()
            _check_goes_on(job_id, jobs, endpoint, place)
            is_submitted |= jobs is not None
            if silence and endpoint is None and not is_submitted:
                raise NotReady(_unknown(job_id, place, silence))
            if silence and not before:
                print(f"warning: SLURM does not answer: {silence}", file=sys.stderr, flush=True)
            next_look = time.monotonic() + QUEUE_POLL_S
        time.sleep(POLL_S)
    why = f"; SLURM does not answer: {silence}" if silence else ""
    raise NotReady(f"the server of job {job_id} was not ready within {timeout_s:g} s{why}")


def _unknown(job_id: str, place: Path, silence: object) -> str:
    return (
        f"nothing is known of job {job_id}: no server of this id is published in {place}, and SLURM does not"
        f" answer: {silence}"
    )


def _check_goes_on(
    job_id: str, jobs: Mapping[str, slurm.Job] | None, endpoint: PublishedEndpoint | None, place: Path
) -> None:
    """Raises NotReady where SLURM says that there is no such job (any more)."""
    state = state_of(job_id, jobs)
    if state == GONE and endpoint is None:
        if of_array := _of_array(job_id, jobs or ()):
            raise NotReady(f"job {job_id} is an array; its jobs are {', '.join(of_array)}")
        raise NoSuchJob(job_id, place)
    if has_ended(state):
        raise JobOver(f"job {job_id} is over ({state}) and its server does not answer")


def stop(job_id: str, place: Path, timeout_s: float, now: bool = False) -> str:
    """Let the server finish what is in flight, insist after the time-out; the job's last state.

    now: cancel at once. A job that has published nothing yet has nothing to finish: it is cancelled.
    Raises slurm.SlurmError, and NoSuchJob.
    """
    endpoint = load(place / f"{job_id}.json")
    if has_ended(state := state_of(job_id, _jobs_in_two_tries())):
        if state == GONE and endpoint is None:
            raise NoSuchJob(job_id, place)
        return state
    if endpoint is None or now:
        slurm.cancel([job_id])
    else:
        slurm.ask_to_stop(job_id, endpoint.info.get("step"))
    began, insisted = time.monotonic(), now
    while True:
        time.sleep(POLL_S)
        if has_ended(state := state_of(job_id, _jobs_in_two_tries())):
            return state
        if not insisted and time.monotonic() - began > timeout_s:
            slurm.cancel([job_id])
            insisted = True


def clean(place: Path) -> list[str]:
    """Remove the files of jobs that are over, and of keys without an endpoint; the ids removed.

    Raises slurm.SlurmError where nothing can be known of the jobs.
    """
    jobs = slurm.my_jobs()
    removed = []
    for path in sorted({p.with_suffix("") for p in place.glob("*.json")} | _key_stems(place)):
        if all(has_ended(state_of(job_id, jobs)) for job_id in _owners(path.name, jobs)):
            for suffix in (".json", ".key"):
                path.with_suffix(suffix).unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def _owners(name: str, jobs: Mapping[str, slurm.Job]) -> list[str]:
    """The jobs that a file is of: an array's key is of all its tasks."""
    return [name, *(job_id for job_id in jobs if job_id.startswith(f"{name}_"))]


def usable(shown: Collection[JobRow]) -> bool:
    """Whether every endpoint that should answer does."""
    return all(row.health in (*USABLE, "not yet") for row in shown if not has_ended(row.state))


def _key_stems(place: Path) -> set[Path]:
    return {path.with_suffix("") for path in place.glob("*.key")}


def _row(endpoint: PublishedEndpoint, jobs: Mapping[str, slurm.Job] | None) -> JobRow:
    info = endpoint.info
    state = state_of(endpoint.job_id, jobs)
    return JobRow(endpoint.job_id, state, endpoint.health(), info["node"], info["url"], info["model"])


def _jobs() -> tuple[dict[str, slurm.Job] | None, str | None]:
    """SLURM's jobs, or None and what it says instead."""
    try:
        return slurm.my_jobs(), None
    except slurm.SlurmError as error:
        return None, str(error)


def _jobs_in_two_tries() -> dict[str, slurm.Job]:
    """One answer of a busy controller may be lost. Raises slurm.SlurmError."""
    try:
        return slurm.my_jobs()
    except slurm.SlurmError:
        time.sleep(POLL_S)
        return slurm.my_jobs()
