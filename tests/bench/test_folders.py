"""Where runs and sweeps write, as their users start them: alone, at once, after a mistake, under any name."""

import json
import subprocess

import pyarrow.parquet as pq

from tests.bench.conftest import BENCH, bench, environment, lines

SMALL = ("num_requests=4", "concurrency=2", "warmup=0", "tracking=disabled", "exclusive=false")


def at_once(*commands, cwd):
    """(exit code, stdout, stderr) of each, started together."""
    env = environment(cwd)
    processes = [
        subprocess.Popen([*BENCH, *words], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True)
        for words in commands
    ]  # fmt: skip
    return [
        (process.returncode, *texts) for process in processes for texts in [process.communicate(timeout=200)]
    ]


def test_of_two_runs_of_one_name_one_is_refused(fake, tmp_path):
    """Both wrote into the same files: twice the lines, rc 0."""
    words = (f"url={fake.url}", *SMALL, "rate=4", "arrival=constant", "num_requests=12", "name=s")
    done = at_once(("-m", *words, "workload.seed=1"), words, cwd=tmp_path)
    assert sorted(code for code, _, _ in done) == [0, 2], done
    (text,) = [err for code, _, err in done if code == 2]
    assert "error: name is 's'; " in text, "in use, or on a busy machine with results by then"
    (requests,) = (tmp_path / "outputs" / "bench" / "s").rglob("requests.jsonl")
    assert len(lines(requests)) == 12


def test_a_default_name_that_is_in_use_gives_way(fake, tmp_path):
    """The default is the time: two sweeps of one second had one folder. Here the time is a year."""
    words = (f"url={fake.url}", *SMALL, "name=${now:%Y}-")
    done = at_once(words, ("-m", *words, "workload.seed=1,2"), cwd=tmp_path)
    assert [code for code, _, _ in done] == [0, 0], done
    folders = sorted((tmp_path / "outputs" / "bench").iterdir())
    assert [path.name.partition("-")[2] for path in folders] == ["", "_2"]
    for path in folders:
        (name,) = {row["sweep"] for row_file in path.rglob("row.jsonl") for row in lines(row_file)}
        assert name == path.name


def test_a_name_for_each_point_is_a_folder_for_each(fake, tmp_path):
    """Both were measured, and then listed as "failed: never started", in a folder sNone."""
    done = bench("-m", f"url={fake.url}", *SMALL, "workload.seed=1,2", "name=s${workload.seed}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    root = tmp_path / "outputs" / "bench"
    assert sorted(path.name for path in root.iterdir()) == ["s1", "s2"]
    for name in ("s1", "s2"):
        (row,) = pq.read_table(root / name / "summary.parquet").to_pylist()
        assert row["sweep"] == name


def test_paths_are_the_users_wherever_a_job_runs(fake, prompts):
    """hydra.job.chdir=true: "no such folder"."""
    done = bench("-m", f"url={fake.url}", *SMALL, "name=s", "workload.seed=1,2", "hydra.job.chdir=true",
                 "workload=jsonl", "workload.path=good.jsonl", cwd=prompts)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in prompts.iterdir()} >= {"outputs"}
    assert len(list((prompts / "outputs" / "bench" / "s").rglob("row.parquet"))) == 2


def test_a_mistake_blocks_no_corrected_command(fake, prompts):
    """It was refused: "holds results: resume=true goes on with it", of a run that measured nothing."""
    words = (f"url={fake.url}", *SMALL, "name=s", "workload=jsonl")
    failed = bench(*words, "workload.path=bad.jsonl", cwd=prompts)
    assert (failed.returncode, "none of 4 requests was answered" in failed.stderr) == (1, True)
    assert bench(*words, "workload.path=good.jsonl", cwd=prompts).returncode == 0
    folder = prompts / "outputs" / "bench" / "s"
    assert [row["ok"] for row in lines(folder / "requests.jsonl")] == [True] * 4
    before = json.loads((folder / "status.json").read_text())
    other = bench(*words, "workload.path=good.jsonl", "concurrency=1", cwd=prompts)
    assert other.returncode == 2
    assert "holds results of other settings: choose another name" in other.stderr
    assert json.loads((folder / "status.json").read_text()) == before
