"""What a connection may cost before anybody knows whose it is: bytes, time, descriptors."""

import json
import socket
import threading
import time
from contextlib import suppress

import pytest
from fastapi import FastAPI, Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llada_exp.server.processes import connections as module
from llada_exp.server.processes.connections import MAX_HEAD, MAX_PIPELINED
from llada_exp.server.processes.http_thread import HttpThread
from llada_exp.server.processes.listening import bind

READ_S = 1.0
MAX_CONNECTIONS = 8
HEAD = b"POST /echo HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module")
def address():
    app = FastAPI()

    @app.post("/echo")
    async def echo(http: Request):
        return len(await http.body())

    sock = bind("127.0.0.1", 0)
    http = HttpThread(app, sock, MAX_CONNECTIONS, READ_S)
    yield sock.getsockname()
    http.stop()
    http.join(10)


def connected(address):
    return socket.create_connection(address, timeout=10)


def reply(sock):
    """(status, body) of a response that ends with the connection, or None where it ended without one."""
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    if not data:
        return None
    status, _, rest = data.rpartition(b"HTTP/1.1 ")[2].partition(b" ")  # the last one's
    return int(status), json.loads(rest.partition(b"\r\n\r\n")[2])


def sent(address, *pieces):
    with connected(address) as sock:
        for piece in pieces:
            try:
                sock.sendall(piece)
            except ConnectionError:
                break
        return reply(sock)


def whole(body=b"", *headers):
    lines = [b"content-length: %d" % len(body), b"connection: close", *headers]
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def test_a_request_within_the_bounds_is_answered(address):
    assert sent(address, whole(b"x" * 300_000, b"a: " + b"b" * (MAX_HEAD - 500))) == (200, 300_000)
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [b"x" * 9] * 20_000) + b"0\r\n\r\n"
    head = HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    assert sent(address, head, chunked) == (200, 180_000)


def test_a_body_in_chunks_of_a_byte_is_handed_over_in_few_pieces(address, monkeypatch):
    """Prevents a copy of all that came before for each byte: a second's work for every 256 kB."""
    sizes = []
    hand_over = HttpToolsProtocol.on_body

    def counted(self, body):
        sizes.append(len(body))
        hand_over(self, body)

    monkeypatch.setattr(HttpToolsProtocol, "on_body", counted)
    head = HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    assert sent(address, head, b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n") == (200, 50_000)
    assert len(sizes) < 1000


def test_requests_are_not_piled_up_on_a_connection(address):
    """A few may follow one another without a wait; thousands at once are thousands of tasks."""
    one = HEAD + b"content-length: 1\r\n\r\nx"
    assert sent(address, one * 50 + whole(b"xyz")) == (200, 3)
    with connected(address) as sock:
        sock.sendall(one * 5000)
        data = b""
        with suppress(ConnectionResetError):
            while chunk := sock.recv(65536):  # to its end: the connection is closed
                data += chunk
    assert data.count(b"HTTP/1.1 200") <= MAX_PIPELINED


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD + b"a: " + b"b" * 70_000 + b"\r\n\r\n",),
        (HEAD, *[b"a: b\r\n" * 500 for _ in range(40)], b"\r\n"),
        (HEAD + b"a: ", *[b"b" * 2**16] * 128),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",),
        (b"GET /", *[b"x" * 2**16] * 128),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n5;", *[b"x" * 2**16] * 16),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", *[b"a: " + b"b" * 9_000 + b"\r\n"] * 20),
    ],
    ids=["a header", "many", "one without end", "a path", "one without end", "a chunk's name", "trailers"],
)
def test_a_head_of_more_than_64_kib_is_a_431_however_it_comes(address, pieces):
    """Prevents what there was: a header of 192 MB was read for 50 s, before any key was looked at."""
    status, body = sent(address, *pieces)
    assert status == 431
    assert set(body["error"]) == {"message", "type", "param", "code"}


def trickled(address, start, piece):
    """What becomes of a client that goes on sending so little."""
    with connected(address) as sock:
        ended = threading.Event()

        def send():
            try:
                sock.sendall(start)
                while not ended.wait(0.05):
                    sock.sendall(piece)
            except OSError:
                pass

        thread = threading.Thread(target=send)
        thread.start()
        try:
            return reply(sock)
        except ConnectionResetError:
            return None
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    "start",
    [
        b"POST /",
        HEAD + b"a: ",
        HEAD + b"content-length: 1000000\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nfffff\r\n",
        HEAD + b"content-length: 2\r\n\r\n12" + HEAD + b"a: ",
    ],
    ids=["line", "headers", "body", "chunks", "second request"],
)
def test_a_client_that_sends_slowly_is_cut_off_and_told(address, start):
    with connected(address) as sock:
        sock.sendall(start)
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    assert b"HTTP/1.1 408 Request Timeout" in data
    answer = trickled(address, start, b"x")
    assert answer is None or answer[0] == 408


def test_bytes_that_are_no_request_do_not_keep_a_connection(address):
    start = HEAD + b"content-length: 2\r\n\r\nxy"
    assert trickled(address, start, b"\r\n") == (200, 2), "and then its end"


def test_a_large_body_has_more_time_than_a_small_one(address, monkeypatch):
    monkeypatch.setattr(module, "BODY_PACE", 100)
    with connected(address) as sock:
        sock.sendall(HEAD + b"content-length: 2000\r\nconnection: close\r\n\r\n")
        for _ in range(20):
            sock.sendall(b"x" * 100)
            time.sleep(READ_S / 6)
        assert reply(sock) == (200, 2000)


def test_of_too_many_connections_the_longest_idle_is_closed(address):
    """Clients that only connect leave no room for those that ask: descriptors are few."""
    with connected(address) as asking:
        asking.sendall(HEAD + b"content-length: 2\r\nconnection: close\r\n\r\n1")
        idle = [connected(address) for _ in range(3 * MAX_CONNECTIONS)]
        try:
            assert sent(address, whole(b"xyz")) == (200, 3)
            asking.sendall(b"2")
            assert reply(asking) == (200, 2), "it is at work, not idle"
        finally:
            for sock in idle:
                sock.close()
