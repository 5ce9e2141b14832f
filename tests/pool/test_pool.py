"""Requests over several servers that fail in every way: none is lost, none is counted wrongly, none hangs."""

import asyncio
import email.utils
import json
import time

import pytest

from llada_exp.clients.pool import Pool
from llada_exp.clients.pool_server import HttpReply
from tests.pool.scripted import (
    FAST,
    PATH,
    Scripted,
    die,
    drop,
    hang,
    healthy,
    ok,
    one,
    outcome,
    pooled,
    run,
    status,
)

# -- one request that fails


@pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again(code):
    server = Scripted(status(code), status(code))
    exchange = one(server)
    assert (exchange.status, exchange.attempts, exchange.body["n"]) == (200, 3, 0)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_a_request_of_which_its_sender_is_to_blame_is_not_sent_again(code):
    server = Scripted(status(code))
    exchange = one(server)
    assert (exchange.status, exchange.attempts, len(server.bodies)) == (code, 1, 1)
    assert exchange.body["error"]["message"] == f"told to say {code}"


def test_a_bad_request_is_given_back_in_the_end_and_raises_nothing():
    # An exception would end a run of thousands of problems for one of them.
    server = Scripted(default=status(500))
    exchange = one(server, max_retries=2)
    assert (exchange.status, exchange.attempts, len(server.bodies)) == (500, 3, 3)
    assert exchange.body["error"]["message"] == "told to say 500"


@pytest.mark.parametrize("text", ["", "{broken", "[1, 2]", "null", "<html>", "\x00\xff", "[" * 100_000])
def test_a_success_that_is_no_json_object_is_a_failed_try(text):
    server = Scripted(status(200, text), default=ok())
    assert (one(server).status, len(server.bodies)) == (200, 2)
    exchange = one(Scripted(default=status(200, text)), max_retries=1)
    assert (exchange.status, exchange.attempts) == (0, 2), "who looks at the status only would score it"
    assert "no JSON object" in exchange.body["error"]["message"]


@pytest.mark.parametrize("error", ['{"error": {"message": "overloaded"}}', '{"error": "overloaded"}'])
def test_a_success_that_is_an_error_is_a_failed_try(error):
    """Routers say so that the server behind them failed."""
    exchange = one(Scripted(status(200, error)))
    assert (exchange.status, exchange.attempts) == (200, 2)
    exchange = one(Scripted(default=status(200, error)), max_retries=1)
    assert (exchange.status, exchange.attempts, exchange.body) == (0, 2, json.loads(error))


def test_an_answer_without_end_is_cut(monkeypatch):
    monkeypatch.setattr("llada_exp.clients.pool_server.MAX_ANSWER", 2**20)
    exchange = one(Scripted(default=status(200, " " * 2**21)), max_retries=0)
    assert (exchange.status, exchange.body["error"]["message"]) == (0, "an answer of more than 1 MiB")


def test_a_failure_without_json_still_has_an_error_in_the_usual_shape():
    exchange = one(Scripted(status(404, "<h1>nginx</h1>")))
    assert exchange.status == 404
    assert "<h1>nginx</h1>" in exchange.body["error"]["message"]


def test_a_redirection_is_given_back_and_not_followed_as_a_get():
    exchange = one(Scripted(status(302, "", Location="/elsewhere")))
    assert (exchange.status, exchange.attempts) == (302, 1)


def test_no_answer_in_time_is_tried_again_and_then_a_failure_with_words():
    server = Scripted(hang)
    assert one(server, timeout_s=0.2).status == 200
    exchange = one(Scripted(default=hang), timeout_s=0.1, max_retries=1)
    assert (exchange.status, exchange.attempts) == (0, 2)
    assert exchange.body["error"]["message"] == "no whole answer within 0.1 s"


def test_a_dropped_connection_of_a_server_that_is_well_counts_and_does_not_stop_the_others():
    server = Scripted(drop, drop, drop)
    (exchange,), lines = outcome(server, max_retries=1)
    assert (exchange.status, exchange.attempts) == (0, 2)
    assert "connection" in exchange.body["error"]["message"]
    assert not lines, "a server that answers /health is not down"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_followed(form):
    said = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    exchange = one(Scripted(status(429, Retry_After=said)))
    assert (exchange.status, exchange.attempts) == (200, 2)
    assert exchange.seconds >= 0.9


@pytest.mark.parametrize("said", ["soon", "nan", "inf", "-5", "", "Wed, 99 Nov 2026"])
def test_a_retry_after_that_means_nothing_is_passed_over(said):
    assert HttpReply(headers={"Retry-After": said}).retry_after_s == 0


def test_the_key_goes_along_and_cookies_do_not():
    # A balancer's cookie would tie all that follows to one server behind it.
    server = Scripted(status(500, Set_Cookie="a=b"))

    async def work():
        await server.start()
        url = server.url.replace("127.0.0.1", "localhost")  # a cookie jar knows only names
        async with Pool([url], key="secret", timeout_s=10, max_retries=1, patience_s=5, pace=FAST) as pool:
            await pool.post(PATH, {})
        await server.close()

    run(work())
    assert [headers.get("Authorization") for headers in server.headers] == ["Bearer secret"] * 2
    assert "Cookie" not in server.headers[1]


@pytest.mark.parametrize(
    ("urls", "match"), [([], "url names no server"), (["nonsense"], "url is 'nonsense'")]
)
def test_a_pool_of_no_server_or_a_wrong_url_is_refused(urls, match):
    with pytest.raises(ValueError, match=match):
        Pool(urls, key=None, timeout_s=1, max_retries=1, patience_s=1)


# -- several servers


def test_requests_are_spread_evenly():
    servers = [Scripted(default=ok(0.1)) for _ in range(3)]
    exchanges, _ = outcome(*servers, num=30)
    assert [len(server.bodies) for server in servers] == [10, 10, 10]
    assert {e.url for e in exchanges} == {server.url for server in servers}


def test_servers_with_as_much_to_do_take_turns():
    servers = [Scripted() for _ in range(3)]

    async def work():
        async with pooled(*servers) as pool:
            return [(await pool.post(PATH, {})).url for _ in range(6)]

    assert run(work()) == [server.url for server in servers] * 2


def test_a_slow_server_gets_less():
    fast, slow = Scripted(default=ok(0.01)), Scripted(default=ok(1.0))

    async def work():
        async with pooled(fast, slow) as pool:
            gate = asyncio.Semaphore(4)

            async def ask(i):
                async with gate:
                    await pool.post(PATH, {"n": i})

            await asyncio.gather(*map(ask, range(40)))

    run(work())
    assert len(fast.bodies) > 3 * len(slow.bodies)


def test_a_failed_try_goes_to_another_server_next():
    bad, good = Scripted(default=status(500)), Scripted()
    exchanges, _ = outcome(bad, good, num=8, max_retries=1)
    assert [e.status for e in exchanges] == [200] * 8
    assert max(e.attempts for e in exchanges) == 2


def test_a_server_that_dies_hands_its_requests_on_without_a_counted_try():
    first, second = Scripted(hang, hang, hang, die), Scripted(default=ok(0.05))
    exchanges, lines = outcome(first, second, num=8, max_retries=0)
    assert [e.status for e in exchanges] == [200] * 8
    assert {e.url for e in exchanges} == {second.url}
    assert lines == [f"{first.url} does not answer (connection refused): its 4 requests go to the others"]


def test_a_server_that_hangs_is_left_after_two_unanswered_looks():
    # Its connections stay open: without /health requests would wait for their own time-out.
    first, second = Scripted(default=hang), Scripted()
    first.health = hang
    exchanges, lines = outcome(first, second, num=4, max_retries=0, timeout_s=50)
    assert [e.status for e in exchanges] == [200] * 4
    assert first.num_left == 2, "what was cancelled here must not go on there"
    assert "no whole answer within 0.4 s" in lines[0]


def test_a_server_that_misses_one_beat_keeps_its_requests():
    server = Scripted(default=ok(1.2))
    beats = [hang]

    async def health(own, body):
        return await (beats.pop() if beats else healthy)(own, body)

    server.health = health
    (exchange,), lines = outcome(server)
    assert (exchange.attempts, lines, beats) == (1, [], [])


def test_a_server_without_health_is_alive_as_long_as_it_answers():
    server = Scripted(drop, default=ok(0.3))
    server.health = status(404)
    (exchange,), lines = outcome(server)
    assert (exchange.status, exchange.attempts, lines) == (200, 2, [])
