"""Which jobs of a sweep are in SLURM's queue still, whoever submitted them, and whatever became of that one?

A point's status names its job; the folders that the jobs' own files go to, FOLDER/.submitit/JOB, name them
too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llada_exp.jobs import slurm
from llada_exp.jobs.submit import await_jobs
from llada_exp.runs import status
from llada_exp.runs.lock import FolderTaken, taking

SUBMITTED = ".submitit"
_JOB = re.compile(r"\d+(_\d+)?")


def live_jobs(root: Path, places: Iterable[Path]) -> dict[str, str]:
    """Job id -> SLURM's word, of the jobs that measure (or will) points of the sweep in `root`. places: the
    points' folders. Raises ValueError where there were jobs and SLURM does not answer."""
    submitted = {path.name for path in (root / SUBMITTED).glob("*") if _JOB.fullmatch(path.name)}
    begun = {}
    for place in places:
        point = status.read(place)
        if point.get("slurm_job_id") and point["status"] in (status.WAITING, status.RUNNING):
            begun[point["slurm_job_id"]] = point["status"]
    if not submitted | begun.keys():
        return {}
    try:
        jobs = slurm.my_jobs()
    except slurm.SlurmError as error:
        unsure = [job for job, state in begun.items() if state == status.WAITING or job in submitted]
        if unsure:
            raise ValueError(
                f"{root}: jobs {', '.join(sorted(unsure))} may not be over; SLURM does not answer: {error}"
            ) from None
        return {}
    live = [job for job in submitted | begun.keys() if job in jobs and not jobs[job].has_ended]
    return {
        job: jobs[job].state
        for job in sorted(live)
        if _log_is_in(f"/{SUBMITTED}/{job}/" if job in begun else f"/{root.name}/{SUBMITTED}/{job}/", job)
    }


def job_of(place: Path, live: Mapping[str, str]) -> str | None:
    """The live job that measures a point, or is to. A point that ended by itself has none, though its job may
    take a moment to go; one that was interrupted may be requeued."""
    point = status.read(place)
    job = str(point.get("slurm_job_id"))
    if job not in live or point["status"] in (status.OK, status.FAILED):
        return None
    return None if point["status"] == status.INTERRUPTED and live[job] == "COMPLETING" else job


def _log_is_in(part: str, job: str) -> bool:
    """Whether SLURM's job of this id is the one that a sweep submitted: ids begin anew with a cluster, and a
    point may also be measured from a shell inside a job."""
    try:
        log = slurm.log_of(job)
    except slurm.SlurmError:
        return True
    return log is None or part in log


@dataclass
class PointJobs:
    """The jobs of a sweep's points, as their statuses are to tell of them: hears of each from the launcher,
    and waits for those of an earlier start. places: of the points, in the order of submission, with the hash
    of each one's configuration; the others as conf/hydra/launcher/slurm.yaml explains them."""

    poll_s: float = 5.0
    late_s: float = 30.0
    signal_s: int = 120
    places: Sequence[tuple[Path, str]] = ()

    def submitted(self, index: int, job_id: str) -> None:
        """The job may have begun, and tells more then."""
        place, config_hash = self.places[index]
        try:
            with taking(place):
                if not status.read(place):
                    status.waits(place, config_hash, job_id)
        except FolderTaken:
            return

    def ended(self, index: int, end: slurm.JobEnd) -> None:
        status.ended_by(self.places[index][0], end)

    def wait(self, place_of: Mapping[str, Path | None]) -> None:
        """For jobs of an earlier start. place_of: job id -> its point's folder, None where nobody knows."""
        if not place_of:
            return
        print(f"waiting for jobs of an earlier start: {', '.join(place_of)}", flush=True)

        def code(job_id: str) -> int | None:
            place = place_of[job_id]
            return None if place is None else _CODES.get(status.read(place).get("status", ""))

        def ended(end: slurm.JobEnd) -> None:
            if place := place_of[end.id]:
                status.ended_by(place, end)

        await_jobs(list(place_of), code, ended, self)


_CODES = {status.OK: 0, status.FAILED: 1}
