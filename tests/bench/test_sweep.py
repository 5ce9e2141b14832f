"""Runs and sweeps as users start them: what is written, what a failure does, what resuming does."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pyarrow.parquet as pq
import pytest

from tests.bench.conftest import BENCH, ROOT, bench, environment, lines

SMALL = ("num_requests=4", "concurrency=2", "warmup=1", "tracking=disabled")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_writes_its_row_with_its_origin_and_prints_it(fake, tmp_path):
    done = bench(f"url={fake.url}", *SMALL, "name=one", "repeats=2", "vllm_json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "bench" / "one"
    (row,) = pq.read_table(folder / "row.parquet").to_pylist()
    assert (row["completed"], row["failed"], row["repeats"], row["concurrency"]) == (8, 0, 2, 2)
    assert (row["mode"], row["batch_size"], row["model"]) == ("batch", 4, "llada-tiny")
    assert row["output_throughput_spread"] is not None
    assert row["accuracy"] == 0, "the fake does not solve problems, and its speed is shown with that"
    assert f"url={fake.url}" in row["command"]
    assert "resume" not in row["command"]
    assert len(row["commit"]) == 40
    assert "one" in done.stdout.splitlines()[1]
    assert len(lines(folder / "requests.jsonl")) == 8
    assert len(lines(folder / "repeats.jsonl")) == 2
    told = json.loads((folder / "vllm.json").read_text())
    assert told["completed"] == 8
    assert told["median_ttft_ms"] == row["median_ttft_ms"]
    assert len(told["output_lens"]) == 8


def test_a_sweep_goes_on_past_a_failing_point_and_resume_mends_it(fake, prompts):
    command = ("-m", f"url={fake.url}", "num_requests=4", "warmup=1", "name=s", "workload=jsonl",
               "workload.path=good.jsonl,bad.jsonl", "concurrency=1,2")  # fmt: skip
    done = bench(*command, cwd=prompts)
    root = prompts / "outputs" / "bench" / "s"
    assert done.returncode == 1
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2
    assert "002_workload.path=bad.jsonl,concurrency=1" in failed[0]
    assert "RuntimeError: none of" in failed[0]
    assert pq.read_table(root / "summary.parquet").num_rows == 2
    told = json.loads(next(root.glob("002_*/status.json")).read_text())
    assert told["status"] == "failed"
    assert "Traceback" in told["traceback"]
    before = {p.parent.name: json.loads(p.read_text())["started"] for p in root.glob("00[01]_*/status.json")}

    (prompts / "bad.jsonl").write_text((prompts / "good.jsonl").read_text())
    assert bench(*command, cwd=prompts).returncode == 2, "without resume=true, results are not touched"
    done = bench(*command, "resume=true", cwd=prompts)
    assert done.returncode == 0, done.stderr
    assert "4 points, 2 finished before" in done.stdout
    rows = pq.read_table(root / "summary.parquet").to_pylist()
    assert [r["point"][:3] for r in rows] == ["000", "001", "002", "003"]
    after = {p.parent.name: json.loads(p.read_text())["started"] for p in root.glob("00[01]_*/status.json")}
    assert after == before, "finished points were measured again"
    assert len(list(root.glob("*/wandb/offline-run-*"))) == 4


def test_a_changed_setting_is_measured_again_by_resume(fake, tmp_path):
    for num, words in ((4, "2 points, 0 finished"), (5, "2 points, 0 finished"), (5, "2 points, 2 finished")):
        done = bench("-m", f"url={fake.url}", *SMALL, "name=s", "concurrency=1,2", "resume=true",
                     f"num_requests={num}", cwd=tmp_path)  # fmt: skip
        assert words in done.stdout, done.stderr
    rows = pq.read_table(tmp_path / "outputs" / "bench" / "s" / "summary.parquet").to_pylist()
    assert [r["completed"] for r in rows] == [5, 5]


def test_one_bad_point_and_nothing_runs(fake, tmp_path):
    done = bench("-m", f"url={fake.url}", *SMALL, "concurrency=1,0", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: point 1 (concurrency=0): concurrency is 0; expected an integer from 1 to 65536\n"
    )
    assert not (tmp_path / "outputs").exists()


def test_a_dry_run_prints_every_point_and_touches_nothing(tmp_path):
    done = bench("-m", "batch_size=4,8", "rate=2,4", "name=s", "dry_run=true",
                 "hydra/launcher=submitit_local", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    points = [line for line in done.stdout.splitlines() if line.startswith("outputs/bench/s/")]
    assert len(points) == 4
    assert "outputs/bench/s/003_batch_size=8,rate=4" in done.stdout
    assert "4 points, 2 servers" in done.stdout
    assert "timeout_min:" in done.stdout, "what the launcher is told"
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_points_in_processes_of_their_own_take_turns(launcher, fake, tmp_path):
    done = bench("-m", f"hydra/launcher={launcher}", f"url={fake.url}", *SMALL, "name=s", "concurrency=1,2,3",
                 cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "outputs" / "bench" / "s" / "summary.parquet").to_pylist()
    assert [r["concurrency"] for r in rows] == [1, 2, 3]
    assert not any(r["overlapped"] for r in rows)


@pytest.mark.parametrize(
    ("overrides", "num"),
    [
        ("experiment=batch_vs_streaming", 2),
        ("experiment=batch_vs_streaming mode=streaming batch_size=1", 1),
        ("experiment=decoding decoding.cache=none", 7),
        ("experiment=decoding decoding.rule=fixed decoding.tokens_per_step=2 decoding.cache=dual", 1),
        ("experiment=batch_size batch_size=4", 1),
    ],
)
def test_a_rows_command_stands_for_its_point_alone(overrides, num, tmp_path):
    # The points of an experiment came along, and mixed their keys with those of the command.
    done = bench(*overrides.split(), "dry_run=true", cwd=tmp_path)
    assert f"{num} points, " in done.stdout, done.stderr


def test_the_plugin_costs_the_server_nothing():
    # Hydra imports every plugin in every program that composes, and each worker would carry it along.
    code = (
        "import hydra_plugins.llada_sweeper, sys; print({'aiohttp', 'pyarrow', 'wandb'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "set()\n", done.stderr


def test_points_of_one_server_share_its_start_and_it_is_stopped(tmp_path):
    done = bench(
        "-m", *SMALL, "name=s", "decoding.rule=threshold", "decoding.threshold=0.5,0.9", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    root = tmp_path / "outputs" / "bench" / "s"
    (info,) = root.glob("*/server/server.json")
    told = json.loads(info.read_text())
    assert told["status"] == "stopped"
    assert not alive(told["pid"])
    rows = pq.read_table(root / "summary.parquet").to_pylist()
    assert [(r["rule"], r["threshold"]) for r in rows] == [("threshold", 0.5), ("threshold", 0.9)]
    for row in rows:
        assert row["nfe"] > 0
        assert 0 < row["useful_position_ratio"] <= 1
        assert row["mean_batch_size"] >= 1
        assert row["peak_memory_mb"] > 50
        assert row["memory_kind"] == "resident"


def test_a_terminal_that_closes_stops_the_server_and_the_line_says_how_to_go_on(tmp_path):
    command = [*BENCH, "num_requests=1000000", "tracking=disabled", "name=one"]
    heard = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, preexec_fn=heard
    )
    folder = tmp_path / "outputs" / "bench" / "one"
    until = time.monotonic() + 120
    while not (folder / "requests.jsonl").is_file() and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    line = process.communicate(timeout=90)[1].decode()
    assert process.returncode == 128 + signal.SIGHUP
    assert "Traceback" not in line
    assert f"interrupted by SIGHUP; what was done so far is in {folder}; to go on: python -m" in line
    assert line.endswith("name=one resume=true\n")
    assert json.loads((folder / "status.json").read_text())["status"] == "interrupted"
    assert not alive(json.loads((folder / "server" / "server.json").read_text())["pid"])
    assert lines(folder / "requests.jsonl")


def test_a_server_that_does_not_start_is_told_in_its_own_words(tmp_path):
    done = bench("model=hf", "model.path=nowhere", *SMALL, "name=one", cwd=tmp_path)
    assert done.returncode == 1
    assert "the model does not load" in done.stderr
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
