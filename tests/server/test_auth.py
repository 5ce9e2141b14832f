"""The key: who is let in, and that it shows up nowhere."""

import pickle
import subprocess
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from fastapi import Request

from llada_exp.jobs import running_server
from llada_exp.server.litserve_internals import LladaServer
from llada_exp.server.routes.auth import KEY_VARIABLE, KeyCheck
from llada_exp.server.routes.errors import ApiError
from tests.server.conftest import FAKE, composed, say
from tests.server.fakes import build

CHAT = "/v1/chat/completions"
KEY = "sesame-street-1969"


def request(path="/v1/models", authorization=None):
    headers = [] if authorization is None else [(b"authorization", authorization)]
    return Request({"type": "http", "method": "GET", "path": path, "headers": headers, "server": ("x", 1)})


@pytest.fixture
def key_check(tmp_path):
    (tmp_path / "key").write_text(f"  {KEY}\n")
    return KeyCheck(str(tmp_path / "key"))


@pytest.mark.parametrize("given", [f"Bearer {KEY}", f"bearer  {KEY} "])
def test_the_right_key_passes(key_check, given):
    key_check.check(request(authorization=given.encode()))


@pytest.mark.parametrize(
    "given", [None, b"", b"Bearer", b"Bearer ", b"Bearer sesame", f"Basic {KEY}".encode(), KEY.encode(),
              f"Bearer {KEY}x".encode(), "Bearer \u00e9".encode(), b"Bearer \xff\xfe"],
)  # fmt: skip
def test_any_other_is_401_whatever_its_bytes(key_check, given):
    """compare_digest raises for text that is not ASCII: that must be a 401, not a 500."""
    with pytest.raises(ApiError) as caught:
        key_check.check(request(authorization=given))
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")


def test_a_key_that_is_not_ascii_can_be_sent(tmp_path):
    (tmp_path / "key").write_text("schl\u00fcssel", encoding="utf-8")
    KeyCheck(str(tmp_path / "key")).check(request(authorization="Bearer schl\u00fcssel".encode()))


def test_health_is_open_and_nothing_else_is(key_check):
    key_check.check(request("/health"))
    for path in ("/v1", "/healthz", "/health/", "/metrics", "/batch/stats"):
        with pytest.raises(ApiError):
            key_check.check(request(path))


def test_the_file_goes_before_the_environment_and_an_empty_variable_is_no_key(monkeypatch, key_check):
    monkeypatch.setenv(KEY_VARIABLE, "other")
    key_check.check(request(authorization=f"Bearer {KEY}".encode()))
    assert KeyCheck(None).is_set
    monkeypatch.setenv(KEY_VARIABLE, "")
    assert not KeyCheck(None).is_set
    KeyCheck(None).check(request())


@pytest.mark.parametrize("text", ["", " \n", "two words"])
def test_a_file_without_a_key_is_refused(tmp_path, text):
    """An empty file must not mean an open server."""
    (tmp_path / "key").write_text(text)
    with pytest.raises(ValueError, match=r"api_key_file is .*expected one key"):
        KeyCheck(str(tmp_path / "key"))


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    command = [*FAKE, "port=0", f"api_key_file={tmp_path / 'none'}", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: api_key_file is ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("place", ["file", "environment"])
def test_a_server_with_a_key_and_what_it_leaves_behind(place, tmp_path):
    (tmp_path / "key").write_text(KEY)
    overrides = [f"api_key_file={tmp_path / 'key'}"] if place == "file" else []
    env = {KEY_VARIABLE: KEY} if place == "environment" else {}
    folder = tmp_path / "run"
    with running_server(overrides, command=FAKE, folder=folder, env=env) as server:
        started = psutil.Process(server.pid).children(recursive=True)
        assert len(started) >= 3, "manager, worker, multiprocessing's own"
        for process in started:
            assert KEY.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes(), process.cmdline()
        for body in (say("x"), say("x", stream=True), {}):
            refused = httpx.post(server.url + CHAT, json=body)
            assert refused.status_code == 401
            assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
        assert httpx.get(server.url + "/health").status_code == 200, "a health check has no key"
        assert httpx.get(server.url + "/openapi.json").status_code == 200
        for path in ("/batch/stats", "/metrics", "/info", "/stats", "/worker-status", "/v1/models"):
            assert httpx.get(server.url + path).status_code == 401
        with pytest.raises(openai.AuthenticationError, match="API key"):
            ask(server.url, "wrong")
        assert ask(server.url, KEY).choices[0].message.content.startswith("hello")
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert {"server.log", "server.json", "config.yaml"} <= {path.name for path in written}
    for path in written:
        assert KEY.encode() not in path.read_bytes(), path


def ask(url, key):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30) as client:
        return client.chat.completions.create(
            model="llada-tiny", messages=[{"role": "user", "content": "hello"}]
        )


def test_any_key_or_none_is_good_where_none_is_set(fake_http):
    assert fake_http.post(CHAT, json=say("x")).status_code == 200
    for given in ("Bearer", "Bearer anything"):
        assert fake_http.get("/v1/models", headers={"authorization": given}).status_code == 200


def test_no_worker_is_given_the_key(tmp_path):
    """What is pickled into a worker holds the settings, hence the file's name at most."""
    (tmp_path / "key").write_text(KEY)
    server = LladaServer(composed(f"api_key_file={tmp_path / 'key'}"), build)
    assert KEY.encode() not in pickle.dumps(server.model_api)
