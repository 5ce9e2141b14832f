"""What clients get when things break, from the real server around an engine that fails when told to."""

import asyncio
import json
import os
import signal
import subprocess
import threading
import time

import httpx
import openai
import psutil
import pytest

from llada_exp.jobs import ServerFailed, running_server
from tests.server.breakable import CHAT, breakable_server, left_over, post, processes, wait_for, worker_pid
from tests.server.conftest import FAKE, ROOT, say


def test_a_step_that_raises_is_a_real_500_and_the_server_goes_on(fake_http):
    answer = post(fake_http, "crash")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert post(fake_http, "fine").status_code == 200


def test_a_stream_that_fails_before_its_first_text_has_a_real_status(fake_http):
    assert post(fake_http, "crash", stream=True).status_code == 500


def test_a_stream_that_fails_later_ends_in_an_error_that_clients_raise(fake):
    """LitServe's own spec ends the openai client's stream with no exception and no text."""
    client = openai.OpenAI(base_url=f"{fake.url}/v1", api_key="x", max_retries=0, timeout=20)
    stream = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "slow " + "text " * 40}], stream=True
    )
    next(stream)
    threading.Thread(target=httpx.post, args=(fake.url + CHAT,), kwargs={"json": say("crash")}).start()
    with pytest.raises(openai.APIError, match="the model failed"):
        list(stream)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_any_text_frees_its_row(fake_http, fake, stream):
    before = fake_http.get("/batch/stats").json()["requests"]["cancelled"]
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(fake.url + CHAT, json=say("hang", stream=stream), timeout=0.6)

    def freed():
        stats = fake_http.get("/batch/stats").json()
        rows = stats["workers"][0]["engine"]["rows_in_flight"]
        return rows == 0 and stats["requests"]["cancelled"] == before + 1

    assert wait_for(freed, 2.0)


def test_a_client_that_leaves_amid_a_stream_frees_its_row(fake_http, fake):
    body = say("slow " + "text " * 100, stream=True)
    with httpx.stream("POST", fake.url + CHAT, json=body, timeout=10) as answer:
        next(answer.iter_lines())
    stats = lambda: fake_http.get("/batch/stats").json()  # noqa: E731
    assert wait_for(lambda: stats()["workers"][0]["engine"]["rows_in_flight"] == 0, 2.0)


def test_512_requests_at_once_are_queued_and_answered(fake):
    """NeMo-Skills sends so many, and one error ends its whole run. Bare sockets: a pool of httpx spends
    20 ms of CPU on each of so many connections."""

    async def ask(text):
        reader, writer = await asyncio.open_connection(fake.info["host"], fake.info["port"])
        body = json.dumps(say(text, seed=1)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        return json.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"]

    async def ask_all():
        return await asyncio.wait_for(asyncio.gather(*[ask(f"number {i}") for i in range(512)]), 60)

    texts = asyncio.run(ask_all())
    assert texts == [f"number {i} @1" for i in range(512)]


def test_kill_of_a_busy_worker_is_a_503_and_the_next_request_is_answered():
    with breakable_server("batch_size=4") as server:
        http = server.http
        waiting = [server.send("hang"), server.send("hang", stream=True)]
        server.wait_processing(2)
        killed = time.monotonic()
        os.kill(worker_pid(http), signal.SIGKILL)
        answers = [w.result() for w in waiting]
        assert time.monotonic() - killed < 2
        assert [a.status_code for a in answers] == [503, 503]
        assert answers[0].json()["error"]["type"] == "server_error"
        assert post(http, "after").json()["choices"][0]["message"]["content"].startswith("after")
        assert http.get("/health").json()["status"] == "ready"


def test_a_request_that_an_idle_killed_worker_swallowed_is_answered():
    """A dead worker's last `get` is still served by the queue's process, and takes an item with it."""
    with breakable_server("batch_size=4") as server:
        http = server.http
        for _ in range(2):
            os.kill(worker_pid(http), signal.SIGKILL)
            assert post(http, "anybody there").status_code == 200


def test_a_worker_whose_steps_keep_failing_is_replaced():
    with breakable_server("batch_size=1") as server:
        http = server.http
        pid = worker_pid(http)
        assert [post(http, "crash").status_code for _ in range(3)] == [500] * 3
        assert post(http, "fine").status_code == 200
        assert worker_pid(http) != pid


def test_while_draining_new_requests_are_refused_and_health_says_so():
    with breakable_server() as server:
        http = server.http
        waiting = server.send("slow " + "text " * 20)
        server.wait_processing(1)
        os.kill(server.pid, signal.SIGTERM)
        assert wait_for(lambda: http.get("/health").status_code == 503)
        assert http.get("/health").json()["status"] == "draining"
        refused = post(http, "late")
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert waiting.result().status_code == 200


def test_the_drain_has_a_limit():
    with breakable_server("server.drain_seconds=0.5") as server:
        waiting = server.send("hang")
        server.wait_processing(1)
        os.kill(server.pid, signal.SIGTERM)
        assert waiting.result().status_code == 503
        assert server.wait_end(10) == 0


def test_a_killed_server_takes_its_processes_along():
    with breakable_server() as server:
        found = processes(server.pid)
        assert len(found) >= 3
        os.kill(server.pid, signal.SIGKILL)
        server.wait_end(5)
        assert left_over(found[1:]) == []


def test_a_model_that_does_not_load_is_one_line_and_a_failure(tmp_path):
    with (
        pytest.raises(ServerFailed, match="found 3 tensors, expected 5") as caught,
        running_server(command=FAKE, folder=tmp_path, env={"LLADA_FAKE_SETUP": "fail"}),
    ):
        pass
    assert "exit code 1" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not (tmp_path / "server.json").exists()


def test_while_the_model_loads_health_says_starting(tmp_path):
    command = [*FAKE, "port=0", f"hydra.run.dir={tmp_path}"]
    port = 0
    process = subprocess.Popen(command, env={**os.environ, "LLADA_FAKE_SETUP": "30"}, cwd=ROOT)
    try:
        assert wait_for(lambda: listening(process.pid), 20)
        port = listening(process.pid)[0]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            assert http.get("/health").status_code == 503
            assert http.get("/health").json()["status"] == "starting"
            assert http.get("/v1").json() == {"status": "starting"}
            assert post(http, "early").status_code == 503
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0, "a stop while starting is a clean stop"
    finally:
        process.kill()
        process.wait()


def test_who_waits_with_put_has_an_answer_once_requests_are_taken(tmp_path):
    """NeMo-Skills waits for any answer to PUT, then asks; the first error ends its run."""
    command = [*FAKE, "port=0", f"hydra.run.dir={tmp_path}"]
    process = subprocess.Popen(command, env={**os.environ, "LLADA_FAKE_SETUP": "3"}, cwd=ROOT)
    try:
        assert wait_for(lambda: listening(process.pid), 20)
        port = listening(process.pid)[0]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            assert http.get("/v1").json() == {"status": "starting"}
            assert http.put("/").json() == {"status": "ready"}
            assert post(http, "early").status_code == 200
            assert http.put("/v1").json() == {"status": "ready"}
    finally:
        process.kill()
        process.wait()


def listening(pid):
    connections = psutil.Process(pid).net_connections(kind="tcp")
    return [c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN]


def test_a_lone_request_waits_for_company_as_long_as_it_is_told():
    with breakable_server("max_wait_time=1.0") as server:
        start = time.monotonic()
        assert server.send("x").result().status_code == 200
        assert 1.0 <= time.monotonic() - start < 2.0


def test_a_model_that_does_not_load_again_ends_the_server(tmp_path):
    """Requests would wait for ever for a worker that never comes."""
    flag = tmp_path / "broken"
    with breakable_server(env={"LLADA_FAKE_SETUP_FLAG": str(flag)}) as server:
        waiting = server.send("hang")
        server.wait_processing(1)
        flag.touch()
        os.kill(worker_pid(server.http), signal.SIGKILL)
        assert waiting.result().status_code == 503
        assert server.wait_end(20) == 1
        assert "no worker is left" in server.handle.log.read_text()
