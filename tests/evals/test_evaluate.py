"""`python -m llada_exp.evals` as users start it: what is written, what is refused, what survives."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import httpx
import pyarrow.parquet as pq
import pytest

from llada_exp.evals import answers
from llada_exp.jobs import running_server
from tests import programs
from tests.bench.conftest import environment

EVALS = (sys.executable, "-m", "llada_exp.evals")
SLOW = (
    "decoding.rule=fixed",
    "decoding.cache=none",
    "decoding.max_tokens=128",
    "benchmark=tiny_long",
    "max_samples=24",
    "concurrency=24",
    "tracking=disabled",
)


def evals(*arguments, cwd, timeout=240, module="llada_exp.evals", **env):
    return programs.run(module, *arguments, cwd=cwd, env=environment(cwd, **env), timeout=timeout)


@pytest.fixture
def server(tiny_server):
    return tiny_server


def rows(folder):
    return pq.read_table(folder / "row.parquet").to_pylist()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_quick_test_needs_nothing_but_us(tmp_path):
    done = evals("quick_test=true", "expname=one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "evals" / "one"
    (row,) = rows(folder)
    assert (row["harness"], row["benchmark"], row["num_problems"], row["num_samples"]) == (
        "builtin", "tiny_short", 10, 1,
    )  # fmt: skip
    assert row["accuracy"] >= 0.9
    assert row["accuracy_low"] < row["accuracy"]
    assert (row["rule"], row["cache"], row["max_tokens"]) == ("credit", "dual", 96)
    assert row["command"] == "python -m llada_exp.evals quick_test=true"
    found = answers.read(folder / answers.FILE)
    assert len(found) == 10
    assert all(a.nfe and a.decoding["cache"] == "dual" for a in found)
    assert json.loads((folder / "scores.json").read_text())["benchmarks"]["tiny_short"]["failed"] == 0
    assert (folder.parent / "latest").resolve() == folder.resolve()
    assert list(folder.glob("wandb/offline-run-*"))
    assert "tiny_short" in done.stdout

    again = evals("quick_test=true", "expname=one", cwd=tmp_path)
    assert again.returncode == 2
    assert "resume=true goes on with it" in again.stderr
    other = evals("quick_test=true", "expname=one", "resume=true", "seed=1", cwd=tmp_path)
    assert other.returncode == 2
    assert "under other settings" in other.stderr
    more = evals("quick_test=true", "expname=one", "resume=true", cwd=tmp_path)
    assert more.returncode == 0
    assert rows(folder) == [row], "what is finished is shown, not asked again"


def test_a_dry_run_tells_and_does_nothing(tmp_path):
    done = evals(
        "benchmark=tiny_short:4", "dry_run=true", "url=http://127.0.0.1:9", "decoding.steps=8", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for word in (
        "builtin",
        "tiny_short:4",
        "http://127.0.0.1:9",
        "steps=8",
        "temperature=0.7",
        "2000 questions",
    ):
        assert word in done.stdout
    assert not list(tmp_path.glob("outputs/evals/*/status.json"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["benchmark=none.jsonl"], "there is no such file"),
        (["benchmrk=x"], "did you mean benchmark?"),
        (["tokens_to_generate=9"], "tokens_to_generate is now decoding.max_tokens"),
        (["url=http://127.0.0.1:9", "decoding=exact"], "decoding is of a server of our own"),
        (
            ["url=http://127.0.0.1:9", "batch_size=16", "model=tiny"],
            "batch_size, model are of a server of our",
        ),
        (["-m", "url=http://127.0.0.1:9", "preset.cache=none,dual"], "preset.cache is of a server of"),
        (["checkpoints=/none"], "experiment=checkpoints"),
        (["experiment=checkpoints"], "checkpoints is not set"),
        (["experiment=checkpoints", "checkpoints=/none"], "checkpoints is '/none'; no such folder"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_started(arguments, words, tmp_path):
    done = evals(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_an_endpoint_that_is_not_there_is_named(tmp_path):
    done = evals("url=http://127.0.0.1:9", "tracking=disabled", cwd=tmp_path)
    assert done.returncode == 1
    assert "url is http://127.0.0.1:9; no list of models came from there" in done.stderr


def begun(*arguments, cwd, num):
    """An evaluation in its own process, once it has `num` answers."""
    run = subprocess.Popen([*EVALS, *SLOW, *arguments, "expname=one"], cwd=cwd, env=environment(cwd),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    path = cwd / "outputs" / "evals" / "one" / answers.FILE
    until = time.monotonic() + 120
    while time.monotonic() < until and run.poll() is None:
        if path.is_file() and path.read_text().count("\n") >= num:
            return run, path
        time.sleep(0.02)
    raise AssertionError(f"no answers came: {run.communicate()}")


def server_pid(path):
    return json.loads((path.parent / "server" / "server.json").read_text())["pid"]


def test_the_own_servers_death_is_noticed_and_resuming_asks_only_the_rest(tmp_path):
    """Prevents an evaluation that waits for ever for a server that is gone."""
    run, path = begun(cwd=tmp_path, num=2)
    os.killpg(server_pid(path), signal.SIGKILL)
    killed = time.monotonic()
    _, stderr = run.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert run.returncode == 1
    assert "the server's process ended" in stderr
    before = answers.read(path)
    assert 2 <= len(before) < 24
    done = evals(*SLOW, "expname=one", "resume=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = rows(path.parent)
    assert (row["resumed"], row["num_problems"]) == (len(before), 24)
    after = {a.key: a for a in answers.read(path)}
    assert all(after[a.key] == a for a in before)


def test_sigterm_ends_server_and_run_and_is_recorded(tmp_path):
    run, path = begun(cwd=tmp_path, num=1)
    pid = server_pid(path)
    run.terminate()
    run.communicate(timeout=120)
    assert run.returncode == 143
    assert json.loads((path.parent / "status.json").read_text())["status"] == "interrupted"
    assert not alive(pid)


def test_problems_are_split_over_endpoints_and_one_may_go(server, tmp_path):
    """Prevents one lost node from ending the evaluation of a whole night."""
    with running_server(["batch_size=16"]) as other:
        run, path = begun(f"url=[{server.url},{other.url}]", cwd=tmp_path, num=1)
        assert httpx.get(f"{other.url}/batch/stats").json()["currently_processing"] > 0
        os.killpg(other.pid, signal.SIGKILL)
        _, stderr = run.communicate(timeout=200)
    assert run.returncode == 0, stderr
    assert f"{other.url} does not answer" in stderr
    found = answers.read(path)
    assert len(found) == 24
    assert {a.verdict for a in found} <= {"correct", "wrong", "no_answer"}, "128 tokens cut long ones off"
    (row,) = rows(path.parent)
    assert (row["num_urls"], row["failed"]) == (2, 0)


def test_a_sweep_of_settings_and_the_comparison_of_two(server, tmp_path):
    done = evals("-m", f"url={server.url}", "decoding.cache=none,dual", "decoding.rule=threshold",
                 "max_samples=12", "expname=s", "tracking=disabled", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    root = tmp_path / "outputs" / "evals" / "s"
    found = pq.read_table(root / "summary.parquet").to_pylist()
    assert [row["cache"] for row in found] == ["none", "dual"]
    assert [row["rule"] for row in found] == ["threshold", "threshold"]
    folders = [str(p) for p in sorted(root.glob("00*"))]
    told = evals(*folders, cwd=tmp_path, module="llada_exp.evals.compare")
    assert told.returncode == 0, told.stderr
    assert "tiny_short: 12 problems:" in told.stdout
    assert "p = " in told.stdout


def test_a_training_runs_checkpoints(learning_run, tmp_path):
    """Found, checked, evaluated one by one; the damaged one named; what is done not done again."""
    run = shutil.copytree(learning_run, tmp_path / "run")
    shutil.copytree(run / "step_30", run / "step_40")
    shard = next((run / "step_40" / "policy" / "weights").glob("*.distcp"))
    os.truncate(shard, 1000)
    command = ("experiment=checkpoints", f"checkpoints={run}", "max_samples=16")
    plan = evals(*command, "dry_run=true", cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    assert "step_40" in plan.stdout.split("cannot run:")[0]
    assert "truncated?" in plan.stdout
    assert not (run / "evals").exists()

    done = evals(*command, cwd=tmp_path)
    root = run / "evals" / "tiny_short"
    assert done.returncode == 1, done.stdout
    assert "failed: step_40: " in done.stderr
    assert (run / "evals" / "latest").resolve() == root
    found = pq.read_table(root / "summary.parquet").to_pylist()
    assert [row["checkpoint_step"] for row in found] == [10, 20, 30]
    assert "checkpoints=" not in found[0]["command"], "the command makes this row, not the sweep"
    assert "checkpoint_step=10" in found[0]["command"]
    accuracies = [row["accuracy"] for row in found]
    assert accuracies == sorted(accuracies)
    assert accuracies[0] < accuracies[2]
    assert (root / "accuracy_by_step.png").stat().st_size > 10_000
    assert list(root.glob("step_30/wandb/offline-run-*/files/media/images/*accuracy_by_step*.png"))

    shutil.rmtree(run / "step_40")
    shutil.copytree(learning_run / "step_30", run / "step_50")
    more = evals(*command, cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert "4 points, 3 finished before" in more.stdout
    assert found[0] == pq.read_table(root / "summary.parquet").to_pylist()[0]
    other = evals(*command, "decoding.temperature=1.0", cwd=tmp_path)
    assert other.returncode == 2
    assert "under other settings" in other.stderr
