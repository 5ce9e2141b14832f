"""Evaluations on a real queue: after a serving job, when that job is cancelled, and one job a checkpoint."""

import json
import os
import re
import shutil

import pyarrow.parquet as pq
import pytest

from llada_exp.evals import answers
from llada_exp.jobs import slurm
from tests.evals.training_runs import learning
from tests.slurm.conftest import until

pytestmark = pytest.mark.slurm
SLURM = ("-m", "hydra/launcher=slurm", "hydra.launcher.poll_s=0.5", "hydra.launcher.late_s=2")


def serving(desk, *overrides):
    """The id of a serving job, once it answers."""
    done = desk.python("llada_exp.serve", "-m", "hydra/launcher=slurm", *overrides)
    assert done.returncode == 0, done.stderr
    return re.search(r"job (\d+):", done.stdout).group(1)


def test_an_evaluation_job_after_a_serving_job(desk):
    """Its endpoint is found by the job's id, with the key that only its file has."""
    job_id = serving(desk, "batch_size=8")
    after = f"+hydra.launcher.sbatch.dependency=after:{job_id}"
    done = desk.python("llada_exp.evals", *SLURM, after, f"url=job:{job_id}", "max_samples=12", "expname=e",
                       "tracking=disabled")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = pq.read_table(desk.folder / "outputs" / "evals" / "e" / "summary.parquet").to_pylist()
    assert (row["num_problems"], row["failed"], row["num_urls"]) == (12, 0, 1)
    assert row["accuracy"] >= 0.9
    assert desk.state(job_id) == "RUNNING", "the endpoint is not the evaluation's to stop"
    written = [p for p in (desk.folder / "outputs").rglob("*") if p.is_file()]
    key = (desk.endpoints / f"{job_id}.key").read_text().strip()
    assert not [p for p in written if key.encode() in p.read_bytes()]


def test_an_evaluation_gives_up_when_its_servers_job_is_cancelled(desk):
    """Prevents a job that holds its allocation until its walltime for a server that is gone."""
    job_id = serving(desk, "batch_size=4", "decoding=exact", "server.drain_seconds=0")
    run = desk.start("llada_exp.evals", f"url=job:{job_id}", "benchmark=tiny_long", "max_samples=400",
                     "expname=e", "tracking=disabled")  # fmt: skip
    path = desk.folder / "outputs" / "evals" / "e" / answers.FILE
    until(lambda: path.is_file() and path.read_text().count("\n") >= 2)
    slurm.cancel([job_id])
    assert run.wait(120) == 1, desk.started()
    assert f"job {job_id} is over (" in desk.started()
    assert len(answers.read(path)) >= 2, "what was answered is kept"
    assert json.loads((path.parent / "status.json").read_text())["status"] == "failed"


def test_a_job_that_is_over_is_named_at_once(desk):
    job_id = serving(desk, "batch_size=2")
    assert desk.jobs("stop", job_id)[0] == 0
    done = desk.python("llada_exp.evals", f"url=job:{job_id}", "tracking=disabled", timeout=60)
    assert done.returncode == 1
    assert f"job {job_id} is over (COMPLETED)" in done.stderr


def test_one_job_for_each_checkpoint_and_the_damaged_one_takes_none(desk):
    run = learning(desk.folder / "run", {10: 0.5, 20: 0.0})
    shutil.copytree(run / "step_20", run / "step_30")
    os.truncate(next((run / "step_30" / "policy" / "weights").glob("*.distcp")), 1000)
    done = desk.python("llada_exp.evals", "experiment=checkpoints", "checkpoints=run", *SLURM[1:],
                       "max_samples=16", "tracking=disabled")  # fmt: skip
    assert done.returncode == 1
    assert len(re.findall(r"^job ", done.stdout, re.M)) == 2
    assert "failed: step_30: " in done.stderr
    found = pq.read_table(run / "evals" / "tiny_short" / "summary.parquet").to_pylist()
    assert [row["checkpoint_step"] for row in found] == [10, 20]
    assert found[0]["accuracy"] < found[1]["accuracy"]
