"""Clients that leave, or read slowly: their rows are free at once, and nobody else notices."""

import json
import socket
import time

import httpx
import pytest

from tests.server.breakable import CHAT, breakable_server, post, wait_for
from tests.server.conftest import say

LONG = "slow " + "text " * 200


@pytest.fixture(scope="module")
def server():
    with breakable_server("batch_size=4") as own:
        yield own


def leave_before_text(server, stream):
    """Hang up while a job is being decoded that has no text yet; when that was."""
    body = json.dumps(say("hang", stream=stream)).encode()
    with socket.create_connection((server.handle.info["host"], server.handle.info["port"])) as sock:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        server.wait_processing(1)
        return time.monotonic()


def leave_amid_text(server):
    with httpx.stream("POST", server.handle.url + CHAT, json=say(LONG, stream=True), timeout=60) as answer:
        next(answer.iter_lines())
        return time.monotonic()


@pytest.mark.parametrize("how", ["streamed, before text", "streamed, amid text", "not streamed"])
def test_a_client_that_leaves_frees_its_row_within_a_second(server, how):
    before = server.stats()["requests"]["cancelled"]
    aborted = server.engine()["num_aborted"]
    left = leave_amid_text(server) if "amid" in how else leave_before_text(server, how[0] == "s")
    assert wait_for(lambda: server.engine()["num_aborted"] == aborted + 1)
    freed, _ = server.engine()["last_abort"]  # the clock is the machine's, the same in every process
    assert freed - left < 1
    assert server.stats()["requests"]["cancelled"] == before + 1
    server.assert_nothing_left()


def test_a_row_of_a_client_that_left_is_taken_by_the_next(server):
    """All four rows are held by clients that leave: a job that waits for a row gets one."""
    clients = [httpx.Client(base_url=server.handle.url, timeout=0.7) for _ in range(4)]
    held = [server.pool.submit(post, client, "hang") for client in clients]
    server.wait_processing(4)
    waiting = server.send("next", seed=1)
    for job in held:
        with pytest.raises(httpx.ReadTimeout):
            job.result()
    assert waiting.result().json()["choices"][0]["message"]["content"] == "next @1"
    server.assert_nothing_left()


def test_a_client_that_leaves_while_it_is_queued_never_gets_a_row(server):
    held = [server.send("slow " + "text " * 20) for _ in range(4)]
    server.wait_processing(4)
    steps = server.engine()["num_aborted"]
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.handle.url + CHAT, json=say("queued"), timeout=0.3)
    assert [job.result().status_code for job in held] == [200] * 4
    server.assert_nothing_left()
    assert server.engine()["num_aborted"] == steps


def slow_reader(server, body):
    """A connection whose request is sent and whose answer nobody reads yet."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.settimeout(60)
    sock.connect((server.handle.info["host"], server.handle.info["port"]))
    data = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    sock.sendall(head.encode() + data)
    return sock


def read_all(sock, piece=65536, pause=0.0):
    parts = []
    while part := sock.recv(piece):
        parts.append(part)
        time.sleep(pause)
    sock.close()
    return b"".join(parts).decode()


def streamed(raw):
    """The joined text of a raw, chunked event stream, and whether it came to its end."""
    lines = [line[6:] for line in raw.splitlines() if line.startswith("data: ")]
    chunks = [json.loads(line) for line in lines if line != "[DONE]"]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    return text, lines[-1] == "[DONE]" and raw.endswith("0\r\n\r\n")


BIG = "word " * 400
MUCH = say(BIG, stream=True, seed=0, max_tokens=2000, n=8)  # 1 MB of events: no socket buffers so much


def test_a_client_that_reads_slowly_holds_no_row_and_gets_all(server):
    done = server.stats()["requests"]["completed"]
    sock = slow_reader(server, MUCH)
    assert wait_for(lambda: server.stats()["requests"]["completed"] == done + 8)
    assert server.engine()["rows_in_flight"] == 0, "decoding does not wait for the reader"
    assert post(server.http, "meanwhile").status_code == 200
    text, whole = streamed(read_all(sock, 4096, 0.001))
    assert whole
    assert len(text) == 8 * len(BIG)


def test_a_client_that_reads_nothing_and_goes_leaves_nothing(server):
    sock = slow_reader(server, MUCH)
    time.sleep(0.5)
    sock.close()
    server.assert_nothing_left()


def test_a_stop_waits_for_a_slow_reader():
    """Its answer is decoded, but not yet read: cutting it off would be a truncated 200."""
    with breakable_server("batch_size=2") as server:
        sock = slow_reader(server, MUCH)
        assert wait_for(lambda: server.stats()["requests"]["completed"] == 8)
        server.handle.process.terminate()
        time.sleep(3)
        text, whole = streamed(read_all(sock))
        assert whole
        assert len(text) == 8 * 2000
        assert server.wait_end(30) == 0
