"""Points of a sweep as jobs of a SLURM array: submit, wait for every one of them, tell what became of it.

Knows submitit and the queue; of what a point does, only that it returns something or does not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from hydra.core.utils import JobReturn, JobStatus

from llada_exp.jobs import operate, slurm
from llada_exp.jobs.local import log_end
from llada_exp.signals import EndedBySignal


class SbatchRefused(ValueError):
    """Nothing was submitted; the message has sbatch's own words."""


@dataclass(frozen=True)
class ArrayPlan:
    """The keys of conf/hydra/launcher/slurm.yaml, which explains them."""

    account: str | None
    partition: str | None
    gres: str | None
    mem: str | None
    time: str | None
    cpus_per_task: int | str | None
    setup: str | Sequence[str] | None
    sbatch: Mapping[str, Any]
    array_parallelism: int
    signal_s: int
    name: str
    submitit_folder: str
    endpoint: str | None
    ready_s: float
    poll_s: float
    late_s: float
    dry_run: bool

    def options(self) -> dict[str, Any]:
        """What sbatch is told, by its own long names. SIGTERM warns of the walltime (not submitit's
        USR2, whose handler would end a task in the middle): tasks know one signal to stop by."""
        options = {
            "account": self.account,
            "partition": self.partition,
            "gres": self.gres,
            "mem": self.mem,
            "time": self.time,
            "cpus-per-task": self.cpus_per_task,
            "signal": f"TERM@{self.signal_s}",
            **{key.replace("_", "-"): value for key, value in self.sbatch.items()},
        }
        return {key: value for key, value in options.items() if value not in (None, "")}

    def setup_lines(self) -> list[str]:
        lines = [self.setup] if isinstance(self.setup, str) else list(self.setup or ())
        return [line for line in lines if line]

    def parameters(self) -> dict[str, Any]:
        """The same as submitit spells it. srun does not inherit --cpus-per-task since SLURM 22.05: the
        task would get one core."""
        cpus = self.options().get("cpus-per-task")
        return {
            "job_name": self.name,
            "wckey": None,  # submitit's own is unknown to clusters that keep such keys
            "setup": self.setup_lines() or None,
            "array_parallelism": self.array_parallelism,
            "stderr_to_stdout": True,
            "srun_args": [f"--cpus-per-task={cpus}"] if cpus else [],
            "additional_parameters": self.options(),
        }


class Listener(Protocol):
    """Whoever submitted points is told of each what SLURM says of it. index: in the order of submission."""

    def submitted(self, index: int, job_id: str) -> None: ...

    def ended(self, index: int, end: slurm.JobEnd) -> None: ...


def launch(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    plan: ArrayPlan,
    listener: Listener | None = None,
) -> list[JobReturn]:
    """Submit `function(*arguments[i])` for each i as one array, and wait for all; what each returned.

    arguments[i][0]: the point's overrides, as they are shown. A job that ended without a result is told
    of, and returns None: points report on themselves, in files. Endpoints are waited for until they
    answer, and left running. Raises ValueError where sbatch refuses, NotReady for an endpoint that does
    not come up.
    """
    points = [" ".join(word for word in one[0] if not word.startswith("hydra.")) for one in arguments]
    if plan.endpoint:  # a server does not make room for the next one
        plan = replace(plan, array_parallelism=max(plan.array_parallelism, len(points)))
    if plan.dry_run:
        print(script(plan, len(points)))
        print("\n".join(f"# point {index}: {point}" for index, point in enumerate(points)))
        return []
    jobs = _submit(function, arguments, plan)
    index_of = {str(job.job_id): index for index, job in enumerate(jobs)}
    for job_id, index in index_of.items():
        if listener:
            listener.submitted(index, job_id)
        print(f"job {job_id}: {points[index]}", flush=True)
    try:
        if plan.endpoint:
            _await_endpoints(jobs, plan)
            return []
        await_jobs(
            list(index_of),
            lambda job_id: _code(jobs[index_of[job_id]]),
            (lambda end: listener.ended(index_of[end.id], end)) if listener else (lambda end: None),
            plan,
        )
    except (KeyboardInterrupt, EndedBySignal):
        print(f"the jobs go on; to end them: scancel {jobs[0].job_id.partition('_')[0]}", flush=True)
        raise
    return [_outcome(job) for job in jobs]


def script(plan: ArrayPlan, num_points: int) -> str:
    """The batch script that submitit would write."""
    from submitit.slurm.slurm import _make_sbatch_string

    from llada_exp.jobs.executor import command

    folder = str(Path(plan.submitit_folder).absolute())
    count: dict[str, Any] = {"map_count": num_points} if num_points > 1 else {}
    return _make_sbatch_string(
        command=command(folder), folder=plan.submitit_folder, **count, **plan.parameters()
    )


def _submit(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], plan: ArrayPlan) -> list[Any]:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    from llada_exp.jobs.executor import PointExecutor

    if shutil.which("sbatch") is None:
        raise SbatchRefused(
            "hydra/launcher is 'slurm'; sbatch is not on the PATH here (hydra/launcher=basic?)"
        )
    executor = PointExecutor(folder=plan.submitit_folder, max_num_timeout=0)
    executor.update_parameters(**plan.parameters())
    try:
        return executor.map_array(function, *zip(*arguments, strict=True))
    except (FailedJobError, FailedSubmissionError) as error:
        raise SbatchRefused(f"hydra.launcher: sbatch refuses the job: {error}") from None


def _await_endpoints(jobs: Sequence[Any], plan: ArrayPlan) -> None:
    assert plan.endpoint is not None
    place = Path(plan.endpoint).expanduser()
    for job in jobs:
        try:
            endpoint = operate.wait_ready(str(job.job_id), place, plan.ready_s, is_submitted=True)
        except operate.NotReady as error:
            raise operate.NotReady(f"{error}: {_why(job)}") from None
        print(f"ready: {endpoint.info['url']} (job {job.job_id}, {endpoint.path})\n{endpoint.directions()}")
        print(f"try it here: {endpoint.sample()}", flush=True)
    if len(jobs) > 1:
        array = jobs[0].job_id.partition("_")[0]
        print(f"all as one address: python -m llada_exp.jobs router {array}")


class QueuePace(Protocol):
    """poll_s: between looks at the queue; late_s: how long after a job's end its files may still come;
    signal_s: how long before its time limit a job is asked to end."""

    @property
    def poll_s(self) -> float: ...
    @property
    def late_s(self) -> float: ...
    @property
    def signal_s(self) -> int: ...


def await_jobs(
    job_ids: Sequence[str],
    code: Callable[[str], int | None],
    ended: Callable[[slurm.JobEnd], None],
    pace: QueuePace,
) -> None:
    """Until each job's result says that all is well, or it is over: at once where it left a result, after
    `late_s` where it has none. A requeued job is not over, and what its first try left is not its result.

    code: of a job's result, 0 where all is well, None where there is none (yet); ended: is called for each
    job whose end SLURM tells, which is waited for where the result does not say that all is well. Where SLURM
    does not tell (UNKNOWN), any result counts after `late_s`.
    """
    waiting, over, reported = list(job_ids), dict[str, float](), set[str]()
    shown = ""
    while True:
        states = operate.states(waiting)
        for job_id in list(waiting):
            is_over, result = operate.has_ended(states[job_id]), code(job_id)
            may_be_over = is_over or (states[job_id] == operate.UNKNOWN and result is not None)
            if not may_be_over and result != 0:
                over.pop(job_id, None)
                continue
            if is_over and job_id not in reported and (end := _end_of(job_id, pace.signal_s)):
                reported.add(job_id)
                ended(end)
            since = over.setdefault(job_id, time.monotonic())
            if result == 0 or (is_over and result is not None) or time.monotonic() - since > pace.late_s:
                waiting.remove(job_id)
        if (line := _progress(len(job_ids), [states[job_id] for job_id in waiting])) != shown:
            print(line, flush=True)
            shown = line
        if not waiting:
            return
        time.sleep(pace.poll_s)


def _end_of(job_id: str, signal_s: int) -> slurm.JobEnd | None:
    with contextlib.suppress(slurm.SlurmError):
        return slurm.end_of(job_id, signal_s)
    return None


def _progress(num_jobs: int, states: Sequence[str]) -> str:
    counts = Counter(states)
    parts = [f"{num_jobs - len(states)} of {num_jobs} jobs done"]
    return ", ".join(parts + [f"{count} {state.lower()}" for state, count in sorted(counts.items())])


def _has_result(job: Any) -> bool:
    with contextlib.suppress(OSError):  # else a network file system may go on saying that it is not there
        os.utime(job.paths.folder)
    return bool(job.paths.result_pickle.exists())


def _code(job: Any) -> int | None:
    from llada_exp.jobs.executor import FAILED, exit_code

    if not _has_result(job):
        return None
    return FAILED if job.exception() is not None else exit_code(job.result())


def _outcome(job: Any) -> JobReturn:
    """What the point returned. Hydra raises the first failure alone: each is told of here."""
    returned = job.result() if _has_result(job) and job.exception() is None else None
    if returned is not None and returned.status == JobStatus.COMPLETED:
        return returned
    print(f"job {job.job_id} failed: {_why(job)}", flush=True)
    if returned is None:
        returned = JobReturn()
        returned.return_value = None
        returned.status = JobStatus.COMPLETED
    return returned


def _why(job: Any) -> str:
    """Why the job has no good end: what its function raised, or else the end of its log."""
    if _has_result(job):
        error: BaseException | None = job.exception()
        if error is None and (returned := job.result()).status == JobStatus.FAILED:
            error = returned._return_value  # `return_value` would raise it
        if error is not None:
            return f"{type(error).__name__}: {error}"
    try:
        return f"its log ends:\n{log_end(job.paths.stdout)}"
    except OSError as error:
        return f"its log ends:\n{error}"
