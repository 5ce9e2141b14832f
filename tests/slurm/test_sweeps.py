"""The benchmark as SLURM jobs: server and client inside each, and what is left when one ends badly."""

import json
import re
import subprocess

import pyarrow.parquet as pq
import pytest
from wandb.proto.wandb_internal_pb2 import Record

from llada_exp.bench.schema import ROW
from tests.slurm.conftest import ROOT, until
from tests.wandb_log import records

pytestmark = pytest.mark.slurm
WEIGHTS = ROOT / "llada_exp" / "tiny" / "weights"
SLURM = ("-m", "hydra/launcher=slurm", "hydra.launcher.poll_s=0.5", "hydra.launcher.late_s=10")
"""late_s: a busy controller may not tell of a job for a while, and what its first try left would count."""
SMALL = ("num_requests=2", "warmup=0", "decoding.max_tokens=8", "exclusive=false")


def models(desk, *names):
    """model.path over these names; each a folder with the embedded model, save `late`."""
    for name in names:
        if name != "late":
            (desk.folder / name).symlink_to(WEIGHTS)
    return ("model=hf", "model.name=m", "model.path=" + ",".join(str(desk.folder / name) for name in names))


def rows(folder):
    return pq.read_table(folder / "summary.parquet").to_pylist()


def status(folder):
    return json.loads((folder / "status.json").read_text())


def wandb_groups(folder):
    """The group of each offline run of a sweep, from the files that `wandb sync` would send."""
    return [run_group(path) for path in folder.glob("*/wandb/offline-run-*/*.wandb")]


def run_group(path):
    """Of the first run record."""
    runs = (found for found in map(Record.FromString, records(path)) if found.HasField("run"))
    return next(runs).run.run_group


@pytest.mark.timeout(900)
def test_eight_points_one_of_which_fails_and_is_measured_by_resume(desk):
    names = [f"m{n}" for n in range(3)] + ["late"] + [f"m{n}" for n in range(4, 8)]
    words = (*SLURM, "name=eight", *SMALL, *models(desk, *names))
    folder = desk.folder / "outputs" / "bench" / "eight"

    done = desk.python("llada_exp.bench", *words, timeout=600)
    assert done.returncode == 1
    named = [line for line in done.stderr.splitlines() if line.startswith(("failed: ", "interrupted: "))]
    assert len(named) == 1
    assert named[0].startswith("failed: 003_")
    assert "the model does not load" in named[0]
    first = rows(folder)
    assert len(first) == 7
    assert wandb_groups(folder) == ["eight"] * 7
    (bad,) = folder.glob("003_*")
    assert status(bad)["status"] == "failed"
    assert "Traceback" in status(bad)["traceback"]

    (desk.folder / "late").symlink_to(WEIGHTS)
    again = desk.python("llada_exp.bench", *words, "resume=true", timeout=200)
    assert again.returncode == 0, again.stderr
    assert "8 points, 7 finished before" in again.stdout
    assert len(re.findall(r"^job ", again.stdout, re.M)) == 1
    resumed = rows(folder)
    assert len({row["point"] for row in resumed}) == len(resumed) == 8
    assert [r for r in resumed if not r["point"].startswith("003_")] == first
    assert wandb_groups(folder) == ["eight"] * 8


def test_four_points_of_which_one_fails_one_is_cancelled_and_one_is_requeued(desk):
    words = (*SLURM, "name=four", *SMALL, "tracking=disabled", *models(desk, "m0", "late", "m2", "m3"))
    folder = desk.folder / "outputs" / "bench" / "four"
    sweep = desk.start("llada_exp.bench", *words)
    until(lambda: next(folder.glob("002_*/server/server.json"), None))
    array = re.search(r"job (\d+)_0", desk.started()).group(1)
    subprocess.run(["scancel", f"{array}_2"], check=True)
    files = lambda: folder.glob("003_*/status.json")  # noqa: E731 - the folder is made before the file
    until(lambda: [path for path in files() if status(path.parent)["status"] == "running"])
    subprocess.run(["scontrol", "requeue", f"{array}_3"], check=True)
    desk.wait_state(f"{array}_3", "PENDING")
    subprocess.run(["scontrol", "update", f"JobId={array}_3", "StartTime=now"], check=True)

    assert sweep.wait(timeout=200) == 1
    assert [row["point"][:3] for row in rows(folder)] == ["000", "003"]
    by_number = {path.name[:3]: path for path in folder.glob("00*")}
    assert [status(by_number[f"00{n}"])["status"] for n in range(4)] == ["ok", "failed", "interrupted", "ok"]
    assert "EndedBySignal: SIGTERM" in status(by_number["002"])["traceback"]
    assert re.search(rf"^interrupted: 002_.*: CANCELLED: job {array}_2; see ", desk.started(), re.M)
    assert [desk.state(f"{array}_{n}") for n in range(4)] == ["COMPLETED", "FAILED", "CANCELLED", "COMPLETED"]
    server = json.loads((by_number["002"] / "server" / "server.json").read_text())
    assert server["status"] == "stopped", "SLURM tells the task alone: it has to stop its server"
    assert set(rows(folder)[0]) == {column.name for column in ROW}


def guide_script(*more):
    """The batch script of slurm/README.md that measures a server, with more keys for the benchmark."""
    guide = (ROOT / "slurm" / "README.md").read_text()
    script = re.search(r"```bash\n# my_load.sbatch\n(.*?)```", guide, re.S).group(1).rstrip()
    assert script.splitlines()[-1].startswith("python -m llada_exp.bench ")
    return f"#!/bin/bash\n{script} {' '.join(more)}\n"


def test_a_benchmark_job_after_a_serving_job_finds_it_waits_for_it_and_measures_it(desk):
    (desk.folder / "my_load.sbatch").write_text(guide_script(*SMALL, "name=url", "tracking=disabled"))
    small = ("sbatch", "--parsable", "--mem=1G", "--gres=none", "--cpus-per-task=1")
    job_id = desk.run(*small, str(ROOT / "slurm" / "server.sbatch"), "batch_size=3").stdout.strip()
    after = (f"--dependency=after:{job_id}", f"--export=ALL,SERVER={job_id}", "my_load.sbatch")
    bench_id = desk.run(*small, *after).stdout.strip()
    desk.wait_state(bench_id, "COMPLETED", "FAILED")
    log = (desk.folder / f"slurm-{bench_id}.out").read_text()
    assert desk.state(bench_id) == "COMPLETED", log

    (row,) = pq.read_table(desk.folder / "outputs" / "bench" / "url" / "row.parquet").to_pylist()
    assert (row["concurrency"], row["batch_size"], row["model"], row["completed"]) == (16, 3, "llada-tiny", 2)
    key = (desk.endpoints / f"{job_id}.key").read_bytes().strip()
    written = [path for path in desk.folder.rglob("*") if path.is_file() and path.suffix != ".key"]
    assert not [path for path in written if key in path.read_bytes()], "a key is in its own file only"
    assert desk.jobs("stop", job_id) == (0, f"{job_id} COMPLETED\n")


def test_a_dry_run_prints_every_point_and_the_batch_script_and_submits_nothing(desk):
    desk.env |= {"ACCOUNT": "lab7", "TIME": "8:00:00", "GRES": "gpu:2", "SETUP": "module load cuda"}
    done = desk.python("llada_exp.bench", *SLURM, "name=dry", "batch_size=2,4,8", "dry_run=true")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for n, size in enumerate((2, 4, 8)):
        assert any(f"00{n}_batch_size={size}" in line for line in lines)
    for option in ("account=lab7", "time=8:00:00", "gres=gpu:2", "signal=TERM@120", "array=0-2%3"):
        assert f"#SBATCH --{option}" in lines
    assert lines.index("module load cuda") < next(
        n for n, line in enumerate(lines) if line.startswith("srun ")
    )
    assert not (desk.folder / "outputs").exists()
    assert not desk.new_jobs()
