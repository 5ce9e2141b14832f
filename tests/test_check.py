"""The check command against real servers: well, without batching, with a key, failing, and absent."""

import json
import os
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llada_exp.check import CheckedEndpoint, check_mixed, run
from llada_exp.clients.sums import CheckedAnswer, expected, judge
from llada_exp.jobs import running_server
from tests import programs
from tests.server.conftest import FAKE


def check(url, *arguments, **env):
    return programs.run("llada_exp.check", url, "--timeout", "60", *arguments, env={**os.environ, **env})


def test_a_server_that_is_well():
    with running_server(["decoding=fast", "batch_size=8"]) as server:
        done = check(f"{server.url}/v1", COLUMNS="500")  # a line each
    assert done.returncode == 0, done.stdout + done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert "status=ready" in lines["health"]
    assert lines["models"] == "llada-tiny"
    assert "6 decoding settings at once, each honoured; 6 texts the same as alone" in lines["mixed"]
    assert re.match(r"16 requests in [\d.]+ s: throughput [\d.]+ requests/s", lines["concurrency"])
    rows = re.fullmatch(r"\d+ steps, ([\d.]+) rows each on average, at most (\d+)", lines["batching"])
    assert 1 < float(rows[1]) <= int(rows[2]) <= 8
    assert "pieces" in lines["streaming"]
    assert "#### " in lines["sample"]
    assert int(re.match(r"(\d+) of 16 sums right", lines["answers"])[1]) >= 13
    assert lines["result"].startswith("ok")


def test_a_cache_that_the_model_has_not_is_not_asked_for(monkeypatch):
    """Prevents a sound server of a block-causal model from failing the check."""
    asked = []

    def read(self, path, body=None):
        if path == "/info":
            return {"workers": {"0": {"caches": ["none", "prefix"]}}}
        asked.append({k: v for k, v in body.items() if k not in ("messages", "max_tokens", "seed")})
        return {"choices": [{"message": {"content": ""}}], "usage": {"completion_tokens": 1},
                "llada": {"decoding": body}}  # fmt: skip

    monkeypatch.setattr(CheckedEndpoint, "read", read)
    assert check_mixed(CheckedEndpoint("http://a:1", None, 1, 8)).startswith("5 decoding settings at once")
    assert {fields.get("cache") for fields in asked} == {None, "prefix"}


def test_a_server_that_does_not_batch_is_found_out():
    """The predecessor guessed it from the latency."""
    with running_server(["batch_size=1", "decoding=fast"]) as server:
        done = check(server.url, "--concurrency", "4")
    assert done.returncode == 1
    assert "no step had more than 1 row: there was no batching" in done.stdout


def test_a_key_is_sent_and_its_absence_told(tmp_path):
    (tmp_path / "key").write_text("sesame")
    with running_server([f"api_key_file={tmp_path / 'key'}", "decoding=fast"]) as server:
        assert check(server.url, LLADA_API_KEY="sesame").returncode == 0
        assert check(server.url, "--api-key-file", str(tmp_path / "key"), LLADA_API_KEY="x").returncode == 0
        refused = check(server.url, LLADA_API_KEY="")
    assert refused.returncode == 1
    assert "answers 401" in refused.stdout
    assert "sesame" not in refused.stdout


def test_a_server_that_fails_while_it_decodes_fails_the_check(monkeypatch):
    """The fake engine's steps raise at this word; health and models are well all the while."""
    monkeypatch.setattr("llada_exp.check.question", lambda i: "crash")
    with running_server(["batch_size=4"], command=FAKE) as server:
        assert run(CheckedEndpoint(server.url, None, 60, 16), 2) == 3


def test_nobody_there_is_said_and_fails():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = check(f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert "/health does not answer" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["localhost:8000"], ["http://x", "--concurrency", "0"]])
def test_wrong_arguments_are_exit_code_2(arguments):
    assert check(*arguments).returncode == 2


class Stranger(BaseHTTPRequestHandler):
    """Another server: OpenAI's shape, no decoding parameters, no /batch/stats, a stream without an end."""

    def do_GET(self):
        known = {"/health": {}, "/v1/models": {"data": [{"id": "other"}]}}
        self.answer(200 if self.path in known else 404, known.get(self.path, {}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body.get("stream"):
            chunk = {"choices": [{"delta": {"content": "x"}, "finish_reason": None}]}
            self.answer(200, None, f"data: {json.dumps(chunk)}\n\n".encode())
        else:
            self.answer(200, {"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": 1}})

    def answer(self, status, tree, data=None):
        data = data or json.dumps(tree).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Roomy(ThreadingHTTPServer):
    """Resets none of the connections that come at once: the library's own queue holds five."""

    request_queue_size = 128


def test_another_kind_of_server_is_told_apart():
    with Roomy(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = check(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.returncode == 1
    assert "mixed       FAILED: asked for {'steps': 16}" in done.stdout
    assert "not known: this server has no /batch/stats" in done.stdout
    assert "[DONE] missing" in done.stdout
    assert "2 of 5 checks failed" in done.stdout


def answers_of(*texts, cut_off=False):
    return [CheckedAnswer(text, 1, 0.1, {}, i, cut_off) for i, text in enumerate(texts)]


def test_a_wrong_sum_is_marked_with_the_right_one():
    right, other, digits, none = answers_of(f"47 + 8 is {expected(0)}.", "#### 5", f"{expected(2)}1", "")
    assert right.is_right
    assert (right.mark(), other.mark()) == ("", f"  WRONG: {expected(1)}")
    assert not digits.is_right
    assert not none.is_right


def test_only_the_embedded_model_is_held_to_its_sums():
    """Of another model nobody here knows what it should know."""
    wrong = answers_of("1", "2", "3", "4")
    words, is_fault = judge(wrong, is_embedded=True)
    assert is_fault
    assert "0 of 4 sums right: the embedded model knows them" in words
    words, is_fault = judge(wrong, is_embedded=False)
    assert not is_fault
    assert "is not known here" in words
    words, is_fault = judge(answers_of("1", "2", cut_off=True), is_embedded=True)
    assert not is_fault
    assert "2 cut off at --max-tokens" in words


class Foreign(BaseHTTPRequestHandler):
    """A sound server of another kind: an empty /health, no counters, no word on the decoding."""

    def do_GET(self):
        self.answer({"/health": b"", "/v1/models": b'{"data": [{"id": "other"}]}'}.get(self.path))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["model"] == "other"
        choice = {"message": {"content": "It is 7."}, "delta": {"content": "It"}, "finish_reason": "stop"}
        text = json.dumps({"choices": [choice], "usage": {"completion_tokens": 3}})
        self.answer(f"data: {text}\n\ndata: [DONE]\n\n".encode() if body.get("stream") else text.encode())

    def answer(self, data):
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_):
        pass


def test_of_another_server_nothing_is_claimed_that_cannot_be_known(capsys):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert run(CheckedEndpoint(f"http://127.0.0.1:{server.server_port}", None, 30, 16), 4) == 1
    finally:
        server.shutdown()
    said = capsys.readouterr().out
    assert "mixed       FAILED: asked for" in said, "no word on what it used"
    assert "batching    not known" in said
    assert "WRONG" in said
    assert re.search(r"result +1 of 5 checks failed; \d of 4 sums are wrong: see answers", said)
