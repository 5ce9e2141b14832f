"""How we talk to servers: one key, one kind of error, no proxy. (tests/clients is of clients of others.)"""

import asyncio
import http.server
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from llada_exp import check
from llada_exp.bench.client import run_load
from llada_exp.bench.settings import Load
from llada_exp.bench.workload import Prompt
from llada_exp.clients.http import (
    KEY_VARIABLE,
    RequestFailed,
    base_url,
    environment_key,
    get_json,
    health,
    no_proxy,
    open_url,
)
from llada_exp.clients.pool import Pool
from llada_exp.jobs.endpoint import PublishedEndpoint
from llada_exp.runs.probe import batch_stats
from llada_exp.runs.servers import served_model
from tests.evals.endpoint import completion, endpoint

ROOT = Path(__file__).parents[1]
LOAD = Load(concurrency=1, rate=None, arrival="poisson", burst_size=4, num_requests=1, duration=None,
            warmup=0, repeats=1, stream=False, timeout=30)  # fmt: skip


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def answering(status, data=b"", headers=None, length=None):
    """A server that answers every request so; yields its URL and the headers that came."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers)
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(length or len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://a", "http://", "http:///", "http://a:b", 3, None]
)
def test_a_url_that_is_none_is_named(url):
    with pytest.raises(ValueError, match=r"address is .*expected http://HOST:PORT"):
        base_url(url, "address")


def test_a_url_may_end_as_users_write_it_and_holds_no_password():
    assert {base_url(f"http://a:1{end}") for end in ("", "/", "/v1", "/v1/", " ")} == {"http://a:1"}
    with pytest.raises(ValueError, match=f"the key belongs in {KEY_VARIABLE}"):
        base_url("http://me:secret@a:1")


@pytest.mark.parametrize(
    ("key", "sent"),
    [("sesame", "Bearer sesame"), ("ключ", "Bearer " + "ключ".encode().decode("latin-1")), (None, None)],
)
def test_the_key_goes_along_as_the_server_compares_it(key, sent):
    with answering(200, b'{"a": 1}') as (url, seen):
        assert get_json(url, key=key) == {"a": 1}
    assert seen[0].get("Authorization") == sent


def test_the_environments_key_is_without_the_line_end_of_its_file(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "sesame\n")
    assert environment_key() == "sesame"
    monkeypatch.setenv(KEY_VARIABLE, "  ")
    assert environment_key() is None


FAULTS = [
    ({"status": 401, "data": b'{"error": "no"}'}, "answers 401: {\"error\": \"no\"}", 401),
    ({"status": 302, "headers": {"Location": "http://elsewhere/"}}, "answers 302: http://elsewhere/", 302),
    ({"status": 200, "data": b"<html>"}, "answers no JSON: b'<html>'", 200),
    ({"status": 200, "data": b"[", "length": 9}, "does not answer to its end: ", None),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "reason", "status"), FAULTS)
def test_whatever_goes_wrong_is_one_error_that_names_url_and_reason(fault, reason, status):
    with answering(**fault) as (url, _), pytest.raises(RequestFailed, match=re.escape(reason)) as caught:
        get_json(f"{url}/v1/models")
    assert str(caught.value).startswith(f"{url}/v1/models ")
    assert caught.value.status == status


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://[::1", "http://name.invalid", "nonsense"])
def test_nobody_there_is_the_same_error(url):
    with pytest.raises(RequestFailed, match="does not answer: "):
        open_url(url.format(port=closed_port()), timeout_s=20)


def test_a_key_that_no_header_can_hold_is_not_shown():
    """http.client quotes the header that it refuses."""
    with pytest.raises(RequestFailed) as caught:
        open_url("http://127.0.0.1:1", key="ses\name")
    assert "ses" not in str(caught.value)


def test_health_is_read_whatever_its_status_and_empty_where_there_is_none():
    with answering(503, b'{"status": "starting"}') as (url, _):
        assert health(url) == {"status": "starting"}
    for data in (b"", b"[1]", b"<html>"):
        with answering(200, data) as (url, _):
            assert health(url) == {}
    assert health(f"http://127.0.0.1:{closed_port()}") == {}


@pytest.fixture
def dead_proxy(monkeypatch):
    """Every proxy variable names a port at which nobody listens, and no host is excepted."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        for own in (name, name.upper()):
            monkeypatch.setenv(own, f"http://127.0.0.1:{closed_port()}")
    for own in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(own, raising=False)


def test_no_tool_of_ours_goes_through_a_proxy(dead_proxy):
    """Prevents one tool from reaching a node of the cluster and the next one not (`check` once)."""
    with endpoint(lambda body: completion("#### 55")) as own:
        with pytest.raises(urllib.error.URLError):
            # Else the test shows nothing. Not urlopen, whose opener may be of an earlier test's environment.
            urllib.request.build_opener().open(own.url, timeout=10)
        assert check.check_models(check.CheckedEndpoint(own.url, None, 10, 16)) == "toy"
        assert check.CheckedEndpoint(own.url, None, 10, 16).ask(0).text == "#### 55"
        assert served_model(own.url, None) == "toy"
        assert batch_stats(own.url)["status"] == "ready"
        info = {"url": own.url, "status": "ready", "instance_id": "1", "job_id": "1"}
        assert PublishedEndpoint(Path(), info).health() == "ready"
        prompt = Prompt(({"role": "user", "content": "47 + 8"},), expected="55")
        assert [r.correct for r in run_load(own.url, iter([prompt]), LOAD, {}, seed=0).records] == [True]

        async def ask():
            async with Pool([own.url], key=None, timeout_s=10, max_retries=0, patience_s=1) as pool:
                return await pool.post("/v1/chat/completions", {})

        assert asyncio.run(ask()).status == 200


def test_programs_of_others_reach_this_machine_without_a_proxy():
    assert no_proxy({})["NO_PROXY"] == "localhost,127.0.0.1,::1"
    assert no_proxy({"NO_PROXY": "a,localhost"})["no_proxy"] == "a,localhost,127.0.0.1,::1"
    both = no_proxy({"NO_PROXY": "a, b", "no_proxy": "b,c"})
    assert both == dict.fromkeys(("no_proxy", "NO_PROXY"), "b,c,a,localhost,127.0.0.1,::1")


def test_the_keys_variable_is_spelled_in_one_place_of_the_code():
    spelled = [
        path.relative_to(ROOT)
        for folder in ("llada_exp", "benchmarks", "hydra_plugins")
        for path in (ROOT / folder).rglob("*.py")
        if f'"{KEY_VARIABLE}"' in path.read_text() or f" {KEY_VARIABLE}" in path.read_text()
    ]
    assert spelled == [Path("llada_exp/clients/http.py")]


def test_http_is_spoken_in_one_place_of_the_code():
    """W&B's own address is another's, and obeys the environment."""
    speaking = {
        str(path.relative_to(ROOT))
        for folder in ("llada_exp", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"urlopen|build_opener|ClientSession\(", path.read_text())
    }
    assert speaking == {
        "llada_exp/clients/http.py",
        "llada_exp/clients/session.py",
        "llada_exp/runs/tracking.py",
    }


def test_a_body_goes_as_json():
    with (
        endpoint(lambda body: completion("x")) as own,
        open_url(f"{own.url}/v1/completions", body={"prompt": "ä"}) as response,
    ):
        assert json.load(response)["choices"]
        assert own.bodies == [{"prompt": "ä"}]


def test_a_list_of_models_of_an_odd_shape_is_an_error_with_words():
    """Prevents a run whose rows cannot be written once every answer is there."""
    for names, words in (
        ([{"id": 7}], "is 7, no name"),
        ({"0": {}}, "lists no model"),
        ([None], "lists no m"),
    ):
        with (
            answering(200, json.dumps({"data": names}).encode()) as (url, _),
            pytest.raises(RuntimeError, match=words),
        ):
            served_model(url, None)


def test_an_answer_that_never_ends_is_none():
    """Prevents a program that waits for ever for a byte now and then."""
    stop = threading.Event()

    class Trickle(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            while not stop.wait(0.05):
                self.wfile.write(b" ")

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trickle)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with pytest.raises(RequestFailed, match="no whole answer within"):
            get_json(f"http://127.0.0.1:{server.server_port}/", timeout_s=0.3)
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
