"""submitit's executor, where ours differs: a point's exit code is its job's, and a site's own words around
sbatch's answer are passed over.

`python -m llada_exp.jobs.executor FOLDER` is what each job runs. Knows submitit, and nothing of what a point
does.
"""

from __future__ import annotations

import logging
import re
import shlex
import sys
import uuid
from collections.abc import Sequence
from typing import Any

import submitit
from hydra.core.utils import JobReturn, JobStatus
from submitit.core.submission import process_job
from submitit.core.utils import DelayedSubmission, FailedSubmissionError, JobPaths

FAILED = 1


def command(folder: str) -> str:
    """The line that a job runs."""
    return f"{shlex.quote(sys.executable)} -u -m {__name__} {shlex.quote(folder)}"


class PointExecutor(submitit.SlurmExecutor):
    """Submits functions that return what Hydra's run_job does."""

    @property
    def _submitit_command_str(self) -> str:
        return command(str(self.folder))

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        text = string if isinstance(string, str) else string.decode(errors="replace")
        answer = re.search(r"^\s*Submitted batch job (\d+)\b", text, re.M)
        if answer is None:
            raise FailedSubmissionError(f"no job id in the answer of sbatch: {text.strip()!r}")
        return answer[1]

    def _internal_process_submissions(
        self, delayed_submissions: Sequence[DelayedSubmission]
    ) -> list[submitit.Job[Any]]:
        """submitit's own submits an array by an executor of its own class, not of ours."""
        if len(delayed_submissions) == 1:
            return super()._internal_process_submissions(list(delayed_submissions))
        drafts = JobPaths.get_first_id_independent_folder(self.folder)
        drafts.mkdir(parents=True, exist_ok=True)
        pickles = [drafts / f"{uuid.uuid4().hex}.pkl" for _ in delayed_submissions]
        for path, delayed in zip(pickles, delayed_submissions, strict=True):
            delayed.set_timeout(self.parameters.get("time", 5), self.max_num_timeout)
            delayed.dump(path)
        array = PointExecutor(self.folder, self.max_num_timeout)
        array.update_parameters(**self.parameters)
        array.parameters["map_count"] = len(pickles)
        first = array._submit_command(self._submitit_command_str)
        tasks = list(range(first.num_tasks))
        jobs: list[submitit.Job[Any]] = [
            submitit.SlurmJob(folder=self.folder, job_id=f"{first.job_id}_{index}", tasks=tasks)
            for index in range(len(pickles))
        ]
        for job, path in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(path, "submitted_pickle")
        return jobs


def exit_code(returned: JobReturn) -> int:
    """Of the point that Hydra's run_job ran."""
    if returned.status != JobStatus.COMPLETED:
        return FAILED
    value = returned.return_value
    return value if isinstance(value, int) else 0


def main(folder: str) -> int:
    # submitit says "completed successfully" of a function that returned, whatever it returned.
    logging.getLogger("submitit").addFilter(lambda record: "success" not in record.getMessage())
    process_job(folder)
    job: submitit.Job[JobReturn] = submitit.SlurmJob(folder=folder, job_id=submitit.JobEnvironment().job_id)
    return exit_code(job.result())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
