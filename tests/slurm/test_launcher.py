"""hydra/launcher=slurm against a real queue, with points too small to measure anything."""

import re
import subprocess

import pytest

from tests.slurm.conftest import until

pytestmark = pytest.mark.slurm
SLURM = ("-m", "hydra/launcher=slurm", "hydra.launcher.poll_s=0.5", "hydra.launcher.late_s=2")


def test_points_that_fail_are_killed_or_requeued_leave_the_others_alone(desk):
    """The stock launcher never returns after the scancel: it asks sacct, which knows nothing here."""
    sweep = desk.start("tests.slurm.points", *SLURM, "point=fine,fails,waits,is_requeued")
    folder = desk.folder / "sweep"
    until(lambda: (folder / "2" / "tries").is_file() and (folder / "3" / "tries").is_file())
    array = re.search(r"job (\d+)_0", desk.started()).group(1)
    subprocess.run(["scancel", f"{array}_2"], check=True)
    subprocess.run(["scontrol", "requeue", f"{array}_3"], check=True)
    desk.wait_state(f"{array}_3", "PENDING")
    subprocess.run(["scontrol", "update", f"JobId={array}_3", "StartTime=now"], check=True)

    assert sweep.wait(timeout=120) != 0, "a point failed"
    log = desk.started()
    assert "4 of 4 jobs done" in log
    assert f"job {array}_1 failed: ValueError: this point fails" in log
    assert f"job {array}_2 failed: its log ends:" in log
    assert log.count(" failed: ") == 2
    assert (desk.state(f"{array}_1"), desk.state(f"{array}_2")) == ("FAILED", "CANCELLED")
    assert [(folder / str(n) / "tries").read_text() for n in range(4)] == ["x", "x", "x", "xx"]


def test_what_sbatch_refuses_is_its_own_words_and_nothing_is_waited_for(desk):
    done = desk.python("llada_exp.serve", *SLURM, "hydra.launcher.partition=nowhere")
    assert done.returncode == 2
    assert "sbatch refuses the job" in done.stderr
    assert "invalid partition" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_endpoint_that_does_not_come_up_says_why(desk):
    done = desk.python("llada_exp.serve", *SLURM, "model=hf", "model.path=/nowhere")
    assert done.returncode == 1
    assert "its server does not answer" in done.stderr
    assert "the model does not load" in done.stderr
    assert "successful" not in done.stderr, "what submitit says of a function that returned 1"
    assert "Traceback" not in done.stderr
    (job,) = desk.new_jobs()
    assert job.state == "FAILED", "afterok and mail depend on it"


def test_a_bad_server_among_good_ones_is_refused_before_any_is_submitted(desk):
    done = desk.python("llada_exp.serve", *SLURM, "batch_size=4,0")
    assert done.returncode == 2
    assert done.stderr == "error: batch_size is 0; expected an integer from 1 to 4096\n"
    assert not desk.new_jobs()


def test_a_server_launched_without_slurm_is_refused(desk):
    done = desk.python("llada_exp.serve", "-m", "batch_size=4")
    assert done.returncode == 2
    assert "it needs a SLURM job: -m hydra/launcher=slurm, or sbatch slurm/server.sbatch" in done.stderr
