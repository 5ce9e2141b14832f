"""The relay: what a harness sees through it, and what it writes down."""

import asyncio
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import httpx
import pytest

from llada_exp.clients.pool import Pool
from llada_exp.clients.relay import MAX_BODY, relay
from llada_exp.jobs import running_server
from tests.pool.scripted import FAST, PATH, Scripted, die, hang, ok, status
from tests.server.conftest import FAKE, say

KINDS = {"key": None, "timeout_s": 20, "max_retries": 2, "patience_s": 0.5, "tell": lambda line: None,
         "pace": FAST}  # fmt: skip


@contextmanager
def running(*servers):
    """Scripted servers in a thread of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async def each(name):
        for server in servers:
            await getattr(server, name)()

    wait(each("start"))
    try:
        yield [server.url for server in servers]
    finally:
        wait(each("close"))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@contextmanager
def relayed(*servers, record=None, **changes):
    with (
        running(*servers) as urls,
        relay(Pool(urls, **KINDS | changes), record) as own,
        httpx.Client(base_url=own.url, timeout=30) as http,
    ):
        yield own, http


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_until(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_it_tries_again_for_a_harness_that_knows_one_address(tmp_path):
    first, second = Scripted(status(500), die), Scripted(default=ok())
    with relayed(first, second, record=tmp_path / "r") as (own, http), ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda i: http.post(PATH, json={"n": i}), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert [answer.json()["n"] for answer in answers] == list(range(8))
    assert own.error is None
    assert sorted(line["body"]["n"] for line in lines(tmp_path / "r")) == list(range(8))
    assert {line["status"] for line in lines(tmp_path / "r")} == {200}


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_other_requests_go_through_as_they_are(method):
    server = Scripted(default=status(500, "# no JSON"))
    server.health = server.default
    with relayed(server) as (_, http):
        answer = http.request(method, "/metrics?name=a%20b", json={})
    assert (answer.status_code, answer.text, len(server.bodies)) == (500, "# no JSON", method == "POST")


def test_the_servers_own_unreadiness_is_no_failure_of_the_relay():
    server = Scripted()
    server.health = status(503, Retry_After="7")
    with relayed(server) as (own, http):
        answer = http.get("/health")
    assert (answer.status_code, answer.headers["Retry-After"], own.error) == (503, "7", None)


@pytest.mark.parametrize("code", [400, 401, 404, 500])
def test_failures_keep_status_and_body(code, tmp_path):
    with relayed(Scripted(default=status(code)), record=tmp_path / "r", max_retries=0) as (_, http):
        answer = http.post(PATH, json=say("hello"))
    assert (answer.status_code, answer.json()["error"]["message"]) == (code, f"told to say {code}")
    (line,) = lines(tmp_path / "r")
    assert (line["status"], line["error"]["message"]) == (code, f"told to say {code}")


def test_no_answer_is_a_502_in_the_same_shape(tmp_path):
    with relayed(Scripted(default=hang), record=tmp_path / "r", timeout_s=0.2, max_retries=0) as (_, http):
        answer = http.post(PATH, json={})
    assert answer.status_code == 502
    assert answer.json()["error"]["message"] == "no whole answer within 0.2 s"
    assert lines(tmp_path / "r")[0]["status"] == 0


def test_a_stream_is_refused_with_the_reason():
    server = Scripted()
    with relayed(server) as (_, http):
        answer = http.post(PATH, json={"stream": True})
        assert http.post(PATH, json={"stream": False}).status_code == 200
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "stream=false" in answer.json()["error"]["message"]
    assert len(server.bodies) == 1


def test_the_key_is_the_relays_and_not_the_harness_s():
    server = Scripted()
    with relayed(server, key="ours") as (_, http):
        http.post(PATH, json={}, headers={"Authorization": "Bearer EMPTY"})
    assert server.headers[0]["Authorization"] == "Bearer ours"


def test_a_client_that_leaves_takes_its_request_from_the_server(tmp_path):
    server = Scripted(default=hang)
    with relayed(server, record=tmp_path / "r") as (_, http):
        with pytest.raises(httpx.ReadTimeout):
            http.post(PATH, json={}, timeout=0.3)
        wait_until(lambda: server.num_left == 1)
        wait_until(lambda: (tmp_path / "r").read_text())
    (line,) = lines(tmp_path / "r")
    assert (line["status"], line["url"], line["error"]) == (499, None, {"message": "the client went"})


def test_a_relay_that_is_left_waits_for_nobody_and_says_so(tmp_path):
    server = Scripted(default=hang)
    with ThreadPoolExecutor(1) as threads:
        with relayed(server, record=tmp_path / "r") as (own, _):
            asking = threads.submit(httpx.post, own.url + PATH, json={}, timeout=30)
            wait_until(lambda: server.bodies)
        assert isinstance(asking.exception(20), httpx.TransportError)
    assert [line["error"] for line in lines(tmp_path / "r")] == [{"message": "the relay stopped"}]


def test_once_the_servers_are_gone_everything_is_refused_at_once(tmp_path):
    server = Scripted(die)
    with relayed(server, record=tmp_path / "r") as (own, http):
        first = http.post(PATH, json={})
        rest = [http.post(PATH, json={}), http.get("/health"), http.get("/v1/models")]
    assert {answer.status_code for answer in (first, *rest)} == {503}
    assert own.error == f"no server took requests for 0.5 s: {server.url}: connection refused"
    assert {answer.json()["error"]["message"] for answer in (first, *rest)} == {own.error}
    assert lines(tmp_path / "r")[0]["error"] == {"message": own.error}


def test_the_death_of_an_own_server_is_told_while_requests_hang():
    words = []
    with relayed(Scripted(default=hang), alive=lambda: (words or [None])[0]) as (own, http):
        with ThreadPoolExecutor(1) as threads:
            asking = threads.submit(http.post, PATH, json={})
            words.append("the server's process ended with exit code 1")
            assert asking.result(20).status_code == 503
        assert own.error == words[0]


def test_512_at_once_are_none_too_many(tmp_path):
    # As a harness of others sends them; each takes two connections here.
    server = Scripted(default=ok(0.5))

    async def work(address):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

            async def ask(i):
                async with http.post(address + PATH, json={"n": i}) as answer:
                    return answer.status, (await answer.json())["n"]

            return await asyncio.gather(*map(ask, range(512)))

    with relayed(server, record=tmp_path / "r") as (own, _):
        answers = asyncio.run(work(own.url))
    assert answers == [(200, i) for i in range(512)]
    assert len(lines(tmp_path / "r")) == 512


def test_bodies_may_be_large_and_no_larger():
    patient = {"pace": replace(FAST, health=30), "timeout_s": 60, "patience_s": 60}
    with relayed(Scripted(), **patient) as (_, http):  # whose /health waits while it reads so much
        http.timeout = 120
        assert http.post(PATH, json={"n": "x" * (60 * 2**20)}).status_code == 200
        too_large = http.post(PATH, content=b" " * (MAX_BODY + 1))
    assert too_large.status_code == 413
    assert "error" in too_large.json()


@pytest.mark.parametrize("content", [b"", b"{broken", b"[]", b"\xff\xfe", b'"\\ud800"', b"[" * 50_000])
def test_bodies_that_are_no_requests_are_the_servers_to_refuse(content, tmp_path):
    with relayed(Scripted(default=status(400)), record=tmp_path / "r") as (own, http):
        answer = http.post(PATH, content=content)
        assert (answer.status_code, own.error) == (400, None)
    assert len(lines(tmp_path / "r")) == 1


@pytest.mark.parametrize("choices", ["no", 3, None, [3, None, {}], [{"message": "no"}]])
def test_answers_of_any_shape_are_written_down(choices, tmp_path):
    text = json.dumps({"choices": choices})
    with relayed(Scripted(default=status(200, text)), record=tmp_path / "r") as (_, http):
        assert http.post(PATH, json={}).json() == {"choices": choices}
    assert lines(tmp_path / "r")[0]["status"] == 200


def test_a_record_is_appended_to_and_a_torn_line_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "there" / "r"
    for before in ("", '{"whole": 1}\n', '{"whole": 1}\n{"torn'):
        path.parent.mkdir(exist_ok=True)
        path.write_text(before)
        with relayed(Scripted(), record=path) as (_, http):
            http.post(PATH, json={"n": 1})
        *old, new = path.read_text().splitlines()
        assert old == before.splitlines()
        assert json.loads(new)["body"] == {"n": 1}


def test_a_record_that_cannot_be_written_ends_it():
    # Scores would stand on requests that nobody can look up.
    with relayed(Scripted(), record=Path("/dev/full")) as (own, http):
        http.post(PATH, json={})
        assert http.post(PATH, json={}).status_code == 503
        assert "No space left" in own.error


def test_it_leaves_no_thread_and_no_port_behind():
    before = threading.active_count()
    with relay(Pool(["http://127.0.0.1:9"], **KINDS)) as own:
        port = int(own.url.rpartition(":")[2])
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.fixture(scope="module")
def own_server():
    with running_server(["batch_size=4"], command=FAKE, start_timeout_s=120) as handle:
        yield handle


def test_what_our_server_says_that_it_used_is_written_down(own_server, tmp_path):
    body = say("hello", seed=7, threshold=0.8, block_length=16, max_tokens=8, n=2)
    with (
        relay(Pool([own_server.url], **KINDS), tmp_path / "r") as own,
        httpx.Client(base_url=own.url, timeout=30) as http,
    ):
        direct = httpx.post(own_server.url + PATH, json=body).json()
        through = http.post(PATH, json=body)
        assert http.get("/v1/models").json() == httpx.get(own_server.url + "/v1/models").json()
        assert http.put("/v1").status_code == http.get("/health").status_code == 200
        assert http.get("/batch/stats").json()["max_batch_size"] == 4
        refused = http.post(PATH, json=say("hello", treshold=0.8))
    assert through.json()["choices"] == direct["choices"]
    good, bad = lines(tmp_path / "r")
    assert good["body"] == body
    assert (good["llada"]["seed"], good["llada"]["decoding"]["threshold"]) == (7, 0.8)
    assert good["usage"] == direct["usage"]
    assert good["texts"] == [choice["message"]["content"] for choice in direct["choices"]]
    assert good["finish_reasons"] == [choice["finish_reason"] for choice in direct["choices"]]
    assert (good["status"], good["url"], good["attempts"], good["error"]) == (200, own_server.url, 1, None)
    assert refused.status_code == bad["status"] == 400
    assert "threshold" in bad["error"]["message"]
