"""The server's own process: signals under load, a start that fails, full disks, a clock that jumps."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests.server.breakable import breakable_server, left_over, post, processes, wait_for, worker_pid
from tests.server.conftest import FAKE, ROOT

STREAMED = {"stream": True, "seed": 0}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to_group", [False, True], ids=["process", "group"])
def test_a_stop_under_load_answers_running_and_queued_streamed_and_whole(signum, to_group, tmp_path):
    with breakable_server("batch_size=2", "workers=2", folder=tmp_path) as server:
        found = processes(server.pid)
        sent = [server.send(f"slow {i}", stream=i % 2 == 0, seed=0) for i in range(12)]
        server.wait_processing(4)
        os.killpg(server.pid, signum) if to_group else os.kill(server.pid, signum)
        answers = [w.result() for w in sent]
        assert [a.status_code for a in answers] == [200] * 12
        for i, answer in enumerate(answers):
            assert answer.text.endswith("data: [DONE]\n\n") if i % 2 == 0 else f"slow {i} @0" in answer.text
        assert server.wait_end(30) == 0
        assert left_over(found) == []
        assert json.loads((tmp_path / "server.json").read_text())["status"] == "stopped"


@pytest.mark.parametrize("to_group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_under_load_ends_at_once_and_every_client_is_told(second, to_group):
    with breakable_server("batch_size=2") as server:
        found = processes(server.pid)
        sent = [server.send("hang", stream=i % 2 == 0) for i in range(4)]
        server.wait_processing(2)
        assert wait_for(lambda: server.stats()["pending_requests"] == 2)
        send = os.killpg if to_group else os.kill
        send(server.pid, signal.SIGINT)
        assert wait_for(lambda: server.http.get("/health").json()["status"] == "draining")
        send(server.pid, second)
        answers = [w.result() for w in sent]
        assert [a.status_code for a in answers] == [503] * 4
        assert all("stopping" in a.json()["error"]["message"] for a in answers)
        assert server.wait_end(30) == 130
        assert left_over(found) == []


def test_a_stop_while_a_dead_worker_restarts_does_not_wait_for_jobs_that_nobody_will_take():
    with breakable_server("batch_size=2") as server:
        waiting = server.send("hang")
        server.wait_processing(1)
        os.kill(server.pid, signal.SIGTERM)
        assert wait_for(lambda: server.http.get("/health").json()["status"] == "draining")
        os.kill(worker_pid(server.http), signal.SIGKILL)
        assert waiting.result().status_code == 503
        assert server.wait_end(15) == 0, "not after drain_seconds"


def test_a_port_in_use_ends_the_start_and_not_the_server_that_has_it():
    with breakable_server() as server:
        port = server.handle.info["port"]
        done = subprocess.run([*FAKE, f"port={port}"], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert f"port is {port}; it is in use" in done.stderr
        assert post(server.http, "x").status_code == 200


def test_one_of_two_workers_that_does_not_load_ends_the_start_and_leaves_nothing(tmp_path):
    """The flag is set between the first worker's load and the second's."""
    flag = tmp_path / "broken"
    env = {**os.environ, "LLADA_FAKE_SETUP": "1", "LLADA_FAKE_SETUP_FLAG": str(flag)}
    command = [*FAKE, "port=0", "workers=2", f"hydra.run.dir={tmp_path}"]
    process = subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    found = []
    try:
        assert wait_for(lambda: len(processes(process.pid)) >= 4)
        found = processes(process.pid)
        time.sleep(1)
        flag.touch()
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "the model does not load: model.safetensors: found 3 tensors" in told
        assert left_over(found) == []
    finally:
        process.kill()
        process.wait()


def has_worker(pid):
    """Beside the server: the manager, multiprocessing's tracker, the worker. What they share is memory that
    has a name as a file, and is made before the worker."""
    return len(processes(pid)) >= 4


def limit_files(pid, num_bytes):
    """As a full disk: the kernel refuses to write files beyond so many bytes."""
    psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (num_bytes, psutil.RLIM_INFINITY))


def test_a_full_disk_for_the_info_file_is_said_and_does_not_stop_the_server(tmp_path):
    """The file comes when the disk has room again: whoever waits for it need not start over."""
    info = tmp_path / "info.json"
    command = [*FAKE, "port=0", f"server_info={info}", f"hydra.run.dir={tmp_path / 'run'}"]
    env = {**os.environ, "LLADA_FAKE_SETUP": "2"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=env, cwd=ROOT, text=True, **pipes)
    try:
        assert wait_for(lambda: has_worker(process.pid))
        limit_files(process.pid, 10)
        ready = process.stdout.readline()
        assert ready.startswith("ready: http://")
        assert any("cannot be written, will try again" in line for line in process.stderr)
        assert [p.name for p in tmp_path.iterdir()] == ["run"], "no half-written file"
        limit_files(process.pid, psutil.RLIM_INFINITY)
        assert wait_for(info.is_file)
        assert json.loads(info.read_text())["url"] in ready
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(info.read_text())["status"] == "stopped"


def test_a_full_disk_under_the_log_does_not_stop_the_server(tmp_path):
    """`say` and `logging` write there, at the start, at a worker's death and at the end."""
    with (tmp_path / "log").open("w") as log, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        command = [*FAKE, f"port={port}", f"hydra.run.dir={tmp_path / 'run'}"]
        env = {**os.environ, "LLADA_FAKE_SETUP": "2"}
        process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log)
        try:
            assert wait_for(lambda: has_worker(process.pid))
            limit_files(process.pid, 0)
            with own_client(port) as http:
                assert wait_for(lambda: is_ready(http), 60)
                os.kill(worker_pid(http), signal.SIGKILL)
                assert post(http, "x").status_code == 200
        finally:
            process.terminate()
            assert process.wait(30) == 0


def own_client(port):
    import httpx

    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)


def is_ready(http):
    import httpx

    try:
        return http.get("/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("days", [30, -30])
def test_a_clock_that_jumps_changes_nothing(days, tmp_path):
    """Time-outs, heartbeats and waits are counted by a clock that only goes forward."""
    flag = tmp_path / "jump"
    command = (sys.executable, "-m", "tests.server.jumping_serve")
    env = {"LLADA_JUMP_FLAG": str(flag), "LLADA_JUMP_DAYS": str(days)}
    with breakable_server("batch_size=2", "server.hang_seconds=5", command=command, env=env) as server:
        pid = worker_pid(server.http)
        across = [server.send("slow " + "text " * 8, seed=0, stream=s) for s in (True, False)]
        server.wait_processing(2)
        flag.touch()
        assert [w.result().status_code for w in across] == [200, 200]
        answer = post(server.http, "after").json()
        assert abs(answer["created"] - (time.time() + days * 86400)) < 3600, "the clock did jump"
        start = time.monotonic()
        assert post(server.http, "x").status_code == 200
        assert time.monotonic() - start < 5
        assert worker_pid(server.http) == pid
        assert server.http.get("/health").json()["status"] == "ready"
        server.assert_nothing_left()
