"""A sweep whose command ended while its jobs go on: what goes on with it sees them."""

import json
import re
import signal
import subprocess

import pyarrow.parquet as pq
import pytest

from tests.slurm.conftest import until

pytestmark = pytest.mark.slurm
SWEEP = ("-m", "hydra/launcher=slurm", "hydra.launcher.poll_s=0.5", "hydra.launcher.late_s=2", "name=c",
         "exclusive=false", "warmup=0", "tracking=disabled", "decoding.max_tokens=8", "seed=1,2")  # fmt: skip


def test_points_that_run_are_waited_for_and_not_submitted_again(desk):
    """Every point was measured twice at once, into the same files, and was in the summary twice."""
    folder = desk.folder / "outputs" / "bench" / "c"
    words = (*SWEEP, "num_requests=200", "rate=15")
    sweep = desk.start("llada_exp.bench", *words)
    until(lambda: len(list(folder.glob("*/requests.jsonl"))) == 2)
    sweep.kill()
    sweep.wait(30)
    again = desk.python("llada_exp.bench", *words, "resume=true")
    assert again.returncode == 0, again.stderr
    ids = re.findall(r"^job (\d+_\d+):", desk.started(), re.M)
    assert f"waiting for jobs of an earlier start: {', '.join(ids)}" in again.stdout
    assert sorted(job.id for job in desk.new_jobs()) == sorted(ids), "nothing was submitted again"
    rows = pq.read_table(folder / "summary.parquet").to_pylist()
    assert [row["completed"] for row in rows] == [200, 200]
    assert [len(p.read_text().splitlines()) for p in folder.glob("*/requests.jsonl")] == [200, 200]


def test_jobs_that_wait_in_the_queue_are_named_and_waited_for(desk):
    folder = desk.folder / "outputs" / "bench" / "c"
    words = (*SWEEP, "num_requests=4", "+hydra.launcher.sbatch.begin=now+600")
    sweep = desk.start("llada_exp.bench", *words)
    until(lambda: "2 pending" in desk.started())
    ids = re.findall(r"^job (\d+_\d+):", desk.started(), re.M)
    assert sorted(json.loads(p.read_text())["slurm_job_id"] for p in folder.glob("*/status.json")) == ids
    busy = desk.python("llada_exp.bench", *words, "resume=true")
    assert busy.returncode == 2
    assert re.search(r"error: name is 'c'; .* is written by process \d+ on \S+, since ", busy.stderr)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(90) == 130, desk.started()
    assert [f"job {job} goes on; resume=true waits for it" in desk.started() for job in ids] == [True] * 2

    anew = desk.python("llada_exp.bench", "name=c", "num_requests=4")
    assert (anew.returncode, all(f"{job} pending" in anew.stderr for job in ids)) == (2, True), anew.stderr
    for job in ids:  # only now, however slow the machine is
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
    again = desk.python("llada_exp.bench", *words, "resume=true")
    assert again.returncode == 0, again.stderr
    assert sorted(job.id for job in desk.new_jobs()) == ids
    assert pq.read_table(folder / "summary.parquet").num_rows == 2
