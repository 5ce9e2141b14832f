"""The predecessor's clients run unchanged: what they send is understood, what they read is there and true."""

import json
import threading

import httpx
import pytest

from llada_exp.server.routes.schema import ChatRequest, parse
from tests.server.breakable import CHAT, wait_for
from tests.server.conftest import say
from tests.server.test_request_decoding import resolved

ALGORITHMS = {
    "basic": {"cache": "none"}, "prefix_cache": {"cache": "prefix"}, "dual_cache": {"cache": "dual"},
    "dinfer_blockwise": {"rule": "threshold"}, "dinfer_hierarchy": {"rule": "hierarchical"},
    "dinfer_credit": {"rule": "credit"},
}  # fmt: skip


@pytest.mark.parametrize("name", ALGORITHMS)
def test_its_requests_are_decoded_as_named(name):
    """As its evaluation script sends them."""
    sent = {
        "model": "llada-8b-instruct",
        "temperature": 0.0,
        "max_tokens": 128,
        "stream": False,
        "top_p": 0.95,
        "top_k": -1,
        "steps": 128,
        "block_length": 32,
        "cfg_scale": 0.0,
        "remasking": "low_confidence",
        "generation_algorithm": name,
        "threshold": None,
        "factor": None,
    }
    assert parse(ChatRequest, json.dumps(say("x", **sent)).encode()).warnings == []
    params = resolved(**sent)
    for field, value in ALGORITHMS[name].items():
        assert getattr(params, field) == value


def test_the_other_spelling_still_works(fake_http):
    assert resolved(generation_algorithm="dinfer_hierarchical").rule == "hierarchical"
    listed = {a["name"]: a["available"] for a in fake_http.get("/generation/algorithms").json()["algorithms"]}
    assert set(ALGORITHMS) <= {name for name, is_there in listed.items() if is_there}


def status(http):
    summary = http.get("/worker-status").json()
    (worker,) = summary["workers"]
    return summary, worker


def test_workers_are_told_by_its_names_and_truly(fake_http):
    summary, before = status(fake_http)
    assert (summary["healthy_workers"], summary["total_workers"], summary["system_status"]) == (
        1,
        1,
        "normal",
    )
    assert (before["worker_id"], before["status"], before["healthy"]) == (0, "idle", True)
    assert before["url"] == str(fake_http.base_url).rstrip("/")
    requests = fake_http.get("/stats").json()["total_requests"]
    assert fake_http.post(CHAT, json=say("a", n=2)).status_code == 200
    _, served = status(fake_http)
    assert served["requests_served"] == before["requests_served"] + 2
    assert (served["consecutive_errors"], served["last_activity_seconds_ago"] < 10) == (0, True)
    assert fake_http.post(CHAT, json=say("a", max_tokens=10**6)).status_code == 400
    assert status(fake_http)[1]["errors"] == before["errors"], "a client's fault is no worker's error"
    for count in (1, 2):
        assert fake_http.post(CHAT, json=say("crash")).status_code == 500
        assert status(fake_http)[1]["consecutive_errors"] == count
    assert fake_http.post(CHAT, json=say("a")).status_code == 200
    stats = fake_http.get("/stats").json()
    assert stats["total_requests"] == requests + 5
    (worker,) = stats["workers"]
    assert (worker["index"], worker["healthy"], worker["consecutive_errors"]) == (0, True, 0)
    assert worker["errors"] == before["errors"] + 2
    assert (stats["healthy_workers"], stats["total_workers"]) == (1, 1)


def test_a_busy_worker_is_busy_and_a_queue_behind_it_overloads(fake_http, fake):
    ask = say("hang", n=5, max_time=3)
    thread = threading.Thread(target=httpx.post, args=(fake.url + CHAT,), kwargs={"json": ask, "timeout": 20})
    thread.start()
    assert wait_for(lambda: status(fake_http)[0]["system_status"] == "overloaded", 10)
    assert status(fake_http)[1]["status"] == "busy"
    thread.join(20)
    assert wait_for(lambda: status(fake_http)[1]["status"] == "idle", 10)
    assert status(fake_http)[0]["system_status"] == "normal"
