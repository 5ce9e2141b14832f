"""A load whose server went, or of which too much failed, is no measurement."""

import json
import os
import signal
import subprocess
import time

import pyarrow.parquet as pq
import pytest

from llada_exp.bench import collect
from llada_exp.bench.client import LoadResult, RequestRecord
from llada_exp.bench.soundness import ServerLife, too_many_failed
from llada_exp.runs.servers import Endpoint
from tests.bench.conftest import BENCH, bench, environment, lines

SMALL = ("warmup=1", "tracking=disabled", "stream=false")


def killed_during(folder, *words, cwd):
    """A run whose own server is killed once some of its requests are answered; its exit code and stderr."""
    command = [*BENCH, *words, *SMALL]
    process = subprocess.Popen(
        command, cwd=cwd, env=environment(cwd), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        (requests, info) = (next(folder.glob(name), None) for name in ("**/requests.jsonl", "**/server.json"))
        if requests is not None and info is not None and requests.read_text().count('"ok": true') > 1:
            os.kill(json.loads(info.read_text())["pid"], signal.SIGKILL)
            break
        time.sleep(0.02)
    told = process.communicate(timeout=120)[1]
    return process.returncode, told


def test_a_point_of_a_sweep_whose_server_was_killed_is_failed_and_measured_again(tmp_path):
    """Prevents `ok` for 89 failures of 100 requests, which resume=true then skips."""
    folder = tmp_path / "outputs" / "bench" / "s"
    words = ("-m", "name=s", "concurrency=2,3", "num_requests=99999", "duration=3", "max_failed=1")
    code, told = killed_during(folder, *words, cwd=tmp_path)
    assert code == 1, told
    first, second = sorted(folder.glob("0*/status.json"))
    status = json.loads(first.read_text())
    assert status["status"] == "failed", "whatever share is tolerated"
    assert "the server's process ended by signal SIGKILL" in status["error"]
    (row,) = lines(first.parent / "row.jsonl")
    assert "requests failed while the server went" in row["problem"]
    assert row["failed"] <= 2, "the rest is not sent to nobody"
    assert json.loads(second.read_text())["status"] == "ok", "the next point has a server of its own"
    assert [r["point"][:3] for r in pq.read_table(folder / "summary.parquet").to_pylist()] == ["001"]
    with pytest.raises(ValueError, match="a failed point"):
        collect.collect([first.parent])
    done = bench(*words, *SMALL, "resume=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 points, 1 finished before" in done.stdout
    assert [(r["failed"], r["failed_share"], r["problem"]) for r in lines(folder / "summary.jsonl")] == [
        (0, 0.0, None)
    ] * 2


def test_the_share_of_failures_decides_and_stands_in_the_row(fake, tmp_path):
    prompts = ("hello", "crash now", "good day", "well")
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": text}) for text in prompts))
    words = (f"url={fake.url}", "workload=jsonl", "workload.path=p.jsonl", "num_requests=4", "concurrency=1",
             "warmup=0", "tracking=disabled", "name=one")  # fmt: skip
    folder = tmp_path / "outputs" / "bench" / "one"
    done = bench(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "1 of 4 requests failed, the first with 500" in done.stderr
    assert "max_failed is 0" in done.stderr
    (row,) = lines(folder / "row.jsonl")
    assert (row["completed"], row["failed"], row["failed_share"]) == (3, 1, 0.25)
    assert row["problem"] in done.stderr
    done = bench(*words, "resume=true", "max_failed=0.25", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = lines(folder / "row.jsonl")
    assert (row["failed_share"], row["problem"]) == (0.25, None)
    assert bench(*words, "max_failed=1.5", cwd=tmp_path).returncode == 2


def result(*oks, status=None):
    records = [RequestRecord(i, 0.0, ok=ok, status=status, error="no") for i, ok in enumerate(oks)]
    return LoadResult(records, 1, [])


@pytest.mark.parametrize(("max_failed", "is_good"), [(0, False), (0.24, False), (0.25, True), (1, True)])
def test_the_share_that_is_tolerated_is_a_bound(max_failed, is_good):
    why = too_many_failed(result(True, True, False, True, status=503), max_failed)
    assert (why is None) == is_good
    assert is_good or "1 of 4 requests failed, the first with 503: no; max_failed is" in why


def test_nothing_failed_is_no_problem():
    assert too_many_failed(result(True), 0) is None
    assert too_many_failed(result(), 0) is None


def test_a_server_at_a_url_that_no_longer_answers_or_was_started_anew(monkeypatch):
    ids = iter(["a", None, "a", "b", "a", "a"])
    monkeypatch.setattr("llada_exp.bench.soundness.health", lambda url: {"instance_id": next(ids)})
    target = Endpoint("http://127.0.0.1:9", False, "m")
    life = ServerLife(target)
    assert "1 of 2 requests failed while the server went" in life.problem(result(True, False))
    assert "it was started anew" in ServerLife(target).problem(result(True, True))
    assert ServerLife(target).problem(result(True, False)) is None, "a request may fail with its server there"
