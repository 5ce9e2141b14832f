"""W&B mirrors rows, and its failures and absences cost no measurement."""

import http.server
import json
import subprocess
import sys
import threading
from functools import partial

import pytest

from llada_exp.bench.client import LoadResult, RequestRecord
from llada_exp.bench.rows import PointFolder
from llada_exp.bench.tracking import content
from llada_exp.runs import tracking
from llada_exp.runs.settings import Tracking
from tests import wandb_log
from tests.bench.conftest import bench

ONLINE = Tracking("online", "project", None, False)
KEY = "k" * 40


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no"))


def finished(folder):
    """A point on disk, as it is when tracking begins."""
    folder.mkdir(parents=True)
    point = PointFolder(folder)
    record = RequestRecord(
        0, 0.0, 0.1, 0.5, True, ttft_ms=9.0, e2el_ms=400.0, prompt="SECRET QUESTION", text="SECRET TEXT"
    )
    row = {"point": folder.name, "sweep": "a-sweep", "median_e2el_ms": 400.0, "output_throughput": 5.0}
    return point.finish(row), [LoadResult([record], 0.5, [0.1])]


def track(folder, log_text=False, mode="offline"):
    row, results = finished(folder)
    logged = partial(content, folder, row, results, log_text)
    tracking.mirror(
        Tracking(mode, "project", None, log_text), folder, row, "bench", {"batch_size": 4}, logged
    )
    return row


def test_an_offline_run_holds_the_row_and_no_text_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("LLADA_API_KEY", "SECRET KEY")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    folder = tmp_path / "sweep" / "000_a"
    track(folder)
    kept = wandb_log.content(folder, b"histogram/e2el_ms")
    for word in (b"a-sweep", b"000_a", b"median_e2el_ms", b"histogram/e2el_ms", b"requests", b"bench"):
        assert word in kept, word
    assert b"SECRET" not in kept
    assert KEY.encode() not in kept
    assert list(folder.glob("wandb/offline-run-*/files/media/images/*.png"))
    (table,) = folder.glob("wandb/offline-run-*/files/media/table/*.json")
    assert "e2el_ms" in json.loads(table.read_text())["columns"]


def test_text_is_logged_where_it_is_asked_for(tmp_path):
    track(tmp_path / "p", log_text=True)
    assert b"SECRET QUESTION" in wandb_log.content(tmp_path / "p", b"SECRET QUESTION")


def test_wandb_would_sync_the_offline_run(tmp_path):
    folder = tmp_path / "p"
    track(folder)
    (run,) = folder.glob("wandb/offline-run-*")
    done = subprocess.run([sys.executable, "-m", "wandb", "sync", "--dry-run", str(run)], capture_output=True,
                          text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0
    assert "Would sync 1 run(s)" in done.stdout + done.stderr


def test_disabled_writes_nothing(tmp_path):
    track(tmp_path / "p", mode="disabled")
    assert not (tmp_path / "p" / "wandb").exists()


def test_online_without_a_key_is_refused_before_anything_is_measured(tmp_path):
    done = bench("tracking=online", "name=one", cwd=tmp_path)
    assert done.returncode == 2
    assert "set WANDB_API_KEY" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "outputs" / "bench" / "one" / "status.json").exists()


def test_a_sweep_online_without_a_key_is_refused_too(tmp_path):
    done = bench("-m", "tracking=online", "concurrency=1,2", cwd=tmp_path)
    assert done.returncode == 2
    assert "set WANDB_API_KEY" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_key_in_netrc_is_a_key(no_key, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="no W&B key"):
        tracking.check(ONLINE)
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    tracking.check(ONLINE)


def test_a_network_that_fails_is_a_warning_and_the_run_is_written_offline(
    no_key, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    tracking.check(ONLINE)
    assert "W&B does not answer" in capsys.readouterr().err
    track(tmp_path / "p", mode="online")
    assert "upload later: wandb sync" in capsys.readouterr().err
    assert b"a-sweep" in wandb_log.content(tmp_path / "p", b"a-sweep")


def test_a_host_that_takes_the_call_and_says_nothing_is_given_up(no_key, monkeypatch, capsys):
    import socket

    monkeypatch.setattr(tracking, "REACH_S", 0.3)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        tracking.check(ONLINE)
    assert "timed out" in capsys.readouterr().err
    assert tracking.REACH_S < 15


def test_a_server_that_refuses_the_upload_is_a_warning(no_key, monkeypatch, tmp_path, capsys):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def do_POST(self):
            self.send_error(401)

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(tracking, "UPLOAD_S", 20.0)
    try:
        track(tmp_path / "p", mode="online")
    finally:
        server.shutdown()
        server.server_close()
    assert "wandb sync" in capsys.readouterr().err


def test_a_failure_inside_wandb_is_a_warning(monkeypatch, tmp_path, capsys):
    import wandb

    def fail(**settings):
        raise RuntimeError("no disk")

    monkeypatch.setattr(wandb, "init", fail)
    track(tmp_path / "p")
    assert "W&B has failed (RuntimeError: no disk)" in capsys.readouterr().err
