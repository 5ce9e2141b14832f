"""Whose a run's folder is: one process's at a time, and never a dead one's."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time

import pytest

from llada_exp.runs import lock
from llada_exp.runs.lock import FolderTaken, taking

HOLD = """
import sys
from pathlib import Path
from llada_exp.runs.lock import taking
with taking(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that has the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def leave(folder, age_s=0.0, **changes):
    """A record of a process that is gone, or seems to be, as it leaves it without an end."""
    with taking(folder):
        record = json.loads((folder / lock.FILE).read_text())
    (folder / lock.FILE).write_text(json.dumps(record | changes))
    then = time.time() - age_s
    os.utime(folder / lock.FILE, (then, then))


def test_a_second_process_is_told_who_has_the_folder_and_a_killed_one_has_it_no_more(other, tmp_path):
    with pytest.raises(FolderTaken, match=rf"written by process {other.pid} on \S+, since 20"):
        taking(tmp_path).__enter__()
    other.kill()
    other.wait()
    assert json.loads((tmp_path / lock.FILE).read_text())["pid"] == other.pid, "it cleared nothing away"
    with taking(tmp_path):
        pass
    assert (tmp_path / lock.FILE).read_text() == ""


def test_it_is_waited_for_where_that_is_wanted(other, tmp_path):
    refusals = []

    def wait(refusal):
        refusals.append(refusal)
        other.stdin.close()

    with taking(tmp_path, wait):
        assert other.wait(10) == 0
    assert len(refusals) == 1
    other.stdin = None


def test_two_threads_of_one_process_have_it_one_at_a_time(tmp_path):
    with taking(tmp_path), pytest.raises(FolderTaken):
        taking(tmp_path).__enter__()


def test_where_the_kernel_locks_nothing_the_record_of_a_living_process_holds(other, tmp_path, monkeypatch):
    """Some cluster file systems have no flock."""

    def refuse(file, operation):
        raise OSError(errno.ENOSYS, "no")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(FolderTaken, match=f"process {other.pid}"):
        taking(tmp_path).__enter__()
    other.kill()
    other.wait()
    with taking(tmp_path), pytest.raises(FolderTaken):
        taking(tmp_path).__enter__()


def test_a_process_of_another_host_has_it_as_long_as_it_gives_signs(tmp_path):
    """flock may be a host's own, on a file system that many hosts share."""
    leave(tmp_path, machine="another boot", host="n7")
    with pytest.raises(FolderTaken, match=r"on n7.* it would be free after 90 s"):
        taking(tmp_path).__enter__()
    leave_old = {"machine": "another boot", "host": "n7", "age_s": lock.SILENT_S + 5}
    (tmp_path / lock.FILE).unlink()
    leave(tmp_path, **leave_old)
    with taking(tmp_path):
        pass


@pytest.mark.parametrize(("state", "is_free"), [("RUNNING", False), ("NODE_FAIL", True), ("", True)])
def test_of_another_hosts_job_the_queue_knows_more(state, is_free, tmp_path, monkeypatch):
    binary = tmp_path / "squeue"
    binary.write_text(f"#!/bin/sh\necho 'Welcome to the cluster'\necho '12_3|{state}|n7|llada-bench'\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    leave(tmp_path, machine="another boot", host="n7", job="12_3")
    if is_free:
        with taking(tmp_path):
            return
    with pytest.raises(FolderTaken, match="SLURM job 12_3"):
        taking(tmp_path).__enter__()


def test_a_requeued_job_takes_its_own_folder_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    leave(tmp_path, machine="another boot", host="n7")
    with taking(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file/folder: Not a directory"):
        taking(tmp_path / "file" / "folder").__enter__()
