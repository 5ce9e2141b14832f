"""What SLURM's commands say, as it is read: among a site's own words, and of every way that a job can end."""

import os

import pytest

from llada_exp.jobs import slurm
from llada_exp.jobs.executor import PointExecutor, exit_code
from llada_exp.runs import status
from llada_exp.signals import EndedBySignal

SHOWN = """JobId=40 ArrayJobId=12 ArrayTaskId=3 JobName=llada-bench
   JobState={state} Reason={reason} Dependency=(null)
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode={code}
   RunTime={run} TimeLimit={limit} TimeMin=N/A
   StdOut=/home/ada/my sweep/.submitit/12_3/12_3_0_log.out
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Sets what a command prints."""

    def says(command, text):
        (tmp_path / f"{command}.txt").write_text(text)
        (tmp_path / command).write_text(f"#!/bin/sh\ncat {tmp_path}/{command}.txt\n")
        (tmp_path / command).chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return says


def test_a_sites_own_words_are_no_jobs(cluster):
    """A banner on squeue's output ended a sweep's command with a traceback, and its jobs went on unseen."""
    cluster("squeue", "*** Maintenance on Monday | see the wiki ***\n\n12_3|RUNNING|n1|a|b\n"
            "12_[4-9%2]|PENDING||llada-bench\nYou have 2 jobs.\n13|COMPLETED|n[1-2]|\n")  # fmt: skip
    assert {job.id: (job.state, job.name) for job in slurm.my_jobs().values()} == {
        "12_3": ("RUNNING", "a|b"), "12_[4-9%2]": ("PENDING", "llada-bench"), "13": ("COMPLETED", "")
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["Submitted batch job 77", "This job 5 h on job 12!\nSubmitted batch job 77\n"]
)
def test_the_id_of_a_job_is_read_among_a_sites_own_words(text):
    assert PointExecutor._get_job_id_from_submission_command(text) == "77"


def end(cluster, state, code="0:0", run="00:00:30", limit="00:05:00", reason="None"):
    text = SHOWN.format(state=state, code=code, run=run, limit=limit, reason=reason)
    cluster("scontrol", f"Welcome!\n{text}")
    return slurm.end_of("12_3", warned_s=120)


def test_a_job_that_goes_on_has_no_end(cluster):
    assert end(cluster, "RUNNING") is None
    assert end(cluster, "PENDING") is None
    assert slurm.log_of("12_3") == "/home/ada/my sweep/.submitit/12_3/12_3_0_log.out"


@pytest.mark.parametrize(
    ("state", "code", "run", "words"),
    [
        ("OUT_OF_MEMORY", "0:125", "00:00:30", "OUT_OF_MEMORY: job 12_3"),
        ("NODE_FAIL", "0:0", "00:00:30", "NODE_FAIL: job 12_3"),
        ("PREEMPTED", "0:15", "00:00:30", "PREEMPTED: job 12_3"),
        ("CANCELLED", "0:15", "00:00:30", "CANCELLED: job 12_3"),
        ("TIMEOUT", "0:0", "00:05:16", "TIMEOUT: job 12_3 reached its time limit"),
        ("FAILED", "143:0", "00:03:05", "TIMEOUT: job 12_3 reached its time limit"),
        ("FAILED", "143:0", "00:00:30", "FAILED: job 12_3, exit code 143"),
        ("FAILED", "3:0", "00:04:30", "FAILED: job 12_3, exit code 3"),
    ],
)
def test_the_end_of_a_job_in_words(cluster, state, code, run, words):
    """A job that ends by the SIGTERM before its time limit ran out of time, though SLURM says FAILED."""
    assert str(end(cluster, state, code, run)) == words


def test_what_slurm_says_is_a_points_reason(cluster, tmp_path, monkeypatch):
    """It was "killed: it began and never said its end", or "SystemExit: 143"."""

    def verdict(state, code="0:0", error=None, begins=True):
        status.waits(tmp_path, "hash", "12_3")
        if begins and error is None:
            (tmp_path / "status.json").write_text(
                (tmp_path / "status.json").read_text().replace('"waiting"', '"running"')
            )
        elif begins:
            with pytest.raises(type(error)), status.recorded(tmp_path, "hash"):
                raise error
        status.ended_by(tmp_path, end(cluster, state, code))
        return status.verdict(tmp_path)

    assert verdict("OUT_OF_MEMORY") == ("interrupted", "OUT_OF_MEMORY: job 12_3")
    assert verdict("FAILED", "1:0", begins=False) == (
        "failed",
        "never started; FAILED: job 12_3, exit code 1",
    )
    monkeypatch.setenv("SLURM_JOB_ID", "12_3")
    cancelled = verdict("CANCELLED", "0:15", EndedBySignal(15))
    assert status.read(tmp_path)["traceback"] == "EndedBySignal: SIGTERM", "an interruption is no fault"
    assert cancelled == ("interrupted", "CANCELLED: job 12_3")
    server_killed = verdict("OUT_OF_MEMORY", "0:125", RuntimeError("the server is gone"))
    assert server_killed == (
        "failed",
        "OUT_OF_MEMORY: job 12_3: RuntimeError: the server is gone",
    )
    assert verdict("FAILED", "1:0", RuntimeError("no")) == ("failed", "RuntimeError: no")


@pytest.mark.parametrize(("value", "code"), [(0, 0), (None, 0), (1, 1), ("text", 0)])
def test_the_exit_code_of_a_job_is_its_points(value, code):
    from hydra.core.utils import JobReturn, JobStatus

    returned = JobReturn()
    returned.return_value, returned.status = value, JobStatus.COMPLETED
    assert exit_code(returned) == code
    returned.status = JobStatus.FAILED
    assert exit_code(returned) == 1
