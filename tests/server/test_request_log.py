"""The log around an app: every request ends once, with an id, an outcome and a shape of answer."""

import asyncio
import json

import pytest

from llada_exp.server.routes.request_log import RequestLog
from llada_exp.server.state.request_facts import OUTCOMES, outcome_of

PATH = "/v1/completions"


def called(app, headers=(), path=PATH):
    """(messages sent, facts counted) of one request to `app` behind the log."""
    sent, counted = [], []

    async def send(message):
        sent.append((message, len(counted)))

    async def receive():
        return {"type": "http.request"}

    log = RequestLog(app, counted.append, max_headers=20, max_body=1000)
    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(log(scope, receive, send))
    return sent, counted


async def well(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})
    await send({"type": "http.response.body", "body": b"}"})


async def broken(scope, receive, send):
    raise RuntimeError("a bug of ours")


def test_an_error_nobody_foresaw_is_a_500_with_an_id_and_says_nothing_of_itself(caplog):
    """It reaches no handler inside the app, whose answer would lack the id."""
    ((start, _), (body, _)), (facts,) = called(broken, [(b"x-request-id", b"me")])
    assert start["status"] == 500
    assert (b"x-request-id", b"me") in start["headers"]
    assert json.loads(body["body"])["error"]["type"] == "server_error"
    assert b"a bug of ours" not in body["body"]
    assert "a bug of ours" in caplog.text
    assert (facts.id, facts.outcome) == ("me", "failed")


def test_a_request_is_counted_once_and_before_its_last_byte():
    """Whoever has an answer must find it in /metrics."""
    sent, counted = called(well)
    assert [count for _, count in sent] == [0, 0, 1]
    assert [facts.outcome for facts in counted] == ["ok"]


def test_a_broken_app_after_the_start_is_not_answered_twice():
    async def late(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        called(late)


def test_other_paths_are_not_counted_as_requests():
    assert called(well, path="/health")[1] == []


@pytest.mark.parametrize("name", [b"", b"x" * 201])
def test_an_id_that_is_no_use_is_replaced(name):
    ((start, _), *_), _ = called(well, [(b"x-request-id", name)])
    (new,) = [value for key, value in start["headers"] if key == b"x-request-id"]
    assert len(new) == 32


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (400, "invalid"), (404, "invalid"), (413, "invalid"), (401, "unauthorized"),
     (408, "deadline"), (429, "overloaded"), (499, "cancelled"), (500, "failed"), (503, "failed"),
     (0, "failed")],
)  # fmt: skip
def test_a_status_has_an_outcome(status, outcome):
    assert outcome_of(status) == outcome
    assert outcome in OUTCOMES
