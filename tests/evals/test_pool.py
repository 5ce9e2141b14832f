"""Requests over several servers that fail in every way: none is lost, none is counted wrongly, none hangs."""

import asyncio
import email.utils
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.evals.pool import Pool, ServersGone
from llada_exp.evals.reach import Reply, clean_url
from tests.evals.scripted import (
    FAST,
    PATH,
    Scripted,
    ask_all,
    die,
    die_for,
    drop,
    hang,
    healthy,
    ok,
    pooled,
    status,
    unready,
)


def run(work):
    """No test may hang, whatever the pool does."""
    return asyncio.run(asyncio.wait_for(work, 60))


def outcome(*servers, num=1, **changes):
    """The exchanges of `num` posts at once, and what the pool told."""

    async def work():
        async with pooled(*servers, **changes) as pool:
            return await ask_all(pool, num), pool.lines

    return run(work())


def one(*servers, **changes):
    (exchange,), _ = outcome(*servers, **changes)
    return exchange


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
    assert (exchange.status, exchange.attempts) == (200, 2)
    assert "no JSON object" in exchange.body["error"]["message"]


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
    assert Reply(headers={"Retry-After": said}).retry_after_s == 0


def test_the_key_goes_along_and_cookies_do_not():
    server = Scripted(status(500, "", Set_Cookie="a=b"))
    one(server, key="secret")
    assert [headers.get("Authorization") for headers in server.headers] == ["Bearer secret"] * 2
    assert "Cookie" not in server.headers[1]


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://a", "http://", "http:///"])
def test_a_url_that_is_none_is_named(url):
    with pytest.raises(ValueError, match=r"url is .*expected http://HOST:PORT"):
        clean_url(url)


def test_a_url_may_end_as_users_write_it():
    assert {clean_url(f"http://a:1{end}") for end in ("", "/", "/v1", "/v1/", " ")} == {"http://a:1"}
    with pytest.raises(ValueError, match="url names no server"):
        Pool([], key=None, timeout_s=1, max_retries=1, patience_s=1)


# -- several servers


def test_requests_are_spread_evenly():
    servers = [Scripted(default=ok(0.1)) for _ in range(3)]
    exchanges, _ = outcome(*servers, num=30)
    assert [len(server.bodies) for server in servers] == [10, 10, 10]
    assert {e.url for e in exchanges} == {server.url for server in servers}


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


# -- servers that are there and not ready


@pytest.mark.parametrize("word", ["starting", "draining"])
def test_a_server_that_takes_nothing_keeps_what_it_has_and_gets_no_more(word):
    first, second = Scripted(ok(0.5), status(503, error_code="not_ready")), Scripted()
    first.health = unready(word)
    exchanges, lines = outcome(first, second, num=4, max_retries=0)
    assert [e.status for e in exchanges] == [200] * 4
    assert sum(e.url == first.url for e in exchanges) == 1, "its answer was thrown away"
    assert lines == [f"{first.url} takes no new requests (/health says 503: {word})"]


def test_a_degraded_server_is_used():
    server = Scripted(default=ok(0.3))
    server.health = unready("degraded")
    (exchange,), lines = outcome(server)
    assert (exchange.status, lines) == (200, [])


def test_a_worker_that_starts_anew_does_not_close_a_server_that_was_ready():
    # It queues what comes; elsewhere several workers would stand idle while one loads its model.
    server = Scripted(default=ok(0.5))
    looks = [healthy]

    async def health(own, body):
        return await (looks.pop() if looks else unready("starting", "1"))(own, body)

    server.health = health
    _, lines = outcome(server)
    assert not lines
    other = Scripted(default=ok(0.5))
    other.health = unready("starting", "2")
    _, lines = outcome(other)
    assert len(lines) == 1


def test_a_server_that_says_not_ready_and_is_ready_a_moment_later_costs_no_try():
    assert one(Scripted(status(503, error_code="not_ready")), max_retries=0).status == 200


# -- no server at all


def test_a_restart_of_the_only_server_is_waited_for():
    server = Scripted(hang, hang, die_for(0.5))
    exchanges, lines = outcome(server, num=3, max_retries=0)
    assert [e.status for e in exchanges] == [200] * 3
    assert lines[0].endswith(
        "does not answer (connection refused): its 3 requests wait up to 5 s for a server"
    )
    assert lines[-1] == f"{server.url} takes requests again"
    assert any("3 requests have waited" in line for line in lines), "a long wait must not be silent"


def test_servers_that_stay_away_end_it_and_each_is_named_with_its_reason():
    first, second = Scripted(default=hang), Scripted(default=hang)
    second.health = unready("draining")

    async def work():
        async with pooled(first, second, patience_s=0.4) as pool:
            asking = asyncio.create_task(ask_all(pool, 6))
            await asyncio.sleep(0.2)
            await first.die()
            await second.die()
            with pytest.raises(ServersGone) as gone:
                await asking
            with pytest.raises(ServersGone):
                await pool.post(PATH, {})
            return str(gone.value)

    message = run(work())
    assert "no server took requests for 0.4 s" in message
    assert f"{first.url}: connection refused" in message
    assert f"{second.url}: connection refused" in message


def test_what_is_known_of_an_own_server_ends_it_at_once_for_all():
    server, words = Scripted(default=hang), []

    async def work():
        async with pooled(
            server, patience_s=1000, timeout_s=1000, alive=lambda: (words or [None])[0]
        ) as pool:
            asking = [asyncio.create_task(pool.post(PATH, {})) for _ in range(5)]
            await asyncio.sleep(0.1)
            words.append("the server's process ended with exit code 1")
            return await asyncio.gather(*asking, return_exceptions=True)

    errors = run(work())
    assert [type(error) for error in errors] == [ServersGone] * 5
    assert {str(error) for error in errors} == {"the server's process ended with exit code 1"}


def test_a_watch_that_breaks_leaves_nobody_waiting():
    def alive():
        raise KeyError("a bug")

    with pytest.raises(ServersGone, match="a bug"):
        outcome(Scripted(default=hang), alive=alive)


def test_a_request_that_ends_every_server_is_given_up():
    # Else it would end servers that a supervisor restarts for ever.
    server = Scripted(*[die_for(0.05)] * 20)
    exchange = one(server, max_retries=0)
    assert exchange.status == 0
    assert exchange.attempts == FAST.max_moves + 1
    assert "11 times its server went" in exchange.body["error"]["message"]


def test_a_caller_that_leaves_takes_its_request_along():
    server = Scripted(default=hang)

    async def work():
        async with pooled(server) as pool:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.post(PATH, {}), 0.2)
            await asyncio.sleep(0.2)
            return server.num_left, server.now

    assert run(work()) == (1, 0)


# -- the law

FAULTS = st.sampled_from(
    [ok(), ok(0.03), status(500), status(503), status(429), status(200, "{"), drop, die_for(0.1), hang]
)


@settings(max_examples=25, deadline=None)
@given(script=st.lists(FAULTS, max_size=12), num=st.integers(1, 12), use_both=st.booleans())
def test_every_request_has_one_end_and_it_is_good_while_one_server_is_well(script, num, use_both):
    bad, good = Scripted(*script), Scripted(default=ok(0.01))
    servers = [bad, good] if use_both else [bad]
    exchanges, _ = outcome(*servers, num=num, timeout_s=0.5, max_retries=12)
    assert [e.status for e in exchanges] == [200] * num
    assert [e.body["n"] for e in exchanges] == list(range(num)), "an answer went to another's request"
    assert sum(e.attempts for e in exchanges) >= len(bad.bodies) + len(good.bodies)
